"""Write the lock files: ``make lock``. The only step that chooses versions.

``locks/<group>.txt`` for each group of pyproject.toml, and the layers' ``requirements.txt``, all with hashes and
without the name of an index, so that a mirror serves as well.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYER = ROOT / "layers" / "portraitcast"
MEDIA_LAYER = ROOT / "layers" / "media"
LAMBDA_PYTHON = "3.13"  # template.yaml, Globals.Function.Runtime
COMPILE = [
    sys.executable,
    "-m",
    "uv",
    "pip",
    "compile",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--no-config",
    "--no-python-downloads",
]


def lock_group(group: str) -> None:
    """Lock one group for every processor and Python from 3.11 on."""
    target = ROOT / "locks" / f"{group}.txt"
    command = [
        *COMPILE,
        "--quiet",
        "--universal",
        "--python-version",
        "3.11",
        "--group",
        f"pyproject.toml:{group}",
        "--output-file",
        f"locks/{target.name}",
    ]
    subprocess.run(command, cwd=ROOT, check=True)


def pins(lock: str) -> list[str]:
    """Return the ``name==version`` of a lock's lines."""
    return re.findall(r"^([A-Za-z0-9._-]+==[^\s;\\]+)", lock, flags=re.MULTILINE)


def pure_wheel_hash(pin: str) -> str:
    """Return the SHA-256 of the package's pure-Python wheel; pip fails where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]
        pure = ["--platform", "any", "--implementation", "py", "--abi", "none", "--python-version", LAMBDA_PYTHON]
        subprocess.run([*command, *pure, "--dest", folder, pin], check=True)
        (wheel,) = Path(folder).iterdir()
        return hashlib.sha256(wheel.read_bytes()).hexdigest()


def lock_layer() -> None:
    """Lock the layer with the hashes of pure-Python wheels only.

    So the layer is one artefact for every processor: pip can't take, say, charset-normalizer's compiled wheel.
    """
    command = [*COMPILE, "--python-version", LAMBDA_PYTHON, str(LAYER / "requirements.in")]
    full = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = ["# Made by `make lock`: hashes of pure-Python wheels only, so that one layer fits every processor."]
    for pin in pins(full):
        lines += [f"{pin} \\", f"    --hash=sha256:{pure_wheel_hash(pin)}"]
    (LAYER / "requirements.txt").write_text("\n".join(lines) + "\n")


def lock_media_layer() -> None:
    """Lock the media layer with the hashes of all wheels: Lambda's on either processor, and this machine's."""
    source, target = (str((MEDIA_LAYER / f"requirements.{suffix}").relative_to(ROOT)) for suffix in ("in", "txt"))
    command = [*COMPILE, "--quiet", "--universal", "--python-version", "3.11", source, "--output-file", target]
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> None:
    """Lock every group and the layers."""
    for group in tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]:
        print(f"locking {group}", flush=True)
        lock_group(group)
    print("locking the layers", flush=True)
    lock_layer()
    lock_media_layer()


if __name__ == "__main__":
    main()
