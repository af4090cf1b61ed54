"""How words are shown: addresses, redaction, safe text, YAML, logs."""
