import json
import os

import pytest
import torch

from BrainGenLib import bundles
from BrainGenLib.bundles import Bundle, Metadata, Network
from BrainGenLib.errors import BadInput


def save(folder, name="toy", **networks):
    metadata = Metadata(
        name=name,
        version="1",
        title="Toy",
        description="",
        verbs=["segment"],
        networks={
            key: Network(target="monai.networks.nets.FullyConnectedNet", args=arguments)
            for key, (_, arguments) in networks.items()
        },
    )
    return bundles.save(folder, metadata, {key: module for key, (module, _) in networks.items()}, "card", "licence")


@pytest.fixture
def toy(tmp_path):
    from monai.networks.nets import FullyConnectedNet

    arguments = {"in_channels": 3, "out_channels": 2, "hidden_channels": [4]}
    return save(tmp_path / "toy", net=(FullyConnectedNet(**arguments), arguments))


def test_a_saved_network_is_loaded_with_its_weights_in_half_precision(toy):
    first, second = toy.load("net"), toy.load("net")
    x = torch.ones(1, 3)
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


def test_only_networks_of_braingen_and_monai_are_built(toy):
    toy.metadata.networks["net"].target = "subprocess.Popen"
    with pytest.raises(BadInput, match=r"subprocess\.Popen"):
        toy.load("net")


def test_the_first_folder_of_the_search_path_wins(toy, tmp_path, monkeypatch):
    save(tmp_path / "other" / "toy")
    monkeypatch.setenv("BRAINGEN_BUNDLES", f"{toy.folder.parent}{os.pathsep}{tmp_path / 'other'}")
    assert bundles.find("toy").folder == toy.folder
    with pytest.raises(BadInput, match=r"installed are:.*toy"):
        bundles.find("unknown")


def test_broken_metadata_are_named(toy):
    config = toy.folder / "configs" / "metadata.json"
    config.write_text(json.dumps({"name": "toy"}))
    with pytest.raises(BadInput, match=str(toy.folder)):
        Bundle(toy.folder)
