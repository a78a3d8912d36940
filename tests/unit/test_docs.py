"""The documents hold: real reports against the schema, every error code explained, every link and command there."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from package import read_template
from portraitcast.domain.job import Job, Status, Task, Video
from portraitcast.domain.matching import Match, Nothing, Ready, Rejected, Waiting, fingerprint_of, identity_of
from portraitcast.domain.models import MODELS, Boxes
from portraitcast.domain.problems import Problem
from portraitcast.domain.report import Turn, build_report
from portraitcast.domain.uploads import Facts
from unit.samples import named
from unit.upload_bucket import Bucket

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
SCHEMA = json.loads((DOCS / "report.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
ERROR = SCHEMA["$defs"]["error"]
CODES = ERROR["properties"]["code"]["enum"]
NOW = 1_795_424_400.5
SHA = "c2f434054fd64a1a7d39ff0a24e36026f4346d9cd69619395c5abd6ee1340c5d"


# ---------------------------------------------------------------- reports of jobs as the product makes them


BAD = {  # what prepare finds in the files of these suffixes here
    ".m4a": Problem("VoiceSilent", "line-01.m4a is silent throughout.", "Record it again."),
    ".heic": Problem("PortraitUnreadable", "line-01.heic can't be read.", "Save it as a JPEG."),
}


def matched(*keys: str, **settings: dict[str, Any]) -> Match:
    """Return what a folder's files come to for the job acme/line-01; `own` is the content of its JSON."""
    files: dict[str, str | None] = dict.fromkeys(f"acme/{key}" for key in keys)
    if "own" in settings:
        files["acme/line-01.json"] = json.dumps(settings["own"])
    voice = Facts(SHA, "mp3", seconds=6.051)
    picture = Facts(SHA, "png", width=640, height=640)
    facts: dict[str, Facts | None] = {key: voice if key.endswith(".mp3") else picture for key in files}
    facts |= {key: Facts(problem=problem) for key in files for suffix, problem in BAD.items() if key.endswith(suffix)}
    return Bucket(files, facts).match(now=NOW)


def job(found: Match) -> Job:
    """Return the job that a match makes."""
    name = named("acme/line-01.mp3")
    assert not isinstance(found, Nothing)
    new = Job.new(name.job, name.name, name.folder, found.inputs, NOW)
    identity = identity_of(found.inputs)
    match found:
        case Waiting(inputs, problem, message, candidates):
            problems = (problem,) if problem else ()
            return new.wait(inputs, identity, NOW, problems=problems, message=message, candidates=candidates)
        case Rejected(inputs, problems, shared):
            return new.reject(inputs, identity, problems, NOW, shared=shared)
        case Ready(inputs, ready_at):
            return new.queue(inputs, identity, fingerprint_of(inputs), NOW, ready_at=ready_at)


TASK = Task("a8532587-fa8c-4ef8-82be-0c46b17950d1", NOW)
ENDED = replace(TASK, submit_time=NOW, scheduled_time=NOW + 1, end_time=NOW + 90)
VIDEO = Video("acme/line-01.mp4", 251_747, 6.075, 512, 512, SHA, "results")
BOXES = Boxes((192, 160, 448, 416), (-2, 0, 640, 642))
FAULT = Problem("TaskFailed", "It failed.", "Try again.", provider_code="InternalError", request_id="r-1")
SECOND = Problem("JobAmbiguous", "acme/line-01.wav was refused.", "Give it another name.")
LINKS = {"input": {"audio_url": "https://u:p@example.com/a.mp3?k=1", "image_url": "https://example.com/a.png"}}


def sent(queued: Job) -> Job:
    """Return a job whose task runs."""
    return queued.pass_check(BOXES, 0.004).start_create().accept(TASK, NOW, adopted=False)


WAITING = job(matched("line-01.mp3"))
QUEUED = job(matched("line-01.mp3", "line-01.png"))
RENDERING = sent(QUEUED)
DONE = RENDERING.deliver(VIDEO, ENDED, 0.484, NOW)

JOBS = {
    "waiting for a portrait": WAITING,
    "waiting with two voices": job(matched("line-01.mp3", "line-01.wav")),
    "waiting with 25 pictures": job(matched("line-01.mp3", *(f"{n}.png" for n in range(25)))),
    "queued": QUEUED,
    "queued and held": QUEUED.show_held("budget", NOW),
    "creating": QUEUED.pass_check(BOXES, 0.004).start_create(),
    "rendering": RENDERING,
    "rendering a request body": sent(job(matched(own=LINKS))),
    "done": DONE,
    "asked again": DONE.confirm(DONE.inputs, DONE.identity, DONE.fingerprint, NOW),
    "done, a second voice refused": DONE.refuse_upload(SECOND, NOW),
    "rejected": job(matched("line-01.m4a", "line-01.png")),
    "rejected for voice and portrait": job(matched("line-01.m4a", "line-01.heic")),
    "rejected for its settings": job(matched("line-01.mp3", "line-01.png", own={"model": "emo"})),
    "failed": RENDERING.fail(FAULT, NOW, task=ENDED),
    "withdrawn": WAITING.withdraw(NOW),
    **{f"queued for {model}": job(matched("line-01.mp3", "line-01.png", own={"model": model})) for model in MODELS},
}


@pytest.mark.parametrize("name", JOBS)
def test_a_report_holds_to_its_schema(name: str) -> None:
    report = build_report(JOBS[name], now=NOW, turn=Turn(1, 4))
    VALIDATOR.validate(json.loads(json.dumps(report)))


def test_every_status_was_held_against_it() -> None:
    assert {made.status for made in JOBS.values()} == set(Status)
    assert {name: made.problems[0].code for name, made in JOBS.items() if made.problems} == {
        "waiting for a portrait": "PortraitMissing",
        "waiting with two voices": "VoiceAmbiguous",
        "waiting with 25 pictures": "PortraitAmbiguous",
        "rejected": "VoiceSilent",
        "rejected for voice and portrait": "VoiceSilent",
        "rejected for its settings": "SettingsInvalid",
        "failed": "TaskFailed",
    }
    assert len(JOBS["rejected for voice and portrait"].problems) == 2


def reported(name: str) -> dict[str, Any]:
    """Return the report of one of the jobs above, as it is read."""
    report: dict[str, Any] = json.loads(json.dumps(build_report(JOBS[name], now=NOW)))
    return report


def test_a_list_in_a_report_holds_20_and_the_full_count_stands_beside_it() -> None:
    candidates = reported("waiting with 25 pictures")["candidates"]
    assert (len(candidates["keys"]), candidates["count"]) == (20, 25)


def test_a_link_is_shown_without_user_info_and_query() -> None:
    report = reported("rendering a request body")
    assert report["inputs"]["voice"]["url"] == "https://example.com/a.mp3"


def spoiled() -> dict[str, dict[str, Any]]:
    """Return reports that are none, each by one fault."""
    good = reported("done")
    bad = {f"without {name}": {k: v for k, v in good.items() if k != name} for name in good}
    bad["with a field that nobody knows"] = good | {"more": 1}
    bad["with an unknown status"] = good | {"status": "submitting"}
    bad["done without a video"] = good | {"video": None}
    bad["done with a place in the queue"] = good | {"queue": {"place": 1, "of": 1, "held": None}}
    bad["of another schema"] = good | {"schema": "portraitcast.report/2"}
    bad["with local time"] = good | {"as_of": "2026-11-23T17:00:00.000+08:00"}
    error = dict.fromkeys(ERROR["required"]) | {"code": "TaskFailed", "what_to_do": "Try."}
    bad["done with an error"] = good | {"error": error}
    bad["with parameters of another model"] = good | {
        "settings": {"model": "emo-v1", "resolution": "480P", "ratio": "1:1"}
    }
    bad["rejected with a code of failed"] = good | {"status": "rejected", "error": error}
    bad["failed without an error"] = good | {"status": "failed"}
    return bad


@pytest.mark.parametrize("fault", spoiled())
def test_the_schema_refuses_a_report(fault: str) -> None:
    assert not VALIDATOR.is_valid(spoiled()[fault])


# ---------------------------------------------------------------- error codes


def codes_in_the_code() -> set[str]:
    """Return every error code that the product gives to a `Problem`."""
    found: set[str] = set()
    packages = (ROOT / "layers" / "portraitcast" / "portraitcast", ROOT / "layers" / "media" / "portraitcast_media")
    for path in (path for package in packages for path in package.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in {"Problem", "_problem"}:
                given = [*call.args[:2], *(k.value for k in call.keywords if k.arg == "code")]
                names = [n.value for arg in given for n in ast.walk(arg) if isinstance(n, ast.Constant)]
                found |= {name for name in names if isinstance(name, str) and re.fullmatch(r"[A-Z]\w+", name)}
    return found


def test_the_schema_names_the_error_codes_of_the_product_and_no_others() -> None:
    assert set(CODES) == codes_in_the_code() - {"VideoUnusable"}  # of joining, which no workflow asks for yet


@pytest.mark.parametrize("code", CODES)
def test_an_error_code_is_explained(code: str) -> None:
    assert re.search(rf"^\| `{code}` \|", (DOCS / "integration.md").read_text("utf-8"), re.MULTILINE)


def test_every_field_of_a_report_is_explained() -> None:
    text = (DOCS / "integration.md").read_text("utf-8")
    assert [name for name in SCHEMA["required"] if not re.search(rf"^\| `{name}[`.]", text, re.MULTILINE)] == []


# ---------------------------------------------------------------- pages


def words(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", words(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", words(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readmes_first_screen_shows_both_commands() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text("utf-8").splitlines()[:40])
    assert re.search(r"^make demo\b", first_screen, re.MULTILINE)
    assert re.search(r"^make test\b", first_screen, re.MULTILINE)


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", page.read_text("utf-8"), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_stack_parameter_that_a_page_sets_exists(page: Path) -> None:
    parameters = read_template(ROOT / "template.yaml")["Parameters"]
    set_there = re.findall(r"(?:PARAMS=|--parameter-overrides )(.*)", page.read_text("utf-8"))
    named = {name for words in set_there for name in re.findall(r"\b([A-Z][a-z]\w+)=", words)}
    assert named <= set(parameters)


@pytest.mark.parametrize("name", MODELS)
def test_the_models_page_says_what_the_models_are(name: str) -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (DOCS / "models.md").read_text("utf-8").splitlines()
        if line.startswith("|")
    ][: 9 + 1]
    column = rows[0].index(f"`{name}`")
    said = {row[0]: row[column] for row in rows[2:]}
    model = MODELS[name]
    assert said["good for"] == model.good_for
    assert f"CNY {said['CNY a second of video']}".replace("CNY ", "", 1) == model.describe_prices().removeprefix(
        "CNY "
    ).replace(" a second", "", 1)
    assert said["portrait check, CNY"] == f"{model.check_cny:g}"
    assert said["voice"] in model.voice.describe()
    for price in model.second_cny.values():
        assert f"{price * 10:.2f}" in said["ten seconds"]
    assert said["`parameters`"] == ", ".join(f"`{each.name}`" for each in model.parameters)


# Words of a block of commands → the test that runs them, or what they need that no test has.
COMMANDS = {
    "make demo     #": "sam/test_newcomer.py",
    "$ make demo": "sam/test_newcomer.py",
    "make deploy        #": "an AWS account",
    "remote invoke SubmitFunction": "sam/test_newcomer.py",
    "make check-service": "integration/test_check_service.py",
    "=sk-… make demo": "e2e/test_real_demo.py",
    "make check-aws": "e2e/test_check_aws.py",
    'PARAMS="NotificationEmail': "an AWS account",
    'PARAMS="ExistingUploadBucket': "e2e/test_existing_buckets.py",
    "put-bucket-notification-configuration": "unit/test_docs.py",
    "first/hello.png": "e2e/test_operations.py",
    "iam create-policy": "an AWS account",
    "cloudformation deploy": "e2e/test_consumers.py",
    "<upload bucket>/acme/line-01.png": "sam/test_newcomer.py",
    "$ make invoke": "sam/test_newcomer.py",
    "make build ARCHITECTURE=": "sam/test_newcomer.py",
    "generate-event": "sam/test_newcomer.py",
    "start-lambda": "sam/test_newcomer.py",
}
NO_COMMANDS = {"functions/     ", "stateDiagram"}  # a tree, a diagram


def test_every_command_is_run_by_a_test_or_needs_an_account() -> None:
    """Those of docs/operations.md are held by tests/e2e/test_operations.py itself."""
    pages = [page for page in PAGES if page.name not in {"operations.md", "benchmarks.md"}]
    fenced = [
        block
        for page in pages
        for language, block in re.findall(
            r"^ *```(\w*)\n(.*?)^ *```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        if language != "json"
    ]
    known = [*COMMANDS, *NO_COMMANDS]
    assert [block for block in fenced if sum(words in block for words in known) != 1] == []
    assert [words for words in known if not any(words in block for block in fenced)] == []
    tests = [where for where in COMMANDS.values() if where.endswith(".py")]
    assert [where for where in tests if not (ROOT / "tests" / where).exists()] == []


@pytest.mark.parametrize("before", [{}, {"QueueConfigurations": [{"QueueArn": "arn:aws:sqs:::theirs"}]}])
def test_switching_events_on_keeps_other_notifications(before: dict[str, Any]) -> None:
    """The AWS CLI prints nothing where there are none."""
    text = (DOCS / "deploying.md").read_text("utf-8")
    (merge,) = re.findall(r"python3 -c \\\n\s*'(.+?)'\)\"", text)
    said = json.dumps(before) if before else ""
    done = subprocess.run([sys.executable, "-c", merge], input=said, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert json.loads(done.stdout) == {**before, "EventBridgeConfiguration": {}}
