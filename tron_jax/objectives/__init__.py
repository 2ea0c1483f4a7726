"""Scores, losses, and their gradient."""
