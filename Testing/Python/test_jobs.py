import errno
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from BrainGenLib import jobs
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Event, Failure, Job, State, WorkerProcess
from BrainGenLib.requests import Generate, Segment
from BrainGenLib.timeline import Timeline

HERE = Path(__file__).parent


class DeadWorker:
    """Stands in for a worker process that crashed."""

    alive = False

    def obituary(self):
        return Failure(code="crashed", message="It ended.")


def event(step):
    return Event(time=0, stage="labels", step=step, of=3)


def test_a_job_is_a_folder_with_its_request_and_its_inputs(tmp_path):
    scan = tmp_path / "home" / "Mrs Smith.nii"
    scan.parent.mkdir()
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), scan)
    job = Job.create(tmp_path / "job", Segment(scan="scan.nii"), {"scan.nii": scan})
    assert job.state is State.WAITING
    assert Job(job.folder).request() == Segment(scan="scan.nii")
    assert (job.inputs / "scan.nii").read_bytes() == scan.read_bytes()


def test_a_job_is_refused_when_its_folder_is_taken_or_an_input_is_missing(tmp_path):
    Job.create(tmp_path / "job", Generate())
    with pytest.raises(BadInput, match="not empty"):
        Job.create(tmp_path / "job", Generate())
    with pytest.raises(BadInput, match="not among the inputs"):
        Job.create(tmp_path / "new", Segment(scan="scan.nii"))
    with pytest.raises(BadInput, match="There is no file"):
        Job.create(tmp_path / "new", Segment(scan="scan.nii"), {"scan.nii": tmp_path / "nothing.nii"})
    assert not (tmp_path / "new").exists()


def test_a_job_cannot_reach_outside_of_its_inputs(tmp_path):
    (tmp_path / "request.json").write_text(Segment(scan="../../etc/passwd").model_dump_json())
    with pytest.raises(BadInput, match="only read files of its inputs"):
        Job(tmp_path).request()


def test_events_are_read_once_and_only_whole_lines(tmp_path):
    job = Job.create(tmp_path / "job", Generate())
    watcher = Job(job.folder)
    assert watcher.new_events() == []
    job.append(event(0))
    job.append(event(1))
    with (job.folder / "events.jsonl").open("a") as file:
        line = event(2).model_dump_json()
        file.write(line[:10])
        file.flush()
        assert [item.step for item in watcher.new_events()] == [0, 1]
        file.write(line[10:] + "\n")
    assert [item.step for item in watcher.new_events()] == [2]
    assert watcher.new_events() == []
    assert job.state is State.RUNNING


@pytest.mark.parametrize(
    ("left", "step", "said"),
    [
        (None, 0, ""),
        (23.4, 0, "23 s left"),
        (0.6, 3, "1 s left"),
        (0.4, 5, "finishing"),
        (0.0, 5, "finishing"),
        # The stage takes longer than it was expected to.
        (0.0, 3, "longer than expected"),
    ],
)
def test_an_estimate_that_has_run_out_says_so(left, step, said):
    assert Event(time=0, stage="rendering", step=step, of=5, seconds_left=left).remaining == said


def test_removed_events_are_not_begun_anew(tmp_path):
    job = Job.create(tmp_path / "job", Generate())
    job.append(event(0))
    (job.folder / "events.jsonl").unlink()
    with pytest.raises(FileNotFoundError):
        job.append(event(1))
    assert not (job.folder / "events.jsonl").exists()


def test_cancelling_is_a_file(tmp_path):
    job = Job.create(tmp_path / "job", Generate())
    Job(job.folder).cancel()
    assert job.cancel_requested


def test_the_watcher_of_a_dead_worker_finishes_the_job(tmp_path):
    job = Job.create(tmp_path / "job", Generate())
    job.append(event(1))
    assert [item.step for item in job.poll(DeadWorker())] == [1]
    assert job.state is State.FAILED
    assert job.failure.message == "It ended."


def test_a_result_counts_more_than_a_late_error(tmp_path):
    job = Job.create(tmp_path / "job", Generate())
    (job.folder / "result").mkdir()
    job.poll(DeadWorker())
    assert job.failure is None
    job.fail(Failure(code="crashed", message=""))
    assert job.state is State.DONE


def test_a_cancelled_job_is_not_a_failed_one(tmp_path):
    job = Job.create(tmp_path / "job", Generate())
    job.fail(Failure(code="cancelled", message="Cancelled."))
    assert job.state is State.CANCELLED
    assert job.state.finished


def test_the_time_left_is_learnt_from_the_stages_before(monkeypatch):
    now = 0.0
    monkeypatch.setattr("BrainGenLib.timeline.time.monotonic", lambda: now)
    timeline = Timeline()
    stages = ["labels", "rendering T1w", "rendering FLAIR"]
    timeline.begin(stages)
    timeline.seconds_left("labels", 0, 10)
    now = 3.0
    # A tenth of the stage took 3 s; the two others are guessed.
    guessed = timeline.seconds_left("labels", 1, 10) - 27
    assert guessed > 0
    now = 30.0
    timeline.seconds_left("rendering T1w", 0, 1)
    now = 34.0
    timeline.seconds_left("rendering FLAIR", 0, 1)
    timeline.begin(stages)
    assert timeline.seconds_left("labels", 0, 10) == 30 + 4 + 4


@pytest.mark.parametrize("content", [b"", b"{", b'{"code": "later", "message": "?"}', b"[1]", b"\xff\xfe"])
def test_a_reason_that_cannot_be_read_is_a_failure_with_a_sentence(tmp_path, content):
    job = Job.create(tmp_path / "job", Generate())
    (job.folder / "error.json").write_bytes(content)
    assert job.state is State.FAILED
    assert "error.json is damaged" in job.failure.message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"verb": "dance"}', b"7"])
def test_a_request_that_cannot_be_read_is_refused_with_a_sentence(tmp_path, content):
    (tmp_path / "request.json").write_bytes(content)
    with pytest.raises(BadInput, match="request"):
        Job(tmp_path).request()


def test_lines_that_are_no_events_are_left_out(tmp_path):
    job = Job.create(tmp_path / "job", Generate())
    (job.folder / "events.jsonl").write_bytes(b'\n{"time": 1, "sta\xff\n{"time": 1}\n7\n')
    job.append(event(2))
    assert [item.step for item in Job(job.folder).new_events()] == [2]


def test_previews_make_room_for_the_reason_on_a_full_disk(tmp_path, monkeypatch):
    job = Job.create(tmp_path / "job", Generate())
    for name in ("previews", "result.part"):
        (job.folder / name).mkdir()
    write = jobs.os.replace

    def replace(source, target):
        if (job.folder / "previews").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        write(source, target)

    monkeypatch.setattr(jobs.os, "replace", replace)
    job.fail(Failure(code="bad_input", message="The disk is full."))
    assert job.failure.message == "The disk is full."
    assert {path.name for path in job.folder.iterdir()} == {"request.json", "inputs", "error.json"}


def test_the_watcher_tells_of_a_full_disk_where_nothing_can_be_written(tmp_path, monkeypatch):
    worker = WorkerProcess(module="full_disk_worker", environment={**os.environ, "PYTHONPATH": str(HERE)})
    with worker:
        job = Job.create(tmp_path / "job", Generate())
        worker.submit(job)
        worker._process.wait(60)

        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(jobs.tempfile, "mkstemp", full)
        job.poll(worker)
    assert not (job.folder / "error.json").exists()
    assert (job.state, job.failure.message) == (State.FAILED, "The disk is full.")


def test_a_failure_names_the_file_as_its_user_does_and_the_job_does_not(tmp_path):
    scan = tmp_path / "Mrs Smith.nii.gz"
    scan.touch()
    job = Job.create(tmp_path / "job", Segment(scan="scan.nii.gz"), {"scan.nii.gz": scan})
    said = f"scan.nii.gz is 4D (from {job.inputs / 'scan.nii.gz'}); my-scan.nii.gz and scan.nii.gz.bak are others."
    job.fail(Failure(code="bad_input", message=said))
    told = job.failure.message
    assert told == "Mrs Smith.nii.gz is 4D (from Mrs Smith.nii.gz); my-scan.nii.gz and scan.nii.gz.bak are others."
    assert not [path for path in job.folder.rglob("*.json") if b"Smith" in path.read_bytes()]


def test_a_job_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jobs.tempfile, "mkstemp", full)
    with pytest.raises(BadInput, match="The disk is full: the job cannot be written"):
        Job.create(tmp_path / "job", Generate())
    assert not (tmp_path / "job").exists()
