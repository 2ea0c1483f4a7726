"""Many runs by one command: which they are, who runs which, and one after the other."""
