"""The champion: the model in use, the comparison with it, and the gate that promotes."""
