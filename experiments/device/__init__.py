"""What ``experiments.device_check`` measures: a file for each part.

In: a setting (sizes, data, ceilings measured before). Out: figures, a dictionary that
is written as JSON as it grows, and its table. Each part runs in a process of its own
(child.py), so that one that crashes, hangs or runs out of memory leaves the others
going; parts.py lists them.
"""
