"""Who may use the page: who has its token, and no foreign web site.

One check stands in front of everything that the server gives or takes: page, scripts, websocket, upload, download.
The first visit brings the token in the URL and gets a cookie, as with Jupyter, on loopback too: others may be logged
in to the same machine, or come through a proxy of it. wslink's own shared secret stays at its public default and
protects nothing.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

COOKIE = "braingen_token"
_PARAMETER = "token"
_REFUSED = "This BrainGen app needs its token: open the whole URL that it printed when it started.\n"
_FOREIGN = "This request comes from another web site, which may not use the BrainGen app.\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def guard(token: str) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """The check as aiohttp middleware; ``token`` is what a visitor must bring."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _is_foreign(request):
            raise web.HTTPForbidden(text=_FOREIGN)
        brought = request.query.get(_PARAMETER)
        if brought is not None and _same(brought, token):
            # Away with it: the address bar, the history and other sites need not know it.
            answer = web.HTTPFound(str(request.rel_url.without_query_params(_PARAMETER)))
            answer.set_cookie(cookie_of(request.host), token, httponly=True, samesite="Strict", path="/")
            raise answer
        if not _same(request.cookies.get(cookie_of(request.host), ""), token):
            raise web.HTTPForbidden(text=_REFUSED)
        return await handler(request)

    return check


def cookie_of(host: str) -> str:
    """Name of the cookie at a host: ports share cookies, and an app on another port has another token."""
    return f"{COOKIE}_{urlsplit(f'//{host}').port or 80}"


def _is_foreign(request: web.Request) -> bool:
    """Whether a page of another site sends the request from the user's own browser."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return True
    # Other sites may hold a link to the page, and nothing else.
    linked = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.path in ("/", "/index.html")
    return request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not linked


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
