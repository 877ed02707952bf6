"""The mirror: a remote job is a local folder, whatever happens on the way."""

import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import nibabel as nib
import numpy as np
import pytest
import requests
from patience import PATIENCE
from serving import CASE, QuickWorker, eventually, own_headers, serving, users_file
from test_service import FOREVER, free_port, program  # noqa: F401

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Job, State
from BrainGenLib.requests import Generate, Segment
from BrainGenLib.service import archive, mirror, tokens
from BrainGenLib.service.client import RemoteError
from BrainGenLib.service.limits import Limits
from BrainGenLib.service.remote import MirrorProcess, remote_bundles

pytestmark = pytest.mark.usefixtures("tiny_bundles")


def token(headers):
    return headers["Authorization"].partition(" ")[2]


def jobs_at(url):
    return requests.get(f"{url}/jobs", headers=own_headers(), timeout=PATIENCE).json()


def stages(job):
    return [event.stage for event in Job(job.folder).new_events()]


@pytest.fixture
def job(tmp_path):
    return Job.create(tmp_path / "local", Generate(steps=3))


@pytest.fixture
def background():
    """Runs the mirror in a thread, so that a test can do something meanwhile."""
    threads = []

    def start(*arguments, **options):
        threads.append(threading.Thread(target=mirror.run, args=arguments, kwargs=options))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_a_mirror_needs_neither_torch_nor_the_server():
    code = """
import sys, BrainGenLib.service.mirror, BrainGenLib.service.remote
print({"torch", "monai", "numpy", "fastapi", "starlette", "uvicorn"} & set(sys.modules))
"""
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def test_a_remote_job_looks_like_a_local_one(tmp_path, job):
    with serving(tmp_path / "jobs") as url:
        mirror.run(job, url, "")
        assert job.state is State.DONE
        assert (Case.load(job.result).images["T1w"] == CASE.images["T1w"]).all()
        assert (Case.load(job.folder / "previews" / "T1w").labels == CASE.labels).all()
        events = job.new_events()
        assert [event.stage for event in events if event.stage not in ("sending", "waiting")] == [
            *["labels", "preview"],
            *["labels"] * 3,
        ]
        assert [event.preview for event in events if event.preview] == ["previews/T1w"]
        assert {path.name for path in job.folder.iterdir()} == {
            *("request.json", "inputs", "events.jsonl", "previews", "result")
        }
        # The server forgets what has been fetched.
        assert jobs_at(url) == []
        before = stages(job)
        mirror.run(job, url, "")
        assert stages(job) == before


def test_inputs_travel(tmp_path):
    scan = tmp_path / "scan.nii.gz"
    data = np.random.default_rng(0).integers(0, 9, (60, 50, 40)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), scan)
    arrived = []

    class Reader(QuickWorker):
        def submit(self, job):
            arrived.append((job.inputs / "scan.nii.gz").read_bytes())
            super().submit(job)

    job = Job.create(tmp_path / "local", Segment(scan="scan.nii.gz"), {"scan.nii.gz": scan})
    with serving(tmp_path / "jobs", launch=Reader) as url:
        mirror.run(job, url, "")
    assert arrived == [scan.read_bytes()]
    assert job.state is State.DONE


def test_a_refused_file_is_told_in_the_words_of_the_server(tmp_path):
    for name, content, says in [
        ("scan.nii", b"This is not an image.", "not a NIfTI"),
        ("scan.mgz", b"", "scan.mgz"),
        ("scan.nii", bytes(3 * 2**20), "larger than the 1 MB"),
    ]:
        (tmp_path / name).write_bytes(content)
        folder = tmp_path / f"local-{len(content)}"
        job = Job.create(folder, Segment(scan=name), {name: tmp_path / name})
        with serving(tmp_path / "jobs", limits=Limits(upload_bytes=2**20)) as url:
            mirror.run(job, url, "")
        assert job.failure.code == "bad_input"
        assert says in job.failure.message


def test_a_bad_token_is_told(tmp_path, job, monkeypatch):
    monkeypatch.setattr(tokens, "found", str)
    headers = users_file(tmp_path / "tokens", "ann")
    with serving(tmp_path / "jobs", tmp_path / "tokens") as url:
        mirror.run(job, url, "wrong")
        assert job.failure.message == "The server does not accept the token."
        other = Job.create(tmp_path / "other", Generate(steps=2))
        mirror.run(other, url, "")
        assert other.failure.message == "The server asks for a token."
        assert "BRAINGEN_TOKEN" in other.failure.advice
        good = Job.create(tmp_path / "good", Generate(steps=2))
        mirror.run(good, url, token(headers["ann"]))
        assert good.state is State.DONE


def test_a_server_that_is_not_there_is_tried_again_and_told(job):
    began = time.monotonic()
    mirror.run(job, f"http://127.0.0.1:{free_port()}", "", patience=1.0)
    assert time.monotonic() - began >= 1.0
    assert job.failure.code == "remote"
    assert "cannot be reached" in job.failure.message
    assert "reconnecting" in stages(job)


@pytest.mark.parametrize("url", ["", "host", "ftp://host", "http://", "http://user:pass@host", "file:///etc/passwd"])
def test_what_is_no_address_is_told(job, url):
    mirror.run(job, url, "")
    assert "is not the address of a server" in job.failure.message


class Stranger(BaseHTTPRequestHandler):
    """Another web server."""

    status = 200

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(b"<html>Hello</html>")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_another_web_server_is_told(job, status):
    handler = type("Handler", (Stranger,), {"status": status})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror.run(job, f"http://127.0.0.1:{server.server_port}", "secret")
        server.shutdown()
    assert job.failure.code == "remote"
    assert "not like a server of BrainGen" in job.failure.message


def test_cancelling_here_cancels_there(tmp_path, background):
    job = Job.create(tmp_path / "local", FOREVER)
    with serving(tmp_path / "jobs") as url:
        thread = background(job, url, "")
        eventually(lambda: "labels" in stages(job))
        job.cancel()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert job.state is State.CANCELLED
        assert jobs_at(url) == []
        # The worker is free for others.
        after = Job.create(tmp_path / "after", Generate(steps=2))
        mirror.run(after, url, "")
        assert after.state is State.DONE


def test_cancelling_works_while_the_server_is_away(tmp_path, background):
    job = Job.create(tmp_path / "local", Generate())
    thread = background(job, f"http://127.0.0.1:{free_port()}", "")
    eventually(lambda: "reconnecting" in stages(job))
    job.cancel()
    thread.join(3)
    assert job.state is State.CANCELLED


def test_an_abandoned_job_is_cancelled_there_and_stays_unfinished_here(tmp_path, background):
    job, abandoned = Job.create(tmp_path / "local", FOREVER), threading.Event()
    with serving(tmp_path / "jobs") as url:
        thread = background(job, url, "", abandoned.is_set)
        eventually(lambda: "labels" in stages(job))
        abandoned.set()
        thread.join(10)
        assert job.state is State.RUNNING
        eventually(lambda: [item["state"] for item in jobs_at(url)] == ["cancelled"])


def test_a_busy_server_is_waited_for(tmp_path, background):
    with serving(tmp_path / "jobs", limits=Limits(waiting=1, per_minute=10_000)) as url:
        jobs = [Job.create(tmp_path / name, FOREVER) for name in "abc"]
        for job in jobs[:2]:
            background(job, url, "")
            eventually(lambda job=job: {"labels", "waiting"} & set(stages(job)))
        background(jobs[2], url, "")
        eventually(lambda: "reconnecting" in stages(jobs[2]))
        assert "At most 1 jobs" in Job(jobs[2].folder).new_events()[1].message
        for job in jobs:
            job.cancel()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_mirrors_survive_the_death_of_the_server_or_say_so(program, tmp_path, background):  # noqa: F811
    secret = token(users_file(tmp_path / "tokens", "ann")["ann"])
    process, url = program()
    running = Job.create(tmp_path / "running", FOREVER)
    waiting = Job.create(tmp_path / "waiting", Generate(steps=3))
    for job, stage in ((running, "labels"), (waiting, "waiting")):
        background(job, url, secret)
        eventually(lambda job=job, stage=stage: stage in stages(job))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: "reconnecting" in stages(running) and "reconnecting" in stages(waiting))
    late = Job.create(tmp_path / "late", Generate(steps=2))
    background(late, url, secret)

    program()
    eventually(lambda: all(job.state.finished for job in (running, waiting, late)))
    assert running.failure.code == "interrupted"
    assert "restarted" in running.failure.message
    assert (waiting.state, late.state) == (State.DONE, State.DONE)


def test_a_server_that_does_not_come_back_is_told(tmp_path, background):
    job = Job.create(tmp_path / "local", FOREVER)
    with serving(tmp_path / "jobs") as url:
        background(job, url, "", patience=1.0)
        eventually(lambda: "labels" in stages(job))
    eventually(lambda: job.state.finished)
    assert job.failure.code in ("remote", "interrupted")
    assert job.failure.advice


def test_a_removed_job_is_told(tmp_path, background):
    job = Job.create(tmp_path / "local", FOREVER)
    with serving(tmp_path / "jobs") as url:
        background(job, url, "")
        eventually(lambda: "labels" in stages(job))
        remote = tmp_path / "jobs" / jobs_at(url)[0]["id"]
        remote.rename(tmp_path / "gone")
        eventually(lambda: job.state.finished)
    assert "There is no such job" in job.failure.message


def test_a_disk_that_is_full_here_is_told(tmp_path, job, monkeypatch):
    def full(pieces, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "unpack", full)
    with serving(tmp_path / "jobs") as url:
        mirror.run(job, url, "")
    assert job.failure.message == "The disk is full."
    assert not list(job.folder.glob("result*"))


def test_a_damaged_archive_is_not_taken(tmp_path, job, monkeypatch):
    def damaged(pieces, folder):
        raise BadInput("The archive is damaged.")

    monkeypatch.setattr(archive, "unpack", damaged)
    with serving(tmp_path / "jobs") as url:
        mirror.run(job, url, "")
    assert job.failure.message == "The archive is damaged."
    assert job.result is None


def test_a_case_that_names_other_files_is_not_taken(tmp_path, job, monkeypatch):
    unpack = archive.unpack

    def foreign(source, folder):
        unpack(source, folder)
        record = folder / "case.json"
        record.write_text(record.read_text(encoding="utf-8").replace('"T1w"', '"../../T1w"'))

    monkeypatch.setattr(archive, "unpack", foreign)
    with serving(tmp_path / "jobs") as url:
        mirror.run(job, url, "")
    assert "case.json is not of a case of BrainGen: contrasts" in job.failure.message
    assert job.result is None


def test_remote_bundles_are_metadata_like_local_ones(tmp_path):
    headers = users_file(tmp_path / "tokens", "ann")
    with serving(tmp_path / "jobs", tmp_path / "tokens") as url:
        found = {bundle.name: bundle for bundle in remote_bundles(url + "/", token(headers["ann"]))}
        assert found["brainspade3d"].contrasts == ["T1w", "FLAIR", "T1ce"]
        assert found["brainspade3d"].conditions[0].locatable
        with pytest.raises(RemoteError, match="does not accept the token"):
            remote_bundles(url, "wrong")
    with pytest.raises(RemoteError, match="cannot be reached"):
        remote_bundles(url, "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_process_runs_jobs_one_after_the_other_and_its_death_is_noticed(tmp_path):
    secret = token(users_file(tmp_path / "tokens", "ann")["ann"])
    with serving(tmp_path / "jobs", tmp_path / "tokens") as url, MirrorProcess(url, secret) as process:
        jobs = [Job.create(tmp_path / name, Generate(steps=2)) for name in "ab"]
        for job in jobs:
            process.submit(job)
        for job in jobs:
            eventually(lambda job=job: job.poll(process) is not None and job.state is State.DONE)
        with open(f"/proc/{process.pid}/cmdline", encoding="utf-8") as file:
            assert secret not in file.read()
        last = Job.create(tmp_path / "c", FOREVER)
        process.submit(last)
        eventually(lambda: "labels" in stages(last))
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: last.poll(process) is not None and last.state.finished)
        assert last.failure.message == "The process that speaks with the server ended unexpectedly."
        for item in requests.get(
            f"{url}/jobs", headers={"Authorization": f"Bearer {secret}"}, timeout=PATIENCE
        ).json():
            requests.delete(
                f"{url}/jobs/{item['id']}", headers={"Authorization": f"Bearer {secret}"}, timeout=PATIENCE
            )


def test_stopping_the_process_cancels_what_runs_there(tmp_path):
    with serving(tmp_path / "jobs") as url:
        process = MirrorProcess(url, "")
        job = Job.create(tmp_path / "local", FOREVER)
        process.submit(job)
        eventually(lambda: "labels" in stages(job))
        process.stop()
        eventually(lambda: [item["state"] for item in jobs_at(url)] == ["cancelled"])
    assert job.state is State.RUNNING
