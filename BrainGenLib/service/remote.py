"""A server in place of this machine, for front ends: its bundles, and the process that has it run jobs."""

from __future__ import annotations

import os

from pydantic import TypeAdapter, ValidationError

from BrainGenLib.bundles import Metadata
from BrainGenLib.jobs import Failure, WorkerProcess
from BrainGenLib.service.client import RemoteError, Server
from BrainGenLib.service.mirror import TOKEN_VARIABLE

__all__ = ["TOKEN_VARIABLE", "MirrorProcess", "RemoteError", "remote_bundles"]

_METADATA = TypeAdapter(list[Metadata])


def remote_bundles(url: str, token: str) -> list[Metadata]:
    """What can be asked of a server, without how its networks are built; a call over the network.

    Raises:
        RemoteError: the server could not be asked, or said no; its text is one sentence, its ``failure`` has advice.
    """
    try:
        return _METADATA.validate_python(Server(url, token).bundles())
    except ValidationError as error:
        failure = Failure(code="remote", message=f"{url} answers, but not like this version of BrainGen.")
        raise RemoteError(failure) from error


class MirrorProcess(WorkerProcess):
    """A worker process that lets a server work.

    Args:
        url: of the server.
        token: of the user; empty for that of this account.
        python: the interpreter, which needs neither torch nor MONAI; None for that of this process.
    """

    def __init__(self, url: str, token: str, *, python: str | None = None) -> None:
        super().__init__(
            python=python,
            module="BrainGenLib.service.mirror",
            arguments=[url],
            environment={**os.environ, TOKEN_VARIABLE: token},
        )

    def obituary(self) -> Failure:
        """How the process ended; the server knows nothing of it, and may have run the job to its end."""
        return (
            super()
            .obituary()
            .model_copy(
                update={
                    "code": "crashed",
                    "message": "The process that speaks with the server ended unexpectedly.",
                    "advice": "Submit the job again; if it happens again, report it with the text below.",
                }
            )
        )
