"""A server as its clients see it: every failure becomes one sentence and what to try."""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import urlsplit

import requests
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from BrainGenLib.jobs import Failure
from BrainGenLib.loopback import is_loopback
from BrainGenLib.service import tokens

# To connect; and without a byte, of which the server sends some every 15 s.
TIMEOUT_SECONDS = (5.0, 45.0)
ANSWER_BYTES = 16 * 2**20
LINE_BYTES = 2**20
# Of one event, and of all events of a job.
EVENT_LINES = 100
EVENTS_BYTES = 2**28
BLOCK_BYTES = 2**16
# What a proxy says while the server behind it is being restarted.
_PASSING = (429, 502, 503, 504)


class RemoteError(ConnectionError):
    """The server could not be asked, or said no.

    Attributes:
        failure: for ``error.json``.
        passing: the same may succeed in a moment.
        retry_after: seconds that the server asked to wait.
    """

    def __init__(self, failure: Failure, *, passing: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.passing = passing
        self.retry_after = retry_after


@dataclass(frozen=True)
class Message:
    """A server-sent event: its name, its number (0 for none) and its data."""

    name: str
    number: int
    data: Any


class Server:
    """A server of BrainGen.

    Args:
        url: as a browser would have it, e.g. ``https://gpu.example.org/braingen``.
        token: of the user; empty for that of this account (:func:`BrainGenLib.service.tokens.own`), which is sent to
            this machine only.

    Raises:
        RemoteError: the URL or the token is none, or the token would travel unencrypted.
    """

    def __init__(self, url: str, token: str = "") -> None:
        try:
            parts = urlsplit(url)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.port == 0
        except ValueError:
            wrong = True
        if wrong or parts.username or parts.password:
            # A password must not get onto a screen or into a file.
            shown = "That" if "@" in url else url
            raise RemoteError(
                Failure(code="remote", message=f"{shown} is not the address of a server.", advice="Write https://…")
            )
        self.url = url.rstrip("/")
        # A file that it came from may end with a line, and that of Windows with more.
        self._token = token.strip()
        if not self._token and is_loopback(parts.hostname or ""):
            with suppress(OSError, UnicodeDecodeError):
                self._token = tokens.found()
        if not re.fullmatch(r"[!-~]*", self._token):
            raise RemoteError(
                Failure(
                    code="remote",
                    message="The token holds characters that no token has.",
                    advice="Copy it again (BRAINGEN_TOKEN), or ask the operator of the server for one.",
                )
            )
        if self._token and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise RemoteError(
                Failure(
                    code="remote",
                    message=f"{self.url} is not encrypted: others on the way could read your token and your scans.",
                    advice="Use https://…, or a tunnel: ssh -L 8765:127.0.0.1:8765 SERVER, then http://127.0.0.1:8765.",
                )
            )

    def bundles(self) -> list[dict[str, Any]]:
        """Metadata of the server's bundles.

        Raises:
            RemoteError: the server could not be asked, or said no.
        """
        return self._json("GET", "/bundles")

    def submit(self, request: str, files: Sequence[Path], key: str, check: Callable[[], None]) -> str:
        """Submit a job; its id.

        Args:
            request: JSON.
            files: that the request names, by their names.
            key: the same submission sent twice is one job.
            check: called often during the upload; what it raises ends it.

        Raises:
            RemoteError: as :meth:`bundles`.
        """
        # A no to a half-sent upload is often lost with the connection, so a bad token is found out before.
        self._json("GET", "/jobs")
        with _Form(request, files, check) as form:
            headers = {"Content-Type": form.content_type, "Idempotency-Key": key}
            return self._json("POST", "/jobs", headers=headers, data=form)["id"]

    def events(self, job: str, last: int) -> Iterator[Message]:
        """What happens to a job after its event number ``last``, until its end.

        Raises:
            RemoteError: as :meth:`bundles`, and when the connection breaks.
        """
        with self._ask("GET", f"/jobs/{job}/events", headers={"Last-Event-ID": str(last)}) as answer:
            lines: list[str] = []
            for line in self._lines(answer):
                if line:
                    lines.append(line)
                    if len(lines) > EVENT_LINES:
                        raise self._stranger(200)
                    continue
                fields = dict(item.split(": ", 1) for item in lines if ": " in item and not item.startswith(":"))
                lines = []
                if "data" in fields:
                    yield self._message(fields)
        self._lost()

    def archive(self, path: str, check: Callable[[], None]) -> Iterator[bytes]:
        """The pieces of an archive, e.g. of ``/jobs/…/result``.

        Raises:
            RemoteError: as :meth:`events`.
        """
        with self._ask("GET", path) as answer:
            for piece in self._pieces(answer):
                check()
                yield piece

    def delete(self, job: str) -> bool:
        """Cancel a job, or remove it if it is finished: then True.

        Raises:
            RemoteError: as :meth:`bundles`.
        """
        with self._ask("DELETE", f"/jobs/{job}") as answer:
            return answer.status_code == 204

    def _json(self, method: str, path: str, **options: Any) -> Any:
        with self._ask(method, path, **options) as answer:
            try:
                content = _content(answer)
            except (OSError, HTTPError) as error:
                self._lost(error)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._stranger(answer.status_code) from error

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, data: Any = None
    ) -> requests.Response:
        try:
            answer = requests.request(
                method,
                self.url + path,
                # Nothing is inflated that could be larger than its declared length.
                headers={**(headers or {}), "Accept-Encoding": "identity"},
                data=data,
                auth=self._sign,
                stream=True,
                timeout=TIMEOUT_SECONDS,
                # A token must not follow to another address.
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            advice = "Ask the operator of the server; a certificate of your own goes into REQUESTS_CA_BUNDLE."
            failure = Failure(
                code="remote",
                message=f"The certificate of {self.url} is not trusted.",
                advice=advice,
                traceback=str(error),
            )
            raise RemoteError(failure) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            failure = Failure(
                code="remote",
                message=f"The server {self.url} cannot be reached.",
                advice="Check the address and the network, and that the server runs.",
                traceback=str(error),
            )
            raise RemoteError(failure, passing=True) from error
        except requests.RequestException as error:
            failure = Failure(code="remote", message=f"The server {self.url} cannot be asked ({error}).")
            raise RemoteError(failure) from error
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            with answer:
                raise self._stranger(answer.status_code)
        if 200 <= answer.status_code < 300:
            return answer
        with answer:
            raise self._refusal(answer)

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As a function, because requests would put a password of ~/.netrc in place of a header.
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _refusal(self, answer: requests.Response) -> RemoteError:
        passing = answer.status_code in _PASSING
        if answer.status_code == 401:
            message = "The server does not accept the token." if self._token else "The server asks for a token."
            advice = (
                "Check the token (BRAINGEN_TOKEN), or ask the operator of the server for one. Through a tunnel it is "
                "in .braingen/token on the other machine, if it has no list of users."
            )
            return RemoteError(Failure(code="remote", message=message, advice=advice))
        try:
            failure = Failure.model_validate_json(_content(answer))
        except (ValidationError, OSError, HTTPError):
            stranger = self._stranger(answer.status_code)
            return RemoteError(stranger.failure, passing=passing)
        after = answer.headers.get("Retry-After", "0")
        return RemoteError(
            failure,
            passing=passing,
            retry_after=min(float(after), 60.0) if re.fullmatch("[0-9]{1,9}", after) else 0.0,
        )

    def _stranger(self, status: int) -> RemoteError:
        return RemoteError(
            Failure(
                code="remote",
                message=f"{self.url} answers (status {status}), but not like a server of BrainGen.",
                advice="Check the address.",
            )
        )

    def _message(self, fields: Mapping[str, str]) -> Message:
        try:
            return Message(fields.get("event", ""), int(fields.get("id", 0)), json.loads(fields["data"]))
        except (ValueError, RecursionError) as error:
            raise self._stranger(200) from error

    def _lines(self, answer: requests.Response) -> Iterator[str]:
        left, total = b"", 0
        for piece in self._pieces(answer):
            *whole, left = (left + piece).split(b"\n")
            total += len(piece)
            if len(left) > LINE_BYTES or total > EVENTS_BYTES:
                raise self._stranger(200)
            yield from (line.decode("utf-8", "replace") for line in whole)

    def _pieces(self, answer: requests.Response) -> Iterator[bytes]:
        """Pieces of an answer as they come."""
        try:
            yield from _blocks(answer)
        except (OSError, HTTPError) as error:
            self._lost(error)

    def _lost(self, error: Exception | None = None) -> NoReturn:
        failure = Failure(
            code="remote",
            message=f"The connection to {self.url} was lost.",
            advice="Check the network, then submit the job again.",
        )
        raise RemoteError(failure, passing=True) from error


def _blocks(answer: requests.Response) -> Iterator[bytes]:
    """The body as it comes, never more than a block of it in memory."""
    return answer.raw.stream(BLOCK_BYTES, decode_content=False)


def _content(answer: requests.Response) -> bytes:
    content = b""
    for piece in _blocks(answer):
        content += piece
        if len(content) > ANSWER_BYTES:
            break
    return content


class _Form:
    """A ``multipart/form-data`` body that is read from its files piece by piece, with its length known before."""

    def __init__(self, request: str, files: Sequence[Path], check: Callable[[], None]) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._check = check
        self._parts: list[IO[bytes]] = [io.BytesIO(f"{_head(boundary, 'request')}{request}\r\n".encode())]
        for path in files:
            head = _head(boundary, f'input"; filename="{path.name}')
            self._parts += [io.BytesIO(head.encode()), path.open("rb"), io.BytesIO(b"\r\n")]
        self._parts.append(io.BytesIO(f"--{boundary}--\r\n".encode()))
        self._length = sum(part.seek(0, io.SEEK_END) for part in self._parts)
        for part in self._parts:
            part.seek(0)

    def __enter__(self) -> _Form:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts:
            part.close()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(2**16):
            yield piece

    def read(self, size: int = 2**16) -> bytes:
        """The next piece."""
        self._check()
        return next((piece for part in self._parts if (piece := part.read(size))), b"")


def _head(boundary: str, name: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
