"""The server over HTTP, with a worker that needs no model."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from patience import PATIENCE
from serving import CASE, QuickWorker, eventually, own_headers, serving, users_file

from BrainGenLib.case import Case
from BrainGenLib.jobs import Failure, Job
from BrainGenLib.requests import Generate
from BrainGenLib.service import archive, store, uploads
from BrainGenLib.service.limits import OPEN_AT_ONCE, Limits

pytestmark = pytest.mark.usefixtures("tiny_bundles")
FOREVER = Generate(guidance=0, steps=1000)


class Client:
    """A user."""

    def __init__(self, url, headers=None):
        self.url, self.headers = url, own_headers() if headers is None else headers

    def ask(self, method, path, **options):
        headers = {**self.headers, **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=PATIENCE, **options)

    def post(self, request=None, **options):
        text = (request or Generate(steps=2)).model_dump_json()
        return self.ask("POST", "/jobs", files={"request": (None, text)}, **options)

    def submit(self, request=None):
        answer = self.post(request)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def state(self, job):
        return self.ask("GET", f"/jobs/{job}").json()["state"]

    def ends(self, job):
        return eventually(lambda: (state := self.state(job)) not in ("waiting", "running") and state)

    def events(self, job, last=0):
        """Ids and data of a job's events, then how it ended."""
        answer = self.ask("GET", f"/jobs/{job}/events", headers={"Last-Event-ID": str(last)}, stream=True)
        blocks = answer.content.decode().strip().split("\n\n")
        parsed = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
        events = [(int(item["id"]), json.loads(item["data"])) for item in parsed if "id" in item]
        assert parsed[-1]["event"] == "end"
        return events, json.loads(parsed[-1]["data"])


@pytest.fixture
def local(tmp_path):
    with serving(tmp_path / "jobs") as url:
        yield Client(url)


@pytest.fixture
def users(tmp_path):
    headers = users_file(tmp_path / "tokens", "ann", "bob")
    with serving(tmp_path / "jobs", tmp_path / "tokens") as url:
        yield Client(url, headers["ann"]), Client(url, headers["bob"]), Client(url, {})


def test_a_job_runs_and_its_case_comes_back(local, tmp_path):
    job = local.submit()
    assert local.ends(job) == "done"
    answer = local.ask("GET", f"/jobs/{job}").json()
    assert answer["request"] == Generate(steps=2).model_dump()
    assert answer["failure"] is None
    assert [item["id"] for item in local.ask("GET", "/jobs").json()] == [job]
    for path in ("result", "previews/T1w"):
        archive.unpack([local.ask("GET", f"/jobs/{job}/{path}").content], tmp_path / path.rpartition("/")[2])
    for folder in ("result", "T1w"):
        assert (Case.load(tmp_path / folder).images["T1w"] == CASE.images["T1w"]).all()
    assert local.ask("DELETE", f"/jobs/{job}").status_code == 204
    assert local.ask("GET", f"/jobs/{job}").status_code == 404
    assert not list((tmp_path / "jobs").glob(f"**/{job}*"))


def test_events_resume_after_the_last_one_seen(local):
    job = local.submit(Generate(steps=4))
    events, end = local.events(job)
    assert [number for number, _ in events] == [1, 2, 3, 4, 5, 6]
    assert [event["stage"] for _, event in events] == ["labels", "preview", *["labels"] * 4]
    assert events[1][1]["preview"] == "previews/T1w"
    assert end == {"state": "done", "failure": None}
    assert local.events(job, last=4) == (events[4:], end)
    assert local.events(job, last=99) == ([], end)
    assert local.ask("GET", f"/jobs/{job}/events", headers={"Last-Event-ID": "x"}).status_code == 400


def test_events_come_while_the_job_runs_and_say_how_many_are_ahead(local):
    first, second = local.submit(FOREVER), local.submit()
    stream = local.ask("GET", f"/jobs/{second}/events", stream=True).iter_lines()
    assert [next(stream), next(stream), next(stream)] == [b"event: queue", b"data: 0", b""]
    third = local.submit()
    eventually(lambda: local.ask("GET", f"/jobs/{third}").json()["ahead"] == 1)
    local.ask("DELETE", f"/jobs/{first}")
    assert next(stream) == b"id: 1"


def test_bundles_say_what_a_panel_needs_and_not_how_they_are_built(local):
    found = {bundle["name"]: bundle for bundle in local.ask("GET", "/bundles").json()}
    assert set(found) == {"brain-ldm", "brainspade3d", "segmenter"}
    assert found["brainspade3d"]["contrasts"] == ["T1w", "FLAIR", "T1ce"]
    assert found["brainspade3d"]["conditions"][0]["label"]
    assert "networks" not in found["brainspade3d"]


def test_running_and_waiting_jobs_can_be_cancelled(local):
    running, waiting = local.submit(FOREVER), local.submit(FOREVER)
    for job in (waiting, running):
        assert local.ask("DELETE", f"/jobs/{job}").status_code == 202
        assert local.ends(job) == "cancelled"
    assert local.ends(local.submit()) == "done"


def test_health_is_open_and_nothing_else(users):
    nobody = users[2]
    assert nobody.ask("GET", "/health").json() == {"status": "ok"}
    for method, path in [("GET", "/bundles"), ("GET", "/jobs"), ("GET", f"/jobs/{'0' * 32}"), ("POST", "/jobs")]:
        assert nobody.ask(method, path).status_code == 401
    for path in ("/docs", "/openapi.json", "/redoc", "/"):
        assert nobody.ask("GET", path).status_code == 404


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", "Basic eDp4", "Bearer \xff", "bearer " + "a" * 9999]
)
def test_a_bad_token_is_refused(users, header):
    answer = users[2].ask("GET", "/jobs", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert "token" in answer.json()["message"]


def test_a_job_of_another_user_does_not_exist(users):
    ann, bob, _ = users
    job = ann.submit()
    ann.ends(job)
    unknown = bob.ask("GET", f"/jobs/{'0' * 32}")
    for method, path in [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/result"),
        ("GET", "/previews/T1w"),
        ("DELETE", ""),
    ]:
        answer = bob.ask(method, f"/jobs/{job}{path}")
        assert (answer.status_code, answer.content) == (404, unknown.content)
    assert bob.ask("GET", "/jobs").json() == []
    assert ann.state(job) == "done"


def test_a_token_taken_out_of_the_file_shuts_out_at_once(users, tmp_path):
    ann, bob, _ = users
    assert ann.ask("GET", "/jobs").ok
    lines = (tmp_path / "tokens").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "tokens").write_text("".join(line for line in lines if not line.startswith("ann")))
    assert ann.ask("GET", "/jobs").status_code == 401
    assert bob.ask("GET", "/jobs").ok
    (tmp_path / "tokens").write_text("?")
    assert bob.ask("GET", "/jobs").status_code == 503


@pytest.mark.parametrize("headers", [{}, {"Host": "localhost"}, {"Authorization": "Bearer x"}, {"Authorization": ""}])
def test_without_a_list_of_users_only_the_account_that_serves_gets_in(local, headers):
    # A web page, a proxy or another user of the machine does not have its token.
    other = Client(local.url, headers)
    assert other.ask("GET", "/jobs").status_code == 401
    assert other.post().status_code == 401
    assert other.ask("GET", "/health").ok
    assert local.ask("GET", "/jobs").ok


@pytest.mark.parametrize("job", ["..", "%2e%2e", "..%2f..", "x", "0" * 31, "A" * 32, "%00"])
def test_a_strange_id_is_no_job(local, job):
    for path in ("", "/result", "/events"):
        assert local.ask("GET", f"/jobs/{job}{path}").status_code == 404


@pytest.mark.parametrize("name", ["%2e%2e", "..%2fresult", "nothing", "T1w.part"])
def test_a_strange_preview_is_none(local, name):
    job = local.submit()
    local.ends(job)
    assert local.ask("GET", f"/jobs/{job}/previews/{name}").status_code == 404


def test_the_rate_is_limited_for_each_user(tmp_path):
    headers = users_file(tmp_path / "tokens", "ann", "bob")
    with serving(tmp_path / "jobs", tmp_path / "tokens", Limits(per_minute=20)) as url:
        ann = Client(url, headers["ann"])
        answers = [ann.ask("GET", "/jobs") for _ in range(25)]
        assert [answer.status_code for answer in answers[:20]] == [200] * 20
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert Client(url, headers["bob"]).ask("GET", "/jobs").ok


def test_waiting_jobs_and_streams_are_limited(tmp_path):
    with serving(tmp_path / "jobs", limits=Limits(waiting=2, per_minute=1000)) as url:
        client = Client(url)
        running = client.submit(FOREVER)
        eventually(lambda: client.state(running) == "running")
        for _ in range(2):
            client.submit()
        answer = client.post()
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "10")
        assert "At most 2 jobs" in answer.json()["message"]

        streams = [client.ask("GET", f"/jobs/{running}/events", stream=True) for _ in range(OPEN_AT_ONCE)]
        readers = [stream.iter_lines() for stream in streams]
        assert all(next(reader) for reader in readers)
        assert client.ask("GET", f"/jobs/{running}/events", stream=True).status_code == 429
        for stream in streams:
            stream.close()
        eventually(lambda: client.ask("GET", f"/jobs/{running}/events", stream=True).status_code == 200)
        client.ask("DELETE", f"/jobs/{running}")


def test_jobs_of_users_take_turns(users):
    ann, bob, _ = users
    held = ann.submit(FOREVER)
    eventually(lambda: ann.state(held) == "running")
    anns, bobs = [ann.submit() for _ in range(3)], bob.submit()
    ann.ask("DELETE", f"/jobs/{held}")
    assert bob.ends(bobs) == "done"
    assert ann.state(anns[-1]) != "done"
    assert ann.ends(anns[-1]) == "done"


def test_the_same_submission_twice_is_one_job(users):
    ann, bob, _ = users
    key = {"Idempotency-Key": "0123456789abcdef"}
    ids = [client.post(headers=key).json()["id"] for client in (ann, ann, bob)]
    assert ids[0] == ids[1] != ids[2]
    assert len(ann.ask("GET", "/jobs").json()) == 1
    assert ann.post(headers={"Idempotency-Key": "short"}).status_code == 400


@pytest.mark.parametrize("where", ["file", "rename"])
def test_a_full_disk_is_told_and_leaves_nothing(local, tmp_path, monkeypatch, where):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((uploads._Form, "_data") if where == "file" else (store, "admit")), full)
        answer = local.post()
    assert answer.status_code == 507
    assert answer.json()["message"] == "The disk of the server is full."
    assert local.ask("GET", "/jobs").json() == []
    assert not list((tmp_path / "jobs" / ".incoming").iterdir())
    assert local.ends(local.submit()) == "done"


class DyingWorker(QuickWorker):
    """Dies of its first job."""

    died = 0

    def submit(self, job):
        if DyingWorker.died:
            super().submit(job)
        else:
            DyingWorker.died += 1
            self.alive = False

    def obituary(self):
        return Failure(code="crashed", message="It ended.", traceback="what other users did")


def test_a_worker_that_dies_fails_its_job_and_is_replaced(tmp_path):
    with serving(tmp_path / "jobs", launch=DyingWorker) as url:
        client = Client(url)
        jobs = [client.submit(), client.submit()]
        assert [client.ends(job) for job in jobs] == ["failed", "done"]
        failure = client.ask("GET", f"/jobs/{jobs[0]}").json()["failure"]
        assert failure == Failure(code="crashed", message="It ended.").model_dump()
        assert client.events(jobs[0])[1]["failure"] == failure
        # The operator may read it.
        assert "other users" in Job(tmp_path / "jobs" / jobs[0]).failure.traceback


def test_a_job_removed_at_the_moment_of_its_end_does_not_cost_the_worker(tmp_path):
    stopped = []

    class Worker(QuickWorker):
        def stop(self, grace=0):
            stopped.append(self)

    with serving(tmp_path / "jobs", launch=Worker) as url:
        client = Client(url)
        for _ in range(5):
            job = client.submit()
            while not (tmp_path / "jobs" / job / "result").exists():
                time.sleep(0.001)
            assert client.ask("DELETE", f"/jobs/{job}").status_code == 204
            assert not (tmp_path / "jobs" / job).exists()
        assert client.ends(client.submit()) == "done"
        assert not stopped


def test_a_job_folder_removed_by_hand_does_not_stop_the_service(local, tmp_path):
    job = local.submit(FOREVER)
    eventually(lambda: local.state(job) == "running")
    (tmp_path / "jobs" / job).rename(tmp_path / "gone")
    assert local.ends(local.submit()) == "done"


def test_surplus_jobs_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LEAST_SECONDS", 0)
    with serving(tmp_path / "jobs", limits=Limits(kept=2, per_minute=10_000)) as url:
        client = Client(url)
        jobs = [client.submit() for _ in range(4)]
        left = eventually(lambda: len(found := client.ask("GET", "/jobs").json()) == 2 and found)
        assert [item["id"] for item in left] == jobs[2:]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture
def program(tmp_path):
    """Starts the server as a process of its own, on the same port and folder every time."""
    port, started = free_port(), []

    def start():
        script = Path(__file__).with_name("serving.py")
        command = [sys.executable, str(script), str(tmp_path / "jobs"), str(port), str(tmp_path / "tokens")]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1], started[-1].stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_server_loses_nothing_but_the_job_that_ran(program, tmp_path):
    headers = users_file(tmp_path / "tokens", "ann", "bob")
    process, url = program()
    ann, bob = Client(url, headers["ann"]), Client(url, headers["bob"])
    done = [ann.submit(), bob.submit()]
    assert [ann.ends(done[0]), bob.ends(done[1])] == ["done", "done"]
    running = ann.submit(FOREVER)
    eventually(lambda: ann.state(running) == "running")
    waiting = [(client, client.submit()) for client in (ann, bob, ann, bob)]
    # Under load: an upload is half way.
    upload = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    head = f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: {headers['ann']['Authorization']}\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999\r\n\r\n"
    upload.sendall(
        head.encode() + b'--b\r\nContent-Disposition: form-data; name="input"; filename="a.nii"\r\n\r\nabc'
    )
    eventually(lambda: list((tmp_path / "jobs" / ".incoming").glob("*/inputs/a.nii")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    upload.close()

    program()
    assert [client.ends(job) for client, job in waiting] == ["done"] * 4
    assert [ann.state(done[0]), bob.state(done[1])] == ["done", "done"]
    assert ann.ask("GET", f"/jobs/{done[0]}/result").ok
    failure = ann.ask("GET", f"/jobs/{running}").json()["failure"]
    assert failure["code"] == "interrupted"
    assert failure["advice"] == "Submit the job again."
    assert not list((tmp_path / "jobs" / ".incoming").iterdir())


def test_the_end_of_a_server_does_not_wait_for_those_who_watch(tmp_path):
    began = time.monotonic()
    with serving(tmp_path / "jobs", grace=600) as url:
        client = Client(url)
        running, waiting = client.submit(FOREVER), client.submit()
        stream = client.ask("GET", f"/jobs/{running}/events", stream=True)
        next(stream.iter_lines())
    assert time.monotonic() - began < 600
    assert Job(tmp_path / "jobs" / running).failure.code == "interrupted"
    assert Job(tmp_path / "jobs" / waiting).state.value == "waiting"
