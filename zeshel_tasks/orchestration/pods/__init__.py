"""The runner for a cluster: a stage is a pod on Kubernetes."""
