"""How the server says no: a status, one sentence and what to try, in the shape of a job's ``error.json``."""

from __future__ import annotations

from typing import Literal

from BrainGenLib.jobs import Failure


class Refusal(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        message: one sentence for the user.
        advice: what to try.
        code: ``bad_input`` if the request or its files have to change, else ``remote``.
        retry_after: seconds after which the same request may pass.
    """

    def __init__(
        self,
        status: int,
        message: str,
        advice: str = "",
        *,
        code: Literal["bad_input", "remote"] = "remote",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.failure = Failure(code=code, message=message, advice=advice)
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
