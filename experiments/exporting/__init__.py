"""The folder of an exported model: what serving needs, and nothing else."""
