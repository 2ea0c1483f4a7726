"""One experiment a file: ``get_config`` says in what it differs from ``defaults``.

These files import nothing of the project but each other.
"""
