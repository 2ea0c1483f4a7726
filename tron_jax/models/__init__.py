"""Encoders: packed sessions in, hidden states out; the only files that import flax."""
