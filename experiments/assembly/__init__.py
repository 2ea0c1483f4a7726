"""From a checked config to the parts of a run.

In: a config that ``experiments.checks`` has let through, and the data that it names.
Out: the pure functions and batches of which ``experiments.train`` and the benchmarks
make a run. The library below this takes settings, never a config.
"""
