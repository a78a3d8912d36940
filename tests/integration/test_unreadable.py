"""Objects that S3 will never hand out (archive classes, SSE-C, foreign KMS keys), and S3 that is ill for a moment.

The first is a problem of that file, told to its owner; the second costs nobody anything. Neither stops anybody else.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from world import UPLOADS, S3Error, named, new_job, portrait, s3_answers, voice

from portraitcast.adapters.buckets import Uploads
from portraitcast.domain.job import Status
from portraitcast.errors import TryLaterError, UnreadableObjectError

if TYPE_CHECKING:
    from world import World

    from portraitcast.domain.job import Job

pytestmark = pytest.mark.usefixtures("no_pauses")

# Words of Amazon S3, "List of error codes", and of what KMS has it say.
ARCHIVED = S3Error(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
SSE_C = S3Error(
    400,
    "InvalidRequest",
    "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve "
    "the object.",
)
KMS = S3Error(
    403,
    "AccessDenied",
    "User: arn:aws:sts::1:assumed-role/submit is not authorized to perform: kms:Decrypt on the resource associated "
    "with this ciphertext because no resource-based policy allows the kms:Decrypt action",
)
OLD_KMS = S3Error(
    403,
    "AccessDenied",
    "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not "
    "allowed to access.",
)
KMS_DISABLED = S3Error(400, "KMS.DisabledException", "arn:aws:kms:eu-central-1:1:key/a is disabled.")
FOR_GOOD = pytest.mark.parametrize("error", [ARCHIVED, SSE_C, KMS, OLD_KMS, KMS_DISABLED], ids=lambda error: error.code)

SLOW_DOWN = S3Error(503, "SlowDown", "Reduce your request rate.")
DENIED = S3Error(403, "AccessDenied", "Access Denied")
KMS_THROTTLED = S3Error(400, "KMS.ThrottlingException", "You have exceeded the rate at which you may call KMS.")
KMS_ILL = S3Error(500, "KMS.KMSInternalException", "An internal failure occurred.")


# ---------------------------------------------------------------------- the adapter
@FOR_GOOD
def test_a_permanent_answer_is_told_as_such(world: World, error: S3Error) -> None:
    event = world.put("a.wav", voice())
    there = event["Records"][0]["s3"]["object"]
    uploads = Uploads(world.s3, UPLOADS)
    with s3_answers(error, "a.wav"):
        with pytest.raises(UnreadableObjectError):
            uploads.read("a.wav", there["versionId"], there["eTag"], 10)
        with pytest.raises(UnreadableObjectError), uploads.download("a.wav", there["versionId"], there["eTag"]):
            pass


@pytest.mark.parametrize("error", [SLOW_DOWN, DENIED, KMS_THROTTLED, KMS_ILL], ids=lambda error: error.code)
def test_a_passing_answer_is_for_later(world: World, error: S3Error) -> None:
    """A missing right too: it is mended by a deployment."""
    world.put("a.wav", voice())
    with s3_answers(error, "a.wav"), pytest.raises(TryLaterError):
        Uploads(world.s3, UPLOADS).read("a.wav", "null", "", 10)


# ---------------------------------------------------------------------- one file never stops the others
@FOR_GOOD
def test_over_the_voice_of_a_queued_job(world: World, error: S3Error) -> None:
    world.post({"pause": True})
    world.drop_pair("first")
    world.run(10)
    world.drop_pair("later", pitch=0.3)
    world.run(10)
    assert (world.status("first"), world.status("later")) == ("queued", "queued")
    with s3_answers(error, "first.wav"):
        world.drop("first.wav", voice(pitch=0.2))
        world.post({"pause": False})
        world.run()
    report = world.its_report("first")
    assert (report["status"], report["error"]["code"]) == ("rejected", "FileUnreadable")
    assert "first.wav" in report["message"]
    assert report["error"]["what_to_do"]
    assert world.status("later") == "done"
    world.drop("first.wav", voice())
    world.run()
    assert world.status("first") == "done", "uploaded again it is made"


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
def test_over_a_queued_voice_right_before_its_create(world: World, *, told: bool) -> None:
    """Dispatch looks at it last; its event may not have come. Whoever stands behind it is made."""
    world.post({"pause": True})
    world.drop_pair("first")
    world.run(10)
    world.drop_pair("later", pitch=0.3)
    world.run(10)
    event = world.put("first.wav", voice(pitch=0.2))
    with s3_answers(SSE_C, "first.wav"), s3_answers(SSE_C, "first.wav", operation="HeadObject"):
        if told:
            world.post(event)
        world.post({"pause": False})
        world.run()
    assert (world.status("first"), world.error("first")) == ("rejected", "FileUnreadable")
    assert world.status("later") == "done"
    assert len(world.tasks()) == 1


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("acme/line.json", {"parameters": {"style_level": "calm"}}),
        ("acme/settings.json", {"parameters": {"style_level": "calm"}}),
        ("acme/line.png", portrait(90)),
        ("acme/anna.png", portrait(90)),
    ],
    ids=["own settings", "folder's settings", "own portrait", "only image"],
)
@FOR_GOOD
def test_what_cannot_be_read_is_not_ignored(world: World, error: S3Error, key: str, body: Any) -> None:
    """A job is not paid for with defaults, or with another face, instead."""
    with s3_answers(error, key):
        world.drop(key, body)
        if key != "acme/anna.png":
            world.drop("acme/bert.png", portrait())
        world.drop("acme/line.wav", voice())
        world.run()
    assert (world.status("acme/line"), world.error("acme/line")) == ("rejected", "FileUnreadable")
    assert world.tasks() == []
    assert world.dead == []
    world.drop(key, body)
    world.run()
    assert world.status("acme/line") == "done", "uploaded again it is used"


@pytest.mark.parametrize("operations", [["GetObject"], ["GetObject", "HeadObject"]], ids=["GET", "GET and HEAD"])
def test_a_portrait_that_a_json_names(world: World, operations: list[str]) -> None:
    """It may lie there since before the stack did: no event has told of it. S3 refuses HEAD for SSE-C only."""
    world.put("faces/anna.png", portrait())
    with ExitStack() as refusing:
        for operation in operations:
            refusing.enter_context(s3_answers(SSE_C, "faces/anna.png", operation=operation))
        world.drop("line.json", {"input": {"image_url": "faces/anna.png"}})
        world.drop("line.wav", voice())
        world.run()
    assert (world.status("line"), world.error("line")) == ("rejected", "FileUnreadable")
    assert world.dead == []


def test_a_folder_and_a_scan_go_on_behind_it(world: World) -> None:
    for n in range(4):
        world.put(f"acme/{n}.wav", voice(pitch=0.1 + n / 10))
    world.put("acme/anna.png", portrait())
    with s3_answers(SSE_C, "acme/1.wav"), s3_answers(SSE_C, "acme/1.wav", operation="HeadObject"):
        world.post({"scan": "acme/"})
        world.run()
        assert [world.status(f"acme/{n}") for n in range(4)] == ["done", "rejected", "done", "done"]
        world.drop("acme/settings.json", {"parameters": {"style_level": "calm"}})
        world.run()
        world.sweep(1)
    assert world.error("acme/1") == "FileUnreadable"
    assert world.dead == []


# ---------------------------------------------------------------------- one job's exception never ends a loop
def forget(world: World, key: str) -> None:
    """Let what was read of a file be read again."""
    upload = world.table.upload(named(key))
    assert upload is not None
    world.table.keep_reading(replace(upload, facts=None))


def breaks(world: World, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Let reading a key raise what nobody has thought of."""
    world.expected += (RuntimeError,)
    real = world.uploads.download

    def download(its_key: str, *which: Any) -> Any:
        if its_key == key:
            raise RuntimeError("nobody has thought of it")
        return real(its_key, *which)

    monkeypatch.setattr(world.uploads, "download", download)


@pytest.mark.parametrize("first", ["a", "b"])
def test_an_unforeseen_error_in_a_folder(world: World, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """A portrait comes for two waiting voices; looking at one of them breaks."""
    other = {"a": "b", "b": "a"}[first]
    for name in "ab":
        world.drop(f"acme/{name}.wav", voice(pitch=0.1))
    world.drop("acme/a1.png", portrait())
    world.drop("acme/a2.png", portrait(90))
    world.run()
    breaks(world, monkeypatch, f"acme/{first}.wav")
    forget(world, f"acme/{first}.wav")
    world.delete("acme/a1.png")
    world.run(120)
    assert world.status(f"acme/{other}") == "done"


def test_an_unforeseen_error_in_the_queue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.post({"pause": True})
    world.drop_pair("first")
    world.run(10)
    world.drop_pair("later", pitch=0.3)
    world.run(10)
    world.expected += (RuntimeError,)
    real, first = world.evaluate.job, world.job_id("first")

    def evaluate(job_id: str, *more: Any) -> Job | None:
        if job_id == first:
            raise RuntimeError("nobody has thought of it")
        return real(job_id, *more)

    monkeypatch.setattr(world.evaluate, "job", evaluate)
    world.post({"pause": False})
    world.run(60)
    assert (world.status("first"), world.status("later")) == ("queued", "done")
    monkeypatch.undo()
    world.sweep(1)
    assert world.status("first") == "done"


def test_an_unforeseen_error_in_the_sweep(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three jobs that died before they were published: one of them breaks the sweep's look at it."""
    jobs = [
        world.table.save(new_job(f"{n}", status=Status.DONE, revision=1, changed_at=world.clock()), was=None)[0]
        for n in range(3)
    ]
    real = world.publish.job

    def publish(job: Job, *more: Any) -> None:
        if job.id == jobs[1].id:
            raise RuntimeError("nobody has thought of it")
        real(job, *more)

    monkeypatch.setattr(world.publish, "job", publish)
    world.sweep(1)
    assert [world.job(f"{n}").unpublished for n in range(3)] == [False, True, False]
