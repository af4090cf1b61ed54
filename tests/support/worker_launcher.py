"""Runs as the Python of an xdist worker: hands its files to the template, which forks the worker, and waits for it.

See tests/support/forked_workers.py. Imports little, because it starts once more for each worker.
"""

import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as template:
    template.connect(sys.argv[1])
    socket.send_fds(template, [b"fork"], [0, 1, 2])
    for number in (0, 1):
        os.close(number)  # the pipes to xdist must end when the worker ends
    template.recv(1)  # nothing comes until the worker's end closes the connection
