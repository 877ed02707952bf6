"""Every label has codes, and Slicer's terminology logic understands them."""

import pytest
import slicer

from BrainGenLib import anatomy
from BrainGenLib.scene import terminology

LABELS = anatomy.labels()[1:]
by_name = pytest.mark.parametrize("label", LABELS, ids=lambda label: label.name)


def deserialized(label):
    entry = slicer.vtkSlicerTerminologyEntry()
    assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(terminology.entry(label), entry)
    return entry


def code(coded):
    return (coded.GetCodingSchemeDesignator(), coded.GetCodeValue(), coded.GetCodeMeaning())


def has_valid_check_digit(sctid):
    """Verhoeff's checksum over the dihedral group D5, which every SNOMED CT identifier ends in."""
    permutation = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for position, digit in enumerate(map(int, reversed(sctid))):
        for _ in range(position % 8):
            digit = permutation[digit]
        reflected, (turn, step) = check >= 5, (check % 5, digit % 5)
        check = (turn - step if reflected else turn + step) % 5 + 5 * (reflected != (digit >= 5))
    return check == 0


def test_the_check_digit_tells_a_mistyped_code():
    assert has_valid_check_digit("49755003")
    assert not has_valid_check_digit("49755030")


@by_name
def test_every_label_has_codes(label):
    assert has_valid_check_digit(label.sct_code)
    assert label.sct_meaning
    assert all(label.code)
    assert (label.region is not None) == (label.kind == "lesion")
    assert label.region is None or has_valid_check_digit(label.region.value)


def test_no_two_labels_say_the_same():
    assert len({(label.code[:2], label.side) for label in LABELS}) == len(LABELS)


@by_name
def test_slicer_reads_the_entry_of_every_label(label):
    entry = deserialized(label)
    category = "Anatomical Structure" if label.kind == "structure" else "Morphologically Altered Structure"
    assert entry.GetCategoryObject().GetCodeMeaning() == category
    assert code(entry.GetTypeObject()) == label.code
    assert (entry.GetTypeModifierObject().GetCodeMeaning() or "").lower() == label.side
    if label.region:
        assert code(entry.GetRegionObject()) == label.region


@by_name
def test_the_entry_leads_back_to_the_label(label):
    assert terminology.label_of(terminology.entry(label)) is label


@pytest.mark.parametrize(
    ("serialized", "name"),
    [
        (
            "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
            "~SCT^5366008^Hippocampus~SCT^7771000^Left~Anatomic codes - DICOM master list~^^~^^",
            "left hippocampus",
        ),
        ("~SCT^49755003^Morphologically Altered Structure~SCT^79654002^Edema~^^~~^^~^^", "oedema"),
    ],
)
def test_entries_of_slicers_own_lists_are_recognised(serialized, name):
    assert terminology.label_of(serialized).name == name


@pytest.mark.parametrize("serialized", ["", "~^^~^^~^^~~^^~^^", "~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~~^^~^^"])
def test_other_entries_are_no_label(serialized):
    assert terminology.label_of(serialized) is None


@by_name
def test_the_selector_offers_every_label_with_its_name_and_colour(logic, label):
    entry = deserialized(label)
    assert logic.UpdateEntryFromLoadedTerminologies(entry, [terminology.CONTEXT], [])
    shown = entry.GetTypeModifierObject() if label.side else entry.GetTypeObject()
    assert shown.GetSlicerLabel() == label.name
    assert shown.GetRecommendedDisplayRGBValue() == label.color


@pytest.fixture(scope="module")
def logic():
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    terminology.register(logic)
    assert logic.IsTerminologyContextLoaded(terminology.CONTEXT)
    return logic
