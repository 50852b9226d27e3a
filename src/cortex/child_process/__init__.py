"""Processes of the operator's own: each is asked once, on standard input, tells events on standard output, and ends.

Slow storage, and what takes memory, does not hold up the operator there. `children` is the operator's side, `child`
the process's, `words` what they say to each other. Most of them are forked: `fork_server`, `__main__`.
"""
