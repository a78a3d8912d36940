"""The house as `ls` shows it: arrows between folders go down only, no circle, typed values, the field's words."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from portraitcast.domain.account import Account
from portraitcast.domain.execution import Execution
from portraitcast.domain.job import Inputs, Job
from portraitcast.domain.uploads import Upload

ROOT = Path(__file__).resolve().parents[2]
LAYER = ROOT / "layers" / "portraitcast"
PACKAGE = LAYER / "portraitcast"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
# From the top to the bottom; what stands beside the folders (`config`, `errors`) knows of none of them.
LEVELS = {"functions": 5, "bootstrap": 4, "workflows": 3, "adapters": 2, "domain": 1}
LEVELS |= {"errors": 0, "config": 0}
PLAIN = {"domain", "workflows"}  # where `dict[str, Any]` has no place


def level(module: str) -> int:
    """Return how high a module of ours stands: ``portraitcast.workflows.poll``, ``functions.submit``."""
    parts = module.split(".")
    return LEVELS[parts[0] if parts[0] == "functions" else parts[1] if len(parts) > 1 else "errors"]


def name_of(path: Path) -> str:
    if path.is_relative_to(LAYER):
        return ".".join(path.relative_to(LAYER).with_suffix("").parts).removesuffix(".__init__")
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def for_types_only(module: ast.Module) -> set[ast.AST]:
    """Return what stands under ``if TYPE_CHECKING``: it is never imported."""
    blocks = [
        node for node in ast.walk(module) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {inner for block in blocks for line in block.body for inner in ast.walk(line)}


def imports(path: Path, *, types: bool) -> set[str]:
    """Return the modules that a file imports; with `types` also those that it names in annotations only."""
    module = tree(path)
    left_out = set() if types else for_types_only(module)
    found: set[str] = set()
    for node in ast.walk(module):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            base = str(node.module)
            inner = {f"{base}.{alias.name}" for alias in node.names} & set(NAMES)
            found |= inner or {base}
    return found


NAMES = {name_of(path): path for path in MODULES}
FUNCTIONS = sorted((ROOT / "functions").glob("*/app.py"))
EVERY = [*MODULES, *FUNCTIONS]


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "portraitcast"}


# Arrows


@pytest.mark.parametrize("path", [p for p in MODULES if "domain" in p.parts], ids=name_of)
def test_domain_knows_nothing_outside(path: Path) -> None:
    """Rules: the standard library and each other, for types too."""
    for name in imports(path, types=True):
        assert name.startswith("portraitcast.domain") or name.split(".")[0] in sys.stdlib_module_names, name


@pytest.mark.parametrize("path", [p for p in MODULES if "domain" in p.parts], ids=name_of)
def test_domain_has_no_clock_and_no_files(path: Path) -> None:
    banned = {"time", "os", "pathlib", "io", "socket", "random", "secrets", "subprocess", "threading", "logging"}
    assert not banned & {name.split(".")[0] for name in imports(path, types=True)}
    assert not re.search(r"\bopen\(|datetime\.now|\.utcnow|\.today\(", path.read_text("utf-8"))


@pytest.mark.parametrize("path", EVERY, ids=name_of)
def test_arrows_go_down_only(path: Path) -> None:
    """Also for types, which may point sideways or down."""
    mine = level(name_of(path))
    for name in ours(imports(path, types=True)):
        assert level(name) <= mine, f"{name_of(path)} imports {name}"


def test_modules_make_no_circle() -> None:
    graph = {name: ours(imports(path, types=False)) - {name} for name, path in NAMES.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle
    assert set(order) >= set(NAMES)


@pytest.mark.parametrize("path", FUNCTIONS, ids=name_of)
def test_a_handler_is_wiring_only(path: Path) -> None:
    """Workflows are put together in bootstrap; a handler reads its event, calls one of them, and answers."""
    allowed = {"portraitcast.bootstrap", "portraitcast.errors", "portraitcast.adapters.records"}
    allowed |= {"portraitcast.domain.execution", "portraitcast.workflows"}
    for name in ours(imports(path, types=False)):
        assert any(name.startswith(each) for each in allowed), name


def test_one_verb_a_file() -> None:
    """A workflow's module has one class with the module's name; what stands beside it are its values."""
    for path in (PACKAGE / "workflows").glob("[!_]*.py"):
        words = "".join(part.title() for part in path.stem.split("_"))
        classes = {node.name for node in tree(path).body if isinstance(node, ast.ClassDef)}
        assert words in classes, path.stem


# Types


@pytest.mark.parametrize("path", [p for p in MODULES if PLAIN & set(p.parts)], ids=name_of)
def test_values_are_typed(path: Path) -> None:
    assert not re.search(r"dict\[str, Any\]|Mapping\[str, Any\]|list\[Any\]", path.read_text("utf-8"))


@pytest.mark.parametrize("path", [p for p in MODULES if "domain" in p.parts], ids=name_of)
def test_values_are_frozen(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            assert all("frozen=True" in mark for mark in marks if mark.startswith("dataclass")), node.name


JOB_FIELDS = {field.name for field in fields(Job)}
ONLY_JOBS = JOB_FIELDS - {field.name for kind in (Account, Upload, Execution, Inputs) for field in fields(kind)}


def test_a_job_changes_by_its_transitions() -> None:
    """Nobody else assigns its fields; the table raises the version that it writes."""
    for path in EVERY:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "replace" and path.stem != "job":
                changed = {str(keyword.arg) for keyword in node.keywords}
                subject = ast.unparse(node.args[0])
                of_a_job = changed <= JOB_FIELDS and (changed & ONLY_JOBS or subject in {"job", "current"})
                assert not of_a_job or changed == {"version"}, f"{path.stem}: {ast.unparse(node)}"


# Words


# Private words that names of ours must not have; design.md has what we say instead.
OLD_NAMES = {
    *("tell", "tells", "told", "untold", "telling", "teller"),
    *("watch", "watches", "watching", "lingering", "walk", "walks", "intake", "gone", "wiring", "refusals"),
    *("submitting", "submitted"),
}
OLD_WORDS = re.compile(
    r"\b(untold|teller|lingering|intake|wiring|ended_watch|RefusalError|Slots|submitting|walk(s|ed)? (the|a) folder"
    r"|hold_account|(Min|Max)Wait(Seconds)?|(MIN|MAX)_WAIT\w*|LookSeconds|LOOK_SECONDS_|HoldSeconds|HOLD_SECONDS)\b"
)
TEXTS = [*EVERY, ROOT / "template.yaml", *(ROOT / "layers").glob("*/*.in")]


def identifiers(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.keyword(arg=str() as name):
                found.add(name)
    return found


def words(name: str) -> set[str]:
    """Return the words of a name: ``_hold_account`` and ``HoldAccount`` have the same."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("path", EVERY, ids=name_of)
def test_names_are_the_fields_words(path: Path) -> None:
    old = {name: words(name) & OLD_NAMES for name in identifiers(path) if words(name) & OLD_NAMES}
    assert not old.keys() - FOREIGN
    assert not words(path.stem) & OLD_NAMES


FOREIGN = {"tell", "_free_quota_is_gone"}  # Python's word for a position; the service's quota


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_are_in_the_fields_words(path: Path) -> None:
    found = [match.group() for match in OLD_WORDS.finditer(path.read_text("utf-8"))]
    assert found == []


def test_one_folder_a_storey() -> None:
    """A newcomer sees the architecture in `ls`."""
    shown = {path.stem for path in PACKAGE.iterdir() if path.suffix in {"", ".py"}} - {"__init__", "__pycache__"}
    assert shown <= set(LEVELS) - {"functions"}
