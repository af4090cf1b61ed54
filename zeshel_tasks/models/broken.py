"""What the files of a broken model raise."""

from __future__ import annotations

import pickle

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

# transformers trusts its files, so broken ones raise any of these.
BROKEN = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    ImportError,
    AssertionError,
    SafetensorError,
    StrictDataclassError,
    pickle.UnpicklingError,
)


def described(error: Exception) -> str:
    """The error with its type, because the text of a KeyError is only the key."""
    return f"{type(error).__name__}: {error}"
