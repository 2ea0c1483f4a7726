"""What a program says to a person: its frame, its one-line errors, its progress.

In come flags, mistakes and numbers, out go lines and an exit status. Nothing here knows
what a program is about, and nothing needs JAX: ``data_prep`` uses it as well.
"""
