"""What every model run needs: device, memory, watchdog, progress, machine, disk."""
