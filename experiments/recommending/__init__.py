"""From a log of sessions to a file of recommendations."""
