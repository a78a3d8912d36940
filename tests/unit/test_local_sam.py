"""What `make build` and `make deploy` check around SAM CLI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sam import SamError, architecture_of, check_built, check_python, check_target, overrides, processor_of

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE: dict[str, Any] = {
    "Parameters": {"Architecture": {"Default": "arm64", "AllowedValues": ["arm64", "x86_64"]}},
}


def elf(machine: int) -> bytes:
    return b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(44)


def test_the_processor_is_the_templates_unless_another_is_wished_for() -> None:
    assert architecture_of(TEMPLATE, "") == "arm64"
    assert architecture_of(TEMPLATE, "x86_64") == "x86_64"
    with pytest.raises(SamError, match="'amd64': it must be arm64 or x86_64"):
        architecture_of(TEMPLATE, "amd64")


@pytest.mark.parametrize(
    "kept", ["NotificationEmail=a@b.example MaxTasksInFlight=4", ["NotificationEmail=a@b.example"]]
)
def test_parameters_of_the_file_and_the_command_are_given_together(kept: object) -> None:
    config = {"default": {"deploy": {"parameters": {"parameter_overrides": kept}}}}
    given = overrides(
        {"PARAMS": "MaxTasksInFlight=3 ExtraVideoHosts='https://a.example, https://b.example'"}, "arm64", config
    )
    assert set(given) == {
        "NotificationEmail=a@b.example",
        "MaxTasksInFlight=3",
        "ExtraVideoHosts=https://a.example, https://b.example",
        "Architecture=arm64",
    }


@pytest.mark.parametrize(
    "url", ["https://cloudformation.us-east-1.amazonaws.com", "https://x.cn-north-1.amazonaws.com.cn"]
)
def test_aws_is_deployed_to(url: str) -> None:
    check_target(url, "")


def test_another_endpoint_is_deployed_to_only_if_it_is_meant() -> None:
    with pytest.raises(SamError, match=r"http://127\.0\.0\.1:4566, not to AWS.*LOCAL=1"):
        check_target("http://127.0.0.1:4566", "")
    check_target("http://127.0.0.1:4566", "1")


def test_modules_of_another_processor_are_found(tmp_path: Path) -> None:
    for name, machine in {"a.so": 62, "libs/b.so.3": 62, "c.so": 183}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(elf(machine))
    (tmp_path / "text.so").write_text("INPUT(-lc)")
    assert processor_of(tmp_path / "c.so") == "arm64"
    assert processor_of(tmp_path / "text.so") is None
    with pytest.raises(SamError, match=r"a\.so is for x86_64, not arm64 \(2 such files\).*ARCHITECTURE=arm64"):
        check_built(tmp_path, "arm64")
    (tmp_path / "c.so").unlink()
    check_built(tmp_path, "x86_64")


def test_a_missing_python_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SamError, match=r"python3\.13.*isn't on the PATH\. Install it"):
        check_python("python3.13")
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    with pytest.raises(SamError, match="is a shim without that Python behind it"):
        check_python("python3.13")
    shim.write_text("#!/bin/sh\nexit 0\n")
    check_python("python3.13")
