"""Negatives: the items that an event's label is compared with.

In: a key and a batch of events, and for some sources arrays made once from the training
clicks. Out: candidates, as item ids or positions in the batch, and which of them count.
What they score and how a loss treats them is for ``objectives``.
"""
