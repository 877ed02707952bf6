"""A sweep as a film: Slicer's sequences with the browser that plays them, and a chart of its compromises.

The nodes of the first frame are the proxies, which show whichever frame the browser has come to. Their display, and
so the grey window, is the same for all frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from BrainGenLib import sweeps
from BrainGenLib.case import ATTRIBUTION, Case
from BrainGenLib.scene import judgements
from BrainGenLib.scene.maps import donors_of, fit_colours
from BrainGenLib.scene.segmentation import look_inside, segmentation_of
from BrainGenLib.scene.tables import add_table
from BrainGenLib.scene.volumes import fit_window, volume_of

FRAMES_PER_SECOND = 3.0


def adding(
    scene: Any, case: Case, name: str, volumes: dict[str, Any], maps: dict[str, Any], segmentation: Any | None
) -> Iterator[Any]:
    """Add what plays a sweep, pausing after each frame of each sequence.

    Args:
        scene: vtkMRMLScene.
        case: of a sweep.
        name: of the case.
        volumes, maps, segmentation: the nodes of the first frame, images by contrast and maps by kind; their
            attributes are those of every frame.

    Yields:
        Each new node of the scene, and None when a frame has been added to the last one.
    """
    import slicer

    browser = slicer.vtkMRMLSequenceBrowserNode()
    browser.SetName(f"{name} film")
    browser.SetPlaybackRateFps(FRAMES_PER_SECOND)
    # Rather late than never: there are few frames.
    browser.SetPlaybackItemSkippingEnabled(False)
    browser.SetIndexDisplayFormat("%.4g")
    scene.AddNode(browser)
    yield browser
    frames = [frame.case for frame in case.frames]
    for contrast, proxy in volumes.items():
        fit_window(proxy, [frame.images[contrast] for frame in frames])
        nodes = (volume_of(frame.images[contrast], frame.affine) for frame in frames)
        yield from _filling(scene, browser, case, proxy, nodes)
    for kind, proxy in maps.items():
        if kind != ATTRIBUTION:
            fit_colours(proxy, [frame.maps[kind] for frame in frames])
        node_of = donors_of if kind == ATTRIBUTION else volume_of
        nodes = (node_of(frame.maps[kind], frame.affine) for frame in frames)
        yield from _filling(scene, browser, case, proxy, nodes)
    if segmentation is not None:
        nodes = (segmentation_of(frame.labels, frame.affine) for frame in frames if frame.labels is not None)
        yield from _filling(scene, browser, case, segmentation, nodes)
        # An application that plays films has replaced its segments, and with them what is said of each.
        look_inside(segmentation)


def _filling(scene: Any, browser: Any, case: Case, proxy: Any, nodes: Iterator[Any]) -> Iterator[Any]:
    """A sequence of what a node is to show."""
    import slicer

    over, values = case.measurements["over"], [frame.value for frame in case.frames]
    sequence = slicer.vtkMRMLSequenceNode()
    sequence.SetName(f"{proxy.GetName()} over {over}")
    sequence.SetIndexName(over)
    sequence.SetIndexUnit(case.measurements["unit"])
    sequence.SetIndexType(sequence.NumericIndex)
    # Values that are closer than this would be one to it.
    sequence.SetNumericIndexValueTolerance(float(np.diff(values).min()) / 10)
    scene.AddNode(sequence)
    yield sequence
    for frame, node in zip(case.frames, nodes, strict=True):
        node.SetName(f"{proxy.GetName()} {over}={frame.value:g}")
        for attribute in proxy.GetAttributeNames():
            node.SetAttribute(attribute, proxy.GetAttribute(attribute))
        judgements.note(node, frame.case)
        sequence.SetDataNodeAtValue(node, f"{frame.value:.10g}")
        yield None
    # At once: the application adds another node for a sequence that nothing shows yet.
    modifying = browser.StartModify()
    browser.AddSynchronizedSequenceNode(sequence)
    browser.AddProxyNode(proxy, sequence, False)
    # The frame that is shown already; nothing would say which it is.
    browser.SetSelectedItemNumber(0)
    browser.EndModify(modifying)


def add_table_of_frames(scene: Any, case: Case, name: str) -> Any:
    """A table of the frames of a sweep: value, flip and identity where there are, volumes."""
    frames = case.frames
    columns: dict[str, list[float]] = {case.measurements["over"]: [frame.value for frame in frames]}
    if all("similarity" in frame.case.measurements for frame in frames):
        columns["identity"] = [sweeps.identity(frame.case) for frame in frames]
        columns["flip"] = [math.nan if (found := sweeps.flip(frame.case)) is None else found for frame in frames]
    for structure in frames[0].case.measurements.get("volumes_ml", {}):
        columns[f"{structure} (mL)"] = [frame.case.measurements["volumes_ml"][structure] for frame in frames]
    return add_table(scene, columns, f"{name} frames")


def add_chart(scene: Any, case: Case, name: str, table: Any) -> list[Any]:
    """A chart of flip against identity with the Pareto front, if the sweep has one; all of its nodes."""
    import slicer

    if "front" not in case.measurements:
        return []
    over, numbers = case.measurements["over"], case.measurements["front"]
    front = sorted((case.frames[number - 1].case for number in numbers), key=sweeps.identity)
    best = case.frames[case.measurements["best"] - 1].value
    columns = {
        "identity": [sweeps.identity(one) for one in front],
        "flip": [sweeps.flip(one) or 0.0 for one in front],
    }
    edge = add_table(scene, columns, f"{name} Pareto front")
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", f"{name} flip and identity")
    chart.SetTitle(f"SYNTHETIC, over {over}; best: {best:g}")
    chart.SetXAxisTitle("identity (structural similarity to the scan)")
    chart.SetYAxisTitle("flip (share of what was asked for)")
    nodes = [chart, edge]
    for title, source, line in (("frames", table, False), ("Pareto front", edge, True)):
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", title)
        series.SetAndObserveTableNodeID(source.GetID())
        series.SetXColumnName("identity")
        series.SetYColumnName("flip")
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetLineStyle(series.LineStyleSolid if line else series.LineStyleNone)
        series.SetMarkerStyle(series.MarkerStyleNone if line else series.MarkerStyleCircle)
        series.SetColor(*((0.90, 0.20, 0.12) if line else (0.13, 0.40, 0.90)))
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        nodes.append(series)
    return nodes


def segmentations_of(film: list[Any]) -> list[Any]:
    """The segmentation nodes of all frames, of the nodes that play them."""
    sequences = [node for node in film if node.IsA("vtkMRMLSequenceNode")]
    return [
        sequence.GetNthDataNode(number)
        for sequence in sequences
        if sequence.GetDataNodeClassName() == "vtkMRMLSegmentationNode"
        for number in range(sequence.GetNumberOfDataNodes())
    ]


def nodes_by_frame(browser: Any) -> dict[float, list[Any]]:
    """The nodes of every frame that a vtkMRMLSequenceBrowserNode plays, by the value of what was swept over."""
    sequences = _sequences(browser)
    return {
        float(sequences[0].GetNthIndexValue(number)): [sequence.GetNthDataNode(number) for sequence in sequences]
        for number in range(browser.GetNumberOfItems())
    }


def swept_over(browser: Any) -> dict[str, str]:
    """Name and unit, as the measurements of a sweep have them."""
    first = _sequences(browser)[0]
    return {"over": first.GetIndexName(), "unit": first.GetIndexUnit()}


def _sequences(browser: Any) -> list[Any]:
    import vtk

    found = vtk.vtkCollection()
    browser.GetSynchronizedSequenceNodes(found, True)
    return [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]
