"""What the programs that prepare a raw log have in common.

In come flags, out goes a prepared set: ``log_program`` has a log read, prepared and
written, ``public_sets`` says how the paper prepares each public data set. How a file is
read, or what a step does, is the business of ``reading`` and ``pipeline``.
"""
