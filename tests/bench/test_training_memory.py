"""bench.training_memory, at a size that takes seconds."""

import re

import pytest

from bench.training_memory import main

SIZES = ["--steps", "8", "--batch", "4", "--length", "12", "--checkpoint_minutes", "0.0001"]


@pytest.mark.parametrize(("allowed", "code"), [("1000", 0), ("-100", 1)])
def test_curve_is_printed_and_growth_decides_the_exit_code(
    allowed: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SIZES, "--allowed", allowed]) == code
    header, *lines, verdict = capsys.readouterr().out.strip().splitlines()
    assert header.split() == ["step", "resident", "MB", "peak", "MB"]
    assert [int(line.split()[0]) for line in lines] == list(range(1, 8))
    assert all(float(number.replace(",", "")) > 50 for line in lines for number in line.split()[1:])
    assert re.fullmatch(r"peak of the second quarter [\d,]+ MB, of the last [\d,]+ MB: [+-][\d.]+%", verdict)
