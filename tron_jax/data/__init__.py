"""Prepared data sets and the batches made of them.

In: the folder of a prepared data set. Out: its sessions, mapped from disk, and batches
of them in the layout that an encoder needs, each a pure function of the step. Making
data sets is for ``data_prep``; no negatives are drawn here.
"""
