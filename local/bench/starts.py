"""The start of a function: CPU time and memory of a fresh process up to its handler's first line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.document import Mark, Section, Table
from install import VENVS
from package import Build, build_with_pip, files_of, layer_files, resources
from run import REGION, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNS = 11  # of each, in turn
PYTHON = VENVS / "runtime" / "bin" / "python"
FUNCTIONS = {name: f"{name.title()}Function" for name in ("submit", "prepare", "status", "deliver")}
MARKS = {"submit": 1.15, "status": 1.0, "deliver": 1.15}  # of the floor

SAY = """
import json, os, re, time
def say(**more):
    used = time.process_time()
    with open("/proc/self/status", encoding="ascii") as status:
        peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1])
    print(json.dumps({"cpu": used, "mib": peak / 1024, **more}), flush=True)
"""
FLOOR = (
    SAY
    + """
import boto3, requests
boto3.client("s3")
say()
"""
)
# The handler's first line: its own frame, behind all decorators. Then what it puts together at its first invocation.
FUNCTION = (
    SAY
    + """
import sys, types
class Context:
    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "bench"
    def get_remaining_time_in_millis(self): return 60000
import app
code = app.handler
while hasattr(code, "__wrapped__"):
    code = code.__wrapped__
def first_line(frame, event, argument):
    if event == "call" and frame.f_code is code.__code__:
        sys.setprofile(None)
        say()
        getattr(app, PARTS)()
        say()
        os._exit(0)
sys.setprofile(first_line)
app.handler({}, Context())
"""
)
# What a handler calls once a process.
PARTS = {"submit": "workflows", "prepare": "preparing", "status": "poll", "deliver": "deliver"}


def unpacked(built: Build, function: str, folder: Path) -> dict[str, str]:
    """Write a function's artefact as it lies on Lambda, and return the environment to start it in."""
    template = built.template
    properties = resources(template, "Function")[function]
    layers = [*template["Globals"]["Function"]["Layers"], *properties.get("Layers", [])]
    for place, files in [
        ("task", files_of(built.code[function])),
        *(("opt", layer_files(built, layer["Ref"])) for layer in layers),
    ]:
        for name, (content, _) in files.items():
            path = folder / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    # As layers/portraitcast/Makefile does for `sam build`.
    compiling = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(folder / "opt")]
    subprocess.run([str(PYTHON), *compiling], check=True)
    names = [*template["Globals"]["Function"]["Environment"]["Variables"]]
    names += properties.get("Environment", {}).get("Variables", {})
    names = [name for name in names if not name.startswith("AWS_")]  # Lambda's own
    address = "http://127.0.0.1:9"  # nobody is asked
    values = dict.fromkeys(names, "1") | {"AWS_ENDPOINT_URL": address, "DASHSCOPE_BASE_URL": address}
    values |= {"POWERTOOLS_LOG_LEVEL": "INFO", "EXTRA_VIDEO_HOSTS": ""}
    return {**values, "PYTHONPATH": f"{folder / 'task'}:{folder / 'opt' / 'python'}", "LAMBDA_TASK_ROOT": "task"}


def started(program: str, environment: Mapping[str, str], folder: Path) -> list[dict[str, Any]]:
    """Run a program in a fresh process of the runtime's Python; return what it said of itself."""
    done = ran([program], environment, folder)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"cpu"')]
    if done.returncode or not said:
        raise RuntimeError(f"the process did not come to its end: {done.stderr[-2000:]}")
    return said


def ran(words: list[str], environment: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the runtime's Python as Lambda would; `words` are a program, and the options before it."""
    base = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "PYTHONDONTWRITEBYTECODE": "1",  # Lambda's file system can't be written
    }  # fmt: skip
    command = [str(PYTHON), *words[1:], "-c", words[0]]
    return subprocess.run(command, env={**base, **environment}, cwd=folder, capture_output=True, text=True, check=False)


def import_seconds(words: str) -> dict[str, float]:
    """Return the seconds of each package's own modules from what ``python -X importtime`` says."""
    found: dict[str, float] = {}
    for microseconds, package in re.findall(r"^import time:\s+(\d+) \|[\s\d]+\|\s+(\w+)", words, re.MULTILINE):
        found[package] = found.get(package, 0.0) + int(microseconds) / 1e6
    return found


def measure() -> Section:
    """Run this part."""
    built = build_with_pip(ROOT)
    found: dict[str, list[list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        work = Path(temporary)
        programs = {}
        for name, logical in FUNCTIONS.items():
            folder = work / name
            programs[name] = (FUNCTION.replace("PARTS", repr(PARTS[name])), unpacked(built, logical, folder), folder)
        floor = {"PYTHONPATH": programs["submit"][1]["PYTHONPATH"]}
        programs["floor"] = (FLOOR, floor, work)
        for _ in range(RUNS):
            for name, program in programs.items():
                found.setdefault(name, []).append(started(*program))
        imports = {
            name: import_seconds(ran(["import app", "-X", "importtime"], *programs[name][1:]).stderr)
            for name in FUNCTIONS
        }
        packed = sizes(built, work / "submit" / "opt" / "python")
    return section(found, imports, packed)


def sizes(built: Build, layer: Path) -> list[tuple[str, str, int]]:
    """Return (package, what of it, bytes unzipped), the largest first; a package's whole is called ``all``."""
    rows = []
    for name, logical in FUNCTIONS.items():
        rows.append((name, "all", sum(len(content) for content, _ in files_of(built.code[logical]).values())))
    parts: dict[str, int] = {}
    for path in layer.rglob("*"):
        top = path.relative_to(layer).parts[0].partition("-")[0]
        parts[top] = parts.get(top, 0) + (path.stat().st_size if path.is_file() else 0)
    rows.append(("layer", "all", sum(parts.values())))
    return rows + [("layer", part, size) for part, size in sorted(parts.items(), key=lambda p: -p[1])]


def section(
    found: Mapping[str, list[list[dict[str, Any]]]],
    imports: Mapping[str, Mapping[str, float]],
    packed: list[tuple[str, str, int]],
) -> Section:
    """Say what was found."""

    def of(name: str, what: str, step: int = 0) -> float:
        return float(median(run[step][what] for run in found[name]))

    floor_cpu, floor_mib = of("floor", "cpu"), of("floor", "mib")
    rows = [("floor: boto3, S3 client, requests", f"{floor_cpu:.3f} s", "1.00", f"{floor_mib:.0f} MiB", "1.00", "-")]
    marks = []
    for name in FUNCTIONS:
        cpu, mib = of(name, "cpu"), of(name, "mib")
        rows.append(
            (
                name,
                f"{cpu:.3f} s",
                f"{cpu / floor_cpu:.2f}",
                f"{mib:.0f} MiB",
                f"{mib / floor_mib:.2f}",
                f"{of(name, 'cpu', 1):.3f} s, {of(name, 'mib', 1):.0f} MiB",
            )
        )
        most = MARKS.get(name)  # nothing is asked of prepare: a decoder's seconds are longer than its start
        if most is None:
            continue
        for what, ratio in (("CPU", cpu / floor_cpu), ("memory", mib / floor_mib)):
            met = ratio <= most if name != "status" else ratio < most
            asked = f"{'<' if name == 'status' else '≤'} {most:g} of the floor"
            marks.append(Mark(f"{name}: {what} to its first line", asked, f"{ratio:.2f}", met, WHY))
    size_rows = [(package, part, f"{size / 1024:,.0f} KiB") for package, part, size in packed]
    return Section(
        "Start of a function",
        "The packaged artefacts unpacked as on Lambda, each in a fresh process of the runtime environment's Python up "
        f"to the first line of the handler itself, decorators included (median of {RUNS}, in turn; the interpreter's "
        "own start counts), beside a process that imports boto3 and requests and makes an S3 client. The layer "
        "is compiled, as `sam build` leaves it; the handlers themselves are compiled at each start, as on Lambda.",
        [
            Table(
                "CPU time and peak memory.",
                ("function", "CPU", "of floor", "memory", "of floor", "with all that its first invocation makes"),
                rows,
            ),
            Table(
                "What the start imports: the largest packages, by the time of their own modules in one start.",
                ("function", *(f"no. {n + 1}" for n in range(6))),
                [(name, *largest(packages)) for name, packages in imports.items()],
            ),
            Table("Unzipped. boto3 is the runtime's.", ("package", "of it", "size"), size_rows),
        ],
        marks,
    )


def largest(packages: Mapping[str, float]) -> list[str]:
    """Return the six packages that took longest, in words."""
    ordered = sorted(packages.items(), key=lambda pair: -pair[1])[:6]
    return [f"{name} {seconds * 1000:.0f} ms" for name, seconds in ordered]


WHY = "The table of imports says where it goes. boto3 can't go: Powertools Parameters imports it."
