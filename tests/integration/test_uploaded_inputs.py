"""InputTransfer upload: a job's files go through the service's temporary storage, and no trouble of it is paid."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from world import SUBMIT_SECONDS, UNVERSIONED, Died, S3Error, World, new_job, portrait, s3_answers, sha256, voice

from portraitcast.adapters.dashscope import DashScope
from portraitcast.domain.job import Status
from portraitcast.domain.models import MODELS, StackModels
from portraitcast.domain.polling import Pace
from portraitcast.errors import TryLaterError
from portraitcast.workflows import create_task

if TYPE_CHECKING:
    from collections.abc import Callable

DENIED = S3Error(403, "AccessDenied", "Access Denied")
FOREIGN_KEY = S3Error(400, "KMS.DisabledException", "arn:aws:kms:1:2:key/3 is disabled.")
SPENT_ON_CHECK = 0.004


@pytest.fixture
def uploading(make_world: Callable[..., World]) -> World:
    return make_world(upload_inputs=True)


def stored(world: World) -> list[tuple[str, str]]:
    return [(file["model"], file["sha256"]) for file in world.sim.state()["stored"]]


def nothing_is_paid(world: World, *, spent: float = 0.0) -> bool:
    account = world.table.account()
    return not world.tasks() and not account.tasks_in_flight and account.open_create is None and account.spent == spent


# ---------------------------------------------------------------------- what is uploaded
def test_each_model_has_a_portrait_of_its_own(uploading: World) -> None:
    uploading.drop_pair("a")
    uploading.run()
    assert uploading.status("a") == "done"
    picture, sound = sha256(portrait()), sha256(voice())
    assert stored(uploading) == [("emo-detect-v1", picture), ("emo-v1", picture), ("emo-v1", sound)]
    (task,) = uploading.tasks()
    assert [task[name].partition(":")[0] for name in ("image_url", "audio_url")] == ["oss", "oss"]
    assert (task["image_sha256"], task["audio_sha256"]) == (picture, sound)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_uploads(uploading: World, model: str) -> None:
    uploading.drop("a.json", {"model": model})
    uploading.drop_pair("a", seconds=1.4)
    uploading.run()
    assert uploading.status("a") == "done"
    assert Counter(name for name, _ in stored(uploading)) == {MODELS[model].check_model: 1, model: 2}


def test_a_deployment_reads_its_own_uploads(make_world: Callable[..., World]) -> None:
    deployments = {"my-emo": "emo-v1"}
    world = make_world(upload_inputs=True, models=StackModels("my-emo", deployments))
    world.sim.set(deployments=deployments)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert [name for name, _ in stored(world)] == ["emo-detect-v1", "my-emo", "my-emo"]


def test_an_asset_is_uploaded_not_its_source(uploading: World) -> None:
    uploading.drop("a.png", portrait(size=(300, 300)))  # enlarged to 400
    uploading.drop("a.wav", voice())
    uploading.run()
    assert uploading.status("a") == "done"
    asset = uploading.job("a").inputs.portrait
    assert asset is not None
    assert asset.asset is not None
    assert stored(uploading)[1] == ("emo-v1", asset.asset.sha256)


def test_an_owners_own_link_is_passed_on(uploading: World) -> None:
    uploading.s3.put_object(Bucket="uploads", Key=".v.wav", Body=voice())
    uploading.drop("a.png", portrait())
    link = f"{uploading.files.origin}/.v.wav"
    uploading.drop("a.json", {"input": {"audio_url": link}})
    uploading.run()
    assert uploading.status("a") == "done"
    assert [name for name, _ in stored(uploading)] == ["emo-detect-v1", "emo-v1"]
    assert uploading.tasks()[0]["audio_url"] == link


def test_a_bucket_without_versions_uploads_too(make_world: Callable[..., World]) -> None:
    world = make_world(upload_inputs=True, versioning=UNVERSIONED)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"


def test_a_known_portrait_is_uploaded_for_creates_only(uploading: World) -> None:
    for name in ("a", "b"):
        uploading.drop_pair(name)
        uploading.run()
    assert Counter(name for name, _ in stored(uploading)) == {"emo-detect-v1": 1, "emo-v1": 4}


def test_stored_links_outlive_a_long_queue(uploading: World) -> None:
    """Presigned links live an hour, so that a create waits for them; files in the storage live for two days."""
    uploading.sim.set(manual=True)
    slow = Pace(work_per_second=1600.0, jobs=1)  # two of 1,600 s and 10 min are over an hour
    uploading.table.save(new_job("other/job"), was=None, pace=("emo-v1", slow))
    for n, name in enumerate(("a", "b")):
        uploading.drop_pair(name, pitch=0.08 + n / 50)
        uploading.run(30)
    assert len(uploading.tasks()) == 2


# ---------------------------------------------------------------------- what goes wrong is told, and not paid
CUT: dict[str, Any] = {"close": "before"}
REFUSED: dict[str, Any] = {
    "status": 403,
    "body": {"code": "Model.AccessDenied", "message": "Model access denied.", "request_id": "r-9"},
}
BAD_KEY: dict[str, Any] = {
    "status": 401,
    "body": {"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "r-9"},
}
OSS_DENIED: dict[str, Any] = {
    "status": 403,
    "body": "<Error><Code>AccessDenied</Code><Message>Not yours.</Message></Error>",
}


@pytest.mark.parametrize(
    ("endpoint", "action", "code"),
    [
        ("policy", BAD_KEY, "InvalidApiKey"),
        ("policy", REFUSED, "Model.AccessDenied"),
        ("upload", OSS_DENIED, "Upload.AccessDenied"),
    ],
)
def test_a_refused_upload_holds_the_account(uploading: World, endpoint: str, action: Any, code: str) -> None:
    uploading.sim.fault(action, endpoint=endpoint, times=None)
    uploading.drop_pair("a")
    uploading.run(30)
    assert (uploading.status("a"), uploading.held("a")) == ("queued", "account")
    assert nothing_is_paid(uploading)
    breaker = uploading.table.account().breaker
    assert breaker is not None
    assert breaker.code == code
    assert uploading.new_operator_notices() == ["the account is held"]
    uploading.sim.clear_faults()
    uploading.run()
    assert (uploading.status("a"), len(uploading.tasks())) == ("done", 1)


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("endpoint", ["policy", "upload"])
def test_a_cut_upload_costs_nothing(uploading: World, endpoint: str, nth: int) -> None:
    """The check's portrait, the create's portrait, the voice: the job keeps its place and is sent a little later."""
    uploading.sim.fault(CUT, endpoint=endpoint, match={"nth": nth})
    uploading.drop_pair("a")
    uploading.run(4)
    assert uploading.status("a") == "queued"
    assert nothing_is_paid(uploading, spent=SPENT_ON_CHECK if nth > 1 else 0.0)
    uploading.run()
    assert (uploading.status("a"), len(uploading.tasks())) == ("done", 1)
    assert uploading.requests("create") == 1


def test_an_upload_of_no_end_is_given_up(uploading: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends in time for the function to write that nothing was paid."""
    given: list[float] = []

    def hang(_service: DashScope, *_: Any, seconds: float, **__: Any) -> str:
        given.append(seconds)
        uploading.advance(seconds)
        raise create_task.ProviderIllError("NoAnswer", "the upload's time was over")

    monkeypatch.setattr(DashScope, "upload", hang)
    uploading.drop_pair("a")
    uploading.run(20)
    assert uploading.status("a") == "queued"
    assert nothing_is_paid(uploading)
    assert max(given) <= create_task.UPLOAD_SECONDS


def test_a_create_is_not_sent_too_late(uploading: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our bucket gave the files so slowly that the create's answer could not be written down."""
    upload = DashScope.upload

    def slow(service: DashScope, model: Any, *what: Any, **how: Any) -> str:
        if model == "emo-v1":
            uploading.advance(uploading.function_ends_at - uploading.clock() - 3)
        return upload(service, model, *what, **how)

    monkeypatch.setattr(DashScope, "upload", slow)
    uploading.drop_pair("a")
    uploading.run(4)
    assert uploading.requests("create") == 0
    assert nothing_is_paid(uploading, spent=SPENT_ON_CHECK)
    monkeypatch.undo()
    uploading.run()
    assert (uploading.status("a"), len(uploading.tasks())) == ("done", 1)


def test_larger_than_the_policy_allows(uploading: World) -> None:
    uploading.sim.set(upload_max_mb=0)
    uploading.drop_pair("a")
    uploading.run()
    report = uploading.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("rejected", "ProviderRejected")
    assert report["error"]["provider_code"] == "Upload.EntityTooLarge"
    assert "temporary storage takes 0 at most" in report["message"]
    assert nothing_is_paid(uploading)
    assert uploading.requests("upload") == 0, "the policy's limit is kept, not tried"


def test_an_expired_policy_is_fetched_anew(uploading: World) -> None:
    uploading.sim.set(policy_seconds=-1)
    uploading.drop_pair("a")
    uploading.run(3)
    assert uploading.status("a") == "queued"
    assert nothing_is_paid(uploading)
    uploading.sim.set(policy_seconds=300)
    uploading.run()
    assert (uploading.status("a"), len(uploading.tasks())) == ("done", 1)


@pytest.mark.parametrize("nth", [1, 2])
def test_our_bucket_refuses_for_a_moment(uploading: World, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    put = create_task._StoredCopies._stored
    calls = []

    def fail_once(self: Any, *what: Any) -> list[str]:
        calls.append(what[0])
        if len(calls) == nth:
            raise TryLaterError("GetObject answered SlowDown")
        return put(self, *what)

    monkeypatch.setattr(create_task._StoredCopies, "_stored", fail_once)
    uploading.drop_pair("a")
    uploading.run(4)
    assert uploading.job("a").status is Status.QUEUED
    assert nothing_is_paid(uploading, spent=SPENT_ON_CHECK if nth > 1 else 0.0)
    uploading.sweep(1)
    assert (uploading.status("a"), len(uploading.tasks())) == ("done", 1)


@pytest.mark.parametrize("name", ["a.png", "a.wav"])
def test_a_file_that_s3_keeps_for_itself(uploading: World, name: str) -> None:
    uploading.post({"pause": True})
    uploading.run(1)
    uploading.drop_pair("a")
    uploading.run(10)
    uploading.post({"pause": False})
    with s3_answers(FOREIGN_KEY, name):
        uploading.run()
    report = uploading.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("rejected", "FileUnreadable")
    assert name in report["message"]
    assert nothing_is_paid(uploading, spent=SPENT_ON_CHECK if name == "a.wav" else 0.0)


# ---------------------------------------------------------------------- leases, deaths and logs
def test_uploads_are_inside_the_lease(uploading: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    upload = DashScope.upload

    def look(service: DashScope, model: Any, *what: Any, **how: Any) -> str:
        account = uploading.table.account()
        seen.append((model, account.check is not None, account.open_create is not None))
        lease = account.check.until if account.check else account.open_create.lease_until  # type: ignore[union-attr]
        assert lease > uploading.clock() + how["seconds"]
        return upload(service, model, *what, **how)

    monkeypatch.setattr(DashScope, "upload", look)
    uploading.drop_pair("a")
    uploading.run()
    assert seen == [("emo-detect-v1", True, False), ("emo-v1", False, True), ("emo-v1", False, True)]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_death_while_uploading(uploading: World, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = DashScope.upload
    calls = []

    def die(service: DashScope, *what: Any, **how: Any) -> str:
        link = upload(service, *what, **how)
        calls.append(link)
        if len(calls) == nth:
            raise Died
        return link

    monkeypatch.setattr(DashScope, "upload", die)
    uploading.drop_pair("a")
    uploading.run()
    uploading.sweep()
    assert uploading.status("a") == "done"
    assert (len(uploading.tasks()), uploading.requests("create")) == (1, 1)


def test_little_time_is_left_to_the_next_function(uploading: World) -> None:
    uploading.drop_pair("a")
    uploading.run(2.5)
    uploading.advance(2)
    uploading.submit.dispatch(uploading.clock() + SUBMIT_SECONDS)  # a function that gives no time for uploads
    assert stored(uploading) == []
    uploading.run()
    assert uploading.status("a") == "done"


def test_no_link_is_logged(uploading: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="portraitcast")
    uploading.sim.fault(OSS_DENIED, endpoint="upload")
    uploading.drop_pair("a")
    uploading.run()
    assert uploading.status("a") == "done"
    told = " ".join(str(vars(record)) for record in caplog.records)
    assert "oss://" not in told
    assert "dashscope-instant" not in str(uploading.report("a"))
    assert "oss://" not in str(uploading.states)


def test_a_task_made_while_we_uploaded_is_not_ours(uploading: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program makes a task of the same length; our function dies of its upload, before any create."""
    upload = DashScope.upload
    foreign: list[str] = []

    def die(service: DashScope, *what: Any, **how: Any) -> str:
        if not foreign and uploading.table.account().open_create:
            foreign.append(uploading.foreign_task(seconds=0.4))
            raise Died
        return upload(service, *what, **how)

    monkeypatch.setattr(DashScope, "upload", die)
    uploading.drop_pair("a")
    uploading.run()
    uploading.sweep()
    assert uploading.status("a") == "done"
    assert uploading.requests("list") == 0, "nothing was sent, so nothing is looked for"
    task = uploading.job("a").task
    assert task is not None
    assert task.id not in foreign
