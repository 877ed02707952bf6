"""Who may use the page: a token where others can reach the port, and no foreign web site anywhere.

One check stands in front of everything that the server gives or takes: page, scripts, websocket, upload, download.
The first visit brings the token in the URL and gets a cookie, as with Jupyter; wslink's own shared secret stays at
its public default and protects nothing.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

COOKIE = "braingen_token"
_PARAMETER = "token"
_REFUSED = "This BrainGen app needs its token: open the whole URL that it printed when it started.\n"
_FOREIGN = "This request comes from another web site, which may not use the BrainGen app.\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def guard(token: str | None) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """The check as aiohttp middleware.

    Args:
        token: what a visitor must bring; None on loopback, where the port itself is out of others' reach.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        # A page of any site may send requests and open websockets to this port from the user's own browser.
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text=_FOREIGN)
        if token is None:
            # A name that somebody points at 127.0.0.1 makes their page look as if it were ours.
            if not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
                raise web.HTTPForbidden(text=_FOREIGN)
            return await handler(request)
        brought = request.query.get(_PARAMETER)
        if brought is not None and _same(brought, token):
            # Away with it: the address bar, the history and other sites need not know it.
            answer = web.HTTPFound(str(request.rel_url.without_query_params(_PARAMETER)))
            answer.set_cookie(COOKIE, token, httponly=True, samesite="Strict", path="/")
            raise answer
        if not _same(request.cookies.get(COOKIE, ""), token):
            raise web.HTTPForbidden(text=_REFUSED)
        return await handler(request)

    return check


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
