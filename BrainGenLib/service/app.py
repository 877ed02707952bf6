"""HTTP over job folders. Whose a job is, is asked in every answer; a job of somebody else does not exist."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.exceptions import HTTPException

from BrainGenLib import bundles
from BrainGenLib.errors import BadInput
from BrainGenLib.jobs import Failure, Job, State
from BrainGenLib.service import archive, store, tokens, uploads
from BrainGenLib.service.limits import Limits, Traffic
from BrainGenLib.service.refusal import Refusal
from BrainGenLib.service.runner import Runner
from BrainGenLib.service.store import Stored

# Whoever uses a server without tokens, from its own machine.
LOCAL_USER = "local"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
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
        tokens: file of the users; None admits whoever calls from the same machine.
        limits: of each user.
        traffic: what users do at the moment.
        runner: runs the jobs.
        closing: tells that the server is about to end.
    """

    folder: Path
    tokens: Path | None
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


async def _service(request: Request) -> Service:
    return request.app.state.service


ServiceOf = Annotated[Service, Depends(_service)]


async def _user(request: Request, service: ServiceOf) -> str:
    user = _local_user(request) if service.tokens is None else _token_user(request, service.tokens)
    service.traffic.count(user)
    return user


def _token_user(request: Request, path: Path) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        user = tokens.user_of(path, token) if scheme.lower() == "bearer" else None
    except BadInput as error:
        raise Refusal(503, "The server cannot read its list of users.", "Tell its operator.") from error
    if user is None:
        raise Refusal(401, "The server does not know this token.", "Ask its operator for a token.")
    return user


def _local_user(request: Request) -> str:
    # Programs of this machine may use it without a token; web pages in its browser and callers of a proxy may not.
    host = request.headers.get("host", "")
    foreign = {"origin", "forwarded", "x-forwarded-for"} & set(request.headers)
    if foreign or re.sub(r":\d+$", "", host) not in LOCAL_HOSTS:
        raise Refusal(403, "Without tokens, this server answers only programs of its own machine.")
    return LOCAL_USER


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
    service.traffic.check_long(user)
    with service.traffic.long_request(user), service.traffic.upload(user):
        stored = await run_in_threadpool(store.jobs, service.folder)
        waiting = sum(item.ticket.owner == user and item.job.state is State.WAITING for item in stored)
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
    failure = _public(stored.job)
    try:
        request = stored.job.request().model_dump()
    except BadInput as error:
        # It was removed at this moment.
        raise _no_job() from error
    return {
        **_summary(stored, service),
        "request": request,
        "failure": None if failure is None else failure.model_dump(),
    }


def _summary(stored: Stored, service: Service) -> dict[str, Any]:
    queue = service.runner.queue
    return {
        "id": stored.id,
        "state": stored.job.state.value,
        "submitted": stored.ticket.submitted,
        "ahead": queue.index(stored.id) if stored.id in queue else 0,
    }


def _public(job: Job) -> Failure | None:
    failure = job.failure
    if failure is not None and failure.code in ("crashed", "out_of_memory"):
        # The end of the worker's log, in which other users' jobs may stand.
        return failure.model_copy(update={"traceback": ""})
    return failure


async def delete(stored: OwnJob, service: ServiceOf) -> Response:
    """Cancel a job that waits or runs (202); remove one that is finished (204)."""
    if stored.job.state.finished:
        # The runner sees the end a moment later; without the folder it would never see it.
        while service.runner.holds(stored):
            await asyncio.sleep(0.02)
        await run_in_threadpool(store.remove, stored)
        return Response(status_code=204)
    stored.job.cancel()
    service.runner.look()
    return JSONResponse({"id": stored.id}, 202)


async def events(stored: OwnJob, request: Request, user: User, service: ServiceOf) -> StreamingResponse:
    """Events of a job as server-sent events, from the one after ``Last-Event-ID`` on.

    Unnamed events are those of the job, their id is their number; ``queue`` is the number of jobs ahead; ``end`` is
    the last, with state and failure.
    """
    last = request.headers.get("last-event-id", "0")
    if not (last.isascii() and last.isdigit() and len(last) < 10):
        raise Refusal(400, "Last-Event-ID is the number of an event.", code="bad_input")
    service.traffic.check_long(user)
    stream = _stream(stored, int(last), user, service)
    # Proxies that know this header pass every event on at once.
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _stream(stored: Stored, last: int, user: str, service: Service) -> AsyncIterator[str]:
    # A watcher of its own: it reads from the beginning.
    job, count, ahead, spoken = Job(stored.job.folder), 0, -1, time.monotonic()
    with service.traffic.long_request(user):
        while not service.closing() and job.folder.exists():
            # The state first: events that were written before the end are read after it.
            state, new = await run_in_threadpool(lambda: (job.state, job.new_events()))
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
                failure = None if state is State.DONE else _public(job)
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

    service.traffic.check_long(user)

    async def pieces() -> AsyncIterator[bytes]:
        with service.traffic.long_request(user):
            async for piece in iterate_in_threadpool(archive.pack(folder)):
                yield piece

    return StreamingResponse(pieces(), media_type="application/gzip")
