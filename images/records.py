"""Describe a built image: what it consists of, and how it was built.

``<image>.cdx.json`` lists its Python and Debian packages in CycloneDX's format. ``<image>.intoto.json`` is a statement
of in-toto with SLSA's provenance: the commit, the base image and the lists of what was installed. Both are equal for
two builds that made the same image. They are not signed.

https://cyclonedx.org/docs/1.6/json and https://slsa.dev/spec/v1.0/provenance
"""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from images.build import ROOT, Builder, Image, output
from images.lock import LOCKED

BUILD_TYPE = "urn:zeshel-tasks:images/build.py:v1"
# Runs in the image. The first of two distributions of a name is the one that Python imports.
_INVENTORY = """
import json, pathlib, re
from importlib import metadata
python, debian = {}, []
for distribution in metadata.distributions():
    about = distribution.metadata
    name = re.sub(r"[-_.]+", "-", about["Name"]).lower()
    python.setdefault(name, {"version": distribution.version, "license": about["License-Expression"]})
status = pathlib.Path("/var/lib/dpkg/status")
for paragraph in status.read_text().split("\\n\\n") if status.exists() else ():
    fields = dict(re.findall(r"^(Package|Version|Architecture|Status): (.*)$", paragraph, re.MULTILINE))
    if fields.pop("Status", "").endswith(" installed"):
        debian.append(fields)
release = pathlib.Path("/etc/os-release").read_text()
print(json.dumps({"python": python, "debian": debian, "system": re.search(r'^ID="?(\\w+)', release, re.MULTILINE)[1]}))
"""


def write_records(
    builder: Builder, image: Image, labels: Mapping[str, str], archive: Path | None, directory: Path
) -> None:
    """Write both records of an image.

    Args:
        builder: the tool that built it.
        image: the image.
        labels: the build arguments for its labels.
        archive: the file that it was saved to, if it was.
        directory: where the records go; created if it is missing.

    Raises:
        BuildError: the tool cannot inspect or run the image.
    """
    directory.mkdir(parents=True, exist_ok=True)
    digest = builder.digest(image.name)
    name = image.name.rpartition("/")[2].replace(":", "_")
    contents = json.loads(builder.python(image, _INVENTORY))
    (directory / f"{name}.cdx.json").write_text(bill_of_materials(image.name, digest, labels, contents))
    subjects = {image.name: digest} | ({} if archive is None else {archive.name: sha256_of(archive)})
    version = output([builder.executable, "--version"])
    made = provenance(image, subjects, labels, builder.repository_digest(image.base_name), version)
    (directory / f"{name}.intoto.json").write_text(json.dumps(made, indent=2) + "\n")


def bill_of_materials(name: str, digest: str, labels: Mapping[str, str], contents: Mapping[str, Any]) -> str:
    """Return the CycloneDX document of an image.

    Args:
        name: name of the image.
        digest: SHA-256 of the image.
        labels: version and date of the commit, if known.
        contents: the packages of Python and of the system, as the program in the image printed them.
    """
    licenses, system = LicenseFactory(), contents["system"]
    image = Component(
        name=name,
        type=ComponentType.CONTAINER,
        version=labels["VERSION"],
        bom_ref=name,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )
    parts = [
        _part(PackageURL("pypi", None, name, about["version"]), [licenses.make_from_string(about["license"])])
        if about["license"]
        else _part(PackageURL("pypi", None, name, about["version"]), [])
        for name, about in contents["python"].items()
    ]
    parts += [
        _part(PackageURL("deb", system, about["Package"], about["Version"], {"arch": about["Architecture"]}), [])
        for about in contents["debian"]
    ]
    bom = Bom(components=parts, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{digest}"))
    bom.metadata.component = image
    if labels["CREATED"]:
        bom.metadata.timestamp = datetime.fromisoformat(labels["CREATED"])
    bom.register_dependency(image, parts)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def _part(url: PackageURL, licenses: list[Any]) -> Component:
    return Component(name=url.name, version=url.version, purl=url, bom_ref=url.to_string(), licenses=licenses)


def provenance(
    image: Image, subjects: Mapping[str, str], labels: Mapping[str, str], base_digest: str, builder: str
) -> dict[str, Any]:
    """Return the statement about how an image was built.

    Args:
        image: the image.
        subjects: name -> SHA-256 of what was made.
        labels: the build arguments for its labels.
        base_digest: SHA-256 by which a registry knows the base image; empty if it is unknown.
        builder: the tool and its version.
    """
    inputs = [image.dockerfile, "constraints.txt", *sorted(f"images/locked/{path.name}" for path in LOCKED.iterdir())]
    base = {"uri": f"oci:{image.base_name}"} | ({"digest": {"sha256": base_digest}} if base_digest else {})
    source = {"uri": labels["SOURCE"] or "git", "digest": {"gitCommit": labels["REVISION"]}}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"dockerfile": image.dockerfile, "arguments": {**labels, **image.arguments}},
                "internalParameters": {"platform": f"{platform.system()}/{platform.machine()}"},
                "resolvedDependencies": [
                    source,
                    base,
                    *({"uri": path, "digest": {"sha256": sha256_of(ROOT / path)}} for path in inputs),
                ],
            },
            "runDetails": {"builder": {"id": "urn:zeshel-tasks:images/build.py", "version": {"tool": builder}}},
        },
    }


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
