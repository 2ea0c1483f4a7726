"""What is known of a run from its files: where it is, how far, what it found."""
