import nibabel as nib
import numpy as np
import pytest

from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Event, Failure, Job, State
from BrainGenLib.requests import Generate, Segment
from BrainGenLib.timeline import Timeline


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
