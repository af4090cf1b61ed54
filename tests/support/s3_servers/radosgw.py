"""Starts Ceph's S3 server, radosgw, over one monitor and one object store in memory, all on 127.0.0.1.

It needs the Debian packages ceph-common, ceph-mon, ceph-osd and radosgw, and starts in about 15 seconds.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.s3_servers.processes import ACCESS_KEY, SECONDS_TO_START, SECRET_KEY, free_ports, wait_for

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin")
_CONF = """
[global]
fsid = {fsid}
keyring = {folder}/keyring
mon_host = v2:127.0.0.1:{mon}/0
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_allow_insecure_global_id_reclaim = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
run_dir = {folder}
admin_socket = {folder}/$name.asok
pid_file = {folder}/$name.pid
log_file = {folder}/$name.log
mon_cluster_log_file = {folder}/cluster.log
[mon.a]
mon_data = {folder}/mon
[osd.0]
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_data = {folder}/rgw
rgw_crypt_require_ssl = false
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = test-key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
"""


def missing_programs() -> list[str]:
    """Returns the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Runs a server with its files in a folder and yields its address. The keys are those of ``processes.py``."""
    (port, mon), fsid = free_ports(2), str(uuid.uuid4())
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir(parents=True)
    conf, keyring = folder / "ceph.conf", str(folder / "keyring")
    conf.write_text(_CONF.format(folder=folder, port=port, mon=mon, fsid=fsid))
    with ExitStack() as processes:

        def run(program: str, *arguments: str) -> None:
            command = [program, "--conf", str(conf), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_START, check=False)
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

        def start(program: str, *arguments: str) -> None:
            output = processes.enter_context((folder / f"{program}.out").open("wb"))
            process = subprocess.Popen(
                [program, "--conf", str(conf), *arguments, "--foreground"], stdout=output, stderr=subprocess.STDOUT
            )
            processes.callback(process.wait)
            processes.callback(process.kill)

        Path(keyring).touch()
        everything = [word for service in ("mon", "osd", "mgr") for word in ("--cap", service, "allow *")]
        for name in ("mon.", "client.admin", "osd.0", "client.rgw.a"):
            run("ceph-authtool", keyring, "--gen-key", "--name", name, *everything)
        address = f"[v2:127.0.0.1:{mon}/0]"
        run("ceph-mon", "--id", "a", "--mkfs", "--fsid", fsid, "--keyring", keyring, "--public-addrv", address)
        start("ceph-mon", "--id", "a")
        osd = str(uuid.uuid4())
        run("ceph", "osd", "new", osd, "0")
        run("ceph-osd", "--id", "0", "--mkfs", "--osd-uuid", osd)
        start("ceph-osd", "--id", "0")
        run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=here")
        start("radosgw", "--name", "client.rgw.a")
        wait_for(f"http://127.0.0.1:{port}")
        keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
        run("radosgw-admin", "user", "create", "--uid", "test", "--display-name", "test", *keys)
        yield f"http://127.0.0.1:{port}"
