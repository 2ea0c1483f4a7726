"""Where runs are and how far each is, for ``experiments.show``; needs no JAX."""
