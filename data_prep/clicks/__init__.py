"""A stream of clicks: what ``reading`` hands to ``pipeline``, and its types.

Nothing here reads a file or knows a step of the preparation.
"""
