"""Measures the peak rates of the device: plain matrix products and a copy of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

from bench.gpu.flops import product_flop
from bench.gpu.shape import Shape
from bench.gpu.timing import seconds_of_one

Kind = Literal["bf16", "tf32", "fp32"]
Product = tuple[int, int, int]
"""Rows, inner dimension, columns."""

_TOKENS = {"cuda": 8192, "cpu": 256}  # tokens that the package computes at once (models/batches.py)
_SQUARES = {"cuda": (4096, 8192), "cpu": (256, 512)}
_COPIED_BYTES = {"cuda": 2**30, "cpu": 2**24}
_DTYPES: dict[Kind, torch.dtype] = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}


@dataclass(frozen=True)
class Ceiling:
    """The rates of one kind of product.

    Attributes:
        kind: type of the numbers.
        rates: FLOP/s, by product.
    """

    kind: Kind
    rates: dict[Product, float]

    @property
    def best(self) -> float:
        """FLOP/s of the fastest product."""
        return max(self.rates.values())

    def line(self) -> str:
        """Return a line with the TFLOP/s of the best and of all products."""
        each = "  ".join(f"{'x'.join(map(str, shape))} {rate / 1e12:,.4g}" for shape, rate in self.rates.items())
        return f"{self.kind} products: {self.best / 1e12:,.4g} TFLOP/s ({each})"


def products_of(shape: Shape, device: torch.device) -> list[Product]:
    """Return large square products, and the products of the model's own layers over one part of a batch."""
    tokens, hidden, wide = _TOKENS[device.type], shape.hidden, shape.intermediate
    squares = [(side, side, side) for side in _SQUARES[device.type]]
    return [*squares, (tokens, hidden, hidden), (tokens, hidden, wide), (tokens, wide, hidden)]


def kinds_on(device: torch.device) -> tuple[Kind, ...]:
    """Return the types to measure on a device. Only GPUs have tf32."""
    return ("bf16", "tf32", "fp32") if device.type == "cuda" else ("bf16", "fp32")


def measure_ceiling(kind: Kind, shape: Shape, device: torch.device, seconds: float) -> Ceiling:
    """Time each product of :func:`products_of` for ``seconds``."""
    with _tf32(kind == "tf32"):
        return Ceiling(
            kind, {found: _rate(found, _DTYPES[kind], device, seconds) for found in products_of(shape, device)}
        )


def copied_bytes_per_second(device: torch.device, seconds: float) -> float:
    """Return the bytes per second that a copy within the device's memory reads and writes."""
    source = torch.zeros(_COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds_of_one(lambda: target.copy_(source), seconds, device)


def _rate(product: Product, dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    rows, inner, columns = product
    # Use random numbers, because zeros draw less power and so change the clock.
    left = torch.randn(rows, inner, device=device).to(dtype)
    weight = torch.randn(columns, inner, device=device).to(dtype)
    with torch.inference_mode():
        return product_flop(*product) / seconds_of_one(lambda: F.linear(left, weight), seconds, device)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
