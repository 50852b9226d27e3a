"""What is too large for the channel, left in a storage that the operator and the machines of its Workers both reach.

In processes of their own: the operator neither reads nor writes such bytes, and slow storage does not hold it up.
"""
