import pytest

from BrainGenLib.bundles import Condition, Metadata
from BrainGenLib.errors import BadInput
from BrainGenLib.requests import Generate, Location, Render, Segment, check, inputs_of, parse


def condition(name: str, kind: str = "pathology", **fields: object) -> Condition:
    return Condition(name=name, label=name, kind=kind, unit="load", minimum=0, maximum=1, default=0, **fields)


BUNDLE = Metadata(
    name="toy",
    version="1",
    title="Toy",
    description="",
    verbs=["generate", "render"],
    contrasts=["T1w", "FLAIR"],
    conditions=[condition("wmh", locatable=True), condition("tumour"), condition("ventricles", "anatomy")],
)


def test_a_request_survives_json():
    request = Generate(pathologies={"wmh": 0.1}, locations={"wmh": Location(side="left")}, seed=7)
    assert parse(request.model_dump_json()) == request


def test_a_request_names_its_files():
    assert inputs_of(Render(segmentation="a.nii", style="b.nii")) == ["a.nii", "b.nii"]
    assert inputs_of(Segment(scan="c.nii")) == ["c.nii"]
    assert inputs_of(Generate()) == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"verb": "generate", "seed": -1}, "seed"),
        ({"verb": "generate", "guidance": 11}, "guidance"),
        ({"verb": "generate", "pathologies": {"wmh": "much"}}, "pathologies.wmh"),
        ({"verb": "generate", "colour": 1}, "colour"),
        (
            {"verb": "generate", "max_share": 0.05},
            "max_share: input should be greater than or equal to 0.1",
        ),
        ({"verb": "generate", "contrasts": []}, "contrasts"),
        ({"verb": "render"}, "segmentation"),
        ({"verb": "dance"}, "'generate', 'render', 'segment'"),
        ("{", "JSON"),
    ],
)
def test_a_malformed_request_is_refused_with_the_field(data, says):
    with pytest.raises(BadInput, match=says):
        parse(data)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Generate(contrasts=["CT"]), "'CT'; it knows: T1w, FLAIR"),
        (Generate(contrasts=["T1w", "T1w"]), "twice"),
        (Generate(pathologies={"plague": 0.1}), "'plague'; it knows: wmh, tumour"),
        (Generate(pathologies={"wmh": 1.5}), "wmh=1.5 is outside the range"),
        (Generate(pathologies={"wmh": float("nan")}), "outside the range"),
        (Generate(anatomy={"wmh": 0.1}), "anatomy condition 'wmh'; it knows: ventricles"),
        (Generate(anatomy={"ventricles": -1}), "outside the range"),
        (Generate(locations={"wmh": Location(side="left")}), "no load"),
        (Generate(pathologies={"tumour": 0.1}, locations={"tumour": Location(side="left")}), "it can place: wmh"),
        (Segment(scan="a.nii"), "cannot segment; it can: generate, render"),
    ],
)
def test_what_a_bundle_cannot_do_is_refused_with_what_it_can(request_, says):
    with pytest.raises(BadInput, match=says):
        check(request_, BUNDLE)


def test_what_a_bundle_can_do_passes():
    check(
        Generate(
            pathologies={"wmh": 0.5, "tumour": 1},
            locations={"wmh": Location(side="left", lobe="frontal")},
            anatomy={"ventricles": 0.5},
            contrasts=["T1w", "FLAIR"],
        ),
        BUNDLE,
    )


def test_a_limit_for_donors_is_refused_by_models_without():
    check(Generate(max_share=0.5), BUNDLE.model_copy(update={"donors": 3}))
    for without in (BUNDLE, BUNDLE.model_copy(update={"family": "brain-ldm"})):
        check(Generate(), without)
        with pytest.raises(BadInput, match="Bundle toy has no donors"):
            check(Generate(max_share=0.5), without)
