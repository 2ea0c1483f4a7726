"""Many processes, as on many hosts: what they tell each other besides their arrays."""
