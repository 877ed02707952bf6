"""The worker process and the job folders that it runs."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
from patience import PATIENCE

from BrainGenLib import processes
from BrainGenLib.case import Case
from BrainGenLib.jobs import Job, State, WorkerProcess
from BrainGenLib.requests import Generate, Render


@pytest.fixture
def worker(tiny_bundles):
    with WorkerProcess() as process:
        yield process


@pytest.fixture
def segmentation(tmp_path):
    labels = np.zeros((48, 48, 48), np.uint16)
    labels[8:40, 8:40, 8:40] = 41
    labels[8:24, 8:40, 8:40] = 2
    path = tmp_path / "labels.nii"
    nib.save(nib.Nifti1Image(labels, np.eye(4)), path)
    return path


def watch(job, worker, until=lambda events: False):
    """Events of a job until it is finished, or until ``until`` holds."""
    events, end = [], time.monotonic() + PATIENCE
    while time.monotonic() < end:
        finished = job.state.finished
        events += job.poll(worker)
        if finished or until(events):
            return events
        time.sleep(0.05)
    raise AssertionError(f"Nothing happened in time; the worker said: {worker.printed()}")


def started(events):
    return any(event.stage == "labels" for event in events)


def test_what_pytorch_compiles_goes_with_the_worker(monkeypatch, tmp_path):
    # As PyTorch sets it in a process that has compiled.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    start, given = processes.start, {}
    monkeypatch.setattr(
        processes, "start", lambda *args, environment, **rest: given.update(environment) or start(*args, **rest)
    )
    with WorkerProcess():
        folder = Path(given["TORCHINDUCTOR_CACHE_DIR"]).parent
        assert folder.is_dir()
        assert folder != tmp_path
    assert not folder.exists()


def test_a_worker_runs_job_after_job(worker, tmp_path, segmentation):
    request = Render(segmentation="labels.nii", contrasts=["T1w", "T1ce"], seed=1)
    jobs = [Job.create(tmp_path / name, request, {"labels.nii": segmentation}) for name in ("one", "two")]
    for job in jobs:
        worker.submit(job)
    events = watch(jobs[0], worker)
    assert [event.stage for event in events][:2] == ["starting", "loading"]
    assert [event.preview for event in events if event.preview] == ["previews/T1w", "previews/T1ce"]
    assert list(Case.load(jobs[0].folder / "previews/T1w").images) == ["T1w"]
    left = [event.seconds_left for event in events if event.seconds_left is not None]
    assert left[-1] < left[0]
    assert all(event.memory > 0 for event in events[1:])

    watch(jobs[1], worker)
    first, second = (Case.load(job.result).provenance["arrays"] for job in jobs)
    assert first == second

    # A folder with a result is done, however often it is submitted.
    before = jobs[0].folder.joinpath("events.jsonl").read_text(encoding="utf-8")
    again = Job.create(tmp_path / "three", request, {"labels.nii": segmentation})
    worker.submit(jobs[0])
    worker.submit(again)
    watch(again, worker)
    assert jobs[0].folder.joinpath("events.jsonl").read_text(encoding="utf-8") == before


def test_a_job_is_cancelled_within_a_step_and_the_worker_lives_on(worker, tmp_path, segmentation):
    job = Job.create(tmp_path / "long", Generate(steps=1000))
    worker.submit(job)
    watch(job, worker, until=started)
    job.cancel()
    watch(job, worker)
    assert job.state is State.CANCELLED
    assert job.result is None
    next_job = Job.create(tmp_path / "next", Render(segmentation="labels.nii"), {"labels.nii": segmentation})
    worker.submit(next_job)
    watch(next_job, worker)
    assert next_job.state is State.DONE


def test_bad_input_ends_the_job_with_a_sentence(worker, tmp_path, segmentation):
    segmentation.write_text("This is not an image.")
    job = Job.create(tmp_path / "job", Render(segmentation="labels.nii"), {"labels.nii": segmentation})
    worker.submit(job)
    watch(job, worker)
    assert job.failure.code == "bad_input"
    assert "labels.nii is not a NIfTI file" in job.failure.message


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, "out_of_memory"), (signal.SIGTERM, "interrupted")])
def test_whoever_watches_notices_the_death_of_the_worker(worker, tmp_path, number, code):
    job = Job.create(tmp_path / "job", Generate(steps=1000))
    worker.submit(job)
    watch(job, worker, until=lambda events: bool(events))
    os.kill(worker.pid, number)
    watch(job, worker)
    assert job.failure.code == code
    late = Job.create(tmp_path / "late", Generate())
    worker.submit(late)
    watch(late, worker)
    assert late.failure.code == code


def test_a_worker_ends_with_its_parent(tiny_bundles, tmp_path):
    parent = """
import os, sys, time
from pathlib import Path
from BrainGenLib.jobs import Job, WorkerProcess
from BrainGenLib.requests import Generate
worker = WorkerProcess()
job = Job.create(Path(sys.argv[1]), Generate(steps=1000))
worker.submit(job)
while not any(event.stage == "labels" for event in job.new_events()):
    time.sleep(0.05)
print(worker.pid, flush=True)
os._exit(0)
"""
    command = [sys.executable, "-c", parent, str(tmp_path / "job")]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE, timeout=PATIENCE, check=True).stdout)
    end = time.monotonic() + PATIENCE
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the worker outlived its parent"
        time.sleep(0.1)
    # Nobody cancelled it: it can be submitted again.
    assert Job(tmp_path / "job").state is State.RUNNING


def test_stopping_kills_a_worker_that_does_not_listen(tiny_bundles, tmp_path):
    worker = WorkerProcess()
    os.kill(worker.pid, signal.SIGSTOP)
    worker.stop(grace=0.2)
    assert not worker.alive


def test_a_full_disk_leaves_no_half_written_result(tiny_bundles, tmp_path, segmentation, monkeypatch):
    from BrainGenLib.engine import Engine
    from BrainGenLib.execution import run
    from BrainGenLib.timeline import Timeline

    save = Case.save

    def full(case, folder):
        save(case, folder)
        if folder.name == "result.part":
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(Case, "save", full)
    job = Job.create(tmp_path / "job", Render(segmentation="labels.nii"), {"labels.nii": segmentation})
    run(job, Engine(), Timeline())
    assert job.failure.code == "bad_input"
    assert "disk is full" in job.failure.message
    assert not list(job.folder.glob("result*"))
