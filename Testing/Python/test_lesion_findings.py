"""What is said of lesions before a scan is changed."""

import numpy as np

from BrainGenLib import anatomy, bundles
from BrainGenLib.lesion_findings import described
from BrainGenLib.scene.bootstrap import headless
from BrainGenLib.scene.segmentation import add_segmentation, lesions_ml

NOTHING = dict.fromkeys(anatomy.lesions(), 0.0)


def test_what_the_segmenter_found_is_said_with_what_it_is_worth():
    segmenter = bundles.Metadata(
        name="s", version="1", title="", description="", verbs=["segment"], lesion_dice={"wmh": 0.09, "tumour": 0.0}
    )
    assert described(NOTHING | {"wmh": 0.62, "stroke": 12.6}, [], segmenter).split(". ") == [
        "The segmenter finds 0.62 mL white matter hyperintensity and 13 mL stroke lesion",
        "It misses many: on held-out scans its mean Dice is 0.09 for white matter hyperintensity and 0.00 for tumour "
        "core (1 is perfect)",
        "A segmentation of the lesions by a reader is surer.",
    ]
    said = described(NOTHING | {"wmh": 0.62}, ["ms", "tumour"], segmenter)
    assert "Nothing to take away: no multiple sclerosis lesion and no tumour core." in said


def test_a_segmentation_by_the_user_is_taken_at_its_word():
    assert described(NOTHING | {"ms": 8.2}, ["ms"], None) == "The segmentation has 8.2 mL multiple sclerosis lesion."
    assert described(NOTHING, ["ms"], None) == (
        "The segmentation has no lesion. Nothing to take away: no multiple sclerosis lesion."
    )


def test_the_shipped_segmenter_says_how_well_it_finds_lesions():
    metadata = bundles.find("segmenter").metadata
    assert metadata.lesion_dice
    assert set(metadata.lesion_dice) <= set(anatomy.lesions())


def test_lesions_of_a_segmentation_are_measured_and_foreign_segments_left_out():
    labels = np.full((20, 20, 20), 2, np.uint16)
    labels[:10, :10, :10] = anatomy.lesions()["ms"].value
    node = add_segmentation(headless().scene, labels, np.diag([1.0, 1.0, 2.0, 1.0]), "mine", None)
    node.GetSegmentation().AddEmptySegment("", "something else")
    assert lesions_ml(node) == NOTHING | {"ms": 2.0}
