"""The host over Slicer's own Python files, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

SOURCE = os.environ.get("SLICER_SOURCE")
TEMPLATE = "Utilities/Templates/Modules/Scripted/TemplateKey.py"


@pytest.mark.skipif(not SOURCE, reason="SLICER_SOURCE does not name a source tree of Slicer")
def test_slicers_own_template_runs_on_slicers_own_files(host):
    import slicer

    for module in (slicer.util, slicer.ScriptedLoadableModule, slicer.parameterNodeWrapper, slicer.i18n):
        assert Path(module.__file__).is_relative_to(SOURCE)
    template = host.load_module(Path(SOURCE) / TEMPLATE)
    host.startup_completed()
    panel = host.open(template)
    assert len(host.sample_data) == 2

    node = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16), name="scan")
    panel.ui.inputSelector.setCurrentNode(node)
    assert panel._parameterNode.inputVolume is node
    assert not panel.ui.applyButton.enabled
    panel.ui.outputSelector.addNode()
    assert panel.ui.applyButton.enabled
    panel.ui.imageThresholdSliderWidget.value = 50
    assert panel._parameterNode.imageThreshold == 50
    panel._parameterNode.imageThreshold = 70
    assert panel.ui.imageThresholdSliderWidget.value == 70

    slicer.mrmlScene.Clear(0)
    assert not panel.ui.applyButton.enabled
    assert host.errors == host.missing == []
    host.close(template)
