"""What the panel keeps in the scene."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

# Nodes that are chosen in lists. When the chosen one leaves, Qt goes on to the one above it, perhaps of another
# person.
CHOSEN = ("styleVolume", "segmentation", "renderStyleVolume", "scan", "changeScan", "lesions")


@parameterNodeWrapper
class BrainGenParameterNode:
    """All choices of the panel.

    Bundles differ in their conditions and contrasts, so these are kept by name and no name stands in the code.

    pathologies - Load of each pathology that is asked for.
    sides, lobes - Where a pathology lies; absent is anywhere.
    anatomy - Value of each anatomy condition that is asked for; absent is drawn.
    massEffect - How far masses push the tissue at their border aside, mm.
    maxShare - Of the brain that may be of one donor, %.
    drift, ownDrift - Of generated images, in standard deviations between subjects; or as the model has it.
    sweepOver … sweepFrames, changeSweepOver … - The film that is made instead of one case; over nothing: none.
    changeScan … variants - What the section Counterfactual asks for; known is so in the scan, wanted is to be,
        lesionsLeft to the diffusion.
    """

    bundle: str = "brainspade3d"
    pathologies: dict[str, float]
    sides: dict[str, str]
    lobes: dict[str, str]
    anatomy: dict[str, float]
    contrasts: list[str]
    styleVolume: vtkMRMLScalarVolumeNode
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 1
    keepSeed: bool = False
    count: Annotated[int, WithinRange(1, 100)] = 1
    live: bool = False
    massEffect: Annotated[float, WithinRange(0, 10)] = 4.0
    maxShare: Annotated[float, WithinRange(10, 100)] = 30.0
    drift: Annotated[float, WithinRange(-3, 3)] = 0.0
    ownDrift: bool = True
    sweepOver: str = ""
    sweepFrom: float = 0.0
    sweepTo: float = 1.0
    sweepFrames: Annotated[int, WithinRange(2, 32)] = 7
    segmentation: vtkMRMLSegmentationNode
    renderContrasts: list[str]
    renderStyleVolume: vtkMRMLScalarVolumeNode
    scan: vtkMRMLScalarVolumeNode
    changeScan: vtkMRMLScalarVolumeNode
    changeBundle: str = ""
    changeContrast: str = ""
    lesions: vtkMRMLSegmentationNode
    lesionsLeft: bool = False
    known: dict[str, float]
    wanted: dict[str, float]
    changeDrift: Annotated[float, WithinRange(-3, 3)] = 0.0
    autoDrift: bool = False
    strength: Annotated[float, WithinRange(0.1, 1)] = 1.0
    guidance: Annotated[float, WithinRange(0, 10)] = 2.0
    variants: Annotated[int, WithinRange(1, 16)] = 1
    changeSweepOver: str = ""
    changeSweepFrom: float = 0.0
    changeSweepTo: float = 1.0
    changeSweepFrames: Annotated[int, WithinRange(2, 32)] = 7


def forget(parameterNode, node) -> None:
    """Choose a node no more that leaves the scene, nor as lesions what was chosen with it; see :data:`CHOSEN`."""
    if not node.IsA("vtkMRMLScalarVolumeNode") and not node.IsA("vtkMRMLSegmentationNode"):
        return
    if parameterNode.changeScan is node:
        # No other scan has these.
        parameterNode.lesions = None
    for name in CHOSEN:
        if getattr(parameterNode, name) is node:
            setattr(parameterNode, name, None)
