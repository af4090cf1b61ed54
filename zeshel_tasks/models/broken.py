"""What the files of a broken model raise."""

from __future__ import annotations

import pickle
import re
import struct

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

_OTHER_OBJECT = re.compile(r"Unsupported global: GLOBAL (\S+)")

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
    struct.error,
)


def described(error: BaseException) -> str:
    """The error with its type, because the text of a KeyError is only the key.

    For a pickle that contains more than tensors, torch advises to run its code. We name what it contains instead.
    """
    text = str(error)
    if "weights_only" not in text:
        return f"{type(error).__name__}: {text}"
    found = _OTHER_OBJECT.search(text)
    return f"a pickle that contains {found[1]}, and not only tensors" if found else "a file without readable tensors"
