"""What one GPU makes of the recipe: shares of its ceilings, numbers that agree, and hours for all of ZESHEL."""
