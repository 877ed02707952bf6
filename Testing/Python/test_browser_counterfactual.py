"""The section Counterfactual in the browser, and what a model of images is asked for."""

import asyncio
import base64
import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from app_process import serving_app
from chromium import chromium
from front import Front
from patience import PATIENCE
from phantoms import phantom_image
from trame_server.utils.typed_state import TypedState

from BrainGenLib import anatomy, bundles, spaces
from BrainGenLib.browser.conditions import counterfactual_request, generate_request
from BrainGenLib.browser.stage import COLUMNS, FOUR_UP, THREE_COLUMNS
from BrainGenLib.browser.state import CounterfactualState, GenerateState
from BrainGenLib.case import Case
from BrainGenLib.requests import Counterfactual
from BrainGenLib.scene.cases import nodes_of
from BrainGenLib.scene.volumes import add_volume

CURVE = {"contrast": "T1w", "units": [-2, -1, 0, 1, 2], "delta": [-0.1, -0.05, 0, 0.05, 0.1], "l1": [9, 4, 3, 2, 7]}


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory):
    """The tiny bundles; the one of images knows its drift curve."""
    folder = tmp_path_factory.mktemp("bundles") / "known"
    shutil.copytree(tiny_folder, folder)
    path = folder / "brain-ldm" / "configs" / "metadata.json"
    metadata = json.loads(path.read_text("utf-8"))
    metadata["parameters"]["drift_curve"] = CURVE
    path.write_text(json.dumps(metadata), "utf-8")
    return folder


@pytest.fixture(scope="module")
def front(folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINGEN_BUNDLES", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        front = Front("test-browser-counterfactual", tmp_path_factory.mktemp("kept"))
        yield front
        front.session.close()


@pytest.fixture(scope="module")
def image(phantom_classes):
    """A T1w-like scan of the phantom, in scanner units."""
    return (phantom_image(phantom_classes) * 800).astype(np.float32)


def want(front, field, **values):
    rows = getattr(front.counterfactual, field)
    for row in rows:
        row.given, row.value = row.name in values, values.get(row.name, row.value)
    setattr(front.counterfactual, field, rows)


def asked(front):
    state = TypedState(front.app.server.state, CounterfactualState).get_dataclass()
    return counterfactual_request(state, "cpu", 1, "scan.nii", "lesions.nii")


def test_both_ways_are_offered_each_with_what_it_understands(front):
    data = front.counterfactual
    assert [choice.value for choice in data.bundles] == ["brain-ldm", "brainspade3d"]
    assert data.bundle == "brain-ldm"
    assert data.diffusion
    assert {row.name: row.unit for row in data.wanted}["ventricles"] == "mL"
    assert {"age", "tumour"} <= {row.name for row in data.wanted}
    assert "tumour" not in [row.name for row in data.known]
    assert asked(front).lesions == "labels"
    want(front, "wanted", age=75)
    data.left = True
    front.do(lambda: None)
    assert {row.name: row.value for row in data.wanted if row.given} == {"age": 75}
    assert [row.name for row in data.wanted] == [one.name for one in bundles.find("brain-ldm").metadata.conditions]
    assert asked(front).lesions == "diffusion"
    want(front, "known", age=45)
    want(front, "wanted", age=75, wmh=0.5)
    assert asked(front).wanted == {"age": 75, "wmh": 0.5}
    data.contrast = "T1w"
    request = asked(front)
    # Too few scans have shown that one.
    assert (request.known, request.wanted) == ({"age": 45}, {"age": 75})
    default = Counterfactual(scan="", wanted={"age": 75})
    for setting in ("strength", "guidance", "variants", "drift"):
        assert getattr(request, setting) == getattr(default, setting)
    assert request.segmentation == "lesions.nii"

    data.left = False
    data.bundle = "brainspade3d"
    front.do(lambda: None)
    assert not data.diffusion
    assert {row.locatable for row in data.wanted} == {True, False}
    assert "age" not in [row.name for row in data.wanted]
    want(front, "wanted", wmh=0)
    request = asked(front)
    assert (request.wanted, request.known, request.segmentation) == ({"wmh": 0}, {}, "lesions.nii")


def test_the_curve_behind_the_drift_is_drawn_where_the_bundle_tells_it(front):
    data = front.counterfactual
    data.bundle = "brain-ldm"
    data.drift = -1.5
    front.do(lambda: None)
    assert data.delta == "δ = -0.075"
    assert data.curve.startswith("<svg")
    assert 'class="now" cx="62.0"' in data.curve
    data.auto_drift = True
    front.do(lambda: None)
    assert data.delta == ""
    assert 'class="best"' in data.curve
    assert 'class="now"' not in data.curve
    want(front, "wanted", age=75)
    assert asked(front).drift == "auto"
    data.auto_drift, data.drift = False, 0.0
    data.bundle = "brainspade3d"
    front.do(lambda: None)
    assert data.curve == data.delta == ""


def test_a_scan_is_changed_and_stands_beside_itself(front, image):
    data = front.counterfactual
    scan = add_volume(front.app.scene, image, spaces.GRID_2MM.affine, "scan")
    front.do(front.app.views.refresh)
    # Nobody has chosen it.
    assert data.scan == ""
    data.scan = scan.GetID()
    data.bundle, data.contrast, data.guidance, data.variants = "brain-ldm", "T1w", 8.0, 2
    front.do(lambda: None)
    want(front, "known", age=30)
    want(front, "wanted", age=85)
    front.do(front.app.counterfactual.apply)
    assert front.run.section == "counterfactual"
    front.finish()
    assert not front.run.failure
    row = front.results.cases[-1]
    assert (row.name, row.contrasts) == ("counterfactual-01", ["T1w", "uncertainty"])
    assert re.match(
        r"age 85 · identity 0\.\d\d, \d+% of what was asked for as measured by .*, looks .*, then .*\d+ years old",
        row.summary,
    )
    nodes = nodes_of(front.app.scene, row.name)
    assert front.views.layout == THREE_COLUMNS
    shown = ["scan", "counterfactual-01 T1w SYNTHETIC", "scan + difference SYNTHETIC"]
    assert [[front.views.marks[name] for name in column] for column in COLUMNS] == [[text] * 3 for text in shown]
    case = front.case(row.name)
    assert np.allclose(case.images["T1w"] - image, case.maps["difference"], atol=0.1)
    assert np.abs(case.maps["difference"]).max() > 5

    front.do(lambda: front.app.results.show(row.name, "uncertainty"))
    assert front.views.marks["Red"] == "counterfactual-01 T1w + uncertainty SYNTHETIC"
    front.do(lambda: front.app.results.show(row.name, "T1w"))
    assert front.views.layout == FOUR_UP
    data.variants = 1
    front.do(lambda: front.app.results.show(row.name))
    assert front.views.layout == THREE_COLUMNS
    assert nodes.maps["difference"].GetID() in [
        view.get_foreground_volume_id() for view in front.app.views._stage.app.view_manager.get_slice_views()
    ]


def test_what_is_known_of_the_lesions_is_said_before_they_are_changed(front, phantom_classes):
    data = front.counterfactual
    data.bundle, data.left = "brainspade3d", False
    front.do(lambda: None)
    assert set(data.pathologies) == {one.name for one in bundles.find("brainspade3d").metadata.conditions} & {
        *anatomy.lesions()
    }
    assert data.lesions == ""
    front.do(front.app.counterfactual.find_lesions)
    assert front.run.section == "counterfactual"
    front.finish()
    assert data.lesions.startswith("The segmenter finds ")
    assert data.lesions.endswith("A segmentation of the lesions by a reader is surer.")
    want(front, "wanted", ms=0)
    front.do(lambda: None)
    labels = np.zeros(phantom_classes.shape, np.uint16)
    labels[40:45, 40:50, 40:50] = anatomy.lesions()["ms"].value
    case = Case({}, labels, spaces.GRID_2MM.affine, synthetic=False)
    nodes = front.do(lambda: front.app.results.add("painted", case))
    front.do(front.app.views.refresh)
    data.segmentation = nodes.segmentation.GetID()
    front.do(lambda: None)
    assert data.lesions == "The segmentation has 4 mL multiple sclerosis lesion."
    want(front, "wanted", wmh=0)
    front.do(lambda: None)
    assert data.lesions.endswith("Nothing to take away: no white matter hyperintensity.")
    data.segmentation, data.bundle = "", "brain-ldm"
    front.do(lambda: None)


def test_what_cannot_be_changed_is_a_sentence(front, image):
    front.counterfactual.scan = ""
    want(front, "wanted")
    front.do(front.app.counterfactual.apply)
    assert "Nothing is chosen" in front.run.failure
    scan = add_volume(front.app.scene, image, spaces.GRID_2MM.affine, "unchanged")
    front.do(front.app.views.refresh)
    front.counterfactual.scan = scan.GetID()
    front.do(front.app.counterfactual.apply)
    assert front.run.section == ""
    assert "Nothing is asked to change" in front.run.failure
    front.counterfactual.scan = ""
    front.app.scene.RemoveNode(scan)
    front.do(front.app.views.refresh)


def test_a_model_of_images_is_asked_for_what_it_can(front):
    data = front.generate
    data.live, data.style = True, "somewhere"
    front.engine.bundle = "brain-ldm"
    front.do(lambda: None)
    assert (data.labels, data.drifts, data.live, data.style) == (False, True, False, "")
    state = TypedState(front.app.server.state, GenerateState).get_dataclass()
    assert generate_request(state, "brain-ldm", "cpu", 1, None).drift is None
    data.own_drift, data.drift = False, 1.5
    front.do(lambda: None)
    assert data.delta == "δ = 0.075"
    front.do(front.app.generate.generate)
    front.finish()
    assert not front.run.failure
    case = front.case(front.results.cases[-1].name)
    assert case.labels is None
    assert case.provenance["request"]["drift"] == 1.5
    front.engine.bundle = "brainspade3d"
    front.do(lambda: None)
    assert (data.labels, data.drifts) == (True, False)


async def walk(address, scan, picture):
    """A user brings a scan, asks for an older brain, and looks."""
    async with chromium() as page:
        await page.go(address)
        await page.until("!!document.querySelector('#braingen-generate')")
        await page.evaluate(
            "[...document.querySelectorAll('.v-expansion-panel-title')]"
            ".find(e => e.innerText.startsWith('Counterfactual')).click()"
        )
        await page.until("!!document.querySelector('#braingen-upload-scan')")
        content = base64.b64encode(scan.read_bytes()).decode()
        await page.evaluate(
            f"(async () => {{ const bytes = Uint8Array.from(atob('{content}'), c => c.charCodeAt(0));"
            "const form = new FormData(); form.append('file', new Blob([bytes]), 'mine.nii.gz');"
            "await fetch('upload?kind=scan', {method: 'POST', body: form}); })()"
        )
        await page.until("document.body.innerText.includes('Added mine')")
        assert await page.evaluate("document.querySelector('#braingen-counterfactual').disabled")
        await page.evaluate(
            "(e => { e.value = 'T1w'; e.dispatchEvent(new Event('change')) })"
            "(document.querySelector('#braingen-counterfactual-contrast'))"
        )
        await page.click(".braingen-known-age-given")
        await page.click(".braingen-wanted-age-given")
        await page.press(".braingen-wanted-age .v-slider-thumb", "End")
        # The model has seen too few of these lesions in this contrast; by labels they can be drawn.
        assert not await page.evaluate("document.querySelector('.braingen-wanted-wmh-given').disabled")
        await page.click("#braingen-lesions-left")
        await page.until("document.querySelector('.braingen-wanted-wmh-given').disabled")
        await page.click("#braingen-lesions-left")
        await page.until("!document.querySelector('.braingen-wanted-wmh-given').disabled")
        await page.press(".braingen-slider-guidance .v-slider-thumb", "End")
        await page.press(".braingen-slider-drift .v-slider-thumb", "ArrowRight")
        await page.until("!!document.querySelector('.braingen-curve .now')")
        await page.until("document.body.innerText.includes('δ = 0.0')")
        await page.evaluate("document.querySelector('#braingen-counterfactual').scrollIntoView({block: 'end'})")
        place = await page.evaluate("document.querySelector('#braingen-panel').scrollTop")
        await page.click("#braingen-counterfactual")
        await page.until("!!document.querySelector('#braingen-cancel-counterfactual')")
        await page.until("/Done/.test(document.querySelector('#braingen-state').innerText)", PATIENCE)
        await page.until("document.querySelectorAll('.layout-grid-item').length === 9")
        # The panel is not at its top again.
        await page.until(f"Math.abs(document.querySelector('#braingen-panel').scrollTop - {place}) < 50")
        assert place > 100
        # The views are filled once more when they have their sizes.
        await asyncio.sleep(4)
        await page.evaluate("document.querySelector('#braingen-counterfactual').scrollIntoView({block: 'end'})")
        await page.picture(picture)
        marks = await page.evaluate("[...document.querySelectorAll('.braingen-caption')].map(e => e.textContent)")
        assert page.problems == []
        return marks


def test_a_user_changes_a_scan(folder, image, tmp_path):
    nib.save(nib.Nifti1Image(image, spaces.GRID_2MM.affine), tmp_path / "mine.nii.gz")
    with serving_app(folder, tmp_path / "app.log") as (_, address):
        marks = asyncio.run(walk(address, tmp_path / "mine.nii.gz", tmp_path / "page.png"))
    assert sorted(set(marks)) == ["counterfactual-01 T1w SYNTHETIC", "mine", "mine + difference SYNTHETIC"]
    assert (tmp_path / "page.png").stat().st_size > 50_000
