"""The deployed stack itself: what AWS promises and these tests stand on."""

from __future__ import annotations

import io
import json
import marshal
import shlex
import subprocess
from importlib.util import cache_from_source
from typing import TYPE_CHECKING

import av
import boto3
import pytest
from botocore.exceptions import ClientError

from install import VENVS, pip_of
from package import build_with_pip, layer_files, resources
from run import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Stack

SAMPLES = ROOT / "local" / "samples"


def test_a_dropped_pair_becomes_a_video_and_a_report_of_the_voices_name(stack: Stack, folder: str) -> None:
    stack.drop(f"{folder}line-01.png", SAMPLES / "portrait.png")
    stack.drop(f"{folder}line-01.mp3", SAMPLES / "voice.mp3")

    told = stack.wait_report(f"{folder}line-01", "done")

    assert sorted(stack.results(folder)) == [f"{folder}line-01.json", f"{folder}line-01.mp4"]
    with av.open(io.BytesIO(stack.result(f"{folder}line-01.mp4"))) as video:
        picture = video.streams.video[0]
        assert (picture.width, picture.height, picture.average_rate) == (512, 512, 15)
        assert float(video.duration or 0) / av.time_base == pytest.approx(told["inputs"]["voice"]["seconds"], abs=0.2)
        assert video.streams.audio
    assert stack.report(f"{folder}line-01")["revision"] >= told["revision"]


def test_a_role_without_rights_is_refused(stack: Stack) -> None:
    iam, account = stack.client("iam"), stack.client("sts").get_caller_identity()["Account"]
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName="without-rights", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    session = stack.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    without_rights = boto3.client(
        "s3",
        region_name=stack.outputs["region"],
        endpoint_url=stack.outputs["endpoint_url"],
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )

    with pytest.raises(ClientError, match="AccessDenied"):
        without_rights.list_objects_v2(Bucket=stack.outputs["results_bucket"])


def test_an_exception_of_a_function_keeps_its_name(stack: Stack) -> None:
    answer = stack.client("lambda").invoke(FunctionName=stack.outputs["functions"]["status"], Payload=b'"nonsense"')

    error = json.loads(answer["Payload"].read())

    assert answer["FunctionError"]
    assert error["errorType"] not in {"Runtime.HandlerError", "Runtime.ImportModuleError"}
    assert error["stackTrace"]


def test_outputs_name_the_parts_of_the_stack(stack: Stack) -> None:
    outputs = stack.outputs
    assert outputs["api_key_secret_arn"].startswith("arn:aws:secretsmanager:")
    assert stack.client("sqs").get_queue_attributes(QueueUrl=outputs["dead_letter_queue_url"])
    assert set(outputs["functions"]) == {"submit", "prepare", "status", "deliver"}
    assert stack.simulator.base_url.startswith(outputs["simulator_url"])


@pytest.mark.parametrize("layer", ["Layer", "MediaLayer"])
def test_sam_build_makes_a_layer_and_compiles_it(tmp_path: Path, layer: str) -> None:
    """Of the files that lie here, as Lambda has them."""
    python = VENVS / "runtime" / "bin" / "python"
    variables = {"ARTIFACTS_DIR": str(tmp_path), "RUNTIME_PYTHON": str(python), "PIP": shlex.join(pip_of(python))}
    command = ["make", f"build-{layer}", *(f"{name}={value}" for name, value in variables.items())]
    built = build_with_pip(ROOT)
    folder = ROOT / resources(built.template, "LayerVersion")[layer]["ContentUri"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)  # noqa: S603  # ours

    made = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    recipe = {"python/Makefile", "python/requirements.in", "python/requirements.txt"}
    expected = {name for name in layer_files(built, layer) if not name.endswith(".pyc")} - recipe
    if layer == "Layer":
        assert {name for name in made if not name.endswith(".pyc")} == expected
    else:  # what is compiled for another processor has other names, and some of the licences' too
        expected = {name for name in expected if name.endswith(".py")}
        assert {name for name in made if name.endswith(".py")} == expected
    for name in [name for name in expected if name.endswith(".py")]:
        compiled = made[cache_from_source(name)].read_bytes()
        assert compiled[4:8] == b"\1\0\0\0"  # valid whatever the file's time, which a zip doesn't keep (PEP 552)
        assert marshal.loads(compiled[16:]).co_filename == f"/opt/{name}"  # noqa: S302  # ours
