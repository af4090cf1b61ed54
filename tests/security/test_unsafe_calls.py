"""No code here hands data to an interpreter, a shell or an unpickler."""

from pathlib import Path

import pytest

from tests.security.unsafe_calls import unsafe_calls

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("zeshel_tasks", "dags", "images", "helm") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_makes_no_unsafe_call(path: Path) -> None:
    assert list(unsafe_calls(path.read_text("utf-8"))) == []


def test_all_folders_are_searched() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == {"zeshel_tasks", "dags", "images", "helm"}


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "exec(text)",
        "run = eval",
        "import os\nos.system(text)",
        "from os import system as run\nrun(text)",
        "import os as o\no.popen(text)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "from subprocess import Popen\nPopen(text, shell=1)",
        "import subprocess\nsubprocess.run(text, shell=chosen)",
        "import subprocess\nsubprocess.getoutput(text)",
        "import yaml\nyaml.UnsafeLoader(text).get_single_data()",
        "from yaml import FullLoader\nclass Mine(FullLoader): ...",
        "import pickle\npickle.load(file)",
        "from pickle import loads\nloads(data)",
        "import pickle as p\np.Unpickler(file)",
        "import joblib\njoblib.load(file)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import pandas as pd\npd.read_pickle(path)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "from torch import load\nload(path, weights_only=flag)",
        "import torch\ntorch.hub.load(name, model)",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import unsafe_load\nunsafe_load(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=config.trust)",
        "import tempfile\ntempfile.mktemp()",
        "import tarfile\ntarfile.open(path).extractall(folder)",
        "import httpx\nhttpx.get(address, verify=False)",
        "import httpx, ssl\ndef get(context: ssl.SSLContext, checked: bool):\n    httpx.get(address, verify=checked)",
        "import ssl\nssl._create_unverified_context()",
        "import jinja2\njinja2.Environment()",
        "from jinja2 import Environment\nEnvironment(autoescape=False)",
    ],
)
def test_unsafe_call_is_found(code: str) -> None:
    assert list(unsafe_calls(code)) != []


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "import ast\nast.literal_eval(text)",
        "import subprocess\nsubprocess.run([program, text], shell=False)",
        "import pickle\ntry:\n    pass\nexcept pickle.UnpicklingError:\n    raise",
        "import numpy as np\nnp.load(path, mmap_mode='r')",
        "import torch\ntorch.load(path, weights_only=True)",
        "import yaml\nyaml.safe_load(text)",
        "import tempfile\ntempfile.mkstemp()",
        "import httpx, ssl\ndef get(context: ssl.SSLContext):\n    httpx.get(address, verify=context)",
        "from jinja2 import Environment\nEnvironment(autoescape=True)",
        "pickle = 1\nshelve = pickle",
    ],
)
def test_safe_call_is_not_reported(code: str) -> None:
    assert list(unsafe_calls(code)) == []
