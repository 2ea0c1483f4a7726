"""What ``experiments.benchmark`` measures: a file for each thing.

In: a config, and prepared or made-up data. Out: a report, a dictionary of figures that
is written as JSON, and its table or chart. Nothing here changes what is measured: the
step is the one that ``experiments.train`` runs.
"""
