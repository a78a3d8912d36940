"""``make build`` and ``make deploy``: SAM CLI with what it doesn't check by itself.

``sam build`` makes the layers with a Makefile, which SAM CLI doesn't tell the processor: ARCHITECTURE tells it
(template.yaml, parameter Architecture). What was built is looked at before it goes anywhere.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from install import ROOT, VENVS
from package import read_template

if TYPE_CHECKING:
    from collections.abc import Mapping

SAM = VENVS / "sam" / "bin" / "sam"
BUILT = ROOT / ".aws-sam" / "build"
MACHINES = {62: "x86_64", 183: "arm64"}  # e_machine of an ELF file: EM_X86_64, EM_AARCH64


class SamError(Exception):
    """It can't be built or deployed so; the message says why and what to do."""


# ---------------------------------------------------------------- What to build for


def architecture_of(template: Mapping[str, Any], wished: str) -> str:
    """Return the processor to build for: what is wished for, else the template's default."""
    parameter = template["Parameters"]["Architecture"]
    if wished and wished not in parameter["AllowedValues"]:
        raise SamError(f"ARCHITECTURE is {wished!r}: it must be {' or '.join(parameter['AllowedValues'])}.")
    return wished or str(parameter["Default"])


def overrides(environment: Mapping[str, str], architecture: str, config: Mapping[str, Any]) -> list[str]:
    """Return ``Name=value`` of each parameter: samconfig.toml's, then those of PARAMS, then the processor.

    SAM CLI takes either the command line's or the file's; so both are given on the command line.
    """
    kept = config.get("default", {}).get("deploy", {}).get("parameters", {}).get("parameter_overrides", [])
    words = [*(shlex.split(kept) if isinstance(kept, str) else kept), *shlex.split(environment.get("PARAMS", ""))]
    chosen = dict(word.partition("=")[::2] for word in words)
    least, most = (chosen.get(f"{which}PollSeconds", "") for which in ("Min", "Max"))
    if least.isdecimal() and most.isdecimal() and int(least) > int(most):
        raise SamError(f"MinPollSeconds is {least} and MaxPollSeconds {most}: the least is above the most.")
    return [f"{name}={value}" for name, value in {**chosen, "Architecture": architecture}.items()]


def check_python(runtime: str) -> None:
    """Raise SamError, saying what is missing, unless the runtime's Python is on the PATH and runs."""
    python = shutil.which(runtime)
    if python and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
        return
    shim = f" ({python} is a shim without that Python behind it: choose it with `pyenv shell`)" if python else ""
    raise SamError(
        f"sam build makes the layers with {runtime}, the Python of the functions' runtime, and it isn't on the PATH"
        f"{shim}. Install it (pyenv, uv python install, your distribution), or leave the build out: `make local`, "
        "`make demo` and `sam remote invoke` need none."
    )


# ---------------------------------------------------------------- What was built


def processor_of(path: Path) -> str | None:
    """Return the processor that a compiled module is for, None for what isn't one."""
    with path.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF":
        return None
    return MACHINES.get(int.from_bytes(head[18:20], "little"), "another processor")


def check_built(folder: Path, architecture: str) -> None:
    """Raise SamError if a compiled module under `folder` is for another processor."""
    modules = [path for pattern in ("*.so", "*.so.*") for path in sorted(folder.rglob(pattern)) if path.is_file()]
    wrong = [path for path in modules if processor_of(path) not in {architecture, None}]
    if wrong:
        raise SamError(
            f"{wrong[0].relative_to(folder)} is for {processor_of(wrong[0])}, not {architecture} ({len(wrong)} such "
            f"files): build with `make build ARCHITECTURE={architecture}`, which tells the layers' Makefiles too."
        )


# ---------------------------------------------------------------- The verbs


def sam(*words: str, environment: Mapping[str, str]) -> None:
    """Run SAM CLI; SamError with its exit code if it fails, its words having been shown."""
    done = subprocess.run([str(SAM), *words], env=dict(environment), cwd=ROOT, check=False)
    if done.returncode:
        raise SamError(f"sam {words[0]} failed (exit {done.returncode}), see above.")


def build(environment: Mapping[str, str], folder: Path = BUILT) -> str:
    """Build template.yaml into `folder`; return the processor that it is for."""
    template = read_template(ROOT / "template.yaml")
    architecture = architecture_of(template, environment.get("ARCHITECTURE", ""))
    check_python(template["Globals"]["Function"]["Runtime"])
    told = {"AWS_DEFAULT_REGION": "us-east-1", **environment, "ARCHITECTURE": architecture}
    sam("build", "--build-dir", str(folder), "--parameter-overrides", f"Architecture={architecture}", environment=told)
    check_built(folder, architecture)
    return architecture


def check_target(endpoint_url: str, allowed: str) -> None:
    """Raise SamError if a deployment would go elsewhere than to AWS, unless that is wanted."""
    if ".amazonaws.com" not in endpoint_url and allowed in {"", "0"}:
        raise SamError(
            f"this would deploy to {endpoint_url}, not to AWS: AWS_ENDPOINT_URL or an endpoint_url of your AWS "
            "configuration is set. Unset it, or say LOCAL=1 if you mean it."
        )


def deploy(environment: Mapping[str, str]) -> None:
    """Build, and deploy what was built."""
    check_target(
        boto3.client("cloudformation", region_name="us-east-1").meta.endpoint_url, environment.get("LOCAL", "")
    )
    architecture = build(environment)
    config = tomllib.loads((ROOT / "samconfig.toml").read_text("utf-8"))
    sam("deploy", "--parameter-overrides", *overrides(environment, architecture, config), environment=environment)


def main(verb: str, *folder: str) -> int:
    """Do `verb`, which is ``deploy`` or ``build``, that into a folder; return the exit code."""
    try:
        if verb == "deploy":
            deploy(os.environ)
        else:
            build(os.environ, *map(Path, folder))
    except SamError as error:
        print(f"make {verb}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
