"""One Job in progress: what is leased, what came of it, what is to be done next, and its end."""
