"""Update rules: of the encoder's parameters and of the item table's rows.

In: gradients of a step, and for the item table the ids of the rows that they are of.
Out: new parameters and optimizer state. Where the gradients come from is for
``objectives`` and ``steps`` to know; which rule a config means, for ``experiments``.
"""
