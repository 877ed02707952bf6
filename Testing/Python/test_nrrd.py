"""NRRD files are parsed once, strictly: what other readers read is read alike, and what is unclear is refused."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from BrainGenLib.errors import BadInput
from BrainGenLib.reading import content, nrrd

SHAPE = (6, 5, 4)
VALUES = np.arange(120, dtype=np.int16).reshape(SHAPE, order="F")
FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 5 4",
    "space directions": "(0,2,0) (-1.5,0,0) (0,0,3)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(10,-20,30.5)",
}


def text(*lines, **fields):
    """A header: ``FIELDS`` with others (``_`` for a space; None for none), and further lines."""
    named = {key.replace("_", " "): value for key, value in fields.items()}
    lines = [*(f"{key}: {value}" for key, value in {**FIELDS, **named}.items() if value is not None), *lines]
    return "\n".join(["NRRD0005", *lines, "", ""]).encode()


def written(tmp_path, header=None, data=VALUES.tobytes("F")):
    path = tmp_path / "scan.nrrd"
    path.write_bytes((text() if header is None else header) + data)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]
)
def test_what_itk_writes_is_read_as_itk_reads_it(tmp_path, dtype, compressed):
    image = sitk.GetImageFromArray(VALUES.T.astype(dtype))
    image.SetSpacing((1.2, 1.1, 3.0))
    image.SetOrigin((1, 2, 3))
    image.SetDirection((0, 0, 1, -1, 0, 0, 0, 1, 0))
    image.SetMetaData("patient", "none")
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"), useCompression=compressed)
    read = nrrd.read(tmp_path / "a.nrrd")
    assert read.data.dtype == dtype
    assert np.array_equal(read.data, VALUES)
    for index in ((0, 0, 0), (5, 0, 0), (0, 4, 0), (0, 0, 3)):
        world = image.TransformIndexToPhysicalPoint(index) * np.array([-1, -1, 1])
        assert np.allclose((read.affine @ [*index, 1])[:3], world)
    assert read.pairs["patient"] == "none"
    nrrd.check(tmp_path / "a.nrrd", 2**20)


def test_axes_values_place_and_pairs_of_a_header(tmp_path):
    header = text("# comment", "Segment0_Name:=Ödem: left", "note:=two\\nlines \\\\ := more", content="a:=b")
    read = nrrd.read(written(tmp_path, header))
    assert np.array_equal(read.data, VALUES)
    assert np.array_equal(read.affine, [[0, 1.5, 0, -10], [-2, 0, 0, 20], [0, 0, 3, 30.5], [0, 0, 0, 1]])
    assert read.pairs == {"Segment0_Name": "Ödem: left", "note": "two\nlines \\ := more"}


def test_what_programs_copy_from_dicom_into_comments_and_pairs_is_read(tmp_path):
    header = text("#K\xf6ln\xa0\x07", "site:=Universit\xe4t", "series:=t1\xa0mprage\u200b", "history:=a\rb")
    read = nrrd.read(written(tmp_path, header.replace("ä".encode(), b"\xe4").replace("ö".encode(), b"\xf6")))
    assert read.pairs == {"site": "Universität", "series": "t1 mprage ", "history": "a b"}
    assert np.array_equal(read.data, VALUES)


def test_line_ends_of_windows_and_the_other_byte_order(tmp_path):
    header = text(endian="big").replace(b"\n", b"\r\n")
    read = nrrd.read(written(tmp_path, header, VALUES.astype(">i2").tobytes("F")))
    assert read.data.dtype == np.int16
    assert np.array_equal(read.data, VALUES)


@pytest.mark.parametrize(
    ("space", "signs"), [("RAS", (1, 1)), ("left-anterior-superior", (-1, 1)), ("LPS", (-1, -1))]
)
def test_every_named_world_is_ras_in_the_end(tmp_path, space, signs):
    affine = nrrd.read(written(tmp_path, text(space=space))).affine
    assert np.array_equal(affine[:3, 3], [10 * signs[0], -20 * signs[1], 30.5])
    assert np.array_equal(affine[:3, 0], [0, 2 * signs[1], 0])


@pytest.mark.parametrize(
    "fields",
    [
        {"space": None},
        {"space": "scanner-xyz"},
        {"space": None, "space_dimension": "3"},
        {"space_directions": None, "spacings": "1 1 1"},
        {"space_origin": None},
    ],
)
def test_a_place_that_is_not_stated_is_not_guessed(tmp_path, fields):
    read = nrrd.read(written(tmp_path, text(**fields)))
    assert read.affine is None
    assert np.array_equal(read.data, VALUES)


LAYERS = np.arange(240, dtype=np.int16).reshape((2, *SHAPE), order="F")


def test_layers_of_a_segmentation_come_first(tmp_path):
    four = {"dimension": "4", "sizes": "2 6 5 4", "kinds": "list domain domain domain"}
    directions = FIELDS["space directions"]
    header = text(**four, space_directions=f"none {directions}")
    first = nrrd.read(written(tmp_path, header, LAYERS.tobytes("F")))
    assert np.array_equal(first.data, LAYERS)
    assert np.array_equal(first.affine, nrrd.read(written(tmp_path)).affine)
    four = {"dimension": "4", "sizes": "6 5 4 2", "kinds": "domain domain domain list"}
    last = np.moveaxis(LAYERS, 0, -1).tobytes("F")
    for given in (f"{directions} none", None):
        read = nrrd.read(written(tmp_path, text(**four, space_directions=given), last))
        assert np.array_equal(read.data, LAYERS)


def test_an_axis_of_one_is_no_layer(tmp_path):
    header = text(dimension="4", sizes="1 6 5 4", kinds="list domain domain domain",
                  space_directions="none (1, 0, 0) (0, 1, 0) (0, 0, 1)")  # fmt: skip
    assert np.array_equal(nrrd.read(written(tmp_path, header)).data, VALUES)


def without_place(sizes, kinds):
    return text(dimension=str(len(sizes.split())), sizes=sizes, kinds=kinds, space_directions=None)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (text("data file: scan.raw"), "voxels in the same file"),
        (text(content="a\x07b"), "cannot be printed"),
        (text(content="a\u2028b"), "cannot be printed"),
        (text("note:=a\x07b", "note:=a b"), "not accepted"),
        (text("Sizes: 6 5 4"), "not accepted"),
        (text("note:=a", "note:=b"), "not accepted"),
        (text("sizes :6 5 4"), "not accepted"),
        (text("hello"), "not accepted"),
        (text(byte_skip="-1"), "do not follow its header"),
        (text(type="block"), "one grey value"),
        (text(endian=None), "order the bytes"),
        (text(endian=None, encoding="ascii"), "encoded as 'ascii'"),
        (text(sizes="6 5 4 1"), "how many axes"),
        (text(sizes="6 5 ４"), "how many voxels"),
        (text(sizes="6 5 0"), "cannot be"),
        (text(sizes="600 500 400"), "larger than the 64 MB"),
        (text(dimension="2", sizes="6 20"), "2D"),
        (text(encoding="bzip2"), "bzip2"),
        (text(space_units='"um" "um" "um"'), "in um um um"),
        (text(space_directions="(1,0,0) (0,1,0)"), "other than three numbers"),
        (text(space_directions="(1,0,0) (0,1,0) (0,0,1) x"), "other than three numbers"),
        (text(space_directions="(1,0,0) (0,nan,0) (0,0,1)"), "other than three numbers"),
        (text(space_origin="(1,2)"), "not three numbers"),
        (text(space_origin=f"({'9' * 400},0,0)"), "beyond all numbers"),
        (text(kinds="domain domain"), "2 kinds"),
        (text(kinds="3-color domain domain"), "colours"),
        (without_place("3 2 5 4", "RGB-color domain domain domain"), "colours"),
        (without_place("6 5 2 2", "domain domain domain domain"), "4D .6×5×2×2.; extract one"),
        (without_place("2 3 5 2 2", "list list domain domain domain"), "5D .2×3×5×2×2.; extract one"),
        (b"NRRD0009\n\n", "not an NRRD"),
        (b"NRRD0005\n" + b"# comment\n" * 120_000, "without end"),
        (b"NRRD0005\n" + b"#\n" * 30_000, "without end"),
        (b"NRRD0005\ncontent: " + b"a" * 2**21, "without end"),
        (b"NRRD0005\ntype: short\ncontent: ", "ends within its header"),
    ],
    ids=range(34),
)
def test_an_unclear_header_is_refused_in_one_sentence(tmp_path, header, says):
    path = written(tmp_path, header, b"")
    for read in (nrrd.read, nrrd.check):
        with pytest.raises(BadInput, match=says) as caught:
            read(path, 2**26)
        assert str(caught.value).startswith("scan.nrrd ")
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (VALUES.tobytes()[:-1], "incomplete"),
        (VALUES.tobytes() + bytes(20_000), "more than its header"),
    ],
)
def test_the_voxels_are_as_many_as_the_header_says(tmp_path, data, says):
    for header, packed in ((text(), data), (text(encoding="gzip"), gzip.compress(data))):
        with pytest.raises(BadInput, match=says):
            nrrd.read(written(tmp_path, header, packed))


WHOLE = bytes(3 * 2**20) + bytes(range(256)) * 100
MEMBERS = b"".join(gzip.compress(WHOLE[start : start + 2**16]) for start in range(0, len(WHOLE), 2**16))


def inflated(tmp_path, data):
    (tmp_path / "a.gz").write_bytes(data)
    with (tmp_path / "a.gz").open("rb") as file:
        return b"".join(content.blocks("a.gz", file, compressed=True))


@pytest.mark.parametrize(
    "data",
    [
        *(gzip.compress(WHOLE) + bytes(count) for count in (0, 1, 2, 511, 512, 2**16, 2**20)),
        MEMBERS,
        MEMBERS + gzip.compress(b""),
        gzip.compress(b"") + MEMBERS + bytes(3),
        gzip.compress(WHOLE[:-5]) + bytes(512) + gzip.compress(WHOLE[-5:]),
        # The stream ends where a block of output does.
        gzip.compress(WHOLE[: 2**20]) + gzip.compress(WHOLE[2**20 :]),
    ],
    ids=range(12),
)
def test_parts_and_zero_bytes_behind_a_gzip_stream_are_read_as_gzip_reads_them(tmp_path, data):
    assert inflated(tmp_path, data) == gzip.decompress(data) == WHOLE


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "incomplete"),
        (gzip.compress(WHOLE)[:-1], "incomplete"),
        (gzip.compress(WHOLE)[:-9], "incomplete"),
        (gzip.compress(WHOLE) + gzip.compress(WHOLE)[:9], "incomplete"),
        (gzip.compress(WHOLE) + b"\x1f", "no gzip"),
        (gzip.compress(WHOLE) + bytes(512) + b"more", "no gzip"),
        (gzip.compress(WHOLE)[:-8] + bytes(8), "damaged"),
        (WHOLE, "damaged"),
        (gzip.compress(b"") * (content.MAX_MEMBERS + 1), "more than 65536 parts"),
    ],
    ids=range(9),
)
def test_reading_compressed_data_always_ends(tmp_path, data, says):
    with pytest.raises(BadInput, match=says):
        inflated(tmp_path, data)
