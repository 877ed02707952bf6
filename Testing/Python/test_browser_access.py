"""Who may use the browser app, and what it takes from them."""

import asyncio
import zipfile

import aiohttp
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from aiohttp import web
from aiohttp.test_utils import TestServer

from BrainGenLib import anatomy
from BrainGenLib.browser import uploading
from BrainGenLib.browser.access import COOKIE, cookie_of, guard, new_token
from BrainGenLib.browser.uploading import plain_name, receive
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.service import volumes

TOKEN = "the-token"
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def visit(token, requests):
    """Status of each request (method, path, headers, cookies) to an app behind the guard."""

    async def socket(request):
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        await answer.close()
        return answer

    async def page(_request):
        return web.Response(text="page")

    async def talk():
        app = web.Application(middlewares=[guard(token)])
        app.add_routes(
            [web.get("/", page), web.get("/ws", socket), web.post("/upload", page), web.get("/download", page)]
        )
        found = []
        async with TestServer(app) as server:
            for method, path, headers, cookies in requests:
                cookies = {cookie_of(f"{server.host}:{server.port}"): value for value in (cookies or {}).values()}
                async with aiohttp.ClientSession(cookies=cookies) as session:
                    headers = {
                        key: value.replace("HOST", f"{server.host}:{server.port}") for key, value in headers.items()
                    }
                    if path == "/ws":
                        headers |= {
                            "Connection": "Upgrade",
                            "Upgrade": "websocket",
                            "Sec-WebSocket-Version": "13",
                            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                        }
                    url = server.make_url(path)
                    async with session.request(method, url, headers=headers, allow_redirects=False) as answer:
                        found.append((answer.status, answer.headers.get("Location"), answer.cookies))
        return found

    return asyncio.run(talk())


def test_without_the_token_nothing_is_given_or_taken():
    cookie = {COOKIE: "another"}
    requests = [("GET", "/", {}, None), ("GET", "/ws", {}, None), ("POST", "/upload", {}, cookie)]
    requests += [("GET", "/?token=wrong", {}, None), ("GET", "/?token=", {}, {COOKIE: ""})]
    assert [status for status, *_ in visit(TOKEN, requests)] == [403] * 5


def test_the_token_in_the_url_becomes_a_cookie_and_leaves_the_address_bar():
    ((status, location, cookies),) = visit(TOKEN, [("GET", f"/?token={TOKEN}&a=1", {}, None)])
    assert (status, location) == (302, "/?a=1")
    ((name, cookie),) = cookies.items()
    # A server on another port of the same machine has another cookie.
    assert name.startswith(f"{COOKIE}_")
    assert cookie.value == TOKEN
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"


def test_the_cookie_opens_page_websocket_and_upload():
    cookie = {COOKIE: TOKEN}
    requests = [("GET", "/", {}, cookie), ("GET", "/ws", {}, cookie), ("POST", "/upload", {}, cookie)]
    assert [status for status, *_ in visit(TOKEN, requests)] == [200, 101, 200]


def test_another_web_site_may_not_use_the_app_from_the_users_browser():
    cookie = {COOKIE: TOKEN}
    foreign, own = {"Origin": "http://evil.example"}, {"Origin": "http://HOST"}
    requests = [("GET", "/ws", foreign, cookie), ("POST", "/upload", foreign, cookie), ("GET", "/ws", own, cookie)]
    assert [status for status, *_ in visit(TOKEN, requests)] == [403, 403, 101]


def test_another_web_site_may_link_to_the_page_and_start_nothing():
    cookie = {COOKIE: TOKEN}
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    image = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
    requests = [("GET", "/", link, cookie), ("GET", "/download", link, cookie), ("GET", "/download", image, cookie)]
    requests += [("GET", "/download", own, cookie), ("GET", "/", image, cookie)]
    assert [status for status, *_ in visit(TOKEN, requests)] == [200, 403, 403, 200, 403]


def test_every_start_has_another_token():
    assert len({new_token() for _ in range(5)}) == 5


def scan(shape=(8, 9, 10)):
    return np.random.default_rng(0).random(shape).astype(np.float32)


def test_nifti_and_nrrd_are_received_where_they_lie(tmp_path):
    nib.save(nib.Nifti1Image(scan(), AFFINE), tmp_path / "a.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(scan()), str(tmp_path / "b.nrrd"))
    first, second = receive(tmp_path, "scan")
    assert (first.name, second.name) == ("a", "b")
    assert np.array_equal(first.data, scan())
    assert np.allclose(first.affine, AFFINE)
    assert not first.labels


def test_a_segmentation_is_received_with_its_values(tmp_path):
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:5] = 77
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "a.nii")
    (found,) = receive(tmp_path, "segmentation")
    assert found.labels
    assert np.array_equal(found.data, labels)


def dicom(folder, slices=6, series="1.2.3.4", **tags_of):
    """A series of MR slices; ``tags_of`` maps slices to other tags."""
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    volume = (1000 * scan((12, 14, slices))).astype(np.int16)
    for number in range(slices):
        image = sitk.GetImageFromArray(volume[:, :, number].T[None])
        image.SetSpacing([2.0, 2.0, 3.0])
        tags = {"0008|0060": "MR", "0020|000e": series, "0020|000d": "1.2.3", "0020|0013": str(number)}
        tags |= {"0008|0018": f"{series}.{number + 1}", "0020|0032": f"0\\0\\{3 * number}"}
        tags |= {"0020|0037": "1\\0\\0\\0\\1\\0", "0018|0050": "3"}
        for tag, value in (tags | tags_of.get(f"slice{number}", {})).items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}-slice{number}.dcm"))
        writer.Execute(image)
    return volume


def test_a_dicom_series_is_received_as_files_and_as_an_archive_with_folders(tmp_path):
    files, packed = tmp_path / "files", tmp_path / "packed"
    files.mkdir()
    packed.mkdir()
    volume = dicom(files)
    with zipfile.ZipFile(packed / "series.zip", "w") as archive:
        for path in files.iterdir():
            archive.write(path, f"../../study/{path.name}")
    for folder in (files, packed):
        (found,) = receive(folder, "scan")
        assert np.array_equal(found.data, volume)
        assert np.allclose(np.abs(np.diag(found.affine)), [2, 2, 3, 1])
    assert not (tmp_path.parent / "study").exists()


def at(millimetres):
    return {"0020|0032": f"0\\0\\{millimetres}"}


def test_echoes_and_orientations_of_one_series_are_volumes_of_their_own(tmp_path):
    turned = {"0020|0037": "1\\0\\0\\0\\0\\-1"}
    others = {f"slice{number}": turned | {"0020|0032": f"0\\{3 * number}\\0"} for number in range(6, 11)}
    dicom(tmp_path, 11, **others)
    assert sorted(found.data.shape[2] for found in receive(tmp_path, "scan")) == [5, 6]


def test_two_echoes_are_two_volumes(tmp_path):
    second = {f"slice{number}": {"0018|0081": "80"} | at(3 * (number - 6)) for number in range(6, 12)}
    dicom(tmp_path, 12, **second)
    found = receive(tmp_path, "scan")
    assert [one.data.shape[2] for one in found] == [6, 6]
    assert all(np.allclose(one.affine[2, 2], 3) for one in found)


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"slice5": at(18)}, "not evenly spaced: its slices lie 3.00 to 6.00 mm apart"),
        ({"slice5": at(12)}, "several slices at one place"),
        ({f"slice{n}": {"0020|0032": f"0\\{n}\\{3 * n}"} for n in range(6)}, "sheared"),
    ],
    ids=["one missing", "one twice", "gantry tilt"],
)
def test_a_series_that_is_no_regular_stack_is_refused(tmp_path, others, sentence):
    dicom(tmp_path, **others)
    with pytest.raises(BadInput, match=sentence):
        receive(tmp_path, "scan")


def test_slices_that_lie_nowhere_are_refused(tmp_path):
    dicom(tmp_path)
    for path in tmp_path.iterdir():
        slice_ = pydicom.dcmread(path)
        del slice_.ImagePositionPatient
        slice_.save_as(path)
    with pytest.raises(BadInput, match="does not say where its slices lie"):
        receive(tmp_path, "scan")


def test_a_series_is_called_by_its_description(tmp_path):
    dicom(tmp_path, **{f"slice{number}": {"0008|103e": "T1 MPRAGE/sag"} for number in range(6)})
    assert [found.name for found in receive(tmp_path, "scan")] == ["T1-MPRAGE-sag"]


def test_what_cannot_be_used_is_refused_with_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadInput, match="None of the files can be used"):
        receive(tmp_path, "scan")
    (tmp_path / "a.nii").write_text("no image")
    with pytest.raises(BadInput, match=r"a\.nii is not a NIfTI file"):
        receive(tmp_path, "scan")
    (tmp_path / "b.zip").write_text("no archive")
    with pytest.raises(BadInput, match="no readable zip"):
        receive(tmp_path, "scan")
    monkeypatch.setattr(uploading, "MAX_BYTES", 10)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.nii", b"0" * 100)
    with pytest.raises(BadInput, match="send one series"):
        receive(tmp_path, "scan")


def test_equal_names_in_two_archives_do_not_meet(tmp_path):
    """One series was taken with 8 of its 20 slices beside another one of 12."""
    for number, slices in enumerate((6, 9)):
        files = tmp_path / f"files-{number}"
        files.mkdir()
        dicom(files, slices, series=f"1.2.3.{number + 4}")
    folder = tmp_path / "sent"
    folder.mkdir()
    for number in range(2):
        with zipfile.ZipFile(folder / f"{number}.zip", "w") as archive:
            for path in (tmp_path / f"files-{number}").iterdir():
                archive.write(path, path.name)
    assert sorted(found.data.shape[2] for found in receive(folder, "scan")) == [6, 9]


@pytest.mark.parametrize("name", [".", "./", "..", "", "/", "a/..", "\\", "n" * 300 + ".nii", "a\0b", "a\r\nb.nii"])
def test_any_name_of_a_file_becomes_one_in_the_folder(tmp_path, name):
    path = tmp_path / plain_name(name)
    path.write_bytes(b"")
    assert path.parent == tmp_path
    assert path.name.endswith(".nii") == name.endswith(".nii")
    assert path.name.isprintable()


def test_no_file_names_another_and_none_fills_the_memory(tmp_path, monkeypatch):
    (tmp_path / "a.nrrd").write_text("NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\ndata file: b.raw\n\n")
    with pytest.raises(BadInput, match=r"a\.nrrd"):
        receive(tmp_path, "scan")
    (tmp_path / "a.nrrd").unlink()
    for name in "ab":
        nib.save(nib.Nifti1Image(scan(), AFFINE), tmp_path / f"{name}.nii.gz")
    monkeypatch.setattr(uploading, "MAX_BYTES", 4000)
    with pytest.raises(BadInput, match="in memory together"):
        receive(tmp_path, "scan")
    monkeypatch.setattr(volumes, "MAX_BYTES", 1000)
    with pytest.raises(BadInput, match=r"a\.nii\.gz is larger"):
        receive(tmp_path, "scan")
    for path in tmp_path.iterdir():
        path.unlink()
    nib.save(nib.MGHImage(scan(), AFFINE), tmp_path / "c.mgz")
    with pytest.raises(BadInput, match=r"c\.mgz is larger"):
        receive(tmp_path, "scan")


def test_archives_share_one_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(uploading, "MAX_BYTES", 3000)
    for name in "ab":
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("slice", b"0" * 2000)
    with pytest.raises(BadInput, match=r"b\.zip holds more"):
        receive(tmp_path, "scan")


def test_a_file_that_is_all_ending_gets_a_name(tmp_path):
    nib.save(nib.Nifti1Image(scan(), AFFINE), tmp_path / ".nii")
    (found,) = receive(tmp_path, "scan")
    assert found.name == "scan"


def test_a_mask_waits_for_the_name_of_its_lesion(tmp_path):
    data = np.zeros((8, 9, 10), np.uint8)
    data[2:5] = 1
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "lesions.nii.gz")
    (found,) = receive(tmp_path, "segmentation")
    assert (found.name, found.lesions) == ("lesions", list(anatomy.lesions()))
    assert np.array_equal(found.named("stroke").data, np.where(data, anatomy.lesions()["stroke"].value, 0))
    # A tumour map of BraTS can be nothing else.
    data[3], data[4] = 2, 4
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "lesions.nii.gz")
    (found,) = receive(tmp_path, "segmentation")
    assert found.lesions == ["tumour"]
    values = [anatomy.lesions()[name].value for name in ("tumour", "oedema", "enhancing")]
    assert [found.named("tumour").data[i, 0, 0] for i in (2, 3, 4)] == values
    data[5:] = 250
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "lesions.nii.gz")
    with pytest.raises(BadInput, match=r"lesions\.nii\.gz"):
        receive(tmp_path, "segmentation")


def test_a_file_that_a_model_made_is_known_when_it_comes_back(tmp_path):
    """By its header, or by the name that Slicer gave it."""
    made = Case({"T1w": scan((12, 14, 16)).astype(np.float32)}, None, np.eye(4))
    made.save(tmp_path / "made")
    Case(made.images, None, made.affine, synthetic=False).save(tmp_path / "scan")
    for number, name in enumerate(("made/T1w.nii", "scan/T1w.nii")):
        sent = tmp_path / f"sent-{number}"
        sent.mkdir()
        (tmp_path / name).rename(sent / "T1w.nii")
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    (renamed / "generate-01 T1w SYNTHETIC.nii").write_bytes((tmp_path / "sent-1" / "T1w.nii").read_bytes())
    found = [receive(tmp_path / folder, "scan")[0].synthetic for folder in ("sent-0", "sent-1", "renamed")]
    assert found == [True, False, True]


def test_names_are_no_longer_than_file_systems_take(tmp_path):
    name = plain_name(f"{100 * '患'}.nii.gz")
    assert name.endswith("患.nii.gz")
    assert len(name.encode()) <= 100
