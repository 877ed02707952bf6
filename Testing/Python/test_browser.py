"""The browser app without a browser: what its sections do with state, scene and jobs."""

import asyncio
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from front import Front
from serving import serving
from trame.app import get_server
from trame_server.utils.typed_state import TypedState

from BrainGenLib import anatomy, bundles, provenance
from BrainGenLib.browser.archives import write_bids_zip, write_mrb
from BrainGenLib.browser.conditions import generate_request
from BrainGenLib.browser.logic.engine import EngineLogic
from BrainGenLib.browser.logic.views import PREVIEW
from BrainGenLib.browser.shelf import Shelf
from BrainGenLib.browser.stage import FOUR_UP, TWO_ROWS
from BrainGenLib.browser.state import (
    GenerateState,
)
from BrainGenLib.browser.ui.view import slice_range
from BrainGenLib.browser.uploading import Received, receive
from BrainGenLib.errors import BadInput
from BrainGenLib.requests import MASS_EFFECT, MAX_SHARE
from BrainGenLib.scene.cases import case_names, nodes_of, remove_case
from BrainGenLib.scene.editing import is_copy

LESION = "wmh"


@pytest.fixture(scope="module")
def front(tiny_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINGEN_BUNDLES", str(tiny_folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        front = Front("test-browser", tmp_path_factory.mktemp("kept"))
        yield front
        front.session.close()


@pytest.fixture(scope="module")
def generated(front):
    """Name of a case with lesions and two contrasts that the app has made."""
    front.ask(LESION, 0.5)
    front.generate.contrasts = ["T1w", "FLAIR"]
    front.do(front.app.generate.generate)
    assert front.run.section == "generate"
    seen = set()
    front.until(lambda: seen.update(case_names(front.app.scene)) or not front.run.section)
    assert not front.run.failure
    name = front.results.cases[-1].name
    assert seen >= {PREVIEW, name}
    return name


def lesion_voxels(case):
    return np.count_nonzero(case.labels == 77)


def test_the_devices_of_this_machine_are_offered(front):
    front.do(front.app.engine.find_devices)
    assert [choice.value for choice in front.engine.devices] == ["auto", "cpu"]
    assert "GB free" in front.engine.devices[1].title
    assert front.engine.where == "this machine"


def test_a_server_says_what_it_has_and_chooses_its_device(front, tiny_bundles, tmp_path):
    async def build():
        return EngineLogic(get_server("test-browser-remote", client_type="vue3"), url)

    with serving(tmp_path / "jobs") as url:
        engine = front.loop.run_until_complete(build())
        assert engine.metadata.contrasts == bundles.find("brainspade3d").metadata.contrasts
        assert [choice.value for choice in engine.bundles_that("segment")] == ["segmenter"]
        front.loop.run_until_complete(engine.find_devices())
        assert engine.device == "auto"
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1"):
        front.loop.run_until_complete(build())


def test_every_condition_of_the_bundle_has_a_row_and_every_contrast_a_box(front):
    metadata = bundles.find("brainspade3d").metadata
    rows = [*front.generate.pathologies, *front.generate.anatomy]
    assert [row.name for row in rows] == [condition.name for condition in metadata.conditions]
    assert [row.locatable for row in rows] == [condition.locatable for condition in metadata.conditions]
    assert [(row.minimum, row.maximum) for row in rows] == [(c.minimum, c.maximum) for c in metadata.conditions]
    assert front.generate.known_contrasts == metadata.contrasts
    assert front.engine.title.startswith(metadata.title)
    assert (front.engine.licence, front.engine.limits) == (metadata.license, metadata.limits)


def test_a_bundle_that_cannot_render_says_so(front):
    assert front.render.refused == ""
    front.engine.bundle = "brain-ldm"
    front.do(lambda: None)
    assert bundles.find("brain-ldm").metadata.title in front.render.refused
    front.engine.bundle = "brainspade3d"
    front.do(lambda: None)
    assert front.render.refused == ""


def test_no_condition_is_named_in_the_code():
    names = [condition.name for condition in bundles.find("brainspade3d").metadata.conditions]
    folder = Path(bundles.__file__).parent / "browser"
    code = "\n".join(path.read_text("utf-8") for path in folder.rglob("*") if path.suffix in (".py", ".js"))
    assert [name for name in names if f'"{name}"' in code or f"'{name}'" in code] == []


def test_rows_become_a_request(front):
    state = TypedState(front.app.server.state, GenerateState).get_dataclass()
    for row in state.pathologies:
        row.value = 0.25 if row.name == LESION else 0
        row.side = "left"
    anatomy_asked = {"ventricles": 40.0, "age": 70.0, "sex": 1.0}
    for row in state.anatomy:
        assert not row.given
        if row.name in anatomy_asked:
            row.given, row.value = True, anatomy_asked[row.name]
    state.contrasts = ["FLAIR"]
    assert generate_request(state, "brainspade3d", "cpu", 5, None).mass_effect == MASS_EFFECT
    state.mass_effect = 7.5
    request = generate_request(state, "brainspade3d", "cpu", 5, None)
    assert request.mass_effect == 7.5
    assert (state.donors, request.max_share) == (True, MAX_SHARE)
    state.max_share = 0.15
    assert generate_request(state, "brainspade3d", "cpu", 5, None).max_share == 0.15
    assert request.pathologies == {LESION: 0.25}
    assert (request.locations[LESION].side, request.locations[LESION].lobe) == ("left", None)
    assert request.anatomy == anatomy_asked
    assert (request.seed, request.contrasts, request.draft) == (5, ["FLAIR"], False)
    state.contrasts = []
    with pytest.raises(BadInput, match="contrasts"):
        generate_request(state, "brainspade3d", "cpu", 5, None)


def test_a_generated_case_stands_in_scene_views_and_list_and_its_preview_is_gone(front, generated):
    names = case_names(front.app.scene)
    assert generated in names
    assert PREVIEW not in names
    assert front.views.layout == FOUR_UP
    assert front.views.marks["Red"] == f"{generated} T1w SYNTHETIC"
    assert front.run.ended.startswith("Done in")
    row = next(row for row in front.results.cases if row.name == generated)
    assert f"{LESION} 0.50" in row.summary
    assert row.synthetic
    assert len(front.scene.volumes) == 2
    case = front.case(generated)
    assert set(case.images) == {"T1w", "FLAIR"}
    assert lesion_voxels(case) > 0
    segmentation = nodes_of(front.app.scene, generated).segmentation.GetSegmentation()
    cortex = segmentation.GetSegment("left cerebral cortex")
    front.until(lambda: (made := cortex.GetRepresentation("Closed surface")) and made.GetNumberOfPoints())


def test_a_segment_is_erased_from_a_copy_and_comes_back_as_it_was(front, generated):
    front.do(lambda: None)
    original = front.case(generated)
    before, copied = original.labels, f"{generated} edited"
    front.render.segmentation = nodes_of(front.app.scene, generated).segmentation.GetID()
    front.do(lambda: None)
    lesion = next(row for row in front.render.segments if "hyperintensity" in row.name)
    front.do(lambda: front.app.render.erase(lesion.id))
    # The case with its images stays as it was made, and may be exported.
    assert np.array_equal(front.case(generated).labels, before)
    after = front.case(copied).labels
    assert front.render.segmentation == nodes_of(front.app.scene, copied).segmentation.GetID()
    assert front.views.marks["Red"] == f"{generated} T1w + {copied} labels SYNTHETIC"
    assert {row.name: row.exported for row in front.results.cases}[copied] is False
    assert lesion.id not in [row.id for row in front.render.segments]
    assert [row.id for row in front.render.erased] == [lesion.id]
    assert not (after == 77).any()
    assert np.array_equal(after > 0, before > 0)
    assert np.array_equal(after[before != 77], before[before != 77])

    front.render.contrasts = ["T1w"]
    front.do(front.app.render.render)
    assert front.run.section == "render"
    front.finish()
    assert not front.run.failure
    rendered = front.case(front.results.cases[-1].name)
    assert np.abs(rendered.images["T1w"] - original.images["T1w"])[before == 77].mean() > 0.001

    front.render.segmentation = nodes_of(front.app.scene, copied).segmentation.GetID()
    front.do(lambda: None)
    front.do(lambda: front.app.render.restore(lesion.id))
    assert front.render.erased == []
    assert np.array_equal(front.case(copied).labels, before)


def test_what_users_bring_is_listed_shown_hidden_and_removed_and_labels_know_their_scan(front, generated, tmp_path):
    shape = front.case(generated).labels.shape
    mask = np.zeros(shape, bool)
    mask[60:70, 60:70, 60:70] = True
    affine = front.case(generated).affine
    scan = Received("patient26", np.ones(shape, np.float32), affine, False)
    front.do(lambda: front.app.transfers._add(scan, None))
    row = next(row for row in front.results.cases if row.name == "patient26")
    assert (row.summary, row.synthetic, row.exported) == ("your file", False, False)
    assert front.app.results.free_name("patient26") == "patient26-2"
    # A name that the page gives to what passes.
    assert front.app.results.free_name(PREVIEW) == "preview-2"
    assert front.views.marks["Red"] == "patient26"
    assert front.views.shown == ["patient26"]
    volume = nodes_of(front.app.scene, "patient26").volumes["scan"].GetID()
    assert (front.segment.scan, front.counterfactual.scan) == (volume, volume)

    (tmp_path / "sent").mkdir()
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), tmp_path / "sent" / "lesions.nii")
    front.app.transfers._waiting += receive(tmp_path, "segmentation")
    front.do(front.app.transfers._ask)
    assert front.upload.asking == "lesions"
    assert {choice.value for choice in front.upload.lesions} == set(anatomy.lesions())
    front.upload.lesion, front.upload.of = "ms", volume
    front.do(front.app.transfers.answer)
    assert front.upload.asking == ""
    assert front.counterfactual.segmentation == nodes_of(front.app.scene, "lesions").segmentation.GetID()
    assert front.counterfactual.lesions == "The segmentation has 1 mL multiple sclerosis lesion."
    first, second = nodes_of(front.app.scene, generated).volumes.values()
    front.counterfactual.scan = first.GetID()
    front.do(lambda: None)
    assert front.counterfactual.segmentation == ""
    own = front.counterfactual.segmentation = nodes_of(front.app.scene, generated).segmentation.GetID()
    front.counterfactual.scan = second.GetID()
    front.do(lambda: None)
    # It is of the other contrast too.
    assert front.counterfactual.segmentation == own
    assert np.array_equal(front.case("lesions").labels, np.where(mask, anatomy.lesions()["ms"].value, 0))
    assert front.views.marks["Red"] == "patient26 + lesions labels"
    # Shown for itself, another case has nothing of it.
    front.do(lambda: front.app.results.show(generated))
    assert front.views.marks["Red"] == f"{generated} T1w SYNTHETIC"
    assert front.views.shown == [generated]
    front.do(lambda: front.app.results.show("lesions"))
    assert front.views.marks["Red"] == "patient26 + lesions labels"
    front.do(front.app.views.clear)
    assert set(front.views.marks.values()) == {""}
    # What is chosen in a list is what will be run: it is shown.
    front.do(lambda: front.app.results.show_node(volume))
    assert front.views.marks["Red"] == "patient26"
    front.do(lambda: front.app.results.show("lesions"))
    front.generate.style = front.render.style = front.segment.scan = front.counterfactual.scan = volume
    front.do(lambda: None)
    front.counterfactual.segmentation = nodes_of(front.app.scene, "lesions").segmentation.GetID()
    delete(front, "patient26")
    # No other person's scan or lesions take the place.
    chosen = (front.segment.scan, front.counterfactual.scan, front.counterfactual.segmentation)
    assert (*chosen, front.generate.style, front.render.style) == ("",) * 5
    front.render.segmentation = nodes_of(front.app.scene, "lesions").segmentation.GetID()
    assert front.views.marks["Red"] == "lesions labels"
    alone = nodes_of(front.app.scene, "lesions").segmentation
    assert alone.GetDisplayNode().GetVisibility2DFill()
    axial = next(one for one in front.app.views._stage.app.view_manager.get_slice_views())
    bounds = np.zeros(6)
    alone.GetRASBounds(bounds)
    assert axial.get_singleton_tag() == "Red"
    assert slice_range(axial) == tuple(bounds[4:])
    # Both pages that show a question may answer it.
    front.do(front.app.transfers.answer)
    front.do(front.app.transfers.drop)
    delete(front, "lesions")
    assert front.render.segmentation == ""
    assert "lesions" not in [row.name for row in front.results.cases]
    front.do(lambda: front.app.results.show(generated))


def delete(front, *names):
    rows = front.results.cases
    for row in rows:
        row.chosen = row.name in names
    front.results.cases = rows
    front.do(front.app.results.delete)


def test_another_session_has_the_results_of_this_one(front, generated):
    """Whatever ended this one."""
    before, copy = front.case(generated), f"{generated} edited"
    front.render.segmentation = nodes_of(front.app.scene, copy).segmentation.GetID()
    front.do(lambda: None)
    front.do(lambda: front.app.render.erase(front.render.segments[0].id))
    edited = front.case(copy).labels
    front.until(front.app.results._keeping.done)
    remove_case(front.app.scene, generated)
    kept = [path.name for path in front.folder.iterdir() if path.name.isdigit()]
    front.app.results._shelf._lock.release()
    front.app.results._shelf = Shelf(front.folder)
    assert len(front.app.results._shelf.names) == len(kept)
    scene = case_names(front.app.scene)
    for name in scene:
        remove_case(front.app.scene, name)
    front.do(front.app.results.restore)
    assert {generated, *(row.name for row in front.results.cases)} == set(front.app.results._shelf.names)
    again = front.case(generated)
    assert provenance.hashes(again) == provenance.hashes(before)
    assert again.provenance == before.provenance
    assert not np.array_equal(edited, before.labels)
    assert np.array_equal(front.case(copy).labels, edited)
    # Nothing is shown that nobody has asked for.
    assert set(front.views.marks.values()) == {""}
    assert is_copy(nodes_of(front.app.scene, copy).segmentation)
    assert {row.name: row.exported for row in front.results.cases}[copy] is False
    front.do(lambda: front.app.results.show(copy))
    assert front.views.marks["Red"] == f"{generated} T1w + {copy} labels SYNTHETIC"
    delete(front, copy)
    assert copy not in front.app.results._shelf.names
    front.do(lambda: front.app.results.show(generated))


def test_a_scan_of_the_scene_is_segmented_and_nothing_in_it_is_synthetic(front, generated):
    front.segment.scan = next(choice.value for choice in front.scene.volumes if generated in choice.title)
    front.do(front.app.segment.segment)
    # Another page asks for something at the same moment, which is no failure of this run.
    front.do(front.app.generate.generate)
    assert front.run.failure.startswith("Busy: segment")
    front.finish()
    assert front.run.ended.startswith("Done")
    assert not front.run.failure
    row = front.results.cases[-1]
    assert row.name.startswith("segment")
    assert not row.synthetic
    assert row.summary == f"labels of {generated} T1w"
    assert front.views.marks["Red"] == f"{generated} T1w + {row.name} labels SYNTHETIC"


def test_cancel_ends_the_run_and_the_button_is_itself_again(front):
    front.generate.count = 20
    front.do(front.app.generate.generate)
    before = len(front.results.cases)
    front.until(lambda: front.run.percent > 0)
    front.do(front.app.run.cancel)
    front.finish()
    front.generate.count = 1
    assert front.run.ended == "Cancelled."
    assert not front.run.failure
    assert len(front.results.cases) <= before + 1


def test_a_failure_shows_its_sentence(front):
    front.engine.device = "cuda:7"
    front.do(front.app.generate.generate)
    front.finish()
    front.engine.device = "auto"
    assert "There is no device 'cuda:7'" in front.run.failure
    contrasts, front.generate.contrasts = front.generate.contrasts, []
    front.do(front.app.generate.generate)
    front.generate.contrasts = contrasts
    assert front.run.section == ""
    assert "contrasts" in front.run.failure


def test_a_moved_slider_makes_a_draft_and_a_later_move_supersedes_it(front):
    cases = len(front.results.cases)
    front.generate.live = True
    front.do(lambda: front.ask(LESION, 0.2))
    front.until(lambda: front.run.section == "generate")
    front.do(lambda: front.ask(LESION, 0.8))
    shown = lambda: PREVIEW in case_names(front.app.scene) and front.case(PREVIEW).provenance.get("request")  # noqa: E731
    front.until(lambda: shown() and shown()["pathologies"] == {LESION: 0.8} and not front.run.section)
    assert shown()["draft"]
    assert len(front.results.cases) == cases
    front.generate.live = False
    front.do(lambda: None)


def test_two_cases_are_compared_in_rows_and_one_alone_is_shown_again(front, generated):
    rows = front.results.cases
    for row in rows:
        row.chosen = row.name in [case.name for case in rows if case.synthetic][:2]
    front.results.cases = rows
    front.do(front.app.results.compare)
    assert front.views.layout == TWO_ROWS
    assert front.views.marks["Red"] != front.views.marks["RedPlus"]
    front.do(lambda: front.app.results.show(generated))
    assert front.views.layout == FOUR_UP


def test_what_is_hidden_while_views_are_arranged_stays_hidden(front, generated):
    async def hide_at_once():
        nodes = nodes_of(front.app.scene, generated)
        arranged = asyncio.ensure_future(front.app.views.compare(nodes, nodes))
        await asyncio.sleep(0.05)
        front.app.views.clear()
        await arranged
        front.app.views.refresh()

    front.do(hide_at_once)
    assert set(front.views.marks.values()) == {""}
    front.do(lambda: front.app.results.show(generated))


def test_a_downloaded_case_is_a_dataset_that_nibabel_reads_and_a_scene(front, generated, tmp_path):
    segmented = next(row.name for row in front.results.cases if not row.synthetic)
    cases = {name: front.case(name) for name in (generated, segmented)}
    write_bids_zip(cases, tmp_path / "case.zip")
    with zipfile.ZipFile(tmp_path / "case.zip") as archive:
        archive.extractall(tmp_path / "out")
    image = nib.load(tmp_path / "out" / "sub-0001" / "anat" / "sub-0001_T1w.nii.gz")
    assert np.abs(image.get_fdata() - cases[generated].images["T1w"]).max() < 1e-3
    labels = nib.load(tmp_path / "out" / segmented / f"{segmented}_dseg.nii.gz")
    assert np.array_equal(np.asarray(labels.dataobj), cases[segmented].labels)
    front.do(lambda: write_mrb(cases[generated], generated, tmp_path / "case.mrb"))
    with zipfile.ZipFile(tmp_path / "case.mrb") as archive:
        assert any(name.endswith(".mrml") for name in archive.namelist())


def test_the_server_lives_until_it_is_stopped(front, monkeypatch):
    """By default it would end five minutes after the last tab was closed."""
    asked, session = {}, SimpleNamespace(close=lambda: asked.update(closed=True))
    monkeypatch.setattr(front.app.server, "start", lambda **options: asked.update(options))
    monkeypatch.setattr(front.app, "session", session)
    front.app.serve("127.0.0.1", 0, "token")
    assert (asked["timeout"], asked["closed"]) == (0, True)


def test_deleted_cases_leave_scene_lists_and_captions(front):
    rows = front.results.cases
    for row in rows:
        row.chosen = True
    front.results.cases = rows
    front.do(front.app.results.delete)
    assert front.results.cases == []
    assert [name for name in case_names(front.app.scene) if name != PREVIEW] == []
    assert front.scene.volumes == []
    assert front.render.segments == []
    assert [path for path in front.folder.iterdir() if path.name.isdigit()] == []
