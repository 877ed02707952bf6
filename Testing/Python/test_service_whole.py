"""`braingen serve` as it is, with a real worker and the tiny models."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests
from patience import PATIENCE
from serving import eventually, serving, users_file
from test_service import free_port
from typer.testing import CliRunner

from BrainGenLib.case import Case
from BrainGenLib.cli import app
from BrainGenLib.jobs import Job, State, WorkerProcess
from BrainGenLib.requests import Generate, Render
from BrainGenLib.service.remote import MirrorProcess

REQUEST = Generate(steps=2, seed=3, pathologies={"wmh": 0.2}, contrasts=["T1w"])


@pytest.fixture(scope="module")
def server(tiny_folder, tmp_path_factory):
    """The process, its URL and a token."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    secret = users_file(folder / "tokens", "ann")["ann"]["Authorization"].partition(" ")[2]
    command = [sys.executable, "-c", "from BrainGenLib.cli import app; app()", "serve", "--port", str(port)]
    command += ["--jobs", str(folder / "jobs"), "--tokens", str(folder / "tokens")]
    environment = {**os.environ, "BRAINGEN_BUNDLES": str(tiny_folder), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return requests.get(f"{url}/health", timeout=PATIENCE).ok
        except requests.ConnectionError:
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            return False

    eventually(answers, PATIENCE)
    yield process, url, secret
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def mirror(server):
    with MirrorProcess(*server[1:]) as process:
        yield process


def finish(job, worker):
    eventually(lambda: job.poll(worker) is not None and job.state.finished, PATIENCE)
    assert job.state is State.DONE, job.failure
    return job.result


def at_work(job):
    """Whether the worker is in the middle of a job."""
    assert not job.state.finished, job.failure
    return any(event.stage == "labels" for event in Job(job.folder).new_events())


def few_steps():
    return WorkerProcess(
        threads=1, module="few_steps_worker", environment={**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    )


def test_a_case_made_there_equals_one_made_here_bit_for_bit(tiny_bundles, tmp_path):
    remote, local = (Job.create(tmp_path / name, REQUEST) for name in ("remote", "local"))
    with serving(tmp_path / "jobs", launch=few_steps) as url, MirrorProcess(url, "") as mirror, few_steps() as worker:
        for job, process in ((remote, mirror), (local, worker)):
            process.submit(job)
        there, here = Case.load(finish(remote, mirror)), Case.load(finish(local, worker))
    assert list(there.images) == ["T1w"]
    for name, image in here.images.items():
        assert np.array_equal(there.images[name], image)
    assert np.array_equal(there.labels, here.labels)
    assert np.array_equal(there.affine, here.affine)
    assert there.measurements == here.measurements
    assert there.provenance["arrays"] == here.provenance["arrays"]
    previews = [{path.name for path in (job.folder / "previews").iterdir()} for job in (remote, local)]
    assert previews[0] == previews[1] != set()


@pytest.fixture
def segmentation(tmp_path):
    labels = np.zeros((48, 40, 32), np.uint16)
    labels[8:40, 8:32, 8:24] = 41
    labels[8:24, 8:32, 8:24] = 2
    path = tmp_path / "labels.nii.gz"
    nib.save(nib.Nifti1Image(labels, np.diag([1.5, 1.5, 1.5, 1])), path)
    return path


def test_the_command_line_uses_a_server(server, tmp_path, segmentation, monkeypatch):
    _, url, secret = server
    # Nothing is installed here: the server knows the models.
    monkeypatch.setattr("BrainGenLib.bundles.available", dict)
    monkeypatch.setenv("BRAINGEN_TOKEN", secret)
    command = ["render", str(segmentation), "--contrast", "FLAIR", "--out", str(tmp_path / "out"), "--server", url]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    image = nib.load(tmp_path / "out" / "sub-0001" / "anat" / "sub-0001_FLAIR.nii.gz")
    assert image.shape == (48, 40, 32)
    monkeypatch.setenv("BRAINGEN_TOKEN", "wrong")
    answer = CliRunner().invoke(app, [*command, "--json"])
    assert answer.exit_code == 1
    assert json.loads(answer.stdout.splitlines()[-1])["error"]["message"] == "The server does not accept the token."


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_is_killed_is_told_and_the_next_job_runs(server, mirror, tmp_path, segmentation):
    job = Job.create(tmp_path / "long", Generate(steps=1000))
    mirror.submit(job)
    eventually(lambda: at_work(job), PATIENCE)
    (worker,) = psutil.Process(server[0].pid).children()
    worker.kill()
    eventually(lambda: job.state.finished)
    assert job.failure.code == "out_of_memory"
    assert "worker process was killed" in job.failure.message
    after = Job.create(tmp_path / "after", Render(segmentation="labels.nii.gz"), {"labels.nii.gz": segmentation})
    mirror.submit(after)
    finish(after, mirror)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_sigterm_ends_the_server_and_its_worker(server, mirror, tmp_path):
    process, url, _ = server
    assert "server" not in requests.get(f"{url}/health", timeout=PATIENCE).headers
    job = Job.create(tmp_path / "long", Generate(steps=1000))
    mirror.submit(job)
    eventually(lambda: at_work(job), PATIENCE)
    (worker,) = psutil.Process(process.pid).children()
    process.terminate()
    assert process.wait(20) in (0, -signal.SIGTERM)
    assert not worker.is_running()
    job.cancel()
    eventually(lambda: job.state.finished)


def test_an_open_address_needs_tokens(tmp_path):
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.org"):
        answer = CliRunner().invoke(app, ["serve", "--host", host, "--jobs", str(tmp_path / "jobs")])
        assert answer.exit_code == 2
        assert "needs tokens" in " ".join(answer.output.split())
    assert not (tmp_path / "jobs").exists()


def test_a_taken_port_and_missing_tokens_are_told(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = CliRunner().invoke(app, ["serve", "--port", port, "--jobs", str(tmp_path / "jobs")])
    assert answer.exit_code == 2
    assert f"port {port}" in answer.output
    answer = CliRunner().invoke(
        app, ["serve", "--tokens", str(tmp_path / "nothing"), "--jobs", str(tmp_path / "jobs")]
    )
    assert answer.exit_code == 2
    assert "cannot be read" in " ".join(answer.output.split())


def test_the_command_line_makes_tokens(tmp_path):
    path = tmp_path / "tokens"
    answer = CliRunner().invoke(app, ["serve", "token", "ann", "--tokens", str(path)])
    assert answer.exit_code == 0
    assert len(answer.stdout.strip()) > 40
    assert path.read_text(encoding="utf-8").startswith("ann ")
    assert answer.stdout.strip() not in path.read_text(encoding="utf-8")
    assert CliRunner().invoke(app, ["serve", "token", "a b", "--tokens", str(path)]).exit_code == 2


def test_what_is_not_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    answer = CliRunner().invoke(app, ["serve", "--jobs", str(tmp_path / "jobs")])
    assert answer.exit_code == 2
    assert "pip install 'braingen[serve]'" in " ".join(answer.output.split())
