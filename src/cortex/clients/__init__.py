"""Ask an operator from Python: the room of `cortex.client(...)`, on which the command line is built."""
