"""The results of a Job, written to where its user wants them, and the receipt of all that became of its dataset.

In processes of their own: slow storage, and what takes memory, does not hold up the operator.
"""
