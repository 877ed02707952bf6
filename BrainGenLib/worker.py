"""The process that runs job folders: ``python -m BrainGenLib.worker`` reads their paths from standard input.

Models stay loaded between jobs. At the end of standard input the process that started this one has ended: the
current job stops and the process ends. Only the standard library is imported until the first job is there.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import sys
import threading
import time

# A worker that does not come back from one long operation must not outlive its parent for longer than this.
ORPHAN_SECONDS = 10.0


def main() -> None:
    """Run jobs until standard input ends."""
    # A crash has its word in the log, which tells it from a kill.
    faulthandler.enable()
    # Ctrl-C in a terminal reaches the whole process group; the process that started the worker decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    paths: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    ended = threading.Event()
    threading.Thread(target=listen, args=(paths, ended), daemon=True).start()
    path = paths.get()
    if path is None:
        return

    from pathlib import Path

    from BrainGenLib.jobs import Event, Job, exiting_on_full_disk

    with exiting_on_full_disk():
        first = Job(Path(path))
        first.append(Event(time=round(time.time(), 3), stage="starting", message="loading PyTorch"))

        from BrainGenLib.engine import Engine
        from BrainGenLib.execution import run
        from BrainGenLib.timeline import Timeline

        engine, timeline = Engine(), Timeline()
        while path is not None:
            run(Job(Path(path)), engine, timeline, ended.is_set)
            path = paths.get()
    # Everything is on disk; taking PyTorch down in order would only keep the parent waiting for seconds.
    os._exit(0)


def listen(paths: queue.SimpleQueue[str | None], ended: threading.Event) -> None:
    """Put the lines of standard input into ``paths``; at its end, put None, and soon after end the process."""
    for line in sys.stdin.buffer:
        paths.put(os.fsdecode(line.rstrip(b"\n")))
    ended.set()
    paths.put(None)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
