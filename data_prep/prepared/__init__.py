"""The prepared set: its files, their hashes, what is in them.

In come sessions in their final order with items from 1 to the catalogue's size, out go
the four files of FORMAT.md; and what such files hold is checked and described. How
sessions were chosen and ordered is not decided here. Sets are opened by
``tron_jax.data.sessions``.
"""
