"""The runner for a cluster, where each stage runs as a pod."""
