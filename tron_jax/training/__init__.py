"""Training: from a compiled step and batches to a log and checkpoints.

In: a pure train step, the batches of a run, a plan of when to log, evaluate and save.
Out: lines of metrics.jsonl, checkpoints, and a last state that does not depend on how
often the run was stopped and resumed. How a step is made up, what a config says and
what an evaluation does are not its business.
"""
