"""HTTP over job folders. Whose a job is, is asked in every answer; a job of another user does not exist."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from BrainGenLib import bundles
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Failure, Job, State
from BrainGenLib.service import archive, store, uploads
from BrainGenLib.service.limits import Limits, Traffic
from BrainGenLib.service.refusal import Refusal
from BrainGenLib.service.runner import Runner
from BrainGenLib.service.store import Stored

LOOK_SECONDS = 0.2
# A comment in a silent stream tells the client and every proxy that it lives.
PING_SECONDS = 15.0

_PREVIEW = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True)
class Service:
    """What the answers are made from.

    Attributes:
        folder: of the jobs.
        user_of: whose a token is, None if nobody's. BadInput: the list of users cannot be read.
        limits: of each user.
        traffic: what users do at the moment.
        runner: runs the jobs.
        closing: tells that the server is about to end.
    """

    folder: Path
    user_of: Callable[[str], str | None]
    limits: Limits
    traffic: Traffic
    runner: Runner
    closing: Callable[[], bool]


def create_app(service: Service) -> FastAPI:
    """The application; the runner lives as long as it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.runner.start()
        yield
        await run_in_threadpool(service.runner.stop)

    # The pages that describe the interface would be open to everybody.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _no_such_address)
    app.add_exception_handler(Exception, _broken)
    app.get("/health")(health)
    app.get("/bundles")(list_bundles)
    app.post("/jobs", status_code=201)(submit)
    app.get("/jobs")(list_jobs)
    app.get("/jobs/{job_id}")(describe)
    app.delete("/jobs/{job_id}")(delete)
    app.get("/jobs/{job_id}/events")(events)
    app.get("/jobs/{job_id}/previews/{name}")(preview)
    app.get("/jobs/{job_id}/result")(result)
    return app


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.failure.model_dump(), error.status, error.headers)


async def _no_such_address(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    failure = Failure(code="remote", message="There is nothing at this address.")
    return JSONResponse(failure.model_dump(), error.status_code, error.headers)


async def _broken(_: Request, error: Exception) -> Response:
    # The log has its traceback.
    failure = Failure(code="remote", message="Something went wrong in the server.", advice="Tell its operator.")
    return JSONResponse(failure.model_dump(), 500)


async def _service(request: Request) -> Service:
    return request.app.state.service


ServiceOf = Annotated[Service, Depends(_service)]


async def _user(request: Request, service: ServiceOf) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        user = service.user_of(token) if scheme.lower() == "bearer" else None
    except BadInput as error:
        raise Refusal(503, "The server cannot read its list of users.", "Tell its operator.") from error
    if user is None:
        raise Refusal(401, "The server does not know this token.", "Ask its operator for a token.")
    service.traffic.count(user)
    return user


User = Annotated[str, Depends(_user)]


async def _job(
    job_id: str, user: Annotated[str, Depends(_user)], service: Annotated[Service, Depends(_service)]
) -> Stored:
    stored = await run_in_threadpool(store.find, service.folder, job_id, user)
    if stored is None:
        raise _no_job()
    return stored


def _no_job() -> Refusal:
    return Refusal(404, "There is no such job; finished jobs are removed after a time.", "Submit it again.")


OwnJob = Annotated[Stored, Depends(_job)]


async def health() -> dict[str, str]:
    """Whether the server answers; open to everybody."""
    return {"status": "ok"}


def list_bundles(_: User) -> list[dict[str, Any]]:
    """What can be asked for: the metadata of every bundle, without how its networks are built."""
    found = bundles.available().values()
    return [bundle.metadata.model_dump(exclude={"networks", "parameters"}) for bundle in found]


async def submit(request: Request, user: User, service: ServiceOf) -> JSONResponse:
    """Take a job. With the header ``Idempotency-Key`` the same submission again answers with the same job."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise Refusal(400, "An Idempotency-Key has 16 to 64 letters, digits, - or _.", code="bad_input")
    job_id = store.id_for(user, key)
    if await run_in_threadpool(store.find, service.folder, job_id, user) is None:
        body = request.stream()
        try:
            await _take(request, body, user, service, job_id)
        except Refusal:
            await uploads.drain(body, service.limits.upload_bytes)
            raise
    return JSONResponse({"id": job_id}, 201, {"Location": f"/jobs/{job_id}"})


async def _take(request: Request, body: AsyncIterator[bytes], user: str, service: Service, job_id: str) -> None:
    with service.traffic.long_request(user), service.traffic.upload(user):
        stored = await run_in_threadpool(store.jobs, service.folder)
        waiting = sum(item.ticket.owner == user and service.runner.state(item) is State.WAITING for item in stored)
        if waiting + service.traffic.uploads[user] > service.limits.waiting:
            raise Refusal(
                429,
                f"At most {service.limits.waiting} jobs of a user may wait at a time.",
                "Wait until one has run, or cancel one.",
                retry_after=10,
            )
        try:
            with store.incoming(service.folder) as partial:
                await uploads.receive(request.headers, body, partial, service.limits.upload_bytes)
                await run_in_threadpool(store.admit, service.folder, job_id, user, partial)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Refusal(507, "The disk of the server is full.", "Try again later.") from error
            raise Refusal(
                500, f"The server cannot store the job ({error.strerror}).", "Tell its operator."
            ) from error
    service.runner.look()


def list_jobs(user: User, service: ServiceOf) -> list[dict[str, Any]]:
    """The user's jobs, oldest first."""
    return [_summary(stored, service) for stored in store.jobs(service.folder) if stored.ticket.owner == user]


def describe(stored: OwnJob, service: ServiceOf) -> dict[str, Any]:
    """A job with its request and, if it failed, why."""
    failure = _public(service.runner.failure(stored))
    try:
        request = stored.job.request().model_dump()
    except BadInput as error:
        if not stored.exists:
            # It was removed at this moment.
            raise _no_job() from error
        request = None
    return {
        **_summary(stored, service),
        "request": request,
        "failure": None if failure is None else failure.model_dump(),
    }


def _summary(stored: Stored, service: Service) -> dict[str, Any]:
    queue = service.runner.queue
    return {
        "id": stored.id,
        "state": service.runner.state(stored).value,
        "submitted": stored.ticket.submitted,
        "ahead": queue.index(stored.id) if stored.id in queue else 0,
    }


def _public(failure: Failure | None) -> Failure | None:
    if failure is not None and failure.code in ("crashed", "out_of_memory"):
        # The end of the worker's log, in which other users' jobs may stand.
        return failure.model_copy(update={"traceback": ""})
    return failure


async def delete(stored: OwnJob, service: ServiceOf) -> Response:
    """Cancel a job that waits or runs (202); remove one that is finished, or that nobody runs any more (204)."""
    state = await run_in_threadpool(service.runner.state, stored)
    held = service.runner.holds(stored)
    if not state.finished and (held or state is State.WAITING):
        try:
            stored.job.cancel()
        except FileNotFoundError as error:
            raise _no_job() from error
        except OSError as error:
            if held:
                raise Refusal(507, "The disk of the server is full.", "Try again later.") from error
        else:
            service.runner.look()
            return JSONResponse({"id": stored.id}, 202)
    # The runner sees the end a moment later; without the folder it would never see it.
    while service.runner.holds(stored):
        await asyncio.sleep(0.02)
    await run_in_threadpool(store.remove, stored.job.folder)
    return Response(status_code=204)


async def events(stored: OwnJob, request: Request, user: User, service: ServiceOf) -> StreamingResponse:
    """Events of a job as server-sent events, from the one after ``Last-Event-ID`` on.

    Unnamed events are those of the job, their id is their number; ``queue`` is the number of jobs ahead; ``end`` is
    the last, with state and failure.
    """
    last = request.headers.get("last-event-id", "0")
    if not (last.isascii() and last.isdigit() and len(last) < 10):
        raise Refusal(400, "Last-Event-ID is the number of an event.", code="bad_input")
    # Proxies that know this header pass every event on at once.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return _Counted(_stream(stored, int(last), service), user, service, "text/event-stream", headers)


class _Counted(StreamingResponse):
    """An answer that counts as a long request of its user, from before its first byte to its end however it ends.

    Raises:
        Refusal: too many are open.
    """

    def __init__(
        self, content: AsyncIterator[Any], user: str, service: Service, media_type: str, headers: dict[str, str]
    ) -> None:
        self._open = ExitStack()
        self._open.enter_context(service.traffic.long_request(user))
        super().__init__(content, media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._open:
            await super().__call__(scope, receive, send)


async def _stream(stored: Stored, last: int, service: Service) -> AsyncIterator[str]:
    # A watcher of its own: it reads from the beginning.
    job, count, ahead, spoken = Job(stored.job.folder), 0, -1, time.monotonic()
    watched = replace(stored, job=job)
    while not service.closing() and job.folder.exists():
        # The state first: events that were written before the end are read after it.
        state, new = await run_in_threadpool(lambda: (service.runner.state(watched), job.new_events()))
        lines = []
        for event in new:
            count += 1
            if count > last:
                lines.append(f"id: {count}\ndata: {event.model_dump_json(exclude_none=True)}\n\n")
        # The runner makes a new list for every change.
        queue = service.runner.queue
        if stored.id in queue and queue.index(stored.id) != ahead:
            ahead = queue.index(stored.id)
            lines.append(f"event: queue\ndata: {ahead}\n\n")
        if state.finished:
            failure = None if state is State.DONE else _public(service.runner.failure(watched))
            data = {"state": state.value, "failure": None if failure is None else failure.model_dump()}
            yield "".join([*lines, f"event: end\ndata: {json.dumps(data)}\n\n"])
            return
        if time.monotonic() - spoken > PING_SECONDS:
            lines.append(": still here\n\n")
        if lines:
            yield "".join(lines)
            spoken = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)


async def preview(name: str, stored: OwnJob, user: User, service: ServiceOf) -> StreamingResponse:
    """An early result of a job, as an archive."""
    if not _PREVIEW.fullmatch(name):
        raise Refusal(404, "There is no such preview.")
    return _archive(stored.job.folder / "previews" / name, user, service)


async def result(stored: OwnJob, user: User, service: ServiceOf) -> StreamingResponse:
    """The case of a job, as an archive."""
    return _archive(stored.job.folder / "result", user, service)


def _archive(folder: Path, user: str, service: Service) -> StreamingResponse:
    if not folder.is_dir():
        raise Refusal(404, "The job has not got there.", "Follow its events.")

    return _Counted(iterate_in_threadpool(archive.pack(folder)), user, service, "application/gzip", {})
