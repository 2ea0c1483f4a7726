"""Checkpoints and other files, written whole or not at all."""
