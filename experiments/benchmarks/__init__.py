"""What experiments.benchmark measures, a noun a file."""
