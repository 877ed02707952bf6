"""A job is a folder: the caller writes it and watches it, a worker process runs it (``docs/architecture.md``).

``request.json``, ``inputs/`` and, from the worker, ``events.jsonl``, ``previews/``, ``result/`` (renamed into place:
its presence means done) or ``error.json``. A file ``cancel`` asks the worker to stop. Nothing here needs torch, Qt, a
port or a thread, so Slicer, a browser app and the command line watch jobs with a timer each of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from BrainGenLib import processes, requests
from BrainGenLib.errors import BadInput, disk_full, reason
from BrainGenLib.scratch import Scratch
from BrainGenLib.whole_files import write_whole

# The exit status of a worker that could not even write what went wrong.
DISK_FULL_STATUS = 28


class Event(BaseModel):
    """One line of ``events.jsonl``.

    ``time`` is seconds since 1970, ``seconds_left`` an estimate for the whole job, ``memory`` the worker's resident
    memory in GB, ``preview`` a case folder relative to the job.
    """

    time: float
    stage: str
    step: int = 0
    of: int = 0
    message: str = ""
    seconds_left: float | None = None
    memory: float = 0.0
    preview: str | None = None

    @property
    def remaining(self) -> str:
        """The estimate in words, which are honest where it has run out; empty without one."""
        if self.seconds_left is None:
            return ""
        if self.seconds_left >= 0.5:
            return f"{self.seconds_left:.0f} s left"
        return "finishing" if self.step >= self.of else "longer than expected"


class Failure(BaseModel):
    """What ``error.json`` holds: one sentence for the user, what to try, and the traceback for a bug report.

    ``interrupted`` is a run that ended through no fault of its own (the server was restarted), ``remote`` a server
    that could not be reached or would not take the job.
    """

    code: Literal["bad_input", "cancelled", "out_of_memory", "failed", "crashed", "interrupted", "remote"]
    message: str
    advice: str = ""
    traceback: str = ""


FULL = Failure(code="bad_input", message="The disk is full.", advice="Free some space, then try again.")


class State(str, Enum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Job:
    """A job folder. Events are read incrementally, so every watcher uses a ``Job`` of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._read = 0
        self._appended = False
        self._names: dict[str, str] = {}
        self._unwritten: Failure | None = None

    @classmethod
    def create(cls, folder: Path, request: requests.Request, inputs: Mapping[str, Path] | None = None) -> Job:
        """Write a new job; ``inputs`` maps the file names in the request to the files, which are copied.

        Only the job that is returned knows what the files were called: its :attr:`failure` speaks of them by these
        names, and no file of the job does.

        Raises:
            BadInput: the folder holds something already or cannot be written, or a file that the request names is
                not given or not there.
        """
        inputs = inputs or {}
        if folder.exists() and any(folder.iterdir()):
            raise BadInput(f"{folder} is not empty; give every job a new folder.")
        for name in requests.inputs_of(request):
            if Path(name).name != name or name not in inputs:
                raise BadInput(f"The request names the file {name!r}, which is not among the inputs of the job.")
            if not inputs[name].is_file():
                raise BadInput(f"There is no file {inputs[name]}.")
        try:
            (folder / "inputs").mkdir(parents=True)
            for name in requests.inputs_of(request):
                shutil.copyfile(inputs[name], folder / "inputs" / name)
            # The request comes last: a folder with a request is whole.
            write_whole(folder / "request.json", request.model_dump_json(indent=1))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise BadInput(f"{reason(error)}: the job cannot be written to {folder}.") from error
        job = cls(folder)
        job._names = {name: inputs[name].name for name in requests.inputs_of(request)}
        return job

    @property
    def inputs(self) -> Path:
        """Folder of the files that the request names."""
        return self.folder / "inputs"

    def request(self) -> requests.Request:
        """The request.

        Raises:
            BadInput: it is missing, cannot be understood, or names a file outside of ``inputs``.
        """
        try:
            request = requests.parse((self.folder / "request.json").read_bytes())
        except OSError as error:
            raise BadInput(f"{self.folder} is not a job folder: it holds no readable request.json.") from error
        if strangers := [name for name in requests.inputs_of(request) if Path(name).name != name]:
            raise BadInput(f"The request names {strangers[0]!r}; a job may only read files of its inputs folder.")
        return request

    @property
    def result(self) -> Path | None:
        """The case folder, once the job is done."""
        folder = self.folder / "result"
        return folder if folder.is_dir() else None

    @property
    def failure(self) -> Failure | None:
        """Why there is no result, once that is known; also if ``error.json`` cannot be read or was not written."""
        path = self.folder / "error.json"
        if not path.exists():
            return self._unwritten
        try:
            failure = Failure.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return Failure(
                code="failed",
                message="The job failed, and why cannot be read: its error.json is damaged or of another version.",
                advice="Try again.",
            )
        return failure.model_copy(update={"message": self._with_names(failure.message)})

    def _with_names(self, message: str) -> str:
        if not self._names:
            return message
        message = message.replace(f"{self.inputs.resolve()}{os.sep}", "")
        roles = "|".join(map(re.escape, self._names))
        return re.sub(rf"(?<![\w./-])({roles})(?![\w-]|\.\w)", lambda match: self._names[match[1]], message)

    @property
    def state(self) -> State:
        """Where the job stands; a result counts more than an error that a watcher wrote at the same moment."""
        if self.result is not None:
            return State.DONE
        if (failure := self.failure) is not None:
            return State.CANCELLED if failure.code == "cancelled" else State.FAILED
        return State.RUNNING if (self.folder / "events.jsonl").exists() else State.WAITING

    def new_events(self) -> list[Event]:
        """Events that were written since the last call, without lines that cannot be understood."""
        try:
            with (self.folder / "events.jsonl").open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return []
        # The worker may be in the middle of a line: take whole lines only.
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        events = []
        for line in whole.split(b"\n"):
            # A full disk cuts lines, another version writes others; how the job ends does not stand in them.
            with suppress(ValidationError):
                events.append(Event.model_validate_json(line))
        return events

    def poll(self, worker: WorkerProcess) -> list[Event]:
        """New events; if the worker died on this job, say so in ``error.json``, or at least to who asks this object:
        then the job is finished too."""
        alive = worker.alive
        events = self.new_events()
        # In this order: what a worker wrote before its end is seen before the end is noticed.
        if not alive and not self.state.finished:
            failure = worker.obituary()
            try:
                self.fail(failure)
            except OSError:
                self._unwritten = failure
        return events

    def cancel(self) -> None:
        """Ask the worker to stop; it obeys within one sampler step."""
        (self.folder / "cancel").touch()

    @property
    def cancel_requested(self) -> bool:
        return (self.folder / "cancel").exists()

    def append(self, event: Event) -> None:
        """Add an event (the worker does).

        Raises:
            FileNotFoundError: the events were removed. Begun anew, a watcher would go on reading in their middle.
        """
        with (self.folder / "events.jsonl").open("r+b" if self._appended else "ab") as file:
            file.seek(0, os.SEEK_END)
            file.write(event.model_dump_json().encode() + b"\n")
        self._appended = True

    def fail(self, failure: Failure) -> None:
        """Finish the job without a result. On a full disk, previews make room for the reason.

        Raises:
            OSError: it cannot be written.
        """
        shutil.rmtree(self.folder / "result.part", ignore_errors=True)
        text = failure.model_dump_json(indent=1)
        try:
            write_whole(self.folder / "error.json", text)
        except OSError as error:
            if not disk_full(error):
                raise
            shutil.rmtree(self.folder / "previews", ignore_errors=True)
            write_whole(self.folder / "error.json", text)


@contextmanager
def exiting_on_full_disk() -> Iterator[None]:
    """In a worker: end the process with a status that tells of a full disk where no file can."""
    try:
        yield
    except OSError as error:
        if not disk_full(error):
            raise
        # Nothing is flushed: that would fail too, and Python would change the status.
        os._exit(DISK_FULL_STATUS)


# What Python prints before it ends through a fault of its own. What is killed prints nothing; the exit status of a
# launcher, such as PythonSlicer, is then 1.
_LAST_WORDS = ("Traceback (most recent call last)", "Fatal Python error")


# By an operator, a scheduler or systemd, which ask every process of a command or service at once.
_ASKED_TO_END = [-getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class WorkerProcess:
    """A worker of one's own: it runs the jobs submitted to it one by one, and ends with the process that started it.

    Args:
        python: the interpreter, which must have BrainGen's dependencies; None for that of this process.
        threads: CPU threads of the worker; None for all cores. Results are the same bit for bit only with the same
            number of threads.
        module: what runs the jobs, if it is not a worker of this machine; it is spoken to like one.
        arguments: of the module. Every user of the machine can read them: no secrets.
        environment: of the process, in place of this process's own.
    """

    def __init__(
        self,
        *,
        python: str | None = None,
        threads: int | None = None,
        module: str = "BrainGenLib.worker",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        environment = dict(os.environ if environment is None else environment)
        # glibc returns large blocks to the system and asks for them again at every layer; page faults then cost a
        # fifth of the time. Elsewhere these names mean nothing.
        environment.setdefault("MALLOC_MMAP_MAX_", "0")
        environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**33))
        if threads is not None:
            environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
        # PyTorch makes a folder for what it compiles, by default one in the temporary folder that stays; it sets the
        # variable itself in a process that has compiled.
        self._scratch = Scratch("braingen-worker-")
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(self._scratch.folder / "inductor")
        # Without a name, so that it goes with both processes however they end.
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115
        self._process = processes.start(
            module,
            arguments,
            python=python,
            environment=environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def submit(self, job: Job) -> None:
        """Queue a job. A worker that is dead takes it too: :meth:`Job.poll` then tells."""
        assert self._process.stdin is not None
        try:
            # As the file system has the name: the worker may have another code page.
            self._process.stdin.write(os.fsencode(job.folder.resolve()) + b"\n")
            self._process.stdin.flush()
        except OSError:
            self._process.wait()

    def printed(self) -> str:
        """What the process has printed so far: warnings, the traceback that it ended with."""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def obituary(self) -> Failure:
        """How the worker ended, for the job that it left unfinished."""
        code = self._process.wait()
        log = self.printed()
        if code == DISK_FULL_STATUS:
            return FULL
        if code in _ASKED_TO_END:
            return Failure(
                code="interrupted",
                message=f"The worker process was asked to end from outside ({signal.Signals(-code).name}).",
                advice="Try again.",
            )
        if code == -9 or (code == 1 and not any(word in log for word in _LAST_WORDS)):
            return Failure(
                code="out_of_memory",
                message="The worker process was killed by the system, most likely because memory ran out.",
                advice="Close other programs or use a machine with more memory, then try again.",
                traceback=log[-4000:],
            )
        return Failure(
            code="crashed",
            message=f"The worker process ended unexpectedly (exit status {code}).",
            advice="Try again; if it happens again, report it with the text below.",
            traceback=log[-4000:],
        )

    def stop(self, grace: float = 5.0) -> None:
        """Ask the worker to end (its job stops within a step); after ``grace`` s kill it and its children."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(grace)
        except OSError:
            pass
        # A second Ctrl-C too: a worker that lives on would write into folders that are being removed.
        except BaseException as error:
            processes.kill(self._process)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
        finally:
            self._scratch.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
