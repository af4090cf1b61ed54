"""Scripts that measure and print."""
