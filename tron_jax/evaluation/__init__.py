"""From a model and a split to figures.

An encoding pass lays out the split's histories and encodes them, ``ranking`` counts the
items that score above each label, ``protocols`` turns the counts into ranks and means,
and ``metrics`` says what a rank is worth. Printing and plotting are the business of
``reporting``.
"""
