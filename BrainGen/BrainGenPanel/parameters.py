"""What the panel keeps in the scene."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class BrainGenParameterNode:
    """All choices of the panel.

    Bundles differ in their conditions and contrasts, so these are kept by name and no name stands in the code.

    pathologies - Load of each pathology that is asked for.
    sides, lobes - Where a pathology lies; absent is anywhere.
    anatomy - Value of each anatomy condition that is asked for; absent is drawn.
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
    segmentation: vtkMRMLSegmentationNode
    renderContrasts: list[str]
    renderStyleVolume: vtkMRMLScalarVolumeNode
    scan: vtkMRMLScalarVolumeNode
