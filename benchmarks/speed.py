"""Cases and counterfactuals from end to end on two cores: first preview, whole case, peak memory.

Cases once through job folders, as the panel does it (a cold worker, then the same worker warm), once from the command
line; counterfactuals of the sample scan through job folders: the first question about a scan waits for its
segmentation, the next one does not.

    python benchmarks/speed.py --out benchmarks/results/speed.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from BrainGenLib.evaluation.results import Headline, Result, Table
from BrainGenLib.jobs import Job, State, WorkerProcess
from BrainGenLib.requests import Counterfactual, Generate, Request, inputs_of

CONTRASTS = ["T1w", "FLAIR"]
PREVIEW_S, CASE_S, MEMORY_GB = 3.0, 60.0, 5.0
CPU_SHARE, MEMORY_SHARE = 0.4, 0.6
"""Of the CPU-seconds and the memory of the build before anatomy was sampled by patch diffusion, at most."""
CHANGE_PREVIEW_S, CHANGE_S = 15.0, 90.0
SAMPLE = Path(__file__).parents[1] / "BrainGen" / "Resources" / "SampleData" / "BrainGenSample_T1w.nii.gz"


class PeakMemory:
    """Largest resident memory of a process and its children, in GB, read 20 times a second."""

    def __init__(self, pid: int) -> None:
        self.gigabytes = 0.0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
                self.gigabytes = max(self.gigabytes, sum(one.memory_info().rss for one in tree) / 1e9)
            except psutil.NoSuchProcess:
                continue

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@dataclass
class Timing:
    """Seconds from submitting a request; ``preview`` is None where nothing shows one."""

    what: str
    preview: float | None
    case: float
    memory: float

    def row(self) -> list[str | float | int | None]:
        return [self.what, self.preview, self.case, self.memory]


def a_case(seed: int, device: str) -> Generate:
    return Generate(pathologies={"wmh": 0.05}, contrasts=CONTRASTS, seed=seed, device=device)


def changes(device: str) -> dict[str, Counterfactual]:
    """Questions about the sample scan, in this order."""

    def by_diffusion(age: float) -> Counterfactual:
        return Counterfactual(
            scan=SAMPLE.name, contrast="T1w", known={"age": 45.0}, wanted={"age": age}, device=device
        )

    return {
        "older, by diffusion; first question about the scan": by_diffusion(75.0),
        "older still, by diffusion": by_diffusion(85.0),
        "larger ventricles, by labels": Counterfactual(
            bundle="brainspade3d", scan=SAMPLE.name, contrast="T1w", wanted={"ventricles": 60.0}, device=device
        ),
    }


def through_job(what: str, worker: WorkerProcess, folder: Path, request: Request, started: float) -> Timing:
    """Run one request in a worker and watch its folder, as the panel does.

    Raises:
        RuntimeError: the job failed.
    """
    job = Job.create(folder, request, dict.fromkeys(inputs_of(request), SAMPLE))
    preview = None
    with PeakMemory(worker.pid) as memory:
        worker.submit(job)
        while not job.state.finished:
            time.sleep(0.02)
            if any(event.preview for event in job.poll(worker)) and preview is None:
                preview = time.monotonic() - started
        took = time.monotonic() - started
    if job.state is not State.DONE:
        raise RuntimeError(f"The job failed: {job.failure}")
    return Timing(what, preview, took, memory.gigabytes)


def from_command_line(folder: Path, seed: int, device: str) -> Timing:
    """Run ``braingen generate`` in a fresh process."""
    command = [
        sys.executable,
        "-c",
        "from BrainGenLib.cli import app; app()",
        "generate",
        "--pathology",
        "wmh=0.05",
        "--seed",
        str(seed),
    ]
    command += [part for contrast in CONTRASTS for part in ("--contrast", contrast)]
    started = time.monotonic()
    process = subprocess.Popen([*command, "--device", device, "--out", str(folder)])
    with PeakMemory(process.pid) as memory:
        if process.wait() != 0:
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}.")
    return Timing("braingen generate, fresh process", None, time.monotonic() - started, memory.gigabytes)


@dataclass
class Fresh:
    """What processes that make one case each have used."""

    build: str
    seconds: list[float]
    gigabytes: list[float]

    def row(self) -> list[str | float | int | None]:
        return [self.build, len(self.seconds), statistics.median(self.seconds), statistics.median(self.gigabytes)]


def make_one(build: Fresh, folder: Path, seed: int, device: str) -> None:
    """Make a case in a process of its own, by the library in a checkout."""
    script = (
        "from BrainGenLib.engine import Engine; from BrainGenLib.requests import Generate; "
        f"Engine().run(Generate(pathologies={{'wmh': 0.05}}, contrasts={CONTRASTS}, seed={seed}, device='{device}'))"
    )
    # Its folder comes before what is installed.
    process = subprocess.Popen([sys.executable, "-c", script], cwd=folder)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"The build in {folder} made no case.")
    build.seconds.append(used.ru_utime + used.ru_stime)
    build.gigabytes.append(used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9)


def against(now: Fresh, before: Fresh) -> Iterator[Headline]:
    """This build's CPU-seconds and memory over those of the one before, if it was measured."""
    if not before.seconds:
        return
    for what, most, ours, theirs in (
        ("CPU-seconds", CPU_SHARE, now.seconds, before.seconds),
        ("Peak memory", MEMORY_SHARE, now.gigabytes, before.gigabytes),
    ):
        share = statistics.median(ours) / statistics.median(theirs)
        yield Headline(
            what=f"{what} of a process that makes one case, over those of the build before patch diffusion",
            figure=f"{share:.2f}",
            target=f"≤ {most}",
            met=share <= most,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--warm", type=int, default=3, help="requests to the warm worker; the median counts")
    parser.add_argument("--before", type=Path, help="checkout of the build before patch diffusion")
    parser.add_argument("--quick", action="store_true", help="one warm request, no command line, one fresh process")
    arguments = parser.parse_args()
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):
        process.cpu_affinity(process.cpu_affinity()[: arguments.cores])  # inherited by worker and command line
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        with WorkerProcess(threads=arguments.cores) as worker:
            timings = [
                through_job(
                    "job folder, cold worker (its start included)",
                    worker,
                    folder / "cold",
                    a_case(1, arguments.device),
                    started,
                )
            ]
            for number in range(1 if arguments.quick else arguments.warm):
                request = a_case(2 + number, arguments.device)
                timings.append(
                    through_job(
                        "job folder, warm worker", worker, folder / f"warm-{number}", request, time.monotonic()
                    )
                )
        started = time.monotonic()
        with WorkerProcess(threads=arguments.cores) as worker:
            changed = []
            for number, (what, question) in enumerate(changes(arguments.device).items()):
                changed.append(through_job(what, worker, folder / f"change-{number}", question, started))
                started = time.monotonic()
        if not arguments.quick:
            timings.append(from_command_line(folder / "bids", 1, arguments.device))
    now, before = Fresh("this one", [], []), Fresh("before anatomy was sampled by patch diffusion", [], [])
    for seed in range(1 if arguments.quick else 1 + arguments.warm):
        make_one(now, Path(__file__).parents[1], seed, arguments.device)
        if arguments.before is not None:
            make_one(before, arguments.before.resolve(), seed, arguments.device)
        if seed == 0 and not arguments.quick:
            # They have compiled their loops.
            for build in (now, before):
                build.seconds.clear()
                build.gigabytes.clear()
    warm = sorted((timing for timing in timings if "warm" in timing.what), key=lambda timing: timing.case)
    middle = warm[len(warm) // 2]
    slowest = max(timing.case for timing in timings)
    peak = max(timing.memory for timing in [*timings, *changed])
    seen = [timing.preview for timing in changed if timing.preview is not None]
    slowest_change = max(timing.case for timing in changed)
    assert middle.preview is not None
    result = Result(
        name="speed",
        title="Speed",
        tables=[
            Table(
                title=f"WMH, {' + '.join(CONTRASTS)}, 1 mm, {arguments.cores} CPU cores",
                columns=["how", "first preview (s)", "whole case (s)", "peak memory (GB)"],
                rows=[timing.row() for timing in timings],
            ),
            Table(
                title=f"Counterfactuals of a scan of 1 mm, {arguments.cores} CPU cores, the worker's start included",
                columns=["asked", "first preview (s)", "whole change (s)", "peak memory (GB)"],
                rows=[timing.row() for timing in changed],
            ),
            Table(
                title="One case in a process of its own, medians",
                columns=["build", "processes", "CPU-seconds", "peak memory (GB)"],
                rows=[build.row() for build in (now, before) if build.seconds],
            ),
        ],
        headlines=[
            *against(now, before),
            Headline(
                what="First preview, warm worker, 2 cores",
                figure=f"{middle.preview:.1f} s",
                target=f"≤ {PREVIEW_S:.0f} s",
                met=middle.preview <= PREVIEW_S,
            ),
            Headline(
                what="Whole case with two contrasts, 2 cores",
                figure=f"{middle.case:.1f} s warm, {slowest:.1f} s slowest",
                target=f"≤ {CASE_S:.0f} s",
                met=slowest <= CASE_S,
            ),
            Headline(
                what="Counterfactual of a scan of 1 mm, 2 cores, slowest way",
                figure=f"{slowest_change:.1f} s" + (f", first preview {max(seen):.1f} s" if seen else ", no preview"),
                target=f"≤ {CHANGE_S:.0f} s, preview ≤ {CHANGE_PREVIEW_S:.0f} s",
                met=slowest_change <= CHANGE_S and bool(seen) and max(seen) <= CHANGE_PREVIEW_S,
            ),
            Headline(
                what="Peak memory", figure=f"{peak:.1f} GB", target=f"≤ {MEMORY_GB:.0f} GB", met=peak <= MEMORY_GB
            ),
        ],
        notes=[f"Load of the machine before the start: {busy:.1f} (1-minute average; 0 is a quiet machine)."],
        settings={"cores": arguments.cores, "device": arguments.device},
    )
    result.print()
    result.save(arguments.out)


if __name__ == "__main__":
    main()
