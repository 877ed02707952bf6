"""The parameter node wrapper, whether Slicer's or the host's own."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest


class Pathology(enum.Enum):
    WMH = "white matter hyperintensity"
    STROKE = "stroke"


class Contrast(enum.Enum):
    T1W = 1
    FLAIR = 2

    @staticmethod
    def label(value: Contrast) -> str:
        return value.name.lower()


@pytest.fixture
def slicer(host):
    import slicer

    return slicer


@pytest.fixture
def described(slicer):
    """A class with a parameter of each type."""
    from slicer.parameterNodeWrapper import Choice, Default, Maximum, Minimum, WithinRange, parameterNodeWrapper

    class Choices:
        text: str
        number: int
        real: float
        flag: bool
        scan: slicer.vtkMRMLScalarVolumeNode
        shape: slicer.vtkMRMLModelNode | slicer.vtkMRMLSegmentationNode | None
        folder: Path
        names: list[str]
        loads: dict[str, float]
        pathology: Pathology
        contrast: Contrast = Contrast.FLAIR
        seed: Annotated[int, WithinRange(0, 99)] = 7
        drift: Annotated[float, Minimum(-3), Maximum(3), Default(0.5)]
        device: Annotated[str, Choice(["auto", "cpu"])] = "auto"

    # Local names are not seen when annotations are read later.
    Choices.__annotations__ = {
        "text": str,
        "number": int,
        "real": float,
        "flag": bool,
        "scan": slicer.vtkMRMLScalarVolumeNode,
        "shape": slicer.vtkMRMLModelNode | slicer.vtkMRMLSegmentationNode | None,
        "folder": Path,
        "names": list[str],
        "loads": dict[str, float],
        "pathology": Pathology,
        "contrast": Contrast,
        "seed": Annotated[int, WithinRange(0, 99)],
        "drift": Annotated[float, Minimum(-3), Maximum(3), Default(0.5)],
        "device": Annotated[str, Choice(["auto", "cpu"])],
    }
    return parameterNodeWrapper(Choices)


@pytest.fixture
def node(slicer):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def choices(described, node):
    return described(node)


@pytest.fixture
def gui(host):
    """A widget of each kind that is bound to a parameter, by the name of the parameter."""
    import ctk
    import qt
    import slicer

    widgets = {
        "text": qt.QLineEdit(),
        "number": qt.QSpinBox(),
        "real": qt.QDoubleSpinBox(),
        "flag": qt.QCheckBox(),
        "scan": slicer.qMRMLNodeComboBox(),
        "shape": slicer.qMRMLNodeComboBox(),
        "folder": ctk.ctkPathLineEdit(),
        "pathology": qt.QComboBox(),
        "contrast": qt.QComboBox(),
        "seed": qt.QSlider(),
        "drift": ctk.ctkSliderWidget(),
        "device": qt.QComboBox(),
    }
    panel = qt.QWidget()
    layout = qt.QVBoxLayout(panel)
    for name, widget in widgets.items():
        widget.name = f"{name}Widget"
        widget.setProperty("SlicerParameterName", name)
        layout.addWidget(widget)
    widgets["scan"].noneEnabled = True
    widgets["scan"].setMRMLScene(slicer.mrmlScene)
    return slicer.util.childWidgetVariables(panel), panel


NEW_VALUES = {
    "text": "a",
    "number": -4,
    "real": 2.5,
    "flag": True,
    "folder": Path("/a/b"),
    "names": ["T1w", "FLAIR"],
    "loads": {"wmh": 0.5},
    "pathology": Pathology.STROKE,
    "contrast": Contrast.T1W,
    "seed": 99,
    "drift": -3.0,
    "device": "cpu",
}


def test_fresh_parameters_hold_their_defaults(choices):
    assert (choices.text, choices.number, choices.real, choices.flag, choices.scan) == ("", 0, 0.0, False, None)
    assert choices.folder == Path()
    assert choices.names == []
    assert choices.loads == {}
    assert choices.pathology is Pathology.WMH
    assert choices.contrast is Contrast.FLAIR
    assert (choices.seed, choices.drift, choices.device) == (7, 0.5, "auto")


@pytest.mark.parametrize("name", NEW_VALUES)
def test_values_are_kept_in_the_node(described, node, choices, name):
    setattr(choices, name, NEW_VALUES[name])
    again = described(node)
    assert getattr(again, name) == NEW_VALUES[name]
    assert again.parameterNode is node


def test_values_are_saved_with_the_scene(described, choices, slicer, tmp_path):
    scan = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16), name="scan")
    scan.SetSaveWithScene(True)
    choices.scan, choices.loads = scan, {"wmh": 0.25}
    file = tmp_path / "scene.mrml"
    slicer.mrmlScene.Commit(str(file))
    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.SetURL(str(file))
    slicer.mrmlScene.Connect()
    again = described(slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScriptedModuleNode"))
    assert again.loads == {"wmh": 0.25}
    assert again.seed == 7


def test_a_list_or_dict_that_is_changed_is_kept(described, node, choices):
    choices.names.append("T1w")
    choices.loads["wmh"] = 1.0
    again = described(node)
    assert again.names == ["T1w"]
    assert dict(again.loads) == {"wmh": 1.0}
    with pytest.raises(TypeError):
        again.loads.get("stroke", 0.0)


def test_a_node_that_is_removed_is_none(choices, slicer):
    choices.scan = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16))
    assert choices.scan.IsA("vtkMRMLScalarVolumeNode")
    slicer.mrmlScene.RemoveNode(choices.scan)
    assert choices.scan is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", 3),
        ("text", None),
        ("number", 2.5),
        ("real", "2"),
        ("flag", 1),
        ("folder", "/a"),
        ("names", [1]),
        ("loads", {"wmh": "much"}),
        ("seed", 100),
        ("drift", -3.5),
        ("device", "tpu"),
        ("pathology", "WMH"),
    ],
)
def test_other_values_are_refused(choices, name, value):
    before = getattr(choices, name)
    with pytest.raises((TypeError, ValueError)):
        setattr(choices, name, value)
    assert getattr(choices, name) == before


def test_a_union_of_node_classes_holds_any_of_them(choices, slicer):
    for kind in ("vtkMRMLModelNode", "vtkMRMLSegmentationNode"):
        choices.shape = slicer.mrmlScene.AddNewNodeByClass(kind)
        assert choices.shape.IsA(kind)
    with pytest.raises((TypeError, ValueError)):
        choices.shape = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")


def test_a_change_is_an_event_of_the_node(choices, slicer):
    import vtk

    class Panel(slicer.util.VTKObservationMixin):
        def __init__(self):
            super().__init__()
            self.seen = 0

        def on_modified(self, caller, event):
            self.seen += 1

    panel = Panel()
    panel.addObserver(choices, vtk.vtkCommand.ModifiedEvent, panel.on_modified)
    choices.number = 4
    assert panel.seen == 1
    with slicer.util.NodeModify(choices):
        choices.number = 5
        choices.flag = True
    assert panel.seen == 2
    panel.removeObserver(choices, vtk.vtkCommand.ModifiedEvent, panel.on_modified)
    choices.number = 6
    assert panel.seen == 2


def test_widgets_show_the_parameters_and_change_them(host, choices, gui, slicer):
    ui, _ = gui
    scan = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16))
    tag = choices.connectGui(ui)
    assert ui.contrastWidget.currentText == "flair"
    assert [ui.deviceWidget.itemText(index) for index in range(ui.deviceWidget.count)] == ["auto", "cpu"]
    assert (ui.seedWidget.minimum, ui.seedWidget.maximum, ui.seedWidget.value) == (0, 99, 7)
    assert (ui.driftWidget.minimum, ui.driftWidget.maximum) == (-3, 3)
    assert ui.scanWidget.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert set(ui.shapeWidget.nodeTypes) == {"vtkMRMLModelNode", "vtkMRMLSegmentationNode"}

    ui.textWidget.text = "a"
    ui.numberWidget.value = -4
    ui.realWidget.value = 2.5
    ui.flagWidget.checked = True
    ui.folderWidget.currentPath = "/a/b"
    ui.pathologyWidget.currentIndex = 1
    ui.contrastWidget.setCurrentText("t1w")
    ui.seedWidget.value = 99
    ui.driftWidget.value = -3
    ui.deviceWidget.currentIndex = 1
    ui.scanWidget.setCurrentNode(scan)
    for name in ("text", "number", "real", "flag", "folder", "pathology", "contrast", "seed", "drift", "device"):
        assert getattr(choices, name) == NEW_VALUES[name]
    assert choices.scan is scan

    choices.seed, choices.flag, choices.scan, choices.pathology = 3, False, None, Pathology.WMH
    assert (ui.seedWidget.value, ui.flagWidget.checked, ui.scanWidget.currentNode()) == (3, False, None)
    assert ui.pathologyWidget.currentIndex == 0

    choices.disconnectGui(tag)
    ui.seedWidget.value = 50
    choices.number = 11
    assert (choices.seed, ui.numberWidget.value) == (3, -4)
    assert host.errors == []


def test_a_widget_that_shows_fewer_digits_leaves_the_value_alone(choices, gui):
    ui, _ = gui
    choices.connectGui(ui)
    choices.drift = 1.2345
    assert ui.driftWidget.value == 1.23
    assert choices.drift == 1.2345


def test_a_panel_can_be_given_instead_of_its_children(choices, gui):
    _, panel = gui
    choices.connectGui(panel)
    choices.text = "seen"
    assert panel.textWidget.text == "seen"


def test_widget_and_type_must_go_together(choices, host):
    import ctk
    import qt
    from slicer.parameterNodeWrapper import createGuiConnector

    for widget, kind in [
        (qt.QCheckBox(), int),
        (qt.QSpinBox(), float),
        (qt.QLineEdit(), int),
        (ctk.ctkSliderWidget(), float),
        (qt.QSlider(), int),
        (qt.QComboBox(), str),
        (qt.QToolButton(), bool),
        (qt.QLineEdit(), Path),
    ]:
        with pytest.raises((RuntimeError, TypeError)):
            createGuiConnector(widget, kind)


def test_a_name_that_is_no_parameter_is_refused(choices, gui):
    ui, _ = gui
    ui.textWidget.setProperty("SlicerParameterName", "texd")
    with pytest.raises(ValueError, match="texd"):
        choices.connectGui(ui)


def test_a_type_that_cannot_be_kept_is_refused(slicer):
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    class Choices:
        several: set[str]

    with pytest.raises(Exception, match=r"several|set"):
        parameterNodeWrapper(Choices)
