"""Starts OpenStack Swift with its S3 interface (s3api): a proxy and one server each for accounts, containers, objects.

All of them listen on 127.0.0.1 and keep one replica in a folder, whose file system needs extended attributes. They need
the Debian package python3-swift, run with the system's Python, and start in seconds.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.s3_servers.processes import ACCESS_KEY, SECONDS_TO_START, SECRET_KEY, free_ports, wait_for

PYTHON = "/usr/bin/python3"  # Debian's, which has the packages of Debian
STORED = ("account", "container", "object")

_SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = test
"""
_DEFAULT = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
workers = 0
log_address = /dev/null
fallocate_reserve = 0
"""
_SERVER_CONF = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY_CONF = f"""
[pipeline:main]
pipeline = catch_errors cache bulk s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_{ACCESS_KEY.replace(":", "_")} = {SECRET_KEY} .admin
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{{cache}}
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
"""
# Arguments: the folder, and the ports of the servers that store.
_RINGS = f"""
import sys
from swift.common.ring import RingBuilder
folder, *ports = sys.argv[1:]
for name, port in zip({STORED!r}, ports):
    builder = RingBuilder(1, 1, 0)
    builder.add_dev(dict(id=0, region=1, zone=1, ip="127.0.0.1", port=int(port), device="disk", weight=1))
    builder.rebalance()
    builder.get_ring().save(f"{{folder}}/{{name}}.ring.gz")
"""
# Arguments: the folder, and the name of the server.
_SERVE = """
import sys
from swift.common.utils import set_swift_dir
from swift.common.wsgi import run_wsgi
folder, name = sys.argv[1:]
set_swift_dir(folder)
sys.exit(run_wsgi(f"{folder}/{name}.conf", name))
"""


def missing_programs() -> list[str]:
    """Returns the packages that are not installed."""
    if Path(PYTHON).exists():
        found = subprocess.run([PYTHON, "-c", "import swift.common.wsgi"], capture_output=True, check=False)
        if found.returncode == 0:
            return []
    return ["python3-swift"]


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Runs the servers with their files in a folder and yields the address. The keys are those of ``processes.py``."""
    *ports, proxy, cache = free_ports(len(STORED) + 2)
    (folder / "devices" / "disk").mkdir(parents=True)
    (folder / "swift.conf").write_text(_SWIFT_CONF)
    rings = [PYTHON, "-c", _RINGS, str(folder), *map(str, ports)]
    subprocess.run(rings, check=True, timeout=SECONDS_TO_START)
    common = {"folder": folder, "user": pwd.getpwuid(os.getuid()).pw_name}
    with ExitStack() as processes:
        for name, port in zip((*STORED, "proxy"), (*ports, proxy), strict=True):
            conf = folder / f"{name}-server.conf"
            text = _DEFAULT + (_PROXY_CONF if name == "proxy" else _SERVER_CONF)
            conf.write_text(text.format(**common, name=name, port=port, cache=cache))
            output = processes.enter_context((folder / f"{name}.out").open("wb"))
            process = subprocess.Popen(
                [PYTHON, "-c", _SERVE, str(folder), f"{name}-server"], stdout=output, stderr=subprocess.STDOUT
            )
            processes.callback(process.wait)
            processes.callback(process.kill)
        for port in (*ports, proxy):
            wait_for(f"http://127.0.0.1:{port}/healthcheck")
        yield f"http://127.0.0.1:{proxy}"
