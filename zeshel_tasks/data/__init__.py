"""What bytes mean: ZESHEL files, BLINK format, mention and candidate tokens, sample worlds."""
