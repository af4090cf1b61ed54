"""Text from users and data: checking addresses, hiding secrets, printing safely, reading YAML, logging."""
