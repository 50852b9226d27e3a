"""The life of a Worker: a process that runs a user's predictor over the Batches it is leased.

Everything here runs in the user's environment and needs the standard library only.
"""
