"""The contract that every stage runs under, the registry of stages, and their lineage."""
