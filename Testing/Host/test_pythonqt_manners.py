"""Each rule of PythonQt that PySide6 alone would not show."""

from __future__ import annotations

import functools

import pytest


@pytest.fixture
def qt(host):
    import qt

    return qt


@pytest.fixture
def button(qt):
    return qt.QPushButton("Go")


def test_a_property_is_an_attribute(button):
    assert button.text == "Go"
    button.text = "Stop"
    assert button.text == "Stop"


def test_calling_a_property_fails(button):
    with pytest.raises(TypeError, match="not callable"):
        button.text()


def test_getters_that_are_no_property_stay_methods(qt, button):
    layout = qt.QVBoxLayout()
    layout.addWidget(button)
    assert layout.count() == 1
    assert qt.QListWidgetItem("one").text() == "one"


def test_setters_stand_beside_the_properties_of_qts_own_classes(button):
    button.setText("Stop")
    assert button.text == "Stop"


def test_a_class_of_ctk_has_those_setters_that_are_slots(host):
    import ctk

    slider = ctk.ctkSliderWidget()
    slider.setDecimals(1)
    slider.setValue(2.5)
    assert slider.value == 2.5
    for name in ("Minimum", "Maximum", "SingleStep", "Suffix"):
        with pytest.raises(AttributeError, match=f"ctkSliderWidget has no attribute named 'set{name}'"):
            getattr(slider, f"set{name}")
    slider.singleStep = 0.5
    assert slider.singleStep == 0.5
    with pytest.raises(AttributeError, match="no attribute named 'setCollapsed'"):
        ctk.ctkCollapsibleButton().setCollapsed(True)


def test_a_class_of_ctk_is_made_with_a_parent_or_nothing(qt):
    import ctk

    panel = qt.QWidget()
    section = ctk.ctkCollapsibleButton(panel)
    assert section.text == ""
    with pytest.raises(ValueError, match="matching overload"):
        ctk.ctkCollapsibleButton("Section", None)


def test_a_property_that_cannot_be_set_says_so(host):
    import slicer

    frame = slicer.qSlicerAbstractModuleWidget()
    with pytest.raises(
        AttributeError, match="Property 'isEntered' of qSlicerAbstractModuleWidget object is not writ"
    ):
        frame.isEntered = True


def test_what_a_stand_in_lacks_is_no_fault_of_the_module(host):
    import ctk

    slider = ctk.ctkSliderWidget()
    with pytest.raises(NotImplementedError, match="lacks popupSlider"):
        slider.popupSlider = True
    with pytest.raises(NotImplementedError, match="lacks tickInterval"):
        _ = slider.tickInterval
    assert host.missing == ["ctkSliderWidget.popupSlider", "ctkSliderWidget.tickInterval"]


def test_only_classes_that_every_version_has_can_be_named(host):
    import ctk
    import slicer

    with pytest.raises(AttributeError, match="has no attribute 'ctkSuperSlider'"):
        _ = ctk.ctkSuperSlider
    with pytest.raises(AttributeError, match="has no attribute 'qMRMLSuperSlider'"):
        _ = slicer.qMRMLSuperSlider


def test_a_property_takes_neither_none_nor_another_type(button):
    with pytest.raises(ValueError, match="does not accept None"):
        button.text = None
    with pytest.raises(TypeError):
        button.text = 3


def test_a_connection_by_signature_calls_the_slot(button):
    called = []
    assert button.connect("clicked(bool)", called.append)
    button.click()
    assert called == [False]


def test_a_wrong_signature_gives_false_and_is_noted(host, button):
    assert button.connect("clicked(int)", print) is False
    assert button.connect("pressed(bool)", print) is False
    assert [error.split(" has ")[1] for error in host.errors] == ["no signal clicked(int)", "no signal pressed(bool)"]


def test_signatures_are_normalised(qt):
    edit, called = qt.QLineEdit(), []
    assert edit.connect("textChanged(const QString &)", called.append)
    edit.text = "a"
    assert called == ["a"]


def test_what_pyside_calls_a_node_is_no_signature(host):
    import slicer

    assert slicer.qMRMLNodeComboBox().connect("currentNodeChanged(PyObject)", print) is False
    assert slicer.qMRMLNodeComboBox().connect("currentNodeChanged(vtkMRMLNode*)", print)


def test_a_slot_gets_as_many_arguments_as_it_has_parameters(button):
    called = []

    class Panel:
        def on_click(self):
            called.append("no argument")

    panel = Panel()
    button.connect("clicked(bool)", panel.on_click)
    button.connect("clicked(bool)", lambda: called.append("neither"))
    button.click()
    assert called == ["no argument", "neither"]


def test_parameters_with_defaults_count(button):
    called = []

    def on_click(seed=None):
        called.append(seed)

    button.connect("clicked(bool)", on_click)
    button.click()
    assert called == [False]


def test_keyword_only_parameters_do_not_count(button):
    called = []

    def on_click(*, seed=None):
        called.append(seed)

    button.connect("clicked(bool)", on_click)
    button.click()
    assert called == [None]


def test_star_arguments_and_partials_get_all(button):
    called = []
    button.connect("clicked(bool)", lambda *args: called.append(args))
    button.connect("clicked(bool)", functools.partial(called.append))
    button.click()
    assert called == [(False,), False]


def test_a_slot_that_wants_more_than_the_signal_has_is_noted(host, button):
    button.connect("clicked()", lambda checked: None)
    button.click()
    assert "missing 1 required positional argument" in host.errors[0]


def test_an_exception_in_a_slot_is_noted_and_not_raised(host, button, capsys):
    def on_click():
        raise KeyError("T1w")

    button.connect("clicked(bool)", on_click)
    button.click()
    assert len(host.errors) == 1
    assert host.errors[0].endswith("on_click: KeyError: 'T1w'")
    assert "Traceback" in capsys.readouterr().err


def test_disconnecting_wants_an_equal_callable(button):
    called = []

    class Panel:
        def on_click(self):
            called.append(1)

    panel = Panel()
    button.connect("clicked(bool)", panel.on_click)
    assert button.disconnect("clicked(bool)", lambda: None) is False
    assert button.disconnect("clicked(bool)", panel.on_click) is True
    assert button.disconnect("clicked(bool)", panel.on_click) is False
    button.click()
    assert called == []


def test_signals_are_attributes_that_take_one_argument(button):
    called = []
    assert button.clicked.connect(lambda checked: called.append(checked))
    button.click()
    assert called == [False]
    with pytest.raises(TypeError):
        button.clicked.connect(called.append, 1)


def test_a_slot_of_another_object_is_named_by_its_signature(host, qt, button):
    box = qt.QCheckBox()
    assert box.connect("toggled(bool)", button, "setDisabled(bool)")
    box.checked = True
    assert not button.enabled
    assert box.connect("toggled(bool)", button, "setNothing(bool)") is False
    assert "no slot setNothing(bool)" in host.errors[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda qt, button: qt.QPushButton(text="Go"),
        lambda qt, button: button.setText(text="Go"),
        lambda qt, button: qt.QTimer.singleShot(0, receiver=print),
        lambda qt, button: qt.QMessageBox.question(None, "title", text="Sure?"),
    ],
)
def test_keyword_arguments_are_refused(qt, button, call):
    with pytest.raises(TypeError, match="keyword"):
        call(qt, button)


def test_nothing_can_be_added_to_a_widget(button):
    with pytest.raises(AttributeError, match="has no attribute named 'seed'"):
        button.seed = 1


def test_methods_of_a_widget_cannot_be_replaced(button):
    with pytest.raises(AttributeError, match="cannot be overwritten"):
        button.click = print


def test_a_python_subclass_takes_attributes_and_overrides_virtual_methods(qt):
    class Dialog(qt.QDialog):
        def __init__(self, parent=None):
            qt.QDialog.__init__(self, parent)
            self.closed = False

        def closeEvent(self, event):
            self.closed = True
            super().closeEvent(event)

    dialog = Dialog()
    dialog.show()
    dialog.close()
    assert dialog.closed
    assert not dialog.visible


def test_an_object_is_one_in_python_however_it_is_reached(qt, button):
    panel = qt.QWidget()
    qt.QVBoxLayout(panel).addWidget(button)
    button.name = "go"
    assert panel.layout().itemAt(0).widget() is button
    assert panel.findChild(qt.QPushButton, "go") is button
    assert panel.findChildren("QPushButton") == (button,)
    assert panel.go is button


def test_dynamic_properties_are_attributes(button):
    button.setProperty("SlicerParameterName", "amount")
    assert button.SlicerParameterName == "amount"
    assert button.property("SlicerParameterName") == "amount"


def test_a_deleted_object_raises_value_error(qt, host):
    panel = qt.QWidget()
    button = qt.QPushButton("Go", panel)
    panel.deleteLater()
    host.process_events()
    with pytest.raises(ValueError, match="deleted"):
        _ = button.text


def test_a_widget_without_parent_goes_with_its_last_reference(qt, host):
    timer, called = qt.QTimer(), []
    timer.connect("timeout()", lambda: called.append(1))
    timer.start(1)
    del timer
    host.process_events(0.05)
    assert called == []


def test_the_class_of_a_widget_is_its_type(qt, button):
    import ctk
    import slicer

    assert type(button) == qt.QPushButton
    assert type(ctk.ctkSliderWidget()) == ctk.ctkSliderWidget
    assert slicer.qMRMLWidget().className() == "qMRMLWidget"
    assert button.inherits("QAbstractButton")


def test_enums_are_ints_on_class_and_instance(qt):
    process = qt.QProcess()
    assert process.state() == qt.QProcess.NotRunning == qt.QProcess.ProcessState.NotRunning == process.NotRunning == 0
    assert isinstance(qt.Qt.AlignLeft | qt.Qt.AlignTop, int)
    label = qt.QLabel()
    label.setAlignment(qt.Qt.AlignLeft | qt.Qt.AlignTop)
    assert label.alignment == qt.Qt.AlignLeft | qt.Qt.AlignTop


def test_lists_come_back_as_tuples(host):
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)


def test_exec_works_with_and_without_underscore(host, qt):
    host.dialogs.answer = False
    assert qt.QDialog().exec_() == qt.QDialog().exec() == 0


def test_file_dialogs_return_one_string(host, qt, tmp_path):
    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nii.gz") == ""
    host.dialogs.path = tmp_path
    assert qt.QFileDialog.getExistingDirectory() == str(tmp_path)


def test_single_shot_calls_later(host, qt):
    called = []
    qt.QTimer.singleShot(0, lambda: called.append(1))
    assert called == []
    host.wait_until(lambda: called, timeout=2)
    timer = qt.QTimer()
    timer.singleShot = True
    assert timer.singleShot is True
