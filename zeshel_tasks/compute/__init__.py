"""Shared by everything that runs a model: device, memory, watchdog, interrupt, progress, machine, disk."""
