"""Reads and writes the data: ZESHEL files, BLINK's format, token tables, candidate sets, vectors."""
