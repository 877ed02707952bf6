"""The process behind ``braingen serve``."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from BrainGenLib.errors import BadInput
from BrainGenLib.loopback import is_loopback
from BrainGenLib.service import store, tokens
from BrainGenLib.service.limits import Limits, Traffic

# Transfers that run at the end get so long to finish.
GRACE_SECONDS = 10
CONNECTIONS = 500


def serve(host: str, port: int, jobs: Path, users: Path | None, limits: Limits) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        host: address to listen at.
        port: 0 for any that is free.
        jobs: folder of the jobs.
        users: tokens file; None admits those who can read this account's own token.
        limits: of each user.

    Raises:
        BadInput: something is not installed, the address needs tokens or cannot be used, or another server uses the
            folder.
    """
    try:
        import uvicorn

        from BrainGenLib.service.app import Service, create_app
        from BrainGenLib.service.connections import Protocol
        from BrainGenLib.service.runner import Runner
    except ImportError as error:
        raise BadInput(
            f"{error.name} is missing: install what a server needs, pip install 'braingen[serve]'."
        ) from error

    if users is not None:
        tokens.read(users)
        user_of: Callable[[str], str | None] = partial(tokens.user_of, users)
    elif not is_loopback(host):
        raise BadInput(
            f"At {host} others can reach the server, so it needs tokens: make one with `braingen serve token NAME "
            "--tokens FILE` and give --tokens FILE."
        )
    else:
        user_of = tokens.user_of_own
        tokens.own()
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise BadInput(f"Cannot listen at {host}, port {port}: {error.strerror}.") from error
    with listener, store.take(jobs):
        runner = Runner(jobs, limits)
        service = Service(jobs, user_of, limits, Traffic(limits.per_minute), runner, lambda: server.should_exit)
        config = uvicorn.Config(
            create_app(service),
            http=Protocol,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = uvicorn.Server(config)
        logging.getLogger("uvicorn.error").info("Jobs in %s, port %d", jobs, listener.getsockname()[1])
        # uvicorn raises the signal that ended it again, when everything has ended as it should.
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
