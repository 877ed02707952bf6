"""Connections that ask nothing are closed, so that they cannot keep others out."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from BrainGenLib.loopback import is_loopback

# A request has to come whole, without its body, in so long.
HEAD_SECONDS = 10.0
# Connections of one address. Those of this machine are not counted: all of a proxy's come from there.
PER_ADDRESS = 64


class Protocol(H11Protocol):
    """HTTP that waits for a request no longer than :data:`HEAD_SECONDS`."""

    addresses: ClassVar[Counter[str]] = Counter()
    _waiting: asyncio.TimerHandle | None = None
    _address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait; one connection too many of an address is closed."""
        super().connection_made(transport)
        if self.client is not None and not is_loopback(self.client[0]):
            self._address = self.client[0]
            self.addresses[self._address] += 1
            if self.addresses[self._address] > PER_ADDRESS:
                transport.abort()
                return
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take data; between two requests they begin a new wait, and one byte after the other does not end it."""
        super().data_received(data)
        if self._idle:
            self._wait()
        else:
            self._end_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection no more."""
        self._end_wait()
        if self._address:
            self.addresses[self._address] -= 1
            if not self.addresses[self._address]:
                del self.addresses[self._address]
            self._address = ""
        super().connection_lost(exc)

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self._close)

    def _end_wait(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _close(self) -> None:
        self._waiting = None
        if self._idle:
            self.transport.abort()
