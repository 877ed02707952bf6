"""A session: one warm worker, the newest requests."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import quick_worker
from patience import PATIENCE

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import State, WorkerProcess
from BrainGenLib.requests import Generate, Render
from BrainGenLib.session import Session


@pytest.fixture(scope="module")
def session():
    """One for all tests, as for all clicks of a user, with a worker that needs no models."""
    environment = {**os.environ, "PYTHONPATH": str(Path(quick_worker.__file__).parent)}
    session = Session(lambda: WorkerProcess(module="quick_worker", environment=environment))
    yield session
    session.close()


def updates(session, until=lambda update: False):
    """All updates until nothing runs, or until ``until`` holds."""
    end = time.monotonic() + PATIENCE
    while session.running:
        assert time.monotonic() < end, "nothing happened in time"
        update = session.poll()
        yield update
        if until(update):
            return
        time.sleep(0.02)


def busy(update):
    return update.progress is not None and update.progress.stage == "labels"


def test_requests_run_one_after_the_other_on_one_worker(session):
    session.start([Generate(seed=seed, steps=2) for seed in (3, 4)])
    worker = session._worker.pid
    cases = {}
    previews = []
    for update in updates(session):
        if update.preview is not None:
            previews.append((update.number, Case.load(update.preview).labels.shape))
        if update.result is not None:
            assert update.of == 2
            cases[update.number] = Case.load(update.result)
    assert [case.provenance["request"]["seed"] for case in cases.values()] == [3, 4]
    assert {number for number, _ in previews} == {1, 2}
    assert session.poll() is None
    assert list(session._folder.glob("job-*")) == []
    session.start([Generate(steps=2, contrasts=["FLAIR"])])
    assert session._worker.pid == worker
    assert [update.state for update in updates(session)][-1] is State.DONE


def test_no_request_ends_another_that_runs_but_any_takes_the_place_of_a_draft(session):
    session.start([Generate(seed=1, steps=1000)])
    list(updates(session, until=busy))
    for newer in (Generate(seed=5, steps=2), Generate(seed=5, draft=True, steps=2)):
        with pytest.raises(BadInput, match=r"^Busy: generate.*\. Wait for its end, or cancel it\.$"):
            session.start([newer])
    assert session.poll().request.seed == 1
    assert not session._jobs[0][0].cancel_requested
    session.cancel()
    assert session.busy == ""
    session.start([Generate(seed=2, draft=True, steps=1000)])
    assert session.busy == ""
    session.start([Generate(seed=3, draft=True, steps=1000)])
    session.start([Generate(seed=5, steps=2)])
    assert session.busy == "generate"
    seen = list(updates(session))
    assert {update.request.seed for update in seen} == {5}
    assert seen[-1].state is State.DONE
    assert session.busy == ""


def test_cancel_ends_all_requests_and_says_so_once(session):
    session.start([Generate(seed=1, steps=1000), Generate(seed=2, steps=1000)])
    list(updates(session, until=busy))
    session.cancel()
    last = list(updates(session))[-1]
    assert (last.state, last.number, last.failure.message) == (State.CANCELLED, 1, "Cancelled.")
    assert not session.running


def test_a_worker_that_dies_is_told_of_and_replaced(session):
    session.start([Generate(steps=1000)])
    list(updates(session, until=busy))
    os.kill(session._worker.pid, signal.SIGKILL)
    last = list(updates(session))[-1]
    assert last.failure.code == "out_of_memory"
    assert "memory" in last.failure.advice
    session.start([Generate(steps=2)])
    assert list(updates(session))[-1].result is not None


@pytest.mark.parametrize("made_anew", [False, True], ids=["gone", "made anew by a worker that was saving"])
def test_a_removed_folder_is_told_of(session, made_anew):
    session.start([Generate(steps=1000)])
    list(updates(session, until=busy))
    shutil.rmtree(session._folder.rename(session._folder.with_name(f"{session._folder.name}-removed")))
    if made_anew:
        (session._jobs[0][0].folder / "previews" / "labels").mkdir(parents=True)
    session.cancel()
    assert "was removed" in list(updates(session))[-1].failure.message
    session.start([Generate(steps=2)])
    assert list(updates(session))[-1].result is not None


def test_a_request_without_its_file_leaves_the_running_one_alone(session, tmp_path):
    session.start([Generate(steps=2, draft=True)])
    with pytest.raises(BadInput, match="There is no file"):
        session.start([Render(segmentation="a.nii")], {"a.nii": tmp_path / "a.nii"})
    assert list(updates(session))[-1].result is not None


def test_nothing_is_left_of_a_session(session):
    session.start([Generate(steps=1000)])
    list(updates(session, until=busy))
    worker, folder = session._worker, session._folder
    session.close()
    assert not worker.alive
    assert not folder.exists()
