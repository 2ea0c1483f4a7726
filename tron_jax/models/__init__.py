"""Encoders, each a pair of pure functions; only these files import Flax.

In: rows of the item table for the inputs of a batch, with their session and position.
Out: a hidden state for each input, to be scored against rows of the same table. The
table's updates are for ``optimizers``, scores and losses for ``objectives``.
"""
