"""Turns knowledge bases and annotated texts of other formats into data sets of ZESHEL's format."""
