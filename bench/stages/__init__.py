"""Compares the speed of each stage with BLINK's implementation."""
