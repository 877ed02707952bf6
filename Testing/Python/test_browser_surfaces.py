"""The 3D view of the browser app: what it shows while surfaces are made, and after a film has moved on."""

import numpy as np
import pytest
from front import Front
from trame_server.utils.typed_state import TypedState

from BrainGenLib import anatomy
from BrainGenLib.browser.state import FilmState
from BrainGenLib.browser.surfaces import adding_surfaces
from BrainGenLib.case import Case, Frame
from BrainGenLib.scene.case_to_scene import add_case
from BrainGenLib.scene.cases import remove_case
from BrainGenLib.scene.showing import show

NAME = "sub-0001"
WHITE, CORTEX, VENTRICLE, ACCUMBENS = (
    next(label.value for label in anatomy.labels() if label.name == f"left {name}")
    for name in ("cerebral white matter", "cerebral cortex", "lateral ventricle", "accumbens area")
)
LESION = anatomy.lesions()["wmh"]


def brain(lesion):
    """A box of a brain, with a lesion of so many voxels' length."""
    labels = np.zeros((32, 32, 32), np.uint16)
    labels[2:30, 2:30, 2:30] = CORTEX
    labels[4:28, 4:28, 4:28] = WHITE
    labels[8:14, 8:16, 8:14] = VENTRICLE
    labels[20:24, 8:12, 8:14] = ACCUMBENS
    labels[20:24, 20 : 20 + lesion, 20:24] = LESION.value
    return Case({"T1w": labels.astype(np.float32)}, labels, np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def front(tiny_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINGEN_BUNDLES", str(tiny_folder))
        front = Front("test-browser-surfaces", tmp_path_factory.mktemp("kept"))
        yield front
        front.session.close()


@pytest.fixture
def scene(front):
    yield front.app.scene
    remove_case(front.app.scene, NAME)


def points(node):
    """Number of points of the surface of each segment that has one."""
    segmentation = node.GetSegmentation()
    surfaces = {
        name: segmentation.GetSegment(name).GetRepresentation("Closed surface")
        for name in segmentation.GetSegmentIDs()
    }
    return {name: surface.GetNumberOfPoints() for name, surface in surfaces.items() if surface is not None}


def drawn(front):
    """Numbers of points of what the 3D view draws."""
    (view,) = front.app.views._stage.app.view_manager.get_threed_views()
    actors = view.first_renderer().GetActors()
    actors.InitTraversal()
    seen = [actors.GetNextActor() for _ in range(actors.GetNumberOfItems())]
    counts = []
    for mapper in (actor.GetMapper() for actor in seen if actor.GetVisibility()):
        if mapper is not None and mapper.GetInput() is not None:
            mapper.Update()
            counts.append(mapper.GetInput().GetNumberOfPoints())
    return sorted(counts)


def test_every_surface_is_seen_as_soon_as_it_is_made_and_none_is_made_by_mrml(front, scene):
    node = add_case(scene, brain(4), NAME).segmentation
    growing = [(points(node), drawn(front)) for _ in adding_surfaces(node)]
    for made, (surfaces, seen) in enumerate(growing, 1):
        assert sorted(count for count in surfaces.values() if count) == seen
        assert len(seen) == made
    assert len(growing) == 4
    assert points(node)["left cerebral white matter"] == 0
    assert list(adding_surfaces(node)) == []


def test_a_film_that_moves_on_is_seen_in_the_round_and_its_cerebrum_stays_glass(front, scene):
    frames = [Frame(float(length), brain(length)) for length in (0, 4, 8)]
    film = Case({}, None, frames[0].case.affine, {"over": "wmh", "unit": "load"}, frames=frames)
    nodes = add_case(scene, film, NAME)
    node, display = nodes.segmentation, nodes.segmentation.GetDisplayNode()

    def whole(lesion):
        # The lesion is the last that gets its surface.
        front.until(lambda: all(points(node).get(name) for name in ("left accumbens area", *[LESION.name] * lesion)))
        assert drawn(front) == sorted(count for count in points(node).values() if count)
        assert display.GetSegmentOpacity3D("left cerebral cortex") == pytest.approx(0.12)
        assert not display.GetSegmentVisibility3D("left cerebral white matter")
        assert len(drawn(front)) == 3 + lesion
        return points(node).get(LESION.name)

    front.do(lambda: front.app.views.show(nodes, np.zeros(3)))
    assert whole(False) is None
    data = TypedState(front.app.server.state, FilmState).data
    sizes = []
    for number in (1, 2):
        data.number = number
        front.do(lambda: None)
        sizes.append(whole(True))
    assert sizes[0] < sizes[1]


def test_a_case_that_is_shown_leaves_without_an_error_of_vtk(front, scene):
    nodes = add_case(scene, brain(4), NAME)
    show(scene, nodes, np.zeros(3))
    assert list(adding_surfaces(nodes.segmentation))
    errors = []
    nodes.segmentation.GetSegmentation().AddObserver("ErrorEvent", lambda *_: errors.append(1))
    remove_case(scene, NAME)
    assert errors == []
    assert drawn(front) == []
