"""Each stage against BLINK's way of doing it."""
