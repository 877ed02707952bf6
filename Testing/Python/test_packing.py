import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from BrainGenLib import packing
from BrainGenLib.bundles import Bundle, Metadata, Network, save
from BrainGenLib.errors import BadInput
from BrainGenLib.networks.age_judge import AgeJudge

PLENTY = 2**20


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    grid = torch.full((3, 8, 9, 10), -0.25, dtype=torch.float16)
    grid[:, 2:5, 3:6, 4:7] = torch.randn(3, 3, 3, 3, generator=generator).half()
    return {
        "grid": grid,
        "weight": 0.02 * torch.randn(16, 16, 3, 3, 3, generator=generator).half(),
        "index": torch.arange(0, 3000, 3),
        "odd": torch.tensor([0.0, -0.0, torch.inf, torch.nan], dtype=torch.float16).repeat(200),
        "mask": torch.arange(500) > 250,
        "transposed": torch.arange(600, dtype=torch.int32).reshape(20, 30).T,
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }


def size(tensors):
    return sum(value.nbytes for value in tensors.values())


def written(tensors, path):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


def bits(value):
    return value.contiguous().flatten().view(torch.uint8).tolist()


def test_what_was_packed_comes_back_bit_by_bit(tensors, tmp_path):
    found = packing.load(written(packing.pack(tensors), tmp_path / "packed.safetensors"), PLENTY)
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape)
        assert bits(found[key]) == bits(value)


def test_background_and_indices_take_hardly_any_room_and_weights_less(tensors):
    for key, share in {"grid": 0.2, "index": 0.2, "weight": 0.9}.items():
        assert size(packing.pack({key: tensors[key]})) < share * tensors[key].nbytes


def test_only_what_gets_smaller_is_packed(tensors):
    noise = torch.randint(0, 256, (5000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = {"noise": noise, "scalar": tensors["scalar"], "empty": tensors["empty"]}
    assert packing.pack(plain) == plain


def test_the_same_weights_make_the_same_file(tensors, tmp_path):
    one, two = (written(packing.pack(tensors), tmp_path / f"{name}.safetensors") for name in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_a_plain_file_is_read(tensors, tmp_path):
    found = packing.load(written(tensors, tmp_path / "plain.safetensors"), PLENTY)
    assert all(bits(found[key]) == bits(value) for key, value in tensors.items())


@pytest.mark.parametrize(
    "damage",
    [
        lambda name, value: (name, value[:-9]),
        lambda name, value: (name, value ^ 1),
        lambda name, value: (name.replace("3,8", "4,8"), value),
        lambda name, value: (name.replace("float16", "float17"), value),
        lambda name, value: (name.replace("3,8,9,10", "many"), value),
        lambda name, value: ("zlib:grid", value),
    ],
    ids=["cut", "changed", "other shape", "no type", "no shape", "nothing told"],
)
def test_a_damaged_tensor_is_named_in_one_sentence(damage, tensors, tmp_path):
    [(name, value)] = packing.pack({"grid": tensors["grid"]}).items()
    path = written(dict([damage(name, value)]), tmp_path / "damaged.safetensors")
    with pytest.raises(BadInput, match=r"damaged\.safetensors: zlib:.*grid cannot be unpacked .*install the bundle"):
        packing.load(path, PLENTY)


@pytest.mark.parametrize(
    ("shape", "most"),
    [("3,8,9,10", 2159), ("9000,8,9,10", PLENTY), ("3,8,9,9", PLENTY), ("-3,-8,9,10", PLENTY), ("1,1,1,1", PLENTY)],
)
def test_a_tensor_is_unpacked_no_further_than_its_network_and_its_name_say(tensors, tmp_path, shape, most):
    [(name, value)] = packing.pack({"grid": tensors["grid"]}).items()
    path = written({name.replace("3,8,9,10", shape): value}, tmp_path / "large.safetensors")
    with pytest.raises(BadInput, match=r"larger than its network|not as large as its name"):
        packing.load(path, most)


def test_a_file_that_holds_no_weights_is_named(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    for name in ("a.safetensors", "b.safetensors"):
        with pytest.raises(BadInput, match=f"{name} cannot be read as weights"):
            packing.load(tmp_path / name, PLENTY)


def test_a_bundle_of_packed_weights_and_one_of_plain_weights_load_alike(tmp_path):
    arguments = {"grid": [40, 1, 41], "contrast": "T1w"}
    network = AgeJudge(**arguments)
    network.weights = 0.02 * torch.randn(40, 1, 41, generator=torch.Generator().manual_seed(0))
    described = Network(target="BrainGenLib.networks.age_judge.AgeJudge", args=arguments)
    metadata = Metadata(name="toy", version="1", title="", description="", verbs=[], networks={"net": described})
    packed = save(tmp_path / "toy", metadata, {"net": network}, "card", "licence")
    path = packed.weights("net")
    assert any(name.startswith("zlib:") for name in load_file(path))
    packed.verify()
    first = packed.load("net").state_dict()
    written(packing.load(path, PLENTY), path)
    second = Bundle(packed.folder).load("net").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_images_are_packed_as_differences_and_come_back(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, (4, 8, 64))
    image = torch.from_numpy((np.arange(64) * 7 + noise).astype(np.uint8))
    packed = packing.pack({"image": image})
    assert next(iter(packed)).startswith("delta:")
    found = packing.load(written(packed, tmp_path / "image.safetensors"), PLENTY)
    assert torch.equal(found["image"], image)
