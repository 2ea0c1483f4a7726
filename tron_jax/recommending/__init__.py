"""From the clicks of sessions to the items that are most likely clicked next."""
