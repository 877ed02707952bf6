"""The parts of the service that need no network."""

import gzip
import io
import json
import os
import sys
import tarfile
import time

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from serving import CASE

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Failure, Job
from BrainGenLib.requests import Generate
from BrainGenLib.service import archive, store, tokens, volumes
from BrainGenLib.service.limits import Limits, Traffic
from BrainGenLib.service.refusal import Refusal
from BrainGenLib.service.runner import Runner, fair_order


def test_a_token_is_known_by_its_hash_alone(tmp_path):
    path = tmp_path / "tokens"
    ann, bob = tokens.issue(path, "ann"), tokens.issue(path, "bob")
    assert (tokens.user_of(path, ann), tokens.user_of(path, bob), tokens.user_of(path, "x")) == ("ann", "bob", None)
    assert ann not in path.read_text(encoding="utf-8")
    assert tokens.user_of(path, path.read_text(encoding="utf-8").split()[1]) is None
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o077 == 0


def test_a_new_token_ends_the_old_one_and_a_line_taken_out_its_user(tmp_path):
    path = tmp_path / "tokens"
    old, new = tokens.issue(path, "ann"), tokens.issue(path, "ann")
    assert (tokens.user_of(path, old), tokens.user_of(path, new)) == (None, "ann")
    path.write_text("# nobody\n\n")
    assert tokens.user_of(path, new) is None


@pytest.mark.parametrize(
    "text", ["ann", "ann xyz", f"../ann {'0' * 64}", f"ann {'0' * 64}\nann {'1' * 64}", "\udcff"]
)
def test_a_tokens_file_that_is_not_understood_is_refused(tmp_path, text):
    (tmp_path / "tokens").write_text(text, errors="surrogateescape")
    with pytest.raises(BadInput, match="tokens"):
        tokens.read(tmp_path / "tokens")


@pytest.mark.parametrize("name", ["", "a b", "../a", "-a", "a\nb"])
def test_a_user_has_a_plain_name(tmp_path, name):
    with pytest.raises(BadInput, match="cannot be a user"):
        tokens.issue(tmp_path / "tokens", name)


def test_the_rate_of_each_user_is_limited_and_recovers():
    now = 0.0
    traffic = Traffic(60, lambda: now)
    for _ in range(60):
        traffic.count("ann")
    with pytest.raises(Refusal) as caught:
        traffic.count("ann")
    assert caught.value.status == 429
    assert caught.value.headers == {"Retry-After": "1"}
    traffic.count("bob")
    now = 1.0
    traffic.count("ann")
    with pytest.raises(Refusal):
        traffic.count("ann")


def stored(folder, owner, submitted, state="waiting"):
    job_id = store.id_for(owner, None)
    job = Job.create(folder / job_id, Generate())
    ticket = store.Ticket(owner=owner, submitted=submitted)
    (job.folder / "ticket.json").write_text(ticket.model_dump_json())
    if state == "done":
        (job.folder / "result").mkdir()
        os.utime(job.folder / "result", (submitted, submitted))
    return store.Stored(job_id, ticket, job)


def test_users_take_turns(tmp_path):
    jobs = [stored(tmp_path, owner, when) for when, owner in enumerate(["ann", "ann", "ann", "bob", "cid", "bob"])]
    order = fair_order(jobs, {}, 0)
    assert [job.ticket.owner for job in order] == ["ann", "bob", "cid", "ann", "bob", "ann"]
    assert [job.ticket.submitted for job in order] == [0, 3, 4, 1, 5, 2]
    # The user who has had most comes last; one who was away has saved up nothing.
    assert [job.ticket.owner for job in fair_order(jobs, {"ann": 2, "bob": 1}, 0)][:3] == ["cid", "bob", "ann"]
    order = fair_order(jobs, {"ann": 120, "bob": 100}, 100)
    assert [job.ticket.owner for job in order] == ["bob", "cid", "bob", "ann", "ann", "ann"]


def test_old_and_surplus_jobs_of_each_user_are_removed_and_no_others(tmp_path):
    store.take(tmp_path / "jobs").close()
    folder, now = tmp_path / "jobs", time.time()
    old = stored(folder, "ann", now - 8 * 86400, "done")
    anns = [stored(folder, "ann", now - age, "done") for age in (500, 400, 300)]
    others = [stored(folder, "bob", now - 600, "done"), stored(folder, "ann", now - 9 * 86400)]
    clock = iter((0.0, store.LEAST_SECONDS - 1, store.LEAST_SECONDS)).__next__
    sweep = store.Sweep(folder, Limits(kept=2, days=7), clock)
    for _ in range(2):
        sweep(lambda stored: stored.job.state)
        assert len(store.jobs(folder)) == 6
    sweep(lambda stored: stored.job.state)
    left = {job.id for job in store.jobs(folder)}
    assert left == {job.id for job in [*anns[1:], *others]}
    assert old.id not in left
    assert not list((folder / ".removed").iterdir())


def test_a_job_removed_between_two_looks_does_not_wait(tmp_path, monkeypatch):
    store.take(tmp_path).close()
    gone, waiting = stored(tmp_path, "ann", 0, "done"), stored(tmp_path, "ann", 1)
    stale = store.jobs(tmp_path)
    store.remove(gone.job.folder)
    monkeypatch.setattr(store, "jobs", lambda folder: stale)
    assert Runner(tmp_path, Limits())._refresh() == waiting
    store.remove(gone.job.folder)


def test_a_folder_serves_one_server_and_half_uploads_go(tmp_path):
    with store.take(tmp_path):
        (tmp_path / ".incoming" / "half").mkdir()
        with pytest.raises(BadInput, match="Another server"):
            store.take(tmp_path)
    store.take(tmp_path).close()
    assert not list((tmp_path / ".incoming").iterdir())


def test_a_job_of_another_or_with_a_strange_id_is_not_found(tmp_path):
    job = stored(tmp_path, "ann", 0)
    assert store.find(tmp_path, job.id, "ann") == job
    for job_id, owner in ((job.id, "bob"), (f"../{tmp_path.name}/{job.id}", "ann"), ("..", "ann"), ("0" * 32, "ann")):
        assert store.find(tmp_path, job_id, owner) is None


def test_a_case_survives_the_archive_bit_for_bit(tmp_path):
    case = Case(CASE.images, CASE.labels, CASE.affine, {"a": 1.5}, {"b": "c"}, template=CASE)
    case.save(tmp_path / "a")
    archive.unpack(archive.pack(tmp_path / "a"), tmp_path / "b")
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*")}
    assert files == {path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*")}
    for path in files:
        if (tmp_path / "a" / path).is_file():
            assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def tar(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for member, content in members:
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name, content=b"{}", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(tar(member("../case.json"))),
        gzip.compress(tar(member("/tmp/case.json"))),
        gzip.compress(tar(member("template/../../case.json"))),
        gzip.compress(tar(member("case.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"))),
        gzip.compress(tar(member("case.pkl"))),
        gzip.compress(tar(member("case.json"), member("case.json"))),
        gzip.compress(tar(*(member(f"a{number}.json") for number in range(archive.MAX_FILES + 1)))),
        gzip.compress(tar(member("case.json", b"0" * 5000)))[:-40],
        gzip.compress(tar(member("case.json"))[:600]),
        gzip.compress(b"no tar " * 100),
        b"no gzip",
        b"",
    ],
    # gzip writes the time into its header: as a name it would differ between processes.
    ids=range(12),
)
def test_a_bad_archive_is_refused_and_writes_nothing_elsewhere(tmp_path, data):
    (tmp_path / "x").mkdir()
    with pytest.raises(BadInput, match="archive"):
        archive.unpack([data], tmp_path / "x" / "y")
    assert {path.name for path in tmp_path.rglob("*") if path.suffix != ".json"} == {"x", "y"}
    assert not list(tmp_path.glob("*.json")) + list((tmp_path / "x").glob("*.json"))


def test_an_archive_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 2**20)
    data = gzip.compress(tar(member("case.json", bytes(2**22))))
    assert len(data) < 2**15
    with pytest.raises(BadInput, match="larger than any case"):
        archive.unpack([data], tmp_path / "a")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_honest_volumes_pass(tmp_path, dtype):
    data = np.arange(10 * 12 * 8).reshape(10, 12, 8).astype(dtype)
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        for ending in ("nii", "nii.gz"):
            image = kind(data, np.eye(4), dtype=dtype)
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"hello"))
            nib.save(image, tmp_path / f"a.{ending}")
            volumes.check(tmp_path / f"a.{ending}")
    nib.save(nib.Nifti1Image(data, np.eye(4), nib.Nifti1Header(endianness=">"), dtype=dtype), tmp_path / "a.nii")
    volumes.check(tmp_path / "a.nii")
    image = sitk.GetImageFromArray(data)
    for compressed in (False, True):
        for ending in ("nrrd", "nii", "nii.gz"):
            sitk.WriteImage(image, str(tmp_path / f"a.{ending}"), useCompression=compressed)
            volumes.check(tmp_path / f"a.{ending}")


def test_an_error_is_told_in_the_words_of_a_job():
    refusal = Refusal(413, "Too large.", "Crop it.", code="bad_input")
    assert Failure.model_validate_json(json.dumps(refusal.failure.model_dump())) == refusal.failure
