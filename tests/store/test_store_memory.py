"""A large artifact passes through an S3 store in small pieces."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_transfer_of_a_large_artifact_stays_within_memory_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.store", "--gigabytes", "0.4", "--scratch", tmp_path]
    bench = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert bench.returncode == 0, bench.stdout + bench.stderr
    found = re.search(r"limit (\d+) MB, highest (\d+) MB", bench.stdout)
    assert found, bench.stdout
    limit, highest = (int(number) for number in found.groups())
    assert 0 < highest < limit < 400
