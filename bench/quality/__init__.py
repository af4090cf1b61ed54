"""Which ingredients of the recipe pay: the same base model, data and training time for each row of a table."""
