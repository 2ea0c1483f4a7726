"""A stream of clicks: what ``reading`` hands to ``pipeline``.

Batches of clicks and the types of their columns. Nothing here reads a file or knows a
step of the preparation.
"""
