import numpy as np
import pytest

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput


def test_values_and_names_are_unique_and_background_comes_first():
    labels = anatomy.labels()
    assert labels[0].value == 0
    assert len({label.value for label in labels}) == len({label.name for label in labels}) == len(labels)
    assert [label.index for label in labels] == list(range(len(labels)))


def test_every_side_has_its_counterpart():
    mirror = anatomy.mirrored_classes()
    for label in anatomy.labels():
        other = anatomy.labels()[mirror[label.index]]
        assert mirror[other.index] == label.index
        assert {label.side, other.side} in ({""}, {"left", "right"})


def test_values_and_classes_are_inverse():
    classes = np.arange(len(anatomy.labels()), dtype=np.uint8)
    assert np.array_equal(anatomy.to_classes(anatomy.to_values(classes)), classes)


def test_pathologies_of_requests_are_the_lesions_of_the_table():
    assert list(anatomy.lesions()) == ["wmh", "ms", "tumour", "oedema", "enhancing", "stroke"]


def test_classes_are_found_by_their_properties():
    left_and_right = anatomy.classes_of(name="thalamus")
    assert [anatomy.labels()[index].side for index in left_and_right] == ["left", "right"]
    assert set(left_and_right) <= set(anatomy.classes_of(tissue="deep_gm", kind="structure"))


@pytest.mark.parametrize("value", [1, 9999, -3])
def test_unknown_values_are_refused_by_number(value):
    with pytest.raises(BadInput, match=str(value)):
        anatomy.to_classes(np.array([0, 2, value]))
