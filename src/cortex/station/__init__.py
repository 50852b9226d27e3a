"""What runs beside a Worker on another machine, and speaks for it to the operator.

A station keeps a small mirror of the Job's folder, in which supervisor and Worker find and leave all that they know
from the operator's own machine. What they say, and what the Worker writes, goes over one connection to the operator.
"""
