"""The stages of the recipe, one module for each."""
