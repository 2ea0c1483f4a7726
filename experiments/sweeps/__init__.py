"""Sweeps that are no product of values: each file has ``sweep(argument)``."""
