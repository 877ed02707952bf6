"""A worker that starts in a moment: it speaks the language of job folders, and its cases are a cube in a cube.

For what a panel must survive, which has nothing to do with models.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Event, Failure, Job

STEPS = 5
STEP_SECONDS = float(os.environ.get("STEP_SECONDS", 0.05))


def cube(seed: int) -> Case:
    labels = np.zeros((20, 24, 16), np.uint16)
    labels[4:16, 4:20, 4:12] = 2
    labels[8:12, 8:12, 6:10] = 77
    image = (labels > 0) * np.float32(0.5) + np.random.default_rng(seed).random(labels.shape, np.float32) / 4
    request = {"verb": "generate", "seed": seed, "bundle": "brainspade3d", "contrasts": ["T1w"]}
    return Case({"T1w": image}, labels, np.diag([8.0, 8.0, 8.0, 1.0]), provenance={"request": request})


def case_of(request) -> Case:
    return cube(request.seed)


def run(job: Job) -> None:
    """As the real one: whatever happens to a job, the next one is done."""
    if job.state.finished:
        return
    try:
        work(job)
    except (BadInput, OSError) as error:
        with suppress(FileNotFoundError):  # the job was removed
            job.fail(Failure(code="failed", message=str(error)))


def work(job: Job) -> None:
    request = job.request()
    steps = getattr(request, "steps", None) or STEPS
    for step in range(steps):
        if job.cancel_requested:
            job.fail(Failure(code="cancelled", message="Cancelled."))
            return
        job.append(Event(time=time.time(), stage="labels", step=step, of=steps, seconds_left=steps - step))
        if step == steps // 2:
            (job.folder / "previews").mkdir(exist_ok=True)
            cube(1).save(job.folder / "previews" / "labels")
            job.append(Event(time=time.time(), stage="preview", preview="previews/labels"))
        time.sleep(STEP_SECONDS)
    case_of(request).save(job.folder / "result.part")
    os.replace(job.folder / "result.part", job.folder / "result")


def end_with_parent() -> None:
    """As the real one: the process that started it is gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def main() -> None:
    """Run jobs until standard input ends."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    for line in sys.stdin:
        run(Job(Path(line.rstrip("\n"))))


if __name__ == "__main__":
    main()
