"""Packaging template.yaml for the local engine."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from package import Build, PackageError, build_with_pip, fits, installed_requirements, package, read_template

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: python3.13, Layers: [!Ref Layer]}}
Resources:
  Layer:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layers/shared/}
    Metadata: {BuildMethod: python3.13}
  Submit:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: functions/submit/, Handler: app.handler, Role: !GetAtt Role.Arn}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Version: 2012-10-17}
      RoleName: !Sub "${AWS::StackName}-role"
"""


class Store:
    """Keeps what is uploaded, as the engine's S3 would."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def upload(self, content: bytes, suffix: str) -> str:
        address = f"s3://code/{len(self.files)}{suffix}"
        self.files[address] = content
        return address

    def zip(self, address: str) -> zipfile.ZipFile:
        return zipfile.ZipFile(io.BytesIO(self.files[address]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    for path, text in {
        "functions/submit/app.py": "def handler(event, context): ...",
        "functions/submit/__pycache__/app.pyc": "stale",
        "layers/shared/rules/names.py": "NAMES = 1",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path


@pytest.fixture
def packaged(root: Path) -> tuple[dict[str, Any], Store]:
    store = Store()
    return package(build_with_pip(root), root / "runtime/bin/python", store.upload), store


def test_short_functions_are_written_out_and_dates_stay_strings(root: Path) -> None:
    role = read_template(root / "template.yaml")["Resources"]["Role"]["Properties"]
    assert role["RoleName"] == {"Fn::Sub": "${AWS::StackName}-role"}
    assert role["AssumeRolePolicyDocument"]["Version"] == "2012-10-17"
    submit = read_template(root / "template.yaml")["Resources"]["Submit"]["Properties"]
    assert submit["Role"] == {"Fn::GetAtt": ["Role", "Arn"]}


def test_only_code_addresses_and_the_runtime_change(root: Path, packaged: tuple[dict[str, Any], Store]) -> None:
    before, after = read_template(root / "template.yaml"), packaged[0]
    submit, layer = after["Resources"]["Submit"]["Properties"], after["Resources"]["Layer"]["Properties"]
    assert submit.pop("CodeUri").startswith("s3://")
    assert submit.pop("Runtime") == "provided.al2023"
    assert layer.pop("ContentUri").startswith("s3://")
    before["Resources"]["Submit"]["Properties"].pop("CodeUri")
    before["Resources"]["Layer"]["Properties"].pop("ContentUri")
    del before["Resources"]["Layer"]["Metadata"]
    assert after == before


def test_a_function_has_its_code_its_layers_and_an_executable_bootstrap(packaged: tuple[dict[str, Any], Store]) -> None:
    template, store = packaged
    archive = store.zip(template["Resources"]["Submit"]["Properties"]["CodeUri"])
    assert archive.namelist() == [".opt/python/rules/names.py", "app.py", "bootstrap"]
    assert archive.getinfo("bootstrap").external_attr >> 16 & 0o111 == 0o111
    bootstrap = archive.read("bootstrap").decode()
    assert 'runtime/bin/python" -m awslambdaric "$_HANDLER"' in bootstrap
    assert "AWS_EXECUTION_ENV=AWS_Lambda_python3.13" in bootstrap


def test_a_layer_lies_under_python(packaged: tuple[dict[str, Any], Store]) -> None:
    template, store = packaged
    assert store.zip(template["Resources"]["Layer"]["Properties"]["ContentUri"]).namelist() == ["python/rules/names.py"]


def test_a_layer_that_sam_built_is_taken_as_it_is(root: Path) -> None:
    (root / "built/python").mkdir(parents=True)
    (root / "built/python/names.py").write_text("")
    store, template = Store(), read_template(root / "template.yaml")
    code = {"Layer": [root / "built"], "Submit": [root / "functions/submit"]}
    packaged = package(Build(template, code, "built"), root / "python", store.upload)
    assert store.zip(packaged["Resources"]["Layer"]["Properties"]["ContentUri"]).namelist() == ["python/names.py"]


def test_the_same_sources_give_the_same_bytes_whenever_they_were_written(root: Path) -> None:
    first, second = Store(), Store()
    package(build_with_pip(root), root / "python", first.upload)
    (root / "functions/submit/app.py").touch()
    package(build_with_pip(root), root / "python", second.upload)
    assert first.files == second.files


def test_another_language_is_refused_by_name(root: Path) -> None:
    built = build_with_pip(root)
    template = json.loads(json.dumps(built.template).replace("python3.13", "nodejs22.x"))
    with pytest.raises(PackageError, match=r"Submit.*nodejs22\.x"):
        package(Build(template, built.code, ""), root / "python", Store().upload)


def test_two_that_package_at_once_for_the_first_time_install_the_layer_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)
    installed = []

    def run(command: list[str], _: str) -> None:
        if "install" in command:
            installed.append(command)
            with contextlib.suppress(threading.BrokenBarrierError):  # as it should be: the other waits outside
                both.wait(timeout=0.5)
            package_module = Path(command[command.index("--target") + 1]) / "requests.py"
            package_module.parent.mkdir()
            package_module.touch()

    monkeypatch.setattr("install.VENVS", tmp_path)
    monkeypatch.setattr("package.VENVS", tmp_path)
    monkeypatch.setattr("package.pip_of", lambda python: [str(python), "-m", "pip"])
    monkeypatch.setattr("package.run_quietly", run)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("requests==2.34.2\n", "utf-8")
    with ThreadPoolExecutor(2) as two:
        one, other = two.map(installed_requirements, [requirements] * 2)
    assert one == other
    assert [path.name for path in one.iterdir()] == ["requests.py"]
    assert len(installed) == 1


def test_what_was_compiled_for_another_python_does_not_fit(tmp_path: Path) -> None:
    for name in ("_any.abi3.so", "libavcodec.so.61", "_core.cpython-313-x86_64-linux-gnu.so"):
        (tmp_path / name).touch()
    assert fits(Build({}, {"Layer": [tmp_path]}, ""), (3, 13))
    assert not fits(Build({}, {"Layer": [tmp_path]}, ""), (3, 11))
