"""What the command line offers besides single stages."""
