"""Sweeps in the browser app: the line that asks for one, and the film that the views show."""

import asyncio

import numpy as np
import pytest
import slicer
from app_process import serving_app
from chromium import chromium
from front import Front
from patience import PATIENCE
from phantoms import phantom_image
from trame_server.utils.typed_state import TypedState

from BrainGenLib import bundles, requests, spaces
from BrainGenLib.browser.stage import FOUR_UP, THREE_COLUMNS
from BrainGenLib.browser.state import FilmState, SweepState
from BrainGenLib.scene.cases import nodes_of
from BrainGenLib.scene.volumes import add_volume


@pytest.fixture(scope="module")
def front(tiny_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINGEN_BUNDLES", str(tiny_folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        front = Front("test-browser-sweep", tmp_path_factory.mktemp("kept"))
        front.engine.bundle = "brain-ldm"
        front.do(lambda: None)
        yield front
        front.session.close()


def line(front, section):
    return TypedState(front.app.server.state, SweepState, namespace=section).data


@pytest.fixture
def film(front):
    return TypedState(front.app.server.state, FilmState).data


@pytest.fixture(scope="module")
def generated(front):
    """Name of a film of a brain that ages."""
    sweep = line(front, "generate")
    sweep.over = "age"
    front.do(lambda: None)
    sweep.start, sweep.stop, sweep.frames = 30, 80, 3
    front.do(front.app.generate.generate)
    assert front.run.section == "generate"
    front.finish()
    assert not front.run.failure
    return front.results.cases[-1].name


def shown(front, name):
    return slicer.util.arrayFromVolume(nodes_of(front.app.scene, name).volumes["T1w"])


def test_the_line_offers_what_bundle_and_contrast_can(front):
    sweep = line(front, "counterfactual")
    front.counterfactual.left = True
    front.do(lambda: None)
    conditions = bundles.find("brain-ldm").metadata.conditions
    settings = {name: name for name in ("drift", "strength", "guidance")}
    assert {choice.value: choice.title for choice in sweep.axes} == settings | {
        one.name: one.label for one in conditions
    }
    sweep.over = "wmh"
    front.do(lambda: None)
    front.counterfactual.contrast = "T1w"
    front.do(lambda: None)
    assert "wmh" not in [choice.value for choice in sweep.axes]
    assert sweep.over == ""
    front.counterfactual.contrast = ""
    sweep.over = "strength"
    front.do(lambda: None)
    assert (sweep.start, sweep.stop, sweep.frames) == (0.1, 1.0, 7)
    front.counterfactual.bundle = "brainspade3d"
    front.do(lambda: None)
    able = requests.sweepable("counterfactual", bundles.find("brainspade3d").metadata)
    assert [choice.value for choice in sweep.axes] == able
    front.counterfactual.bundle, front.counterfactual.left = "brain-ldm", False
    front.do(lambda: None)
    assert "tumour" in [choice.value for choice in sweep.axes]


def test_a_film_stands_in_the_scene_and_its_slider_shows_every_frame(front, generated, film):
    row = front.results.cases[-1]
    assert (row.name, row.summary.split(" · ")[0], row.contrasts) == ("sweep-01", "age 30 to 80", ["T1w"])
    assert front.app.scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 1
    sequence = front.app.scene.GetFirstNodeByClass("vtkMRMLSequenceNode")
    assert sequence.GetNumberOfDataNodes() == 3
    assert (film.case, film.over, film.unit, film.values) == ("sweep-01", "age", "years", ["30", "55", "80"])
    seen = []
    for number in (1, 2, 0):
        film.number = number
        front.do(lambda: None)
        seen.append(shown(front, generated).copy())
        assert np.array_equal(seen[-1], slicer.util.arrayFromVolume(sequence.GetNthDataNode(number)))
    assert not np.array_equal(seen[0], seen[1])
    assert [frame.value for frame in front.case(generated).frames] == [30, 55, 80]


def test_a_film_plays_and_stops(front, generated, film):
    film.number, film.playing = 0, True
    numbers = []
    front.do(lambda: None)
    front.until(lambda: numbers.append(film.number) or {0, 1, 2} <= set(numbers))
    film.playing = False
    front.do(lambda: asyncio.sleep(0.5))
    stood = film.number
    front.do(lambda: asyncio.sleep(0.8))
    assert film.number == stood


def test_what_makes_no_sweep_is_a_sentence(front):
    sweep = line(front, "generate")
    sweep.over = "age"
    front.do(lambda: None)
    for start, frames, said in ((50, 3, "comes twice"), (30, 1, "at least 2"), ("", 3, "Say from where to where")):
        sweep.start, sweep.stop, sweep.frames = start, 50, frames
        front.do(front.app.generate.generate)
        assert front.run.section == ""
        assert said in front.run.failure
    sweep.over = ""
    front.do(lambda: None)


def test_a_film_of_a_scan_stands_beside_it_and_goes_when_deleted(front, film, generated, phantom_classes):
    image = (phantom_image(phantom_classes) * 800).astype(np.float32)
    scan = add_volume(front.app.scene, image, spaces.GRID_2MM.affine, "scan")
    front.do(front.app.views.refresh)
    data, sweep = front.counterfactual, line(front, "counterfactual")
    data.scan, data.contrast = scan.GetID(), "T1w"
    sweep.over = "age"
    front.do(lambda: None)
    sweep.frames = 2
    front.do(front.app.counterfactual.apply)
    front.finish()
    assert not front.run.failure
    assert front.views.layout == THREE_COLUMNS
    name = front.results.cases[-1].name
    assert (film.case, len(film.values)) == (name, 2)
    film.number = 1
    front.do(lambda: None)
    nodes = nodes_of(front.app.scene, name)
    difference = slicer.util.arrayFromVolume(nodes.maps["difference"])
    assert np.allclose(shown(front, name) - slicer.util.arrayFromVolume(scan), difference, atol=0.1)

    front.do(lambda: front.app.results.show(generated))
    assert (front.views.layout, film.case) == (FOUR_UP, generated)
    front.do(lambda: front.app.results.show(name))
    assert (front.views.layout, film.case, film.number) == (THREE_COLUMNS, name, 1)
    rows = front.results.cases
    for row in rows:
        row.chosen = True
    front.results.cases = rows
    front.do(front.app.results.delete)
    assert film.case == ""
    assert front.app.scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 0


async def walk(address, picture):
    """A user asks for growing lesions, and watches them."""
    async with chromium() as page:
        await page.go(address)
        await page.until("!!document.querySelector('#braingen-sweep-generate')")
        assert not await page.evaluate("!!document.querySelector('#braingen-film')")
        await page.evaluate(
            "(e => { e.value = 'wmh'; e.dispatchEvent(new Event('change')) })"
            "(document.querySelector('#braingen-sweep-generate'))"
        )
        await page.until("document.querySelector('#braingen-generate').innerText === 'Make sweep'")
        await page.until("!!document.querySelector('#braingen-frames-generate')")
        await page.evaluate(
            "(e => { e.value = '2'; e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')) })"
            "(document.querySelector('#braingen-frames-generate'))"
        )
        await page.click("#braingen-generate")
        await page.until("!!document.querySelector('#braingen-cancel-generate')")
        await page.until("/Done/.test(document.querySelector('#braingen-state').innerText)", PATIENCE)
        await page.until("!!document.querySelector('#braingen-film')")
        await page.evaluate(
            "(e => { e.value = '1'; e.dispatchEvent(new Event('input')) })(document.querySelector('#braingen-frame'))"
        )
        await page.until("/wmh 1/.test(document.querySelector('#braingen-film').innerText)")
        await asyncio.sleep(4)
        await page.evaluate("document.querySelector('#braingen-generate').scrollIntoView({block: 'end'})")
        await page.picture(picture)
        await page.click("#braingen-play")
        await page.until("/wmh 0/.test(document.querySelector('#braingen-film').innerText)")
        await page.click("#braingen-play")
        assert page.problems == []


def test_a_user_watches_a_film(tiny_folder, tmp_path):
    with serving_app(tiny_folder, tmp_path / "app.log") as (_, address):
        asyncio.run(walk(address, tmp_path / "page.png"))
    assert (tmp_path / "page.png").stat().st_size > 50_000
