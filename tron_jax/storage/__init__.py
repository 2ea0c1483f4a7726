"""Checkpoints on disk.

In: the state of a step (a pytree of arrays), a score and a small JSON ``info``. Out:
the same state, bit for bit, or the name of a checkpoint that is damaged. When to save
is decided by ``training``; what the arrays mean is not known here.
"""
