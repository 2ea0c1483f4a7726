"""Ranks of every prediction, and what they mean."""
