"""Negatives: which items an event is compared with."""
