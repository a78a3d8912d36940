"""Write what a deployed function carries beside the product's own code, as CycloneDX JSON: ``make sbom``.

One bill for each layer: the one of all functions, and the decoders that only prepare has. The layer's requirements are
installed as `sam build` installs them, and cyclonedx-bom reads names, versions and licences from what is there. What it
can't see is added here: the hashes that the requirements are pinned to, and what needs what. The same requirements give
the same bytes. Libraries inside a wheel (FFmpeg, x264) are no packages: layers/media/LICENCES.md names them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from install import ROOT, InstallError, pip_of, run_quietly

# Layer → its bill, beside what `sam build` makes of the same requirements; ignored by Git.
BILLS = {
    ROOT / "layers" / "portraitcast": ROOT / ".aws-sam" / "sbom.json",
    ROOT / "layers" / "media": ROOT / ".aws-sam" / "sbom-media.json",
}
PINNED = re.compile(r"^(\S+)==(\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


class SbomError(Exception):
    """The list would be wrong; the message says where."""


def pinned_hashes(requirements: str) -> dict[str, list[str]]:
    """Return ``name==version`` → the SHA-256 hashes of a requirements.txt, as hex digits."""
    found = PINNED.findall(requirements)
    return {
        f"{canonicalize_name(name)}=={version}": re.findall(r"sha256:(\w+)", hashes) for name, version, hashes in found
    }


def needed(requirements: list[str]) -> set[str]:
    """Return the names that requirements ask for on every machine: not those of extras that nobody asked for."""
    parsed = map(Requirement, requirements)
    return {canonicalize_name(r.name) for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})}


def completed(bom: dict[str, Any], hashes: dict[str, list[str]], needs: dict[str, set[str]]) -> dict[str, Any]:
    """Return an SBOM with its components' hashes and true dependencies.

    Parameters
    ----------
    bom
        CycloneDX, as cyclonedx-bom writes it: its dependencies count every extra's requirements as needed.
    hashes
        ``name==version`` → SHA-256 in hex, of everything that must be in it.
    needs
        Package → packages that it needs; "" stands for the product itself.

    Raises
    ------
    SbomError
        The components are not exactly what the hashes are of, or one has no licence.
    """
    parts = {canonicalize_name(part["name"]): part for part in bom["components"]}
    there = {f"{name}=={part['version']}" for name, part in parts.items()}
    if there != set(hashes):
        raise SbomError(f"installed and pinned differ: {', '.join(sorted(there ^ set(hashes)))}")
    if unlicensed := [name for name, part in parts.items() if not part.get("licenses")]:
        raise SbomError(f"no licence is stated by {', '.join(unlicensed)}")
    components = [
        part | {"hashes": [{"alg": "SHA-256", "content": digest} for digest in hashes[f"{name}=={part['version']}"]]}
        for name, part in sorted(parts.items())
    ]
    refs = {"": bom["metadata"]["component"]["bom-ref"]} | {name: part["bom-ref"] for name, part in parts.items()}
    dependencies = [
        {"ref": ref, "dependsOn": [refs[need] for need in sorted(needs[name])]} for name, ref in sorted(refs.items())
    ]
    return bom | {"components": components, "dependencies": dependencies}


def written(requirements: Path, direct: Path, pyproject: Path) -> str:
    """Return the SBOM of what a requirements.txt names, `direct` being the file that it was locked from."""
    # Not in the environment of the tests, which try the rest.
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        # Without pip, so that nothing is there but what a function gets.
        run_quietly([sys.executable, "-m", "venv", "--without-pip", folder], "making a virtual environment")
        options = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
        run_quietly([*pip_of(python), "install", *options, "-r", str(requirements)], f"installing {requirements.name}")
        tool = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "environment", "--output-reproducible"]
        command = [*tool, "--spec-version", "1.6", "--pyproject", str(pyproject), str(python)]
        bom = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        (packages,) = Path(folder).glob("lib/python*/site-packages")
        needs: dict[str, set[str]] = {
            canonicalize_name(d.name): needed(d.requires or []) for d in distributions(path=[str(packages)])
        }
    needs[""] = needed([line for line in direct.read_text().splitlines() if line and not line.startswith("#")])
    text = json.dumps(completed(bom, pinned_hashes(requirements.read_text()), needs), indent=2, sort_keys=True) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SbomError(f"not CycloneDX 1.6: {error}")
    return text


def main() -> int:
    """Write the SBOMs; return the exit code."""
    for layer, out in BILLS.items():
        try:
            text = written(layer / "requirements.txt", layer / "requirements.in", ROOT / "pyproject.toml")
        except (InstallError, SbomError) as error:
            print(f"\n{layer.name}: {error}", file=sys.stderr)
            return 1
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)
        print(f"CycloneDX 1.6, {len(json.loads(text)['components'])} packages: {out.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
