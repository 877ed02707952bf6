"""A submission, ``multipart/form-data``, from the network to a folder: streamed, counted, and checked before use.

One part ``request`` holds the request as JSON, every part ``input`` a file that the request names.
"""

from __future__ import annotations

import asyncio
import re
import textwrap
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from BrainGenLib import capabilities, requests
from BrainGenLib.errors import BadInput
from BrainGenLib.service import volumes
from BrainGenLib.service.refusal import Refusal

REQUEST_BYTES = 64 * 2**10
# Without a byte for so long, the sender is gone.
SILENCE_SECONDS = 60.0
# After that, an upload comes at least so fast: a modem's rate. Slower ones only hold a connection.
LEAST_BYTES_PER_SECOND = 8 * 2**10
# How long the rest of a refused upload is read.
DRAIN_SECONDS = 30.0
# No request names as many.
MAX_PARTS = 8

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


async def receive(headers: Mapping[str, str], body: AsyncIterator[bytes], folder: Path, limit: int) -> None:
    """Write a body into ``request.json`` and ``inputs`` of a folder, and check them.

    Raises:
        Refusal: the body is too large, no form, or stops coming; its request or a file cannot be used.
        OSError: the files cannot be written.
    """
    if int(headers.get("content-length", 0)) > limit:
        raise _too_large(limit)
    try:
        form = await _received(headers, body, folder, limit)
        await run_in_threadpool(_check, folder, form)
    except BadInput as error:
        raise Refusal(400, textwrap.shorten(str(error), 1000, placeholder=" …"), code="bad_input") from error
    except ClientDisconnect as error:
        raise Refusal(400, "The upload broke off.", "Try again.") from error


async def drain(body: AsyncIterator[bytes], limit: int) -> None:
    """Read the rest of a refused body, so that its sender comes to reading the answer."""

    async def read() -> None:
        received = 0
        async for chunk in body:
            received += len(chunk)
            if received > limit:
                return

    with suppress(asyncio.TimeoutError, ClientDisconnect):
        await asyncio.wait_for(read(), DRAIN_SECONDS)


async def _received(headers: Mapping[str, str], body: AsyncIterator[bytes], folder: Path, limit: int) -> _Form:
    kind, options = parse_options_header(headers.get("content-type"))
    if kind != b"multipart/form-data" or not 0 < len(options.get(b"boundary", b"")) <= 70:
        raise BadInput("A job is submitted as multipart/form-data.")
    form = _Form(folder, options[b"boundary"])
    received = 0
    try:
        async for chunk in _in_time(body):
            received += len(chunk)
            if received > limit:
                raise _too_large(limit)
            # A slow disk must not stop the server.
            await run_in_threadpool(form.feed, chunk)
    finally:
        form.close()
    return form


async def _in_time(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    end = time.monotonic() + SILENCE_SECONDS
    while True:
        try:
            chunk = await asyncio.wait_for(anext(chunks), min(SILENCE_SECONDS, end - time.monotonic()))
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError as error:
            raise Refusal(408, "The upload stopped coming, or comes too slowly.", "Try again.") from error
        yield chunk
        end += len(chunk) / LEAST_BYTES_PER_SECOND


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413,
        f"The files are larger than the {limit / 2**20:g} MB that this server takes.",
        "Crop or resample the scan, or ask the operator of the server.",
        code="bad_input",
    )


class _Form:
    """Parts of a form, written to files as they come."""

    def __init__(self, folder: Path, boundary: bytes) -> None:
        self._folder = folder
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._open,
                "on_part_data": self._data,
                "on_part_end": self.close,
                "on_end": self._end,
            },
        )
        self._file: IO[bytes] | None = None
        self._parts = 0
        self.complete = False
        self.request = b""
        self.inputs: list[str] = []
        (folder / "inputs").mkdir()

    def feed(self, chunk: bytes) -> None:
        """Parse a piece of the body.

        Raises:
            BadInput: it is no form, or a part has no place in a job.
        """
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise BadInput("The form of the submission is damaged.") from error

    def close(self) -> None:
        """Close the file that was being written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadInput("The submission has more parts than a job can have files.")
        self._headers: dict[bytes, bytes] = {}
        self._header = [b"", b""]

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        if options.get(b"name") == b"request" and not self.request:
            return
        name = options.get(b"filename", b"").decode("latin-1")
        if options.get(b"name") != b"input" or not _NAME.fullmatch(name) or not name.endswith(volumes.ENDINGS):
            raise BadInput(
                f"The file name {name[:80]!r} is not accepted: letters, digits, . _ - and the ending "
                f"{', '.join(volumes.ENDINGS[:-1])} or {volumes.ENDINGS[-1]}."
            )
        # On some disks the two would be one file.
        if name.lower() in map(str.lower, self.inputs):
            raise BadInput(f"Two files are named {name}.")
        self.inputs.append(name)
        self._file = (self._folder / "inputs" / name).open("wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self.request += data[start:end]
        if len(self.request) > REQUEST_BYTES:
            raise BadInput("The request is longer than any request.")

    def _end(self) -> None:
        self.complete = True


def _check(folder: Path, form: _Form) -> None:
    """Check a whole submission and write its request.

    Raises:
        BadInput: the request, one of its files, or their relation cannot be used.
    """
    if not form.complete:
        raise BadInput("The submission is incomplete: its form ends early.")
    request = requests.parse(form.request)
    if set(requests.inputs_of(request)) != set(form.inputs):
        raise BadInput(
            f"The request names the files {sorted(requests.inputs_of(request))}, but {sorted(form.inputs)} came."
        )
    requests.check(request, capabilities.asked_of(request))
    for name in form.inputs:
        volumes.check(folder / "inputs" / name)
    (folder / "request.json").write_text(request.model_dump_json(indent=1), "utf-8")
