"""What is installed: pinned with hashes, named with its licence in docs/security.md, listed truly in the SBOM."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from install import ROOT
from sbom import BILLS, SbomError, completed, needed, pinned_hashes

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
LAYER = ROOT / "layers" / "portraitcast"
REQUIREMENTS = LAYER / "requirements.txt"
LOCKS = [REQUIREMENTS, ROOT / "layers" / "media" / "requirements.txt", *sorted((ROOT / "locks").glob("*.txt"))]
DIRECT = needed([line for line in (LAYER / "requirements.in").read_text().splitlines() if not line.startswith("#")])
PERMISSIVE = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0"}
# Asks for the source of changed files of its own only, and certifi, a list of authorities, is used as it is.
ALLOWED = {"certifi": {"MPL-2.0"}}

SHA = "c2f434054fd64a1a7d39ff0a24e36026f4346d9cd69619395c5abd6ee1340c5d"


def section(title: str) -> str:
    """Return the page's text under a heading, up to the next one."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n#")[0]


# package → who needs it, licence
CARRIED = {
    name: (needed_by, licence)
    for name, needed_by, licence in re.findall(
        r"^\| `([\w-]+)` \| ([^|]+) \| [^|]+ \| ([^|]+) \|$", section("What a function carries"), re.MULTILINE
    )
}


# ---------------------------------------------------------------- pins


def requirements_of(text: str) -> list[str]:
    """Return a lock's requirements, each with its hashes on one line; comments are left out."""
    joined = re.sub(r" *\\\n *", " ", text)
    return [line for line in joined.splitlines() if not re.match(r"\s*(#|$)", line)]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_requirement_is_one_version_with_a_hash(lock: Path) -> None:
    pinned = r"[\w.\[\],-]+==[\w.+!]+( ; .+?)?( --hash=sha256:[0-9a-f]{64})+"
    requirements = requirements_of(lock.read_text())
    assert requirements
    assert [line for line in requirements if not re.fullmatch(pinned, line)] == []


def test_a_requirement_of_the_layer_fits_one_file_only() -> None:
    """One wheel, so its hash is the component's in the bill of materials."""
    hashes = pinned_hashes(REQUIREMENTS.read_text())
    assert len(hashes) == len(requirements_of(REQUIREMENTS.read_text()))
    assert {len(each) for each in hashes.values()} == {1}


# ---------------------------------------------------------------- the page


def test_the_page_names_what_a_function_carries_and_nothing_else() -> None:
    pinned = {pin.split("==")[0] for pin in pinned_hashes(REQUIREMENTS.read_text())}
    assert set(CARRIED) == pinned


def stated_licences(name: str) -> set[str]:
    """Return the licences that a package's metadata states, as SPDX where it does so."""
    about = metadata(name)
    fields = {str(about[field]) for field in ("License-Expression", "License") if about[field]}
    classifiers = [text for text in about.get_all("Classifier") or [] if text.startswith("License ::")]
    return fields | {match[1] for text in classifiers if (match := re.search(r"\(([\w.-]+)\)$", text))}


@pytest.mark.parametrize("name", CARRIED)
def test_a_licence_on_the_page_is_the_package_s_own_and_allowed(name: str) -> None:
    licence = CARRIED[name][1]
    assert licence in stated_licences(name)
    assert licence in PERMISSIVE | ALLOWED.get(name, set())


@pytest.mark.parametrize("name", CARRIED)
def test_the_page_says_who_needs_a_package(name: str) -> None:
    needs = {carried: needed(metadata(carried).get_all("Requires-Dist") or []) for carried in CARRIED}
    needers = [f"`{carried}`" for carried in CARRIED if name in needs[carried]]
    assert CARRIED[name][0].split(", ") == ["the product"] * (name in DIRECT) + needers


def test_the_page_names_every_tool_that_is_asked_for_and_no_other() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    asked = {canonicalize_name(Requirement(each).name) for group in groups.values() for each in group}
    rows = re.findall(r"^\| (`.+`) \|", section("What builds and tests it"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w-]+)`", row)]
    assert sorted(named) == sorted(asked - DIRECT)


# ---------------------------------------------------------------- the bill of materials


def bill(*components: dict[str, Any]) -> dict[str, Any]:
    """Return a bill as cyclonedx-bom writes it."""
    return {"metadata": {"component": {"bom-ref": "root"}}, "components": list(components), "dependencies": []}


def component(name: str, *, licence: str | None = "MIT") -> dict[str, Any]:
    licences = [{"license": {"id": licence}}] if licence else []
    return {"bom-ref": f"{name}==1.0", "name": name, "version": "1.0", "licenses": licences}


HASHES = {"big-thing==1.0": [SHA], "small==1.0": [SHA[::-1]]}
NEEDS = {"": {"big-thing"}, "big-thing": {"small"}, "small": set()}


def test_the_bill_holds_each_package_with_the_hash_that_it_is_pinned_to() -> None:
    made = completed(bill(component("small"), component("Big_Thing")), HASHES, NEEDS)
    assert [(part["name"], part["hashes"]) for part in made["components"]] == [
        ("Big_Thing", [{"alg": "SHA-256", "content": SHA}]),
        ("small", [{"alg": "SHA-256", "content": SHA[::-1]}]),
    ]


def test_every_layer_has_a_bill() -> None:
    assert sorted(layer.name for layer in BILLS) == sorted(path.parent.name for path in ROOT.glob("layers/*/Makefile"))
    assert len(set(BILLS.values())) == len(BILLS)


def test_the_media_layers_licences_name_what_is_pinned() -> None:
    """PyAV's wheels link code under the GPL, so no built layer is published; the page says so."""
    layer = ROOT / "layers" / "media"
    page, pins = (layer / "LICENCES.md").read_text(), pinned_hashes((layer / "requirements.txt").read_text())
    named = {f"{name}=={version}" for name, version in re.findall(r"^\| `([\w-]+)` ([\d.]+)", page, re.MULTILINE)}
    assert named == set(pins)
    assert "GPL-2.0-or-later" in page
    assert "**We publish no built\nlayer**" in page


def test_the_bill_says_what_the_product_and_each_package_need() -> None:
    made = completed(bill(component("small"), component("Big_Thing")), HASHES, NEEDS)
    assert {each["ref"]: each["dependsOn"] for each in made["dependencies"]} == {
        "root": ["Big_Thing==1.0"],
        "Big_Thing==1.0": ["small==1.0"],
        "small==1.0": [],
    }


@pytest.mark.parametrize(
    ("components", "says"),
    [
        ([component("small")], "big-thing==1.0"),
        ([component("small"), component("big-thing"), component("pip")], "pip==1.0"),
        ([component("small"), component("big-thing") | {"version": "1.1"}], "big-thing==1.1"),
        ([component("small"), component("big-thing", licence=None)], "no licence is stated by big-thing"),
    ],
)
def test_a_bill_that_would_be_wrong_is_not_written(components: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(SbomError, match=re.escape(says)):
        completed(bill(*components), HASHES, NEEDS)


def test_what_only_an_unasked_extra_needs_is_not_needed() -> None:
    stated = ["Small_Thing>=1", "other; extra == 'all'", "old; python_version < '3'"]
    assert needed(stated) == {"small-thing"}
