"""Whatever is sent: a sentence, nothing left on disk, and a server that lives."""

import gzip
import io
import pickle
import socket
import struct
import threading
import zipfile

import nibabel as nib
import numpy as np
import pytest
import requests
from patience import PATIENCE
from serving import eventually, own_headers, serving

from BrainGenLib.requests import Render, Segment
from BrainGenLib.service.limits import Limits

pytestmark = pytest.mark.usefixtures("tiny_bundles")
VOXELS = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
UPLOAD_BYTES = 2**21


def nifti(kind=nib.Nifti1Image):
    return kind(VOXELS, np.eye(4)).to_bytes()


def changed(offset, layout, *values, content=None):
    data = bytearray(content or nifti())
    struct.pack_into(layout, data, offset, *values)
    return bytes(data)


def nrrd(
    *lines,
    fields=("type: short", "dimension: 3", "sizes: 8 8 8", "endian: little", "encoding: raw"),
    data=VOXELS.tobytes(),
):
    return "\n".join(["NRRD0004", *fields, *lines, "", ""]).encode() + data


def fields(**others):
    return [f"{key}: {value}" for key, value in {**HEADER, **others}.items() if value is not None]


HEADER = {"type": "short", "dimension": "3", "sizes": "8 8 8", "endian": "little", "encoding": "raw"}


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, nifti())
    return buffer.getvalue()


def part(name, filename, content):
    head = b'--b\r\nContent-Disposition: form-data; name="%s"' % name
    head += b'; filename="%s"' % filename if filename is not None else b""
    return head + b"\r\n\r\n" + content + b"\r\n"


def body(filename=b"scan.nii", content=b"", request=None, name=b"input"):
    if request is None:
        request = Segment(scan=filename.decode("utf-8", "replace")).model_dump_json().encode()
    return part(b"request", None, request) + part(name, filename, content) + b"--b--\r\n"


NAMES = [
    b"../scan.nii",
    b"..\\scan.nii",
    b"/etc/scan.nii",
    b"a/scan.nii",
    b"C:\\scan.nii",
    b"scan.nii\x00.gz",
    b".nii",
    b"",
    b".scan.nii",
    b"..",
    b"\xff\xfe.nii",
    b"sc\xc3\xa4n.nii",
    b"scan\n.nii",
    b"a" * 200 + b".nii",
    b"scan.pkl",
    b"scan",
    b"scan.npy",
    b"scan.zip",
    b"scan.nhdr",
    b"scan.mgz",
    b"scan.hdr",
    b"scan.dcm",
    b"scan.nii.bz2",
    b"scan.NII",
    b"-.nii",
    b"~/scan.nii",
    b"$(id).nii",
    b"scan.nii;x",
    b"request.json",
    b"sc an.nii",
    b"%2e%2e%2fscan.nii",
    b"scan.nii/",
]

NIFTI = {
    "pickle": pickle.dumps({"a": VOXELS}),
    "zip": zipped("scan.nii"),
    "empty": b"",
    "text": b"This is not an image.",
    "zeros": bytes(2000),
    "gzip as plain": gzip.compress(nifti()),
    "header alone": nifti()[:352],
    "half a header": nifti()[:200],
    "one byte short": nifti()[:-1],
    "much too long": nifti() + bytes(20_000),
    "pair": changed(344, "4s", b"ni1\0"),
    "no magic": changed(344, "4s", b"abcd"),
    "size of header": changed(0, "<i", 349),
    "analyze": changed(344, "4s", b"\0\0\0\0"),
    "no dimensions": changed(40, "<h", 0),
    "negative dimensions": changed(40, "<h", -3),
    "many dimensions": changed(40, "<h", 8),
    "huge": changed(42, "<3h", 32767, 32767, 32767),
    "huge in 7": changed(40, "<8h", 7, *[32767] * 7),
    "negative side": changed(42, "<h", -8),
    "two negative sides": changed(42, "<2h", -8, -8),
    "no side": changed(44, "<h", 0),
    "wrong order": changed(40, ">h", 3),
    "larger than the file": changed(42, "<h", 9),
    "RGB": changed(70, "<h", 128),
    "complex": changed(70, "<h", 32),
    "float128": changed(70, "<h", 1536),
    "no type": changed(70, "<h", 0),
    "unknown type": changed(70, "<h", -7),
    "voxels in the header": changed(108, "<f", 4.0),
    "voxels before the file": changed(108, "<f", -352.0),
    "voxels nowhere": changed(108, "<f", float("nan")),
    "voxels at infinity": changed(108, "<f", float("inf")),
    "voxels far away": changed(108, "<f", 1e9),
    "voxels at the end": changed(108, "<f", 5000.0),
    "huge in two": changed(16, "<8q", 3, 2**62, 2**62, 4, 1, 1, 1, 1, content=nifti(nib.Nifti2Image)),
    "negative in two": changed(24, "<q", -(2**63), content=nifti(nib.Nifti2Image)),
    "far in two": changed(168, "<q", 2**62, content=nifti(nib.Nifti2Image)),
    "negative offset in two": changed(168, "<q", -1, content=nifti(nib.Nifti2Image)),
    "cifti": changed(504, "<i", 3006, content=nifti(nib.Nifti2Image)),
    "two without magic": changed(4, "8s", b"n+2\0\0\0\0\0", content=nifti(nib.Nifti2Image)),
}

GZIPPED = {
    "plain": nifti(),
    "pickle": pickle.dumps(VOXELS),
    "packed pickle": gzip.compress(pickle.dumps(VOXELS)),
    "empty": b"",
    "empty gzip": gzip.compress(b""),
    "zip": zipped("scan.nii"),
    "truncated": gzip.compress(nifti())[:-20],
    "without its end": gzip.compress(nifti())[:-4],
    "head of gzip": gzip.compress(nifti())[:12],
    "wrong checksum": gzip.compress(nifti())[:-8] + bytes(4) + gzip.compress(nifti())[-4:],
    "bomb declared small": gzip.compress(nifti() + bytes(2**26)),
    "bomb of zeros": gzip.compress(bytes(2**26)),
    "bomb in parts": gzip.compress(nifti()) * 20,
    "trailing bytes": gzip.compress(nifti()) + b"more",
    "gzip in gzip": gzip.compress(gzip.compress(nifti())),
    "huge": gzip.compress(changed(42, "<3h", 32767, 32767, 32767)),
    "short": gzip.compress(nifti()[:-10]),
}

NRRD = {
    "nifti": nifti(),
    "pickle": pickle.dumps(VOXELS),
    "empty": b"",
    "magic alone": b"NRRD0004\n",
    "version": nrrd().replace(b"NRRD0004", b"NRRD0009"),
    "data file": nrrd("data file: /etc/passwd"),
    "datafile": nrrd("datafile: ../other/inputs/scan.raw"),
    "Data File": nrrd("Data File: scan.raw"),
    "list of data files": nrrd("data file: LIST"),
    "data file numbered": nrrd("data file: a%d.raw 1 10 1"),
    "data file with space": nrrd(" data file: a"),
    "byte skip": nrrd("byte skip: -1"),
    "line skip": nrrd("line skip: 1000000000"),
    "unknown field": nrrd("surprise: 1"),
    "no field": nrrd("hello"),
    "field twice": nrrd("sizes: 9 9 9"),
    "no type": nrrd(fields=fields(type=None)),
    "block": nrrd(fields=fields(type="block")),
    "no sizes": nrrd(fields=fields(sizes=None)),
    "no encoding": nrrd(fields=fields(encoding=None)),
    "no dimension": nrrd(fields=fields(dimension=None)),
    "other dimension": nrrd(fields=fields(dimension="4")),
    "huge": nrrd(fields=fields(sizes="100000 100000 100000")),
    "longer than any number": nrrd(fields=fields(sizes=f"{'9' * 5000} 8 8")),
    "negative": nrrd(fields=fields(sizes="-8 -8 8")),
    "zero": nrrd(fields=fields(sizes="8 0 8")),
    "words": nrrd(fields=fields(sizes="8 eight 8")),
    "underscores": nrrd(fields=fields(sizes="8 0_8 8")),
    "too small": nrrd(data=VOXELS.tobytes()[:-1]),
    "too much": nrrd(data=VOXELS.tobytes() + bytes(20_000)),
    "text": nrrd(fields=fields(encoding="text")),
    "hex": nrrd(fields=fields(encoding="hex")),
    "bzip2": nrrd(fields=fields(encoding="bzip2")),
    "gzip that is none": nrrd(fields=fields(encoding="gzip")),
    "gzip truncated": nrrd(fields=fields(encoding="gzip"), data=gzip.compress(VOXELS.tobytes())[:-9]),
    "gzip bomb": nrrd(fields=fields(encoding="gzip"), data=gzip.compress(bytes(2**26))),
    "header without end": b"NRRD0004\n" + b"# comment\n" * 120_000,
    "line without end": b"NRRD0004\ncontent: " + b"a" * 1_200_000,
    "no text": nrrd("content: hello").replace(b"hello", b"\x00\x01"),
}

REQUEST = Segment(scan="scan.nii").model_dump_json().encode()
FORMS = {
    "nothing": b"",
    "no form": b"hello",
    "no end": body(content=nifti())[:-9],
    "no request": part(b"input", b"scan.nii", nifti()) + b"--b--\r\n",
    "request twice": part(b"request", None, REQUEST) + body(content=nifti()),
    "request no JSON": body(content=nifti(), request=b"hello"),
    "request of another verb": body(content=nifti(), request=b'{"verb": "delete"}'),
    "request with more": body(content=nifti(), request=b'{"verb": "segment", "scan": "scan.nii", "shell": "id"}'),
    "request too long": body(content=nifti(), request=b" " * 70_000 + REQUEST),
    "request with a path": body(content=nifti(), request=Segment(scan="../scan.nii").model_dump_json().encode()),
    "request with another file": body(content=nifti(), request=Segment(scan="b.nii").model_dump_json().encode()),
    "request without file": part(b"request", None, REQUEST) + b"--b--\r\n",
    "request deeply nested": body(content=nifti(), request=b"[" * 60_000),
    "file twice": body(content=nifti())[:-7] + part(b"input", b"scan.nii", nifti()) + b"--b--\r\n",
    "file twice but for case": body(content=nifti())[:-7] + part(b"input", b"Scan.nii", nifti()) + b"--b--\r\n",
    "file too many": body(content=nifti())[:-7] + part(b"input", b"other.nii", nifti()) + b"--b--\r\n",
    "many parts": part(b"input", b"scan.nii", b"") * 100 + b"--b--\r\n",
    "other field": body(content=nifti(), name=b"file"),
    "long header": b"--b\r\nX: " + b"a" * 100_000,
    "many headers": b"--b\r\n" + b"X: y\r\n" * 10_000,
    "too large": body(content=bytes(UPLOAD_BYTES + 1)),
    "unknown bundle": body(content=nifti(), request=Segment(scan="scan.nii", bundle="x").model_dump_json().encode()),
    "unknown contrast": body(
        content=nifti(), request=Render(segmentation="scan.nii", contrasts=["CT"]).model_dump_json().encode()
    ),
}  # fmt: skip

MALFORMED = {
    **{f"name {name!r}": body(name, nifti()) for name in NAMES},
    **{f"nifti, {what}": body(b"scan.nii", content) for what, content in NIFTI.items()},
    **{f"gzipped, {what}": body(b"scan.nii.gz", content) for what, content in GZIPPED.items()},
    **{f"nrrd, {what}": body(b"scan.nrrd", content) for what, content in NRRD.items()},
    **{f"form, {what}": content for what, content in FORMS.items()},
}
assert len(MALFORMED) > 140


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    with serving(folder, limits=Limits(per_minute=100_000, upload_bytes=UPLOAD_BYTES)) as url:
        yield url, folder


def post(url, content, kind="multipart/form-data; boundary=b"):
    return requests.post(
        f"{url}/jobs", data=content, headers={"Content-Type": kind, **own_headers()}, timeout=PATIENCE
    )


def is_clean(folder):
    try:
        return sorted(path.name for path in folder.rglob("*")) == [".incoming", ".removed", "lock"]
    except FileNotFoundError:  # it is being cleaned at this moment
        return False


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_upload_is_refused(server, content):
    url, folder = server
    answer = post(url, content)
    assert 400 <= answer.status_code < 500
    failure = answer.json()
    assert failure["code"] == "bad_input"
    assert failure["message"][0].isupper() or failure["message"].startswith("scan.")
    assert failure["message"].rstrip().endswith(".")
    assert "\n" not in failure["message"]
    assert len(failure["message"]) < 400
    assert failure["traceback"] == ""
    assert is_clean(folder)
    assert requests.get(f"{url}/health", timeout=PATIENCE).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nifti, huge", "larger than the 512 MB"),
        ("nifti, two negative sides", "-8×-8×8"),
        ("nifti, one byte short", "incomplete"),
        ("gzipped, bomb declared small", "more than its header says"),
        ("gzipped, bomb in parts", "more than its header says"),
        ("gzipped, wrong checksum", "damaged"),
        ("nrrd, data file", "voxels in the same file"),
        ("nrrd, line without end", "header without end"),
        ("form, many parts", "Two files are named"),
        ("form, too large", "larger than the 2 MB"),
    ],
)
def test_the_sentence_says_what_is_wrong(server, what, says):
    assert says in post(server[0], MALFORMED[what]).json()["message"]


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "text/plain; boundary=b", ""])
def test_another_content_type_is_refused(server, kind):
    assert post(server[0], body(content=nifti()), kind).status_code == 400
    assert is_clean(server[1])


def test_too_much_is_noticed_whether_declared_or_not(server):
    url, folder = server
    pieces = [body()[:-9], *[bytes(2**16)] * 40]
    assert post(url, b"".join(pieces)).status_code == 413
    assert post(url, iter(pieces)).status_code == 413
    assert is_clean(folder)


@pytest.mark.parametrize("length", [b"99999999999", b"-1", b"x", b"12"])
def test_a_wrong_length_or_an_upload_that_breaks_off_leaves_nothing(server, length):
    url, folder = server
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        head += f"Authorization: {own_headers()['Authorization']}\r\n".encode()
        connection.sendall(head + b"Content-Length: " + length + b"\r\n\r\n" + body(content=nifti())[:-300])
        connection.shutdown(socket.SHUT_WR)
        assert b"201" not in connection.recv(20)
    assert requests.get(f"{url}/health", timeout=PATIENCE).ok
    eventually(lambda: is_clean(folder))


def test_good_uploads_pass_beside_bad_ones(tmp_path):
    good = body(content=nifti())
    bad = list(MALFORMED.values())[::7]
    with serving(tmp_path, limits=Limits(per_minute=100_000, waiting=50, upload_bytes=UPLOAD_BYTES)) as url:
        answers = []
        threads = [
            threading.Thread(target=lambda item=item: answers.append((item is good, post(url, item).status_code)))
            for item in [*bad, good, good, good]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(status for is_good, status in answers if is_good) == [201, 201, 201]
        assert all(400 <= status < 500 for is_good, status in answers if not is_good)
        assert len(requests.get(f"{url}/jobs", headers=own_headers(), timeout=PATIENCE).json()) == 3
