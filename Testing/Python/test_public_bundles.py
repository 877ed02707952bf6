"""Public bundles: from a published file to a bundle, and what is refused on the way."""

import json
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from monai.data import MetaTensor
from public_weights import old_keys, published, random_weights, small
from safetensors.torch import load_file
from typer.testing import CliRunner

from BrainGenLib import bundles, public_bundles
from BrainGenLib.cli import app
from BrainGenLib.downloads import download
from BrainGenLib.errors import BadInput
from BrainGenLib.public_bundles import PublicFile, install, located, read_checkpoint

NAMES = ["brats-ldm", "nv-generate-mr-brain", "ukb-brain-ldm"]

# Of the published files: bytes / 4, which is what Hugging Face shows for those of the zoo (55.1 MB and 2.21 GB; 84.1
# and 765 MB with projections that nothing uses).
PARAMETERS = {
    "ukb-brain-ldm": {"autoencoder": 13_766_248, "diffusion": 553_168_899},
    "brats-ldm": {"autoencoder": 21_000_353, "diffusion": 189_325_576},
    "nv-generate-mr-brain": {"autoencoder": 20_944_897, "diffusion": 180_500_868},
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder without bundles."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("BRAINGEN_BUNDLES", raising=False)
    return tmp_path / "home" / ".braingen" / "bundles"


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_builds_at_full_size(name):
    """On the meta device: no memory, no arithmetic."""
    entry = public_bundles.find(name)
    assert set(entry.files) == set(entry.metadata.networks)
    with torch.device("meta"):
        networks = {key: network.build() for key, network in entry.metadata.networks.items()}
    counts = {key: sum(p.numel() for p in network.parameters()) for key, network in networks.items()}
    assert counts == PARAMETERS[name]
    for key, file in entry.files.items():
        assert file.megabytes * 1e6 == pytest.approx(4 * counts[key], rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_published_files_become_a_bundle_with_the_same_weights(name, tmp_path, home):
    entry = small(name)
    weights = published(entry, tmp_path / "files")
    bundle = install(entry, located(entry, [tmp_path / "files"]), home)
    assert bundles.find(name).folder == bundle.folder == home / name
    bundle.verify()
    for network, state in weights.items():
        stored = load_file(bundle.weights(network))
        assert stored.keys() == state.keys()
        assert all(
            torch.equal(stored[key], value) and stored[key].dtype == value.dtype for key, value in state.items()
        )
        loaded = bundle.load(network).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert entry.licence.url in (bundle.folder / "LICENSE").read_text("utf-8")
    assert entry.metadata.limits[0] in (bundle.folder / "docs" / "README.md").read_text("utf-8")
    assert [path.name for path in home.iterdir()] == [name]
    with pytest.raises(BadInput, match="installed already"):
        install(entry, located(entry, [tmp_path / "files"]), home)


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "unet_state_dict"])
@pytest.mark.parametrize("name", ["brats-ldm", "ukb-brain-ldm"])
def test_old_and_new_keys_are_read_bare_or_wrapped(name, wrap, tmp_path):
    entry = small(name)
    state = random_weights(entry, "diffusion")
    path = tmp_path / "model.pt"
    for keys in (state, old_keys(state, unused=name == "brats-ldm")):
        torch.save(keys if wrap is None else {"epoch": 3, wrap: keys}, path)
        found, numbers = read_checkpoint(path, entry.metadata.networks["diffusion"], entry.files["diffusion"])
        assert numbers == {}
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], value) for key, value in state.items())


def test_half_precision_stays_half_on_disk(tmp_path, home):
    entry = small("brats-ldm")
    published(entry, tmp_path)
    path = tmp_path / "model.pt"
    torch.save({key: value.half() for key, value in torch.load(path).items()}, path)
    entry.files["diffusion"].md5 = ""
    bundle = install(entry, located(entry, [tmp_path]), home)
    assert {value.dtype for value in load_file(bundle.weights("diffusion")).values()} == {torch.float16}
    assert {value.dtype for value in bundle.load("diffusion").state_dict().values()} == {torch.float32}


def test_the_scale_factor_beside_the_weights_becomes_a_parameter(tmp_path, home):
    """It may be a MONAI tensor, and there may be weights that the network does not have, as the publisher allows."""
    entry = small("nv-generate-mr-brain")
    published(entry, tmp_path)
    path = tmp_path / entry.files["diffusion"].names[0]
    checkpoint = torch.load(path)
    checkpoint["scale_factor"] = MetaTensor(torch.tensor(0.75))
    checkpoint["unet_state_dict"]["top_region_index_layer.0.weight"] = torch.ones(3)
    torch.save(checkpoint, path)
    bundle = install(entry, located(entry, [tmp_path]), home)
    assert bundle.metadata.parameters["scale_factor"] == 0.75
    del checkpoint["scale_factor"]
    torch.save(checkpoint, path)
    with pytest.raises(BadInput, match="does not hold scale_factor"):
        read_checkpoint(path, entry.metadata.networks["diffusion"], entry.files["diffusion"])


class Runs:
    """A pickle that runs code when it is opened."""

    def __reduce__(self):
        return print, ("This must not be printed.",)


def test_bad_files_are_refused_with_a_sentence(tmp_path, capsys):
    entry = small("ukb-brain-ldm")
    network, file = entry.metadata.networks["autoencoder"], entry.files["autoencoder"]
    file.md5 = ""
    state = old_keys(random_weights(entry, "autoencoder"))
    path = tmp_path / "autoencoder.pt"

    def read():
        public_bundles.check_file(path, file)
        read_checkpoint(path, network, file)

    def refuses(content, says):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(BadInput, match=says) as caught:
            read()
        assert str(path) in str(caught.value)
        assert file.url in str(caught.value)

    refuses(b"\n<!DOCTYPE html><html>Virus scan warning</html>", "is a web page, not weights")
    refuses(pickle.dumps(Runs()), "would run code when opened")
    refuses({"weights": Runs()}, "would run code when opened")
    refuses(b"PK\x03\x04 and no more", "cannot be read as weights")
    refuses(b"", "cannot be read as weights")
    refuses([1, 2], "holds no weights")
    refuses({"epoch": 3}, "holds no weights")
    lacking = dict(state)
    gone = next(key for key in lacking if key.endswith("norm1.weight"))
    del lacking[gone]
    refuses(lacking, f"AutoencoderKL: it lacks {gone}")
    refuses({"other.weight": torch.ones(2)}, r"it lacks \S+ and \d+ more")
    refuses(state | {"other.weight": torch.ones(2)}, "it also holds other.weight")
    first = next(iter(state))
    refuses(state | {first: torch.ones(3)}, f"another shape of {first}")
    file.md5 = "0" * 32
    refuses(state, "does not match the checksum of its publisher")
    assert "must not be printed" not in capsys.readouterr().out


def test_a_missing_upsampling_of_an_old_file_is_noticed(tmp_path):
    """MONAI's renaming itself fails there, with a KeyError."""
    entry = small("ukb-brain-ldm")
    state = old_keys(random_weights(entry, "autoencoder"))
    upsampling = [key for key in state if ".conv.conv." in key and key.startswith("decoder")]
    del state[upsampling[0]]
    torch.save(state, tmp_path / "autoencoder.pt")
    with pytest.raises(BadInput, match="it lacks"):
        read_checkpoint(
            tmp_path / "autoencoder.pt", entry.metadata.networks["autoencoder"], entry.files["autoencoder"]
        )


def test_a_full_disk_leaves_nothing(tmp_path, home, monkeypatch):
    entry = small("brats-ldm")
    published(entry, tmp_path / "files")
    sources = located(entry, [tmp_path / "files"])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bundles.json, "dumps", full)  # after the weights, before the metadata
        with pytest.raises(BadInput, match="No space left on device"):
            install(entry, sources, home)
    assert list(home.iterdir()) == []
    for file in entry.files.values():
        file.megabytes = 1e12
    with pytest.raises(BadInput, match="MB free"):
        install(entry, sources, home)


def test_given_files_are_found_by_their_names(tmp_path):
    entry = small("ukb-brain-ldm")
    for name in ("autoencoder.pth", "diffusion_model.pth", "notes.txt"):
        (tmp_path / name).touch()
    found = located(entry, [tmp_path / "autoencoder.pth", tmp_path])
    assert found == {"autoencoder": tmp_path / "autoencoder.pth", "diffusion": tmp_path / "diffusion_model.pth"}
    with pytest.raises(BadInput, match=r"called model\.pt or diffusion_model\.pth, and is at https://"):
        located(entry, [tmp_path / "autoencoder.pth"])
    with pytest.raises(BadInput, match="There is no file"):
        located(entry, [tmp_path / "nothing"])


# Bytes that a download of the tests may have.
MOST = 10**7


class Server(BaseHTTPRequestHandler):
    """Serves ``content`` by name, whole or from a byte on, and breaks the first answer off after ``breaks`` bytes."""

    content: dict[str, bytes]
    breaks: int | None
    ranges: list

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.ranges.append(self.headers.get("Range"))
        if name not in self.content:
            self.send_error(403)
            return
        data, start = self.content[name], 0
        if self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html" if data.startswith(b"<") else "application/octet-stream")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop, Server.breaks = Server.breaks, None
        self.wfile.write(data[start : stop or len(data)])

    def log_message(self, *_):
        pass


@pytest.fixture
def web(monkeypatch):
    """The address of a web server on this computer, and its handler."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Server.content, Server.breaks, Server.ranges = {}, None, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Server
    server.shutdown()
    server.server_close()


def test_a_download_goes_on_where_it_broke_off(web, tmp_path):
    address, server = web
    data = bytes(range(256)) * 20_000
    server.content["model.pt"], server.breaks = data, 3_000_000
    seen = []
    with pytest.raises(BadInput, match=r"connection to 127\.0\.0\.1:\d+ failed .* give the file with --from"):
        download(f"{address}/model.pt", tmp_path / "model.pt", MOST, lambda done, size: seen.append((done, size)))
    kept = (tmp_path / "model.pt.part").stat().st_size
    assert 0 < kept <= 3_000_000
    assert seen[-1] == (kept, len(data))
    download(f"{address}/model.pt", tmp_path / "model.pt", MOST, lambda done, size: seen.append((done, size)))
    assert server.ranges == [None, f"bytes={kept}-"]
    assert (tmp_path / "model.pt").read_bytes() == data
    assert seen[-1] == (len(data), len(data))
    # All had come, and only the renaming was missing.
    (tmp_path / "model.pt").rename(tmp_path / "model.pt.part")
    download(f"{address}/model.pt", tmp_path / "model.pt", MOST, lambda done, size: None)
    assert (tmp_path / "model.pt").read_bytes() == data


def test_a_download_that_cannot_be_is_told_in_a_sentence(web, tmp_path, monkeypatch):
    address, server = web
    server.content["page"] = b"<html>Sign in</html>"
    target = tmp_path / "model.pt"
    with pytest.raises(BadInput, match=r"refuses .*/nothing \(403"):
        download(f"{address}/nothing", target, MOST, lambda *_: None)
    with pytest.raises(BadInput, match="a web page instead of the file"):
        download(f"{address}/page", target, MOST, lambda *_: None)
    with pytest.raises(BadInput, match=r"127\.0\.0\.1:9 failed .*get http://127\.0\.0\.1:9/model\.pt in another way"):
        download("http://127.0.0.1:9/model.pt", target, MOST, lambda *_: None)
    server.content["model.pt"] = b"weights"
    (tmp_path / "file").touch()

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(BadInput, match="sends more than the 0 MB"):
        download(f"{address}/model.pt", target, 6, lambda *_: None)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    with pytest.raises(BadInput, match="No space left on device"):
        download(f"{address}/model.pt", target, MOST, full)
    assert not target.exists()


@pytest.fixture
def entry(web, tmp_path, monkeypatch):
    """A small public bundle whose files are on the web server."""
    address, server = web
    entry = small("brats-ldm")
    published(entry, tmp_path / "files")
    for file in entry.files.values():
        server.content[file.names[0]] = (tmp_path / "files" / file.names[0]).read_bytes()
        file.megabytes = len(server.content[file.names[0]]) / 1e6
        file.url = f"{address}/{file.names[0]}"
    monkeypatch.setattr(public_bundles, "available", lambda: {entry.name: entry})
    return entry


def braingen(*arguments, **options):
    result = CliRunner().invoke(app, ["bundles", *map(str, arguments)], **options)
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def test_install_shows_the_licence_and_installs_only_what_is_accepted(entry, home, web):
    for answer in ("n\n", "", "\n"):
        code, _, stderr = braingen("install", "brats-ldm", input=answer)
        assert code == 2
        assert "Licence: Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0" in stderr
        assert " ".join(entry.licence.terms.split()) in stderr
        assert "was not accepted; nothing was installed" in stderr
    code, stdout, _ = braingen("install", "brats-ldm", "--json")
    assert code == 2
    assert "--accept-licence" in json.loads(stdout)["error"]["message"]
    assert web[1].ranges == []
    code, stdout, _ = braingen("install", "brats-ldm", input="y\n")
    assert code == 0
    assert stdout.splitlines()[-1] == str(home / "brats-ldm")
    assert len(web[1].ranges) == 2
    assert [path.name for path in (home / ".downloads").iterdir()] == []
    bundles.find("brats-ldm").verify()
    assert "installed already" in braingen("install", "brats-ldm")[2]
    assert "there are: brats-ldm" in braingen("install", "nothing")[2]


def test_install_takes_local_files_without_asking_the_web(entry, home, tmp_path, web):
    assert "braingen bundles install brats-ldm" in braingen()[1]
    code, stdout, stderr = braingen("install", "brats-ldm", "--from", tmp_path / "files", "--accept-licence")
    assert (code, stdout, stderr) == (0, f"{home / 'brats-ldm'}\n", "")
    assert web[1].ranges == []
    assert "braingen bundles install" not in braingen()[1]


def test_a_download_that_is_not_what_was_published_is_removed(entry, home, web):
    web[1].content["model.pt"] += b"!"
    code, _, stderr = braingen("install", "brats-ldm", "--accept-licence")
    assert code == 2
    assert "does not match the checksum of its publisher" in stderr
    assert [path.name for path in (home / ".downloads" / "brats-ldm").iterdir()] == ["model_autoencoder.pt"]
    assert not (home / "brats-ldm").exists()


def test_entries_refuse_fields_that_nobody_reads():
    with pytest.raises(ValueError, match="sha1"):
        PublicFile(url="", names=[], megabytes=1, sha1="")
