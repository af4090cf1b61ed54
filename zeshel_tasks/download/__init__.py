"""How bytes arrive: fetching, unpacking and merging data sets."""
