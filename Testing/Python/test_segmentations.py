"""Labels go by names and conventions; a file whose labels may mean another thing is refused."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from BrainGenLib import anatomy, spaces
from BrainGenLib.errors import BadInput
from BrainGenLib.methods.segmentation import Segmentation
from BrainGenLib.reading.segmentations import read_segmentation
from BrainGenLib.verbs.painted import with_painted

SHAPE = (12, 12, 12)
LESIONS = {name: label.index for name, label in anatomy.lesions().items()}


def named(name: str) -> int:
    """Class of a structure by its name in the label table."""
    return next(label.index for label in anatomy.labels() if label.name == name)


def write(path, data, affine=None):
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def halves(*values, kind=np.int32):
    """Slabs of values along the first axis; none touches the border."""
    data = np.zeros(SHAPE, kind)
    for index, value in enumerate(values):
        data[1 + index : 2 + index, 1:-1, 1:-1] = value
    return data


def seen(path, lesion=None):
    found = read_segmentation(path, lesion).data
    return [int(found[1 + index, 5, 5]) for index in range(9)]


def test_numbers_of_freesurfer_and_samseg_are_understood(tmp_path):
    values = halves(2, 41, 1011, 2030, 3001, 4020, 31, 99, 11_133)
    assert seen(write(tmp_path / "aparc.nii", values)) == [
        named("left cerebral white matter"),
        named("right cerebral white matter"),
        named("left cerebral cortex"),
        named("right cerebral cortex"),
        named("left cerebral white matter"),
        named("right cerebral white matter"),
        named("left lateral ventricle"),
        LESIONS["wmh"],
        named("left cerebral cortex"),
    ]


def test_nothing_is_nan_outside_of_a_brain(tmp_path):
    values = halves(2, 41, 17, kind=np.float32)
    plain = seen(write(tmp_path / "a.nii", values))
    values[values == 0] = np.nan
    assert seen(write(tmp_path / "b.nii", values)) == plain


def test_what_is_no_brain_is_left_out(tmp_path):
    found = seen(write(tmp_path / "head.nii", halves(2, 41, 516, 530, 251, 17, 53, 11, 24)))
    assert found[2:4] == [0, 0]
    assert found[4] == named("right cerebral white matter")
    assert all(found[4:])


@pytest.mark.parametrize("off", [1e-4, -1e-3, 2.9999e-3])
def test_floats_that_are_nearly_whole_are_rounded(tmp_path, off):
    data = halves(77, 41, 17, kind=np.float32)
    path = write(tmp_path / "a.nii", np.where(data > 0, data + np.float32(off), 0).astype(np.float32))
    assert seen(path)[:3] == [LESIONS["wmh"], named("right cerebral white matter"), named("left hippocampus")]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((2, 4), "2, 4, which mean another thing"),
        ((2, 3, 4, 5, 7, 8), "mean another thing"),
        ((1, 2, 4), "1, 2, 4, which mean another thing.*--lesion-as tumour"),
        ((1, 2, 3), "mean another thing"),
        ((1,), "is a mask .0 and 1.*which lesion it is.*wmh"),
        ((2,), "is a mask .0 and 2"),
        ((255,), "is a mask"),
        ((2, 3, 4, 5, 7, 8, 10, 11, 12, 13), "the left side alone"),
        ((2, 41, 3_000_000_000), "no convention"),
    ],
)
def test_labels_that_may_mean_another_thing_are_refused(tmp_path, values, says):
    with pytest.raises(BadInput, match=says) as caught:
        read_segmentation(write(tmp_path / "mine.nii", halves(*values, kind=np.float64)))
    assert "mine.nii" in str(caught.value)


@pytest.mark.parametrize("values", [(77,), (901, 905), (902, 903, 904), (2, 77), (2, 3, 4, 41)])
def test_values_of_the_label_table_speak_for_themselves(tmp_path, values):
    by_value = {label.value: label.index for label in anatomy.labels()}
    assert seen(write(tmp_path / "a.nii", halves(*values)))[: len(values)] == [by_value[value] for value in values]


@pytest.mark.parametrize(
    ("value", "kind"), [(1, np.uint8), (255, np.uint8), (-1, np.int8), (1, np.float32), (77, np.int16)]
)
def test_a_mask_is_the_lesion_that_it_is_said_to_be(tmp_path, value, kind):
    path = write(tmp_path / "mask.nii", halves(value, kind=kind))
    assert seen(path, "ms")[:2] == [LESIONS["ms"], 0]


def test_probabilities_above_a_half_are_the_lesion(tmp_path):
    path = write(tmp_path / "mask.nii", halves(0.2, 0.9, kind=np.float32))
    assert seen(path, "wmh")[:2] == [0, LESIONS["wmh"]]
    with pytest.raises(BadInput, match=r"not whole numbers.*probability"):
        read_segmentation(path)


def test_a_tumour_map_of_brats_is_a_tumour(tmp_path):
    path = write(tmp_path / "mask.nii", halves(1, 2, 4))
    assert seen(path, "tumour")[:3] == [LESIONS["tumour"], LESIONS["oedema"], LESIONS["enhancing"]]


def test_a_lesion_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no lesion 'glioma'; those that can be named are wmh"):
        read_segmentation(write(tmp_path / "mask.nii", halves(1)), "glioma")


# -- 3D Slicer -----------------------------------------------------------------------------------------------------


def slicer_file(path, segments, layers=1):
    """A file as Slicer writes it: of each segment its fields, and a slab of its value in its layer."""
    data = np.zeros((layers, *SHAPE), np.uint8)
    lines = [
        *("NRRD0004", "type: unsigned char", f"dimension: {4 if layers > 1 else 3}"),
        "space: left-posterior-superior",
        f"sizes: {f'{layers} ' if layers > 1 else ''}12 12 12",
        f"space directions: {'none ' if layers > 1 else ''}(-1,0,0) (0,-1,0) (0,0,1)",
        f"kinds: {'list ' if layers > 1 else ''}domain domain domain",
        *("encoding: raw", "space origin: (0,0,0)"),
    ]
    for number, fields in enumerate(segments):
        layer, value = int(fields.get("Layer", 0)), int(fields["LabelValue"])
        data[layer, 1 + number, 1:-1, 1:-1] = value
        lines += [f"Segment{number}_{key}:={text}" for key, text in {"ID": f"Segment_{number}", **fields}.items()]
    voxels = (data if layers > 1 else data[0]).tobytes(order="F")
    path.write_bytes("\n".join([*lines, "", ""]).encode() + voxels)
    return path


def entry(kind, side="^^"):
    return f"TerminologyEntry:Any list~SCT^123037004^Anatomical Structure~{kind}~{side}~Any~^^~^^|"


def test_segments_of_slicer_go_by_terminology_and_names_not_by_values(tmp_path):
    right, hippocampus = "SCT^24028007^Right", "SCT^5366008^Hippocampus"
    path = slicer_file(
        tmp_path / "brain.seg.nrrd",
        [
            {"Name": "left hippocampus", "LabelValue": "17", "Layer": "0"},
            {"Name": "rechts", "LabelValue": "18", "Layer": "0", "Tags": entry(hippocampus, right)},
            {"Name": "Left-Thalamus-Proper", "LabelValue": "1", "Layer": "0"},
            {"Name": "Brain-Stem", "LabelValue": "2"},
            {"Name": "WMH", "LabelValue": "3"},
        ],
    )
    assert seen(path)[:5] == [
        named("left hippocampus"),
        named("right hippocampus"),
        named("left thalamus"),
        named("brainstem"),
        LESIONS["wmh"],
    ]


def test_layers_of_slicer_are_read_and_lesions_win(tmp_path):
    path = slicer_file(
        tmp_path / "brain.seg.nrrd",
        [
            {"Name": "left cerebral white matter", "LabelValue": "1", "Layer": "0"},
            {"Name": "ms", "LabelValue": "1", "Layer": "1"},
        ],
        layers=2,
    )
    assert seen(path)[:2] == [named("left cerebral white matter"), LESIONS["ms"]]


@pytest.mark.parametrize(
    ("segments", "lesion", "says"),
    [
        ([{"Name": "Segment_1", "LabelValue": "1"}], None, "the segment 'Segment_1' is no structure or lesion"),
        ([{"Name": "hippocampus", "LabelValue": "17"}], None, "the segment 'hippocampus'"),
        ([{"Name": "ms", "LabelValue": "1"}, {"Name": "wmh", "LabelValue": "2"}], "ms", "has several segments"),
        ([{"Name": "ms", "LabelValue": "1", "Layer": "one"}], None, "no number"),
    ],
)
def test_segments_that_are_not_known_are_refused(tmp_path, segments, lesion, says):
    path = slicer_file(tmp_path / "a.seg.nrrd", [{**one, "Layer": "0"} for one in segments])
    path.write_bytes(path.read_bytes().replace(b"_Layer:=0", f"_Layer:={segments[0].get('Layer', '0')}".encode()))
    with pytest.raises(BadInput, match=says):
        read_segmentation(path, lesion)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Hippocampus left", "left hippocampus"),
        ("hippocampus_R", "right hippocampus"),
        ("lh hippocampus", "left hippocampus"),
        ("Right-Hippocampus", "right hippocampus"),
        ("3rd-Ventricle", "third ventricle"),
        ("Tumor core", "tumour core"),
        ("Edema", "oedema"),
        ("MS lesion", "multiple sclerosis lesion"),
        ("White matter hyperintensities", "white matter hyperintensity"),
    ],
)
def test_names_of_segments_are_spelt_in_many_ways(tmp_path, name, label):
    path = slicer_file(tmp_path / "a.seg.nrrd", [{"Name": name, "LabelValue": "1"}])
    assert seen(path)[0] == named(label)


def test_an_empty_segment_is_nothing_whatever_it_is_called(tmp_path):
    segments = [{"Name": "left hippocampus", "LabelValue": "1"}, {"Name": "Segment_1", "LabelValue": "2"}]
    path = slicer_file(tmp_path / "a.seg.nrrd", segments)
    path.write_bytes(path.read_bytes().replace(b"\x02", b"\0"))
    assert seen(path)[:2] == [named("left hippocampus"), 0]
    assert seen(path, "ms")[0] == LESIONS["ms"]


def test_one_segment_of_slicer_is_the_lesion_that_it_is_said_to_be(tmp_path):
    path = slicer_file(tmp_path / "a.seg.nrrd", [{"Name": "Segment_1", "LabelValue": "1"}])
    assert seen(path, "stroke")[0] == LESIONS["stroke"]


def test_what_slicer_itself_saves_is_read_whatever_it_numbers(tmp_path):
    """Segments with images of their own are renumbered when they are saved."""
    slicer = pytest.importorskip("slicer")
    from vtk.util.numpy_support import numpy_to_vtk

    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    names = ["left hippocampus", "right hippocampus", "multiple sclerosis lesion", "stroke lesion"]
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(binary)
    for number, name in enumerate(names):
        label = next(one for one in anatomy.labels() if one.name == name)
        data = np.zeros(SHAPE, np.int16)
        data[1 + number, 1:-1, 1:-1] = label.value
        if number == 3:
            data[3, 1:4, 1:4] = label.value
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(SHAPE)
        image.GetPointData().SetScalars(numpy_to_vtk(data.ravel(order="F"), deep=True))
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.SetLabelValue(label.value)
        segment.AddRepresentation(binary, image)
        segmentation.AddSegment(segment, name)
    scene, node, storage = (
        slicer.vtkMRMLScene(),
        slicer.vtkMRMLSegmentationNode(),
        slicer.vtkMRMLSegmentationStorageNode(),
    )
    node.SetAndObserveSegmentation(segmentation)
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "brain.seg.nrrd"))
    assert storage.WriteData(node)
    found = read_segmentation(tmp_path / "brain.seg.nrrd")
    expected = [named("left hippocampus"), named("right hippocampus"), LESIONS["ms"], LESIONS["stroke"]]
    voxel = np.linalg.inv(found.affine)
    for number, wanted in enumerate(expected):
        i, j, k = np.rint(voxel @ [1 + number, 6, 6, 1]).astype(int)[:3]
        assert found.data[i, j, k] == wanted
    i, j, k = np.rint(voxel @ [3, 2, 2, 1]).astype(int)[:3]
    assert found.data[i, j, k] == LESIONS["stroke"]


# -- on a scan -----------------------------------------------------------------------------------------------------

COARSE = spaces.GRID_2MM.affine


@pytest.fixture(scope="module")
def found(phantom_classes):
    """What the segmenter found: the phantom with a WMH, where the template lies in the scan as in the world."""
    fine = phantom_classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    fine[60:64, 110:114, 80:84] = LESIONS["wmh"]
    return Segmentation(fine, np.eye(4))


@pytest.fixture(scope="module")
def lesion(phantom_classes):
    """A lesion in the white matter on GRID_2MM (bool)."""
    white = np.isin(phantom_classes, anatomy.classes_of(tissue="wm"))
    deepest = np.unravel_index(ndimage.distance_transform_edt(white).argmax(), white.shape)
    return np.linalg.norm(np.indices(white.shape) - np.reshape(deepest, (3, 1, 1, 1)), axis=0) < 4


def test_a_painted_lesion_takes_the_place_of_what_was_found_of_its_kind(tmp_path, found, lesion):
    path = write(tmp_path / "mask.nii", lesion.astype(np.uint8), COARSE)
    classes = with_painted(path, "ms", found)
    assert spaces.dice(classes[::2, ::2, ::2] == LESIONS["ms"], lesion) > 0.95
    assert not (classes == LESIONS["wmh"]).any()
    stroke = with_painted(path, "stroke", found)
    assert (stroke == LESIONS["wmh"]).sum() == 64
    same = classes != LESIONS["ms"]
    assert np.array_equal(
        classes[same & (found.classes != LESIONS["wmh"])], found.classes[same & (found.classes != LESIONS["wmh"])]
    )


@pytest.mark.parametrize(("shift", "share"), [((0, 400, 0), "0%"), ((0, 0, -120), "0%")])
def test_a_lesion_that_lies_elsewhere_is_refused(tmp_path, found, lesion, shift, share):
    affine = COARSE.copy()
    affine[:3, 3] += shift
    path = write(tmp_path / "mask.nii", lesion.astype(np.uint8), affine)
    with pytest.raises(BadInput, match=f"{share} of the lesions of mask.nii lie in the brain"):
        with_painted(path, "wmh", found)


def test_structures_are_taken_from_a_whole_brain_alone(tmp_path, found, lesion, phantom_classes):
    values = anatomy.to_values(phantom_classes)
    values[lesion] = 77
    few = np.where(lesion, 77, 0)
    few[:, 60:64, 40:44] = 53
    classes = with_painted(write(tmp_path / "few.nii", few.astype(np.int16), COARSE), None, found)
    assert not (classes == named("right hippocampus")).any()
    other = np.where(values == 43, 10, values)
    classes = with_painted(write(tmp_path / "whole.nii", other.astype(np.int16), COARSE), None, found)
    assert (classes == named("left thalamus")).any()
    few[few == 77] = 17
    with pytest.raises(BadInput, match=r"few\.nii labels neither a lesion nor the whole brain"):
        with_painted(write(tmp_path / "few.nii", few.astype(np.int16), COARSE), None, found)


def test_a_whole_brain_with_its_sides_turned_is_refused(tmp_path, found, phantom_classes):
    turned = np.array(anatomy.mirrored_classes())[phantom_classes]
    path = write(tmp_path / "turned.nii", anatomy.to_values(turned), COARSE)
    with pytest.raises(BadInput, match=r"white matter of turned\.nii does not lie where the scan has it"):
        with_painted(path, None, found)
