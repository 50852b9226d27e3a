"""What keeps an operator going: recovery, retries, limits of time and room, logs, and its own end."""
