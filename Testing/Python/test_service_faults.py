"""One job, one user, one client that goes wrong stops no other."""

import errno
import gzip
import http.client
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from serving import QuickWorker, eventually, own_headers, serving, users_file
from test_service import FOREVER, Client

from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Failure, Job, State
from BrainGenLib.requests import Generate
from BrainGenLib.service import connections, store, tokens, uploads
from BrainGenLib.service.client import RemoteError, Server
from BrainGenLib.service.limits import OPEN_AT_ONCE, Limits
from BrainGenLib.service.runner import Runner

pytestmark = pytest.mark.usefixtures("tiny_bundles")
posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions")


def left_by_a_killed_server(folder, owner, state="waiting"):
    """A job as a server that was killed leaves it."""
    job_id = store.id_for(owner, None)
    job = Job.create(folder / job_id, Generate(steps=2))
    (folder / job_id / "ticket.json").write_text(store.Ticket(owner=owner, submitted=1.0, number=1).model_dump_json())
    if state == "running":
        (folder / job_id / "events.jsonl").write_text("")
    return job_id, job


@pytest.mark.parametrize("content", [b"", b"no JSON", b'{"code": "of another version", "message": ""}', b"\xff"])
@pytest.mark.parametrize("name", ["error.json", "request.json", "ticket.json", "events.jsonl"])
def test_a_file_that_cannot_be_read_costs_its_job_alone(tmp_path, name, content):
    folder = tmp_path / "jobs"
    damaged, job = left_by_a_killed_server(folder, "ann")
    other, _ = left_by_a_killed_server(folder, "bob")
    (job.folder / name).write_bytes(content)
    headers = users_file(tmp_path / "tokens", "ann", "bob")
    with serving(folder, tmp_path / "tokens") as url:
        ann, bob = Client(url, headers["ann"]), Client(url, headers["bob"])
        assert bob.ends(other) == "done"
        assert ann.ends(ann.submit()) == "done"
        shown = {item["id"]: item["state"] for item in ann.ask("GET", "/jobs").json()}
        if name == "ticket.json":
            assert damaged not in shown
        else:
            assert shown[damaged] == "failed"
            assert ann.ask("GET", f"/jobs/{damaged}").json()["failure"]["message"]
            assert ann.ask("DELETE", f"/jobs/{damaged}").status_code == 204


def test_a_job_without_owner_is_removed_like_a_finished_one(tmp_path):
    store.take(tmp_path).close()
    _, job = left_by_a_killed_server(tmp_path, "ann")
    (job.folder / "ticket.json").write_bytes(b"")
    sweep = store.Sweep(tmp_path, Limits(days=1), iter((0.0, 80_000.0, 90_000.0)).__next__)
    for _ in range(2):
        sweep(lambda stored: State.WAITING)
        assert job.folder.exists()
    sweep(lambda stored: State.WAITING)
    assert not job.folder.exists()


class FullDisk(QuickWorker):
    """A worker whose first job fills the disk: it dies, and nothing can be written into the job's folder."""

    full = True
    alive = True

    def submit(self, job):
        if not FullDisk.full:
            super().submit(job)
            return
        job.folder.joinpath("events.jsonl").touch()
        self.alive = False

    def obituary(self):
        return Failure(code="crashed", message="It ended.")


@pytest.fixture
def full_disk(monkeypatch):
    fail = Job.fail

    def failing(self, failure):
        if FullDisk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        fail(self, failure)

    monkeypatch.setattr(FullDisk, "full", True)
    monkeypatch.setattr(Job, "fail", failing)


def test_a_full_disk_costs_the_job_that_filled_it(tmp_path, full_disk):
    headers = users_file(tmp_path / "tokens", "ann", "bob")
    with serving(tmp_path / "jobs", tmp_path / "tokens", launch=FullDisk) as url:
        ann, bob = Client(url, headers["ann"]), Client(url, headers["bob"])
        job = ann.submit()
        assert ann.ends(job) == "failed"
        assert ann.ask("GET", f"/jobs/{job}").json()["failure"]["message"] == "It ended."
        assert ann.events(job)[1]["state"] == "failed"
        removed = ann.submit()
        assert ann.ends(removed) == "failed"
        assert ann.ask("DELETE", f"/jobs/{removed}").status_code == 204
        # There is space again: the reason gets to the disk, and others run.
        FullDisk.full = False
        assert bob.ends(bob.submit()) == "done"
        eventually((tmp_path / "jobs" / job / "error.json").exists)


def test_a_job_that_nobody_runs_can_be_removed(tmp_path, monkeypatch):
    folder = tmp_path / "jobs"
    job, _ = left_by_a_killed_server(folder, tokens.OWN_USER, "running")
    monkeypatch.setattr(Runner, "_run", lambda self: None)
    with serving(folder) as url:
        client = Client(url)
        assert client.state(job) == "running"
        assert client.ask("DELETE", f"/jobs/{job}").status_code == 204
        assert client.ask("GET", "/jobs").json() == []


def test_a_job_that_cannot_be_cancelled_on_a_full_disk_is_removed(tmp_path, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "jobs"
    job, _ = left_by_a_killed_server(folder, tokens.OWN_USER)
    monkeypatch.setattr(Runner, "_run", lambda self: None)
    monkeypatch.setattr(Job, "cancel", full)
    with serving(folder) as url:
        assert Client(url).ask("DELETE", f"/jobs/{job}").status_code == 204


def test_a_job_that_cannot_be_watched_fails_and_the_next_one_runs(tmp_path, monkeypatch):
    poll, thrown = Job.poll, []

    def throwing(self, worker):
        if not thrown:
            thrown.append(self.folder.name)
            raise PermissionError(errno.EACCES, "Permission denied")
        return poll(self, worker)

    monkeypatch.setattr(Job, "poll", throwing)
    with serving(tmp_path / "jobs") as url:
        client = Client(url)
        first, second = client.submit(FOREVER), client.submit()
        assert client.ends(first) == "failed"
        assert thrown == [first]
        assert client.ends(second) == "done"


def test_a_job_runs_no_longer_than_it_may(tmp_path):
    stopped = []

    class Worker(QuickWorker):
        def submit(self, job):
            if stopped:
                super().submit(job)
            else:
                (job.folder / "events.jsonl").touch()

        def stop(self, grace=0):
            stopped.append(self)

    with serving(tmp_path / "jobs", limits=Limits(minutes=0.01, per_minute=10_000), launch=Worker) as url:
        client = Client(url)
        job = client.submit()
        assert client.ends(job) == "failed"
        failure = client.ask("GET", f"/jobs/{job}").json()["failure"]
        assert "longer than the 0.01 minutes" in failure["message"]
        assert len(stopped) == 1
        # On a slow machine this one takes too long as well.
        assert client.ends(client.submit()) in ("done", "failed")


def test_a_fault_of_the_server_is_told_in_a_sentence_and_costs_one_request(tmp_path, monkeypatch):
    with serving(tmp_path / "jobs") as url:
        client = Client(url)
        with monkeypatch.context() as patch:
            patch.setattr(store, "jobs", lambda folder: 1 / 0)
            answer = client.ask("GET", "/jobs")
        assert answer.status_code == 500
        assert answer.json()["message"] == "Something went wrong in the server."
        assert "division" not in answer.text
        assert client.ends(client.submit()) == "done"


def test_jobs_keep_their_order_when_the_clock_is_set_back(tmp_path, monkeypatch):
    store.take(tmp_path).close()
    now = [2e9, 1e9, 1.5e9]
    for number, when in enumerate(now):
        monkeypatch.setattr(time, "time", lambda when=when: when)
        with store.incoming(tmp_path) as partial:
            (partial / "inputs").mkdir()
            (partial / "request.json").write_text("{}")
            store.admit(tmp_path, f"{number:032x}", "ann", partial)
    assert [stored.ticket.submitted for stored in store.jobs(tmp_path)] == now


def test_a_clock_that_jumps_ahead_removes_nothing(tmp_path, monkeypatch):
    store.take(tmp_path).close()
    left_by_a_killed_server(tmp_path, "ann")
    sweep = store.Sweep(tmp_path, Limits(days=7))
    sweep(lambda stored: State.WAITING)
    ahead = time.time() + 8 * 86400
    monkeypatch.setattr(time, "time", lambda: ahead)
    monkeypatch.setattr(store, "LEAST_SECONDS", 0.0)
    sweep(lambda stored: State.DONE)
    assert len(store.jobs(tmp_path)) == 1


def test_a_result_stays_long_enough_to_be_fetched(tmp_path):
    with serving(tmp_path / "jobs", limits=Limits(days=0, per_minute=10_000)) as url:
        client = Client(url)
        jobs = [client.submit(), client.submit()]
        assert [client.ends(job) for job in jobs] == ["done", "done"]
        assert all(client.ask("GET", f"/jobs/{job}/result").ok for job in jobs)


@posix
def test_a_jobs_folder_is_for_its_account_alone_unless_it_holds_something_else(tmp_path):
    for name, mode in (("ours", 0o700), ("shared", 0o755)):
        folder = tmp_path / name
        folder.mkdir(mode=0o755)
        if name == "shared":
            (folder / "other").touch()
        store.take(folder).close()
        assert folder.stat().st_mode & 0o777 == mode


def test_streams_are_counted_before_they_begin(tmp_path):
    with serving(tmp_path / "jobs") as url:
        client = Client(url)
        job = client.submit(FOREVER)
        eventually(lambda: client.state(job) == "running")
        answers, barrier = [], threading.Barrier(OPEN_AT_ONCE + 8)

        def ask():
            barrier.wait()
            answers.append(client.ask("GET", f"/jobs/{job}/events", stream=True))

        threads = [threading.Thread(target=ask) for _ in range(OPEN_AT_ONCE + 8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200] * OPEN_AT_ONCE + [429] * 8
        for answer in answers:
            answer.close()
        client.ask("DELETE", f"/jobs/{job}")
        assert client.ends(job) == "cancelled"


def connect(url):
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)


def is_closed(connection):
    with suppress(ConnectionError):
        while connection.recv(1000):
            pass
    return True


def test_connections_that_ask_nothing_are_closed(tmp_path, monkeypatch):
    with serving(tmp_path / "jobs") as url, connect(url) as after:
        after.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert after.recv(1000).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
        silent, slow = connect(url), connect(url)
        # A byte now and then is no request.
        with suppress(ConnectionError):
            for _ in range(100):
                slow.sendall(b"G")
                after.sendall(b"G")
                time.sleep(0.05)
        for connection in (silent, slow, after):
            with connection:
                assert is_closed(connection)
        client = Client(url)
        job = client.submit(FOREVER)
        # A request that came whole may take its time.
        stream = client.ask("GET", f"/jobs/{job}/events", stream=True)
        time.sleep(1.2)
        client.ask("DELETE", f"/jobs/{job}")
        assert b"event: end" in stream.content


def test_connections_of_another_address_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "PER_ADDRESS", 3)
    monkeypatch.setattr(connections, "is_loopback", lambda host: False)
    with serving(tmp_path / "jobs") as url:
        opened = [connect(url) for _ in range(3)]
        with connect(url) as surplus:
            assert is_closed(surplus)
        opened.pop().close()
        eventually(lambda: connections.Protocol.addresses["127.0.0.1"] == 2)
        assert Client(url).ask("GET", "/health").ok
        for connection in opened:
            connection.close()
    assert not connections.Protocol.addresses


def test_an_upload_that_comes_byte_by_byte_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(uploads, "DRAIN_SECONDS", 0.1)
    with serving(tmp_path / "jobs") as url:
        connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=10)
        connection.putrequest("POST", "/jobs")
        for key, value in {**own_headers(), "Content-Type": "multipart/form-data; boundary=b"}.items():
            connection.putheader(key, value)
        connection.putheader("Content-Length", "5000")
        connection.endheaders()
        for letter in b"--b\r\nContent-Disposition: form-data":
            try:
                connection.send(bytes([letter]))
            except ConnectionError:
                break
            time.sleep(0.05)
        answer = connection.getresponse()
        assert answer.status == 408
        assert b"too slowly" in answer.read()
        connection.close()


@posix
def test_a_tokens_file_keeps_its_mode_and_follows_its_link(tmp_path):
    (tmp_path / "etc").mkdir()
    tokens.issue(tmp_path / "etc" / "tokens", "ann")
    (tmp_path / "etc" / "tokens").chmod(0o640)
    (tmp_path / "tokens").symlink_to(tmp_path / "etc" / "tokens")
    # An older version wrote to this name, through a link of another user.
    (tmp_path / "etc" / "tokens.part").symlink_to(tmp_path / "victim")
    secret = tokens.issue(tmp_path / "tokens", "bob")
    assert (tmp_path / "tokens").is_symlink()
    assert (tmp_path / "etc" / "tokens").stat().st_mode & 0o777 == 0o640
    assert tokens.user_of(tmp_path / "etc" / "tokens", secret) == "bob"
    assert set(tokens.read(tmp_path / "tokens")) == {"ann", "bob"}
    assert not (tmp_path / "victim").exists()
    assert {path.name for path in (tmp_path / "etc").iterdir()} == {"tokens", "tokens.part"}


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root gives files away")
def test_a_tokens_file_keeps_its_owner(tmp_path):
    path = tmp_path / "tokens"
    tokens.issue(path, "ann")
    os.chown(path, 12345, 12345)
    tokens.issue(path, "bob")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


@posix
def test_the_token_of_an_account_is_made_once_for_it_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tokens.found() == ""
    secret = tokens.own()
    path = tmp_path / ".braingen" / "token"
    assert tokens.own() == tokens.found() == secret == path.read_text(encoding="utf-8").strip()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [one.name for one in path.parent.iterdir() if one.name != ".token.lock"] == ["token"]
    assert (tokens.user_of_own(secret), tokens.user_of_own(""), tokens.user_of_own("x")) == ("local", None, None)
    path.chmod(0o644)
    with pytest.raises(Exception, match="Others can read the token"):
        tokens.own()


@posix
def test_the_token_of_an_account_needs_no_hard_links(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "link", refused)
    assert tokens.own() == tokens.own()


def refused(*_, **__):
    raise OSError(errno.EPERM, "Operation not permitted")


@posix
def test_a_folder_on_a_disk_without_locks_is_not_said_to_be_in_use(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(BadInput, match="cannot be locked"):
        store.take(tmp_path)


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n", " "])
def test_a_token_from_a_file_with_line_ends_is_taken(tmp_path, ending):
    secret = users_file(tmp_path / "tokens", "ann")["ann"]["Authorization"].partition(" ")[2]
    with serving(tmp_path / "jobs", tmp_path / "tokens") as url:
        assert Server(url, secret + ending).bundles()


@pytest.mark.parametrize("token", ["secret\nvalue", "secret value", "sécret", "secret\x00"])
def test_what_cannot_be_a_token_is_told_without_it(token):
    with pytest.raises(RemoteError) as caught:
        Server("https://gpu.example.org", token)
    failure = caught.value.failure
    assert "characters that no token has" in failure.message
    assert "cret" not in failure.model_dump_json()


def test_a_token_travels_encrypted_or_within_this_machine():
    with pytest.raises(RemoteError, match="is not encrypted"):
        Server("http://gpu.example.org:8765", "secret")
    for url in ("https://gpu.example.org", "http://127.0.0.1:8765", "http://localhost:1", "http://[::1]:8765"):
        Server(url, "secret")


def test_a_password_in_an_address_is_not_shown():
    with pytest.raises(RemoteError, match="is not the address") as caught:
        Server("https://ann:secret@gpu.example.org")
    assert "secret" not in str(caught.value)


class Packed(BaseHTTPRequestHandler):
    """A server that sends what it was not asked for."""

    body = gzip.compress(b"[]")
    headers_sent = (("Content-Encoding", "gzip"),)

    def do_GET(self):
        self.send_response(200)
        for key, value in self.headers_sent:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def stranger():
    """Serves with a handler made of these attributes; gives the URL."""
    servers = []

    def start(**attributes):
        servers.append(HTTPServer(("127.0.0.1", 0), type("Handler", (Packed,), attributes)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_answer_that_would_have_to_be_inflated_is_refused(stranger):
    with pytest.raises(RemoteError, match="not like a server of BrainGen"):
        Server(stranger(), "x").bundles()


def test_an_archive_comes_in_blocks(stranger):
    url = stranger(body=bytes(300_000), headers_sent=())
    pieces = list(Server(url, "x").archive("/jobs/1/result", lambda: None))
    assert sum(map(len, pieces)) == 300_000
    assert max(map(len, pieces)) <= 2**16


def test_an_answer_or_an_event_without_end_is_refused(stranger):
    url = stranger(body=b"[" * 300_000, headers_sent=())
    with pytest.raises(RemoteError, match="not like a server"):
        Server(url, "x").bundles()
    url = stranger(body=b"data: 1\n" * 300, headers_sent=())
    with pytest.raises(RemoteError, match="not like a server"):
        list(Server(url, "x").events("1", 0))


@pytest.mark.parametrize("after", ["²", "1" * 400, "soon", "-1"])
def test_a_strange_retry_after_is_no_fault_of_the_client(stranger, after):
    body = Failure(code="remote", message="Wait.").model_dump_json().encode()

    class Busy(Packed):
        def do_GET(self):
            self.send_response(429)
            self.send_header("Retry-After", after)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with pytest.raises(RemoteError, match="Wait") as caught:
        Server(stranger(do_GET=Busy.do_GET), "x").bundles()
    assert caught.value.retry_after <= 60
