"""Whether an entity is found better by the best of several views of its description than by its beginning."""
