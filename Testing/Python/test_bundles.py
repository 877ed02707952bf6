import importlib
import json
import os
import subprocess
import sys

import pytest
import torch

from BrainGenLib import bundles
from BrainGenLib.bundles import Bundle, Metadata, Network
from BrainGenLib.errors import BadInput
from BrainGenLib.networks.age_judge import AgeJudge


def save(folder, name="toy", **networks):
    metadata = Metadata(
        name=name,
        version="1",
        title="Toy",
        description="",
        verbs=["segment"],
        networks={
            key: Network(target="BrainGenLib.networks.age_judge.AgeJudge", args=arguments)
            for key, (_, arguments) in networks.items()
        },
    )
    return bundles.save(folder, metadata, {key: module for key, (module, _) in networks.items()}, "card", "licence")


@pytest.fixture
def toy(tmp_path):
    arguments = {"grid": [2, 2, 3], "contrast": "T1w"}
    network = AgeJudge(**arguments)
    network.weights = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(0))
    return save(tmp_path / "toy", net=(network, arguments))


def test_a_saved_network_is_loaded_with_its_weights_in_half_precision(toy):
    first, second = toy.load("net"), toy.load("net")
    x = torch.ones(1, 1, 8, 8, 12)
    assert first(x) > 0
    assert torch.equal(first(x), second(x))
    assert not first.training
    assert toy.weights("net").stat().st_size < 1000
    toy.verify()


def test_a_changed_weights_file_is_noticed(toy):
    before = toy.sha256
    data = bytearray(toy.weights("net").read_bytes())
    data[-1] ^= 1
    toy.weights("net").write_bytes(data)
    assert Bundle(toy.folder).sha256 != before
    with pytest.raises(BadInput, match="checksum"):
        toy.verify()
    toy.weights("net").unlink()
    with pytest.raises(BadInput, match="missing"):
        toy.verify()


def test_weights_that_did_not_change_are_read_once(toy, monkeypatch):
    toy.verify()
    monkeypatch.setattr(bundles, "file_sha256", pytest.fail)
    again = Bundle(toy.folder)
    again.verify()
    assert again.sha256 == toy.sha256


@pytest.mark.parametrize(
    "target",
    [
        "subprocess.Popen",
        "BrainGenLib.networks.age_judge.seen",
        "BrainGenLib.networks.age_judge.torch",
        "BrainGenLib.networks.label_unet.AgeJudge",
        "monai.networks.nets.FullyConnectedNet",
        "monai.networks.nets.AgeJudge",
        "AgeJudge",
        "",
    ],
)
def test_only_networks_of_the_list_are_built(toy, target):
    toy.metadata.networks["net"].target = target
    with pytest.raises(BadInput, match="is not a network that BrainGen uses"):
        toy.load("net")


@pytest.mark.parametrize(("name", "module"), bundles.NETWORKS.items())
def test_the_list_names_classes_in_the_modules_that_define_them(name, module):
    network = getattr(importlib.import_module(module), name)
    assert issubclass(network, torch.nn.Module)
    assert network.__module__ == module


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"contrast": "/etc/hosts"}, "no argument of a network"),
        ({"contrast": ["a", ["https://example.org"]]}, "no argument of a network"),
        ({"contrast": {"a": 1}}, "a dict, which is no argument"),
        ({"grid": [2, 2, 10**9]}, "larger than any network"),
        ({"grid": [float("nan")]}, "larger than any network"),
        ({"grid": [1] * 1000}, "more arguments than any network"),
        ({"surprise": 1}, "cannot be built with the arguments"),
        ({"grid": [90_000] * 3}, "does not hold the weights of net"),
        ({"grid": [1, 1, 1]}, "larger than its network|does not hold the weights"),
    ],
)
def test_arguments_are_numbers_switches_and_words_and_fit_the_weights(toy, arguments, says):
    toy.metadata.networks["net"].args |= arguments
    with pytest.raises(BadInput, match=says):
        toy.load("net")


def test_a_network_is_named_like_a_file_of_its_folder(toy):
    config = toy.folder / "configs" / "metadata.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"net"', '"../net"'))
    with pytest.raises(BadInput, match="not a readable bundle"):
        Bundle(toy.folder)


def test_the_first_folder_of_the_search_path_wins(toy, tmp_path, monkeypatch):
    save(tmp_path / "other" / "toy")
    monkeypatch.setenv("BRAINGEN_BUNDLES", f"{toy.folder.parent}{os.pathsep}{tmp_path / 'other'}")
    assert bundles.find("toy").folder == toy.folder
    with pytest.raises(BadInput, match=r"installed are:.*toy"):
        bundles.find("unknown")


def test_a_bundle_that_cannot_be_read_is_named_and_hides_no_other(toy, tmp_path, monkeypatch, caplog):
    (tmp_path / "broken" / "configs").mkdir(parents=True)
    (tmp_path / "broken" / "configs" / "metadata.json").write_text("no JSON")
    (tmp_path / "latin" / "configs").mkdir(parents=True)
    (tmp_path / "latin" / "configs" / "metadata.json").write_bytes(b"\xff")
    monkeypatch.setenv("BRAINGEN_BUNDLES", str(tmp_path))
    assert bundles.find("toy").folder == toy.folder
    assert {str(tmp_path / "broken"), str(tmp_path / "latin")} <= set(caplog.text.split())
    with pytest.raises(BadInput, match=f"cannot be read: .*{tmp_path / 'broken'}"):
        bundles.find("broken")


def test_broken_metadata_are_named(toy):
    config = toy.folder / "configs" / "metadata.json"
    config.write_text(json.dumps({"name": "toy"}))
    with pytest.raises(BadInput, match=str(toy.folder)):
        Bundle(toy.folder)


def test_neither_loading_networks_nor_a_run_imports_the_compiler():
    """It takes two seconds and 66 MB of every process that generates a case."""
    script = (
        "import sys; from BrainGenLib import bundles; from BrainGenLib.engine import Engine; "
        "from BrainGenLib.requests import Generate; "
        "[one.load(name) for one in bundles.available().values() for name in one.metadata.networks]; "
        "Engine().run(Generate(seed=1, steps=2, draft=True, device='cpu')); "
        "print('torch._dynamo' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "BRAINGEN_BUNDLES"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["False"]
