"""Optimizers of the item table's rows, and of the rest."""
