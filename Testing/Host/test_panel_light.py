"""What the module does when Slicer starts: register itself and what the scene and other modules need of it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import nibabel as nib
import numpy as np
import slicer
from panels import MODULE

from BrainGenLib import anatomy
from BrainGenLib.scene.segmentation import label_map_of

HEAVY = ("torch", "monai", "nibabel", "pydantic", "scipy")
LIGHT = {"", ".anatomy", ".errors", ".scene", ".scene.columns", ".scene.terminology"}
SCRIPT = """
import json, sys
from pathlib import Path
from slicerhost import start

host = start()
# What slicer-core brings is not the module's doing.
before = set(sys.modules)
module = host.load_module(Path(sys.argv[1]))
host.startup_completed()
host.process_events()
import slicer

layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
structures = slicer.modules.terminologies.logic().IsTerminologyContextLoaded("BrainGen")
known = [structures, layout.IsLayoutDescription(7201)]
imported = sorted(set(sys.modules) - before)
print(json.dumps([imported, host.errors, host.pip_requests, len(host.sample_data), known]))
"""


def test_loading_the_module_imports_nothing_heavy_and_installs_nothing():
    # Another process: this one has long imported everything.
    command = [sys.executable, "-c", SCRIPT, str(MODULE)]
    paths = os.pathsep.join(map(str, (Path(__file__).parent, MODULE.parents[1] / "tools")))
    environment = {"PYTHONPATH": paths, "QT_QPA_PLATFORM": "offscreen", "HOME": str(Path.home())}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=120)
    imported, errors, wanted, samples, known = json.loads(answer.stdout.splitlines()[-1])
    assert not [name for name in imported if name.partition(".")[0] in HEAVY]
    assert {name[len("BrainGenLib") :] for name in imported if name.startswith("BrainGenLib")} <= LIGHT
    assert "BrainGenPanel.logic" in imported
    assert (errors, wanted, samples) == ([], [], 3)
    # Segment Editor lists the structures, and a scene that was saved in three columns opens in them.
    assert known == [True, True]


def test_sample_data_are_there_and_are_what_their_checksums_say(host):
    host.load_module(MODULE)
    host.startup_completed()
    assert len(host.sample_data) == 3
    for source in host.sample_data:
        file = Path(url2pathname(urlsplit(source["uris"]).path))
        assert f"SHA256:{hashlib.sha256(file.read_bytes()).hexdigest()}" == source["checksums"]
        assert file.name == source["fileNames"]
        assert Path(source["thumbnailFileName"]).is_file()


def test_the_sample_segmentation_can_be_rendered_over_its_image(host):
    folder = MODULE.parent / "Resources" / "SampleData"
    node = slicer.util.loadSegmentation(str(folder / "BrainGenSample_segmentation.seg.nrrd"))
    labels, affine = label_map_of(node)
    image = nib.load(folder / "BrainGenSample_T1w.nii.gz")
    assert labels.shape == image.shape
    assert np.allclose(affine, image.affine)
    assert (labels == anatomy.lesions()["wmh"].value).sum() > 1000
    assert not np.asarray(image.dataobj)[labels == 0].any()
