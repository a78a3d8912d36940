"""Package template.yaml for the local engine.

The template is the one that goes to AWS. Two things change on the way, in a copy: local paths become ``s3://``
addresses of zips, and ``Runtime: python3.x`` becomes ``provided.al2023`` with a bootstrap that starts AWS's own runtime
client (awslambdaric) from ``.venv/runtime``: so an exception reaches Step Functions under its own name, as on AWS. The
engine gives such functions no layers, so a function's layers lie beside it, in ``.opt``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from install import VENVS, alone, pip_of, run_quietly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Upload = Callable[[bytes, str], str]

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can hold: same content, same bytes, same key
SAM_CLI_SECONDS = 300  # ours: `sam build` takes 6 to 17 s and asks the package index


class PackageError(Exception):
    """The template or its code can't be packaged; the message says what and why."""


# ---------------------------------------------------------------- Reading the template


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions (``!Ref x`` is ``{"Ref": x}``)."""


def _short_function(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]  # no fourth kind of node exists
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in {"Ref", "Condition"} else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _short_function)
# Dates stay strings: "2012-10-17" of a policy is a name, and JSON knows no dates.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_template(path: Path) -> dict[str, Any]:
    """Return a CloudFormation template as plain data, its short functions written out."""
    template: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader with tags)
    return template


# ---------------------------------------------------------------- Building


@dataclass(frozen=True)
class Build:
    """A template and where its code lies.

    Attributes
    ----------
    template
        The template as plain data.
    code
        Logical id of a function or layer → folders whose content makes its zip, later ones win.
    how
        What built it, for the person who watches.
    """

    template: dict[str, Any]
    code: dict[str, list[Path]]
    how: str


def resources(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Return logical id → properties of the template's resources of one type."""
    found = template["Resources"].items()
    return {name: resource["Properties"] for name, resource in found if resource["Type"] == f"AWS::Serverless::{kind}"}


def code_paths(template: dict[str, Any]) -> dict[str, str]:
    """Return logical id → local path of every function and layer."""
    paths = {name: properties["CodeUri"] for name, properties in resources(template, "Function").items()}
    paths |= {name: properties["ContentUri"] for name, properties in resources(template, "LayerVersion").items()}
    return paths


def build_with_pip(root: Path) -> Build:
    """Build as ``sam build`` would, without it: sources, and beside them what their requirements.txt names."""
    template = read_template(root / "template.yaml")
    code = {}
    for name, path in code_paths(template).items():
        requirements = root / path / "requirements.txt"
        dependencies = [installed_requirements(requirements)] if requirements.exists() else []
        code[name] = [*dependencies, root / path]
    return Build(template, code, "packaged with pip, as `sam build` would")


def installed_requirements(requirements: Path) -> Path:
    """Return a folder with what a requirements.txt names, installed once for the same content and Python."""
    python = VENVS / "runtime" / "bin" / "python"
    content = requirements.read_bytes() + os.fsencode(python.resolve())
    folder = VENVS / f"layer-{hashlib.sha256(content).hexdigest()[:16]}"
    with alone():
        if not folder.exists():
            _install_into(folder, requirements, python)
    return folder


def _install_into(folder: Path, requirements: Path, python: Path) -> None:
    with tempfile.TemporaryDirectory(dir=VENVS) as made:
        target = Path(made) / "layer"
        options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", "--target", str(target)]
        run_quietly([*pip_of(python), "install", *options, "-r", str(requirements)], f"installing {requirements.name}")
        # Compiled once here and not at every cold start; valid by content, as zips keep no times.
        compiling = [str(python), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(target)]
        run_quietly(compiling, "compiling the layer")
        shutil.rmtree(target / "bin", ignore_errors=True)  # console scripts name this machine's Python
        target.rename(folder)


def this_machine() -> str:
    """Return this machine's processor under Lambda's name."""
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())


def sam_cli(template: dict[str, Any]) -> tuple[Path, str] | None:
    """Return SAM CLI and the PATH to run it with, or None unless it and the template's Python are both here."""
    found = shutil.which("sam", path=f"{VENVS / 'sam' / 'bin'}:{os.environ.get('PATH', '')}")
    runtime = template["Globals"]["Function"]["Runtime"]
    python = shutil.which(runtime)
    # A shim can be on the PATH without the Python behind it: only one that runs counts.
    if not found or not python or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        return None
    return Path(found), os.environ["PATH"]


def build_with_sam(root: Path, sam: Path, work: Path) -> Build:
    """Build with ``sam build`` into `work`, for this machine's processor."""
    out, machine = work / "sam-build", this_machine()
    command = [
        str(sam),
        "build",
        "--build-dir",
        str(out),
        "--cache-dir",
        str(work / "sam-cache"),
        "--template",
        str(root / "template.yaml"),
        "--parameter-overrides",
        f"Architecture={machine}",
    ]
    told = {"ARCHITECTURE": machine, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"}
    environment = {**os.environ, **told}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=root, timeout=SAM_CLI_SECONDS, check=False
    )
    if done.returncode:
        raise PackageError(f"sam build failed (exit {done.returncode}):\n{done.stderr[-3000:]}")
    template = read_template(out / "template.yaml")
    code = {name: [out / path] for name, path in code_paths(template).items()}
    return Build(template, code, "built with `sam build`")


def fits(built: Build, python: tuple[int, int]) -> bool:
    """Say whether a Python of this version can import all that was built: compiled modules are for one version each."""
    other = re.compile(rf"\.cpython-(?!{python[0]}{python[1]}-)\d+-")
    folders = [folder for folders in built.code.values() for folder in folders]
    return not any(other.search(path.name) for folder in folders for path in folder.rglob("*.so"))


def build(root: Path, work: Path, *, try_sam: bool) -> Build:
    """Build functions and layers: with SAM CLI if `try_sam`, it is here and its output runs here; else with pip."""
    found = sam_cli(read_template(root / "template.yaml")) if try_sam else None
    built = build_with_sam(root, found[0], work) if found else None
    # the environments of a run are made by one Python: .venv/runtime has the version of this process
    return built if built and fits(built, sys.version_info[:2]) else build_with_pip(root)


# ---------------------------------------------------------------- Zips and the packaged template


def files_of(folders: Iterable[Path], prefix: str = "") -> dict[str, tuple[bytes, int]]:
    """Return archive name → (content, mode) of all files in `folders`; compiled files of the sources are left out."""
    files = {}
    for folder in folders:
        keep_compiled = folder.parent == VENVS
        for path in sorted(folder.rglob("*")):
            if path.is_file() and (keep_compiled or "__pycache__" not in path.parts):
                files[prefix + path.relative_to(folder).as_posix()] = (path.read_bytes(), path.stat().st_mode & 0o777)
    return files


def zipped(files: dict[str, tuple[bytes, int]]) -> bytes:
    """Return a zip of `files`: the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (content, mode) in sorted(files.items()):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = (0o100000 | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def bootstrap(runtime: str, python: Path) -> bytes:
    """Return the program that AWS's custom runtimes start: here Lambda's own Python runtime client.

    ``-P`` is not given: the function's folder comes first on ``sys.path``, then its layers, as on AWS.
    """
    return (
        "#!/bin/sh\n"
        f'export TZ=:UTC AWS_EXECUTION_ENV=AWS_Lambda_{runtime} PYTHONPATH="$LAMBDA_TASK_ROOT/.opt/python"\n'
        f'exec "{python}" -m awslambdaric "$_HANDLER"\n'
    ).encode()


def package(
    built: Build, runtime_python: Path, upload: Upload, beside: Mapping[str, bytes] | None = None
) -> dict[str, Any]:
    """Upload the code and return the template that the engine deploys.

    Parameters
    ----------
    built
        What `build` gave.
    runtime_python
        The Python that has awslambdaric.
    upload
        Stores bytes under a name (with this suffix) that follows from their content, and returns their ``s3://``
        address.
    beside
        Modules that a test lays beside the layer's, file name → content; they are no part of the layer.
    """
    template: dict[str, Any] = json.loads(json.dumps(built.template))
    defaults = template.get("Globals", {}).get("Function", {})
    for name, properties in resources(template, "LayerVersion").items():
        properties["ContentUri"] = upload(zipped(layer_files(built, name)), ".zip")
        template["Resources"][name].pop("Metadata", None)  # how `sam build` makes it: it is made
    for name, properties in resources(template, "Function").items():
        runtime = properties.get("Runtime", defaults.get("Runtime"))
        if not re.fullmatch(r"python3\.\d+", str(runtime)):
            raise PackageError(f"{name}: the local run knows Python functions only, not Runtime {runtime}")
        files = files_of(built.code[name])
        for layer in [*defaults.get("Layers", []), *properties.get("Layers", [])]:
            files |= {f".opt/{path}": content for path, content in layer_files(built, layer["Ref"]).items()}
        files |= {f".opt/python/{name}": (content, 0o644) for name, content in (beside or {}).items()}
        files["bootstrap"] = (bootstrap(runtime, runtime_python), 0o755)
        properties["CodeUri"] = upload(zipped(files), ".zip")
        properties["Runtime"] = "provided.al2023"
    return template


def layer_files(built: Build, layer: str) -> dict[str, tuple[bytes, int]]:
    """Return a layer's files as they lie under /opt: ``sam build`` puts them into python/, sources lie without it."""
    folders = built.code[layer]
    return files_of(folders, "" if (folders[-1] / "python").is_dir() else "python/")


def uploader(s3: Any, bucket: str) -> Upload:
    """Return an `Upload` into a bucket; the key is the content's SHA-256, so unchanged code is the same object."""

    def upload(content: bytes, suffix: str) -> str:
        key = hashlib.sha256(content).hexdigest() + suffix
        s3.put_object(Bucket=bucket, Key=key, Body=content)
        return f"s3://{bucket}/{key}"

    return upload
