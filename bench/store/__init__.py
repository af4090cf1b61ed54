"""Memory while large files pass through a store."""
