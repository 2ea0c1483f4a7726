"""Other projects' code timed beside this one; each in an environment of its own."""
