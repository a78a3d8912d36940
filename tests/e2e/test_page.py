"""The page in a real Chromium, over the deployed stack: ``make test-page``."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from browser import chromium
from PIL import Image

from demo import write_page
from page import serve
from run import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browser import Browser
    from conftest import Stack

    from simulator import Simulator

SAMPLES = ROOT / "local" / "samples"
PORTRAIT, VOICE = SAMPLES / "portrait.png", SAMPLES / "voice.mp3"
FINISHED = "<b>Ünï & 日本</b>/hello 🙂"
STATE = "card(given[0])?.querySelector('.state').textContent === given[1]"
CARD_TEXT = "return card(given[0]).innerText"


@pytest.fixture(scope="module")
def one_browser(stack: Stack) -> Iterator[Browser]:
    """One for all; `browser` gives it with nothing to complain about."""
    work = stack.run.work / "browser"
    work.mkdir()
    with chromium(work) as browser:
        yield browser


@pytest.fixture
def page(stack: Stack) -> Iterator[str]:
    with serve(stack.s3, *(stack.outputs[f"{which}_bucket"] for which in ("upload", "results", "work"))) as address:
        yield address


@pytest.fixture
def browser(one_browser: Browser, page: str) -> Iterator[Browser]:
    """Take the browser; `page` ends after it, since a page whose server is gone complains."""
    one_browser.open("about:blank")
    one_browser.complaints()
    one_browser.wide()
    yield one_browser
    assert one_browser.complaints() == []


def small_picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (120, 90), "teal").save(out, "PNG")
    return out.getvalue()


def drop_pair(stack: Stack, name: str) -> None:
    stack.drop(f"{name}.png", PORTRAIT)
    stack.drop(f"{name}.mp3", VOICE)


def play(browser: Browser, name: str) -> None:
    browser.run("card(given[0]).querySelector('video').play()", name)
    browser.wait("card(given[0]).querySelector('video').currentTime > 0.2", name)


def test_an_empty_page_says_what_to_drop_where(stack: Stack, browser: Browser) -> None:
    for bucket in ("empty-uploads", "empty-results", "empty-work"):
        stack.s3.create_bucket(Bucket=bucket)
    with serve(stack.s3, "empty-uploads", "empty-results", "empty-work") as address:
        browser.open(address)
        browser.wait("document.getElementById('empty').checkVisibility()")
        said = browser.run("return document.getElementById('empty').innerText")
        browser.open("about:blank")
    assert "No jobs yet" in said
    assert "line-01.mp3 s3://empty-uploads/acme/line-01.mp3" in said
    assert ".wav" in said
    assert ".png" in said
    assert "empty-results" in said


def test_a_dropped_pair_is_followed_to_its_playing_video(
    stack: Stack, simulator: Simulator, browser: Browser, page: str, folder: str
) -> None:
    name = f"{folder}line-01"
    simulator.set(manual=True)
    browser.open(page)
    drop_pair(stack, name)

    browser.wait(STATE, name, "rendering")
    browser.wait("card(given[0]).querySelector('.portrait img').naturalWidth === 640", name)
    assert not browser.run("return card(given[0]).querySelector('video').checkVisibility()", name)

    simulator.finish()
    simulator.set(manual=False)
    browser.wait(STATE, name, "done")
    seconds = browser.wait("card(given[0]).querySelector('video').duration", name)
    assert seconds == pytest.approx(stack.report(name)["video"]["seconds"], abs=0.1)
    play(browser, name)
    facts = browser.run(CARD_TEXT, name)
    assert "The video is ready" in facts
    assert f"CNY {stack.report(name)['cost_cny']['total']:.3f}" in facts
    assert "same name" in facts


def test_a_video_can_be_moved_through(stack: Stack, browser: Browser, page: str, folder: str) -> None:
    name = f"{folder}line-01"
    drop_pair(stack, name)
    stack.wait_report(name, "done")
    browser.open(page)
    browser.wait(STATE, name, "done")
    browser.wait("card(given[0]).querySelector('video').readyState >= 1", name)
    browser.run("card(given[0]).querySelector('video').currentTime = 5", name)
    browser.wait(
        "(v => !v.seeking && v.readyState >= 2 && Math.abs(v.currentTime - 5) < 0.1)"
        "(card(given[0]).querySelector('video'))",
        name,
    )


def test_a_playing_video_goes_on_while_other_jobs_come(stack: Stack, browser: Browser, page: str, folder: str) -> None:
    name = f"{folder}line-01"
    drop_pair(stack, name)
    stack.wait_report(name, "done")
    browser.open(page)
    browser.wait(STATE, name, "done")
    browser.run("const v = card(given[0]).querySelector('video'); v.loop = true; v.dataset.mine = 'yes'", name)
    play(browser, name)

    stack.drop(f"{folder}other/line-02.mp3", VOICE)
    browser.wait(STATE, f"{folder}other/line-02", "waiting")

    first = browser.run("return document.querySelector('.job h2').textContent")
    paused, mine = browser.run(
        "const v = card(given[0]).querySelector('video'); return [v.paused, v.dataset.mine]", name
    )
    assert (first, paused, mine) == (f"{folder}other/line-02", False, "yes")


def test_the_report_opens_and_stays_open_while_it_changes(
    stack: Stack, browser: Browser, page: str, folder: str
) -> None:
    name = f"{folder}line-01"
    browser.open(page)
    stack.drop(f"{name}.mp3", VOICE)
    browser.wait(STATE, name, "waiting")
    browser.run("card(given[0]).querySelector('summary').click()", name)
    browser.wait("card(given[0]).querySelector('pre').checkVisibility()", name)

    stack.drop(f"{name}.png", PORTRAIT)
    stack.wait_report(name, "done")
    browser.wait(STATE, name, "done")

    shown = browser.wait("card(given[0]).querySelector('details[open] pre').textContent", name)
    assert '\n  "schema": "portraitcast.report/1",\n' in shown
    assert '"status": "done"' in shown


def test_what_is_missing_or_wrong_is_said_with_the_way_out(
    stack: Stack, browser: Browser, page: str, folder: str
) -> None:
    small, alone = f"{folder}small/line-01", f"{folder}alone/line-01"
    stack.drop(f"{small}.png", small_picture())
    stack.drop(f"{small}.mp3", VOICE)
    stack.drop(f"{alone}.mp3", VOICE)
    reports = [stack.wait_report(small, "rejected"), _wait_question(stack, alone)]

    browser.open(page)
    for report in reports:
        browser.wait(STATE, report["name"], report["status"])
        said = browser.run(CARD_TEXT, report["name"])
        assert report["message"] in said
        assert report["error"]["what_to_do"] in said
        assert report["error"]["code"] in said


def _wait_question(stack: Stack, name: str) -> dict[str, Any]:
    return stack.events.wait(lambda report: report["name"] == name and report["error"] is not None)


def test_names_are_shown_as_they_are_and_never_run(stack: Stack, browser: Browser, page: str, folder: str) -> None:
    name = f"{folder}<img src=x onerror=\"document.title='run'\">&amp;'\" 日本 🙂 %2e <b>bold"
    browser.open(page)
    elements = "return document.querySelectorAll('main script, main b, main img:not(.portrait img)').length"
    drop_pair(stack, name)
    stack.wait_report(name, "done")

    browser.wait(STATE, name, "done")
    browser.wait("card(given[0]).querySelector('.portrait img').naturalWidth === 640", name)
    play(browser, name)
    assert browser.run("return document.title") == "Portraitcast"
    assert browser.run(elements) == 0


def test_files_given_to_the_page_become_a_job(stack: Stack, browser: Browser, page: str, folder: str) -> None:
    browser.open(page)
    browser.wait("document.getElementById('drop').checkVisibility()")
    browser.type_into("#folder", folder)
    browser.type_into("#files", f"{PORTRAIT}\n{VOICE}\n{ROOT / 'LICENSE'}")
    said = browser.wait(
        "(t => t.includes('LICENSE') && t.includes('mp3') && t)(document.getElementById('said').textContent)"
    )
    assert f"{folder}portrait.png: uploaded." in said
    assert f"{folder}voice.mp3: uploaded." in said
    assert "LICENSE: left alone" in said
    browser.wait(STATE, f"{folder}voice", "done")


def test_a_file_dropped_anywhere_on_the_page_becomes_a_job(
    stack: Stack, browser: Browser, page: str, folder: str
) -> None:
    browser.open(page)
    browser.type_into("#folder", f"{folder}<b> %2F")
    browser.run(
        "const dropped = new DataTransfer(); dropped.items.add(new File([new Uint8Array(9)], given[0]));"
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: dropped, bubbles: true, cancelable: true}))",
        "hello & #1?.mp3",
    )
    browser.wait(STATE, f"{folder}<b> %2F/hello & #1?", "rejected")
    browser.wait(
        "document.getElementById('said').textContent === given[0]", f"{folder}<b> %2F/hello & #1?.mp3: uploaded."
    )


def test_a_run_that_has_ended_is_said(stack: Stack, one_browser: Browser) -> None:
    with serve(stack.s3, *(stack.outputs[f"{which}_bucket"] for which in ("upload", "results", "work"))) as address:
        one_browser.open(address)
        one_browser.wait("document.getElementById('gone').hidden")
    one_browser.wait("document.getElementById('gone').checkVisibility()")
    assert "make local" in one_browser.run("return document.getElementById('gone').innerText")


def test_the_page_of_the_demo_plays_its_video_from_files(
    stack: Stack, browser: Browser, folder: str, tmp_path: Path
) -> None:
    drop_pair(stack, f"{folder}line-01")
    report = stack.wait_report(f"{folder}line-01", "done")
    video = tmp_path / 'a #1 100% "ü".mp4'
    video.write_bytes(stack.result(report["video"]["key"]))
    portrait = tmp_path / f'a #1 100% "ü"{PORTRAIT.suffix}'
    shutil.copyfile(PORTRAIT, portrait)
    write_page(tmp_path, report, portrait, video)

    browser.open((tmp_path / "index.html").as_uri())

    browser.wait("card(given[0]).querySelector('.portrait img').naturalWidth === 640", report["name"])
    play(browser, report["name"])
    assert not browser.run("return document.getElementById('drop').checkVisibility()")


# What each visible text's colour is worth on the ground behind it (WCAG 2.2, 1.4.3: 4.5 at least).
FAINT = """
const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const colour = (text) => text.match(/[\\d.]+/g).map(Number);
function ground(e) {
  for (; e; e = e.parentElement) {
    const c = colour(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3]) return c;
  }
  return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
}
return [...document.querySelectorAll('body *')]
  .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .filter((e) => !['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(e.tagName))
  .map((e) => {
    const [a, b] = [light(colour(getComputedStyle(e).color).slice(0, 3)), light(ground(e).slice(0, 3))];
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.className || e.tagName, e.textContent.slice(0, 30)];
  }).filter(([ratio]) => ratio < 4.5);
"""


@pytest.fixture
def all_states(stack: Stack, simulator: Simulator) -> None:
    """Bring jobs into every state; their folders are no other test's."""
    stack.drop("withdrawn/line-07.mp3", VOICE)
    _wait_question(stack, "withdrawn/line-07")
    stack.delete("withdrawn/line-07.mp3")
    stack.wait_report("withdrawn/line-07", "withdrawn")
    simulator.fault({"task_fails": {"code": "InternalError.Algo", "message": "the face was lost"}})
    drop_pair(stack, "broken/line-06")
    stack.wait_report("broken/line-06", "failed")
    stack.drop("small/line-05.png", small_picture())
    stack.drop("small/line-05.mp3", VOICE)
    stack.wait_report("small/line-05", "rejected")
    for picture in ("anna.png", "bob.png"):
        stack.drop(f"two/{picture}", PORTRAIT)
    stack.drop("two/line-04.mp3", VOICE)
    _wait_question(stack, "two/line-04")
    drop_pair(stack, FINISHED)
    stack.wait_report(FINISHED, "done")
    simulator.set(manual=True)
    for number in (1, 2, 3):
        drop_pair(stack, f"acme/line-0{number}")
        stack.wait_report(f"acme/line-0{number}", *(["rendering"] if number < 3 else ["queued"]))


def test_every_state_is_readable_in_light_and_dark_and_on_a_telephone(
    stack: Stack, browser: Browser, page: str, all_states: None
) -> None:
    browser.open(page)
    browser.wait(STATE, FINISHED, "done")
    browser.wait(STATE, "acme/line-03", "queued")
    shown = browser.run("return [...document.querySelectorAll('.state')].map((s) => s.textContent)")
    assert set(shown) == {"waiting", "queued", "rendering", "done", "rejected", "failed", "withdrawn"}
    play(browser, FINISHED)
    for scheme in ("light", "dark"):
        browser.wide()
        browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        assert browser.run(FAINT) == []
        below = browser.run("return card(given[0]).getBoundingClientRect().bottom + scrollY + 16", "small/line-05")
        browser.picture(ROOT / ".test" / f"page-{scheme}.png", below)

        browser.narrow()
        assert browser.run("return document.documentElement.scrollWidth - innerWidth") <= 0
        browser.picture(ROOT / ".test" / f"page-{scheme}-narrow.png", 2000)
