from collections.abc import Iterator

import pytest

from zeshel_tasks.compute.progress import ByteProgress, Progress


def lines(total: int | None, steps: list[tuple[float, int]], caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the log lines, given (seconds, bytes) of each step."""
    clock: Iterator[float] = iter([0.0, *(seconds for seconds, _ in steps)])
    progress = ByteProgress("download", total, interval=15.0, clock=lambda: next(clock))
    with caplog.at_level("INFO"):
        for _, done in steps:
            progress.update(done)
    return caplog.messages


def test_line_is_logged_at_most_once_per_interval(caplog: pytest.LogCaptureFixture) -> None:
    steps = [(second, int(second * 10e6)) for second in range(1, 46)]
    assert lines(900_000_000, [(float(s), n) for s, n in steps], caplog) == [
        "download 150 MB of 900 MB  17%  10.0 MB/s  eta 75s",
        "download 300 MB of 900 MB  33%  10.0 MB/s  eta 60s",
        "download 450 MB of 900 MB  50%  10.0 MB/s  eta 45s",
    ]


def test_long_wait_is_shown_in_minutes(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(10**10, [(20.0, 10**8)], caplog) == ["download 100 MB of 10,000 MB  1%  5.0 MB/s  eta 33m"]


@pytest.mark.parametrize("done", [0, 30_000_000])
def test_unknown_size_leaves_out_share_and_eta(caplog: pytest.LogCaptureFixture, done: int) -> None:
    (line,) = lines(None, [(20.0, done)], caplog)
    assert line == f"download {done // 10**6} MB  {done / 20e6:.1f} MB/s"


def test_no_progress_has_no_eta(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(10**9, [(20.0, 0)], caplog) == ["download 0 MB of 1,000 MB  0%  0.0 MB/s"]


def test_steps_are_logged_with_rate_and_eta(caplog: pytest.LogCaptureFixture) -> None:
    clock: Iterator[float] = iter([0.0, 10.0, 20.0])
    progress = Progress("step", 1925, "mentions", 15.0, done=100, clock=lambda: next(clock))
    with caplog.at_level("INFO"):
        progress.update(10, units=1280)
        progress.update(10, units=1280, note="loss 0.413")
    assert caplog.messages == ["step 120/1,925  6.2%  loss 0.413  128 mentions/s  eta 30m"]
