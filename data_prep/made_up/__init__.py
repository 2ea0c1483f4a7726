"""Made-up sessions: what follows what in them, how many and how long they are.

In come a profile (the size and shape of a real data set), a seed and sizes, out go
chunks of sessions in the order of a prepared set. Nothing here writes a file.
"""
