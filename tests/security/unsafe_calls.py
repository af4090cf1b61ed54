"""Finds calls that hand data to an interpreter, a shell or an unpickler, in a file's syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_ALWAYS = {
    "eval": "runs text as code",
    "exec": "runs text as code",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "subprocess.getoutput": "runs a shell",
    "subprocess.getstatusoutput": "runs a shell",
    "asyncio.create_subprocess_shell": "runs a shell",
    "tempfile.mktemp": "a name that somebody else may take first",
    "yaml.load": "yaml.safe_load makes no objects",
    "yaml.load_all": "yaml.safe_load_all makes no objects",
    "yaml.full_load": "yaml.safe_load makes no objects",
    "yaml.unsafe_load": "yaml.safe_load makes no objects",
    "yaml.Loader": "yaml.SafeLoader makes no objects",
    "yaml.CLoader": "yaml.SafeLoader makes no objects",
    "yaml.FullLoader": "yaml.SafeLoader makes no objects",
    "yaml.UnsafeLoader": "yaml.SafeLoader makes no objects",
    "torch.hub.load": "runs code of a repository",
    "ssl._create_unverified_context": "no server is checked",
}
_MODULES = {
    "pickle": "unpickling runs code",
    "cPickle": "unpickling runs code",
    "dill": "unpickling runs code",
    "cloudpickle": "unpickling runs code",
    "joblib": "unpickling runs code",
    "shelve": "unpickling runs code",
    "marshal": "crashes on hostile bytes",
    "telnetlib": "not encrypted",
}
_HARMLESS = {"pickle.UnpicklingError"}
_METHODS = {"extractall": "links and paths of an archive lead anywhere", "read_pickle": "unpickling runs code"}
# Keyword: the refused values.
_KEYWORDS: dict[str, tuple[set[object], str]] = {
    "shell": ({True}, "runs a shell"),
    "allow_pickle": ({True}, "unpickling runs code"),
    "trust_remote_code": ({True}, "runs code of a repository"),
    "verify": ({False}, "no server is checked"),
    "autoescape": ({False}, "text of the data becomes markup"),
}


def unsafe_calls(code: str) -> Iterator[str]:
    """Yields ``line: name: why`` for each use that is not safe with data of unknown origin.

    Names are followed through imports (``from os import system as run``), but not through assignments. A keyword whose
    value is not a literal counts as unsafe, because its value is unknown; certificates may have a name with their type.
    """
    tree = ast.parse(code)
    names = dict(_imported(tree))
    certificates = set(_of_type("ssl.SSLContext", tree, names))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            name = _dotted(node, names)
            if why := _ALWAYS.get(name):
                yield f"{node.lineno}: {name}: {why}"
            module = name.partition(".")[0]
            if "." in name and module in _MODULES and name not in _HARMLESS and _is_imported(name, names):
                yield f"{node.lineno}: {name}: {_MODULES[module]}"
            if isinstance(node, ast.Attribute) and (why := _METHODS.get(node.attr)):
                yield f"{node.lineno}: {node.attr}: {why}"
        elif isinstance(node, ast.Call):
            yield from _keywords(node, _dotted(node.func, names), certificates)


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yields the names in this file with their full names: ``("system", "os.system")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Returns the full name, such as ``numpy.load`` for ``np.load``, or an empty string if it is not a dotted name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value, names)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def _is_imported(name: str, names: dict[str, str]) -> bool:
    return any(known == name or name.startswith(f"{known}.") for known in names.values())


def _of_type(kind: str, tree: ast.AST, names: dict[str, str]) -> Iterator[str]:
    """Yields the names that are annotated with a type."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation and _dotted(node.annotation, names) == kind:
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and _dotted(node.annotation, names) == kind:
            yield _dotted(node.target, names)


def _keywords(call: ast.Call, name: str, certificates: set[str]) -> Iterator[str]:
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    for keyword, (refused, why) in _KEYWORDS.items():
        value = given.get(keyword)
        if keyword == "verify" and value is not None and _dotted(value, {}) in certificates:
            continue
        if value is not None and not (isinstance(value, ast.Constant) and value.value not in refused):
            yield f"{call.lineno}: {keyword}: {why}"
    if name == "torch.load":
        value = given.get("weights_only")
        if not (isinstance(value, ast.Constant) and value.value is True):
            yield f"{call.lineno}: torch.load: unpickling runs code, without weights_only=True"
    if name.startswith("jinja2.") and name.endswith(("Environment", "Template")) and "autoescape" not in given:
        yield f"{call.lineno}: {name}: text of the data becomes markup, without autoescape=True"
