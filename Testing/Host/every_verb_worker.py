"""A worker that starts in a moment and answers every verb of the panel with a small case of the right kind."""

import numpy as np
import quick_worker
from quick_worker import cube

from BrainGenLib import anatomy
from BrainGenLib.case import Case, Frame


def case_of(request) -> Case:
    seed = getattr(request, "seed", 1)
    made = {"request": request.model_dump(mode="json")}
    case = cube(seed)
    case.provenance = made
    case.labels[case.labels == 77] = 2
    # A voxel of each structure, and of each lesion that is asked for.
    present = [label.value for label in anatomy.labels()[1:] if label.kind == "structure"]
    present += [anatomy.lesions()[name].value for name in getattr(request, "pathologies", {})]
    case.labels[6, 6 : 6 + 14, 6] = present[:14]
    case.labels[7, 6 : 6 + len(present) - 28, 7] = present[28:]
    case.labels[8, 6:20, 8] = present[14:28]
    if request.verb == "segment":
        return Case({}, case.labels, case.affine, provenance=made, synthetic=False)
    if request.verb == "sweep":
        frames = [
            Frame(value, case_of(request.of.model_copy(update={"seed": 5 + i})))
            for i, value in enumerate(request.values)
        ]
        return Case({}, None, case.affine, {"over": request.over, "unit": ""}, made, frames=frames)
    if request.verb == "counterfactual":
        case.images = {request.contrast or "T1w": case.images["T1w"]}
        case.maps["difference"] = next(iter(case.images.values())) - np.float32(0.4)
    else:
        case.images = {name: case.images["T1w"] for name in request.contrasts}
    return case


if __name__ == "__main__":
    quick_worker.case_of = case_of
    quick_worker.main()
