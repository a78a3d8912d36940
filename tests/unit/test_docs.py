"""The documents hold: real reports against the schema, every error code explained, every link and command there."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from package import read_template
from portraitcast.errors import Problem
from portraitcast.domain.job import (
    DONE,
    FAILED,
    QUEUED,
    REJECTED,
    RENDERING,
    SUBMITTING,
    WAITING,
    WITHDRAWN,
    File,
    Job,
)
from portraitcast.domain.uploads import classify
from portraitcast.domain.matching import Decision, Gathered, Pictures, decide
from portraitcast.domain.report import build_report

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
SCHEMA = json.loads((DOCS / "report.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
CODES = SCHEMA["properties"]["error"]["properties"]["code"]["enum"]
NOW = 1_795_424_400.5
SHA = "c2f434054fd64a1a7d39ff0a24e36026f4346d9cd69619395c5abd6ee1340c5d"


# ---------------------------------------------------------------- reports of jobs as the product makes them


@dataclass
class Folder:
    """A folder with pictures, as `decide` asks for it."""

    files: list[File] = field(default_factory=list)

    def same_name(self) -> list[File]:
        return [f for f in self.files if "line-01." in f.key]

    def named(self, key: str) -> File | None:
        return next((f for f in self.files if f.key == key), None)

    def pictures(self) -> Pictures:
        return Pictures(self.files[:20], len(self.files))

    def facts(self, file: File) -> dict[str, Any]:
        if file.key.endswith(".mp3"):
            return {"sha256": SHA, "seconds": 6.051, "type": "mp3"}
        return {"sha256": SHA, "width": 640, "height": 640, "type": "png"}


def file(key: str, text: str | None = None) -> File:
    return File(key, "v1", 49_197, NOW - 60, "01", text=text)


def decided(*files: File) -> Decision:
    """Return what a folder's files come to for the job acme/line-01."""
    name = classify("acme/line-01.mp3")
    assert name
    own = [f for f in files if "line-01." in f.key]
    return decide(
        Gathered(
            name,
            sounds=[f for f in own if f.key.endswith((".mp3", ".wav", ".m4a"))],
            jsons=[f for f in own if f.key.endswith(".json")],
            folder_settings=[f for f in files if f.key.endswith("settings.json")],
            images_at=NOW - 60,
            settings_at=NOW - 60,
            now=NOW,
            pair_seconds=3,
            settle_seconds=15,
        ),
        Folder([f for f in files if f.key.endswith(".png")]),
    )


def job(decision: Decision, **later: Any) -> Job:
    """Return the job that a decision makes, with what happened to it later."""
    made = Job("0" * 32, "acme/line-01", "acme", decision.stem, created_at=NOW, status=decision.status)
    made.voice, made.portrait, made.settings_files = decision.voice, decision.portrait, decision.settings_files
    made.settings, made.candidates, made.message = decision.settings, decision.candidates, decision.message
    made.problem = decision.problem.as_dict() if decision.problem else None
    for name, value in later.items():
        setattr(made, name, value)
    made.change(NOW)
    return made


VOICE, PORTRAIT = file("acme/line-01.mp3"), file("acme/line-01.png")
PAIR = decided(VOICE, PORTRAIT)
LINKS = json.dumps(
    {"input": {"audio_url": "https://u:p@example.com/a.mp3?k=1", "image_url": "https://example.com/a.png"}}
)
TASK = {"id": "a8532587-fa8c-4ef8-82be-0c46b17950d1"}
TIMES = dict.fromkeys(("submit_time", "scheduled_time", "end_time"), "2026-11-23T09:00:00.000Z")
VIDEO = {"key": "acme/line-01.mp4", "bytes": 251_747, "seconds": 6.075, "width": 512, "height": 512, "sha256": SHA}
BOXES = {"face": [192, 160, 448, 416], "ext": [-2, 0, 640, 642]}
FAULT = Problem("TaskFailed", "It failed.", "Try again.", provider_code="InternalError", request_id="r-1").as_dict()

JOBS = {
    "waiting for a portrait": job(decided(VOICE)),
    "waiting with two voices": job(decided(VOICE, file("acme/line-01.wav"))),
    "waiting with 25 pictures": job(decided(VOICE, *(file(f"acme/{n}.png") for n in range(25)))),
    "queued": job(PAIR),
    "queued and held": job(PAIR, held="budget"),
    "submitting": job(PAIR, status=SUBMITTING, boxes=BOXES, checks_paid=1),
    "rendering": job(PAIR, status=RENDERING, task=TASK, boxes=BOXES, checks_paid=1, tries=1),
    "rendering a request body": job(decided(file("acme/line-01.json", LINKS)), status=RENDERING, task=TASK, tries=1),
    "done": job(PAIR, status=DONE, task=TASK | TIMES, boxes=BOXES, video=VIDEO, video_cost=0.484, tries=1),
    "asked again": job(PAIR, status=DONE, video=VIDEO, asked_again_at=NOW),
    "rejected": job(decided(file("acme/line-01.m4a"), PORTRAIT)),
    "rejected for its settings": job(decided(VOICE, PORTRAIT, file("acme/line-01.json", '{"model": "emo"}'))),
    "failed": job(PAIR, status=FAILED, problem=FAULT, task=TASK | TIMES, tries=2),
    "withdrawn": job(PAIR, status=WITHDRAWN, problem=None),
}  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_a_report_holds_to_its_schema(name: str) -> None:
    report = build_report(JOBS[name], now=NOW, place=(1, 4))
    VALIDATOR.validate(json.loads(json.dumps(report)))


def test_reports_of_every_status_were_held_against_the_schema() -> None:
    assert {made.status for made in JOBS.values()} == {
        WAITING, QUEUED, SUBMITTING, RENDERING, DONE, REJECTED, FAILED, WITHDRAWN
    }  # fmt: skip
    shown = {made.shown_status for made in JOBS.values()}
    assert shown == set(SCHEMA["properties"]["status"]["enum"])


def test_the_jobs_here_are_what_their_names_say() -> None:
    codes = {name: made.problem["code"] for name, made in JOBS.items() if made.problem}
    assert codes == {
        "waiting for a portrait": "PortraitMissing",
        "waiting with two voices": "VoiceAmbiguous",
        "waiting with 25 pictures": "PortraitAmbiguous",
        "rejected": "UnsupportedType",
        "rejected for its settings": "SettingsInvalid",
        "failed": "TaskFailed",
    }


def test_a_list_in_a_report_holds_20_and_the_full_count_stands_beside_it() -> None:
    candidates = build_report(JOBS["waiting with 25 pictures"], now=NOW)["candidates"]
    assert (len(candidates["keys"]), candidates["count"]) == (20, 25)


def test_a_link_is_shown_without_user_info_and_query() -> None:
    report = build_report(JOBS["rendering a request body"], now=NOW)
    assert report["inputs"]["voice"]["url"] == "https://example.com/a.mp3"


def spoiled() -> dict[str, dict[str, Any]]:
    """Return reports that are none, each by one fault."""
    good = json.loads(json.dumps(build_report(JOBS["done"], now=NOW)))
    bad = {f"without {name}": {k: v for k, v in good.items() if k != name} for name in good}
    bad["with a field that nobody knows"] = good | {"more": 1}
    bad["with an unknown status"] = good | {"status": "submitting"}
    bad["done without a video"] = good | {"video": None}
    bad["done with a place in the queue"] = good | {"queue": {"place": 1, "of": 1, "held": None}}
    bad["of another schema"] = good | {"schema": "portraitcast.domain.report/2"}
    bad["with local time"] = good | {"as_of": "2026-11-23T17:00:00.000+08:00"}
    error = dict.fromkeys(SCHEMA["properties"]["error"]["required"]) | {"code": "TaskFailed", "what_to_do": "Try."}
    bad["done with an error"] = good | {"error": error}
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
    for path in (ROOT / "layers" / "portraitcast" / "portraitcast").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in {"Problem", "_refusal", "_ask"}:
                given = [*call.args[:2], *(k.value for k in call.keywords if k.arg == "code")]
                names = [n.value for arg in given for n in ast.walk(arg) if isinstance(n, ast.Constant)]
                found |= {name for name in names if isinstance(name, str) and re.fullmatch(r"[A-Z]\w+", name)}
    return found


def test_the_schema_names_the_error_codes_of_the_product_and_no_others() -> None:
    assert set(CODES) == codes_in_the_code()


@pytest.mark.parametrize("code", CODES)
def test_an_error_code_is_explained(code: str) -> None:
    assert re.search(rf"^\| `{code}` \|", (DOCS / "reports.md").read_text("utf-8"), re.MULTILINE)


def test_every_field_of_a_report_is_explained() -> None:
    text = (DOCS / "reports.md").read_text("utf-8")
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
