"""Session-based transformer recommendation with optimized negative sampling (TRON)."""
