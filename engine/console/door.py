"""The door of the console: who may come in, and what every answer says to the browser.

Whoever has the token, which stands in the address that is printed, gets a cookie for it. The cookie
is good for this process alone. A request that changes something must besides carry a word that only
our own pages know.
"""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_BYTES: Final = 32
"""Of chance, in a token."""

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none, browsers hide where a form comes from
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer."""

_HINT: Final = (
    "401: open the console by the address that `engine console` printed, with its token.\n"
    "If you just did, by a link of another site, reload this page.\n"
)


class Keys:
    """The secrets of a console: what lets in, and what its pages know.

    Args:
        host: Where it listens.
        port: As host.
        others: More names that it is reached by, as a proxy's: `name` or `name:port`.
    """

    def __init__(self, host: str, port: int, others: tuple[str, ...] = ()) -> None:
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self.session = secrets.token_urlsafe(TOKEN_BYTES)
        self.form = secrets.token_urlsafe(TOKEN_BYTES)
        """In each form, and in no address."""
        self.cookie = f"engine_console_{port}"
        """Cookies are of a host, not of a port: another console there has one too."""
        self.port = port
        self._names = _names_of(host, port) | {name.lower() for name in others}
        self._is_everywhere = host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not listened at

    def is_named(self, host: str) -> bool:
        """Whether a `Host` header names this console, and not a name that leads here by a trick."""
        if host.lower() in self._names:
            return True
        name, _, port = host.rpartition(":")
        return self._is_everywhere and port == str(self.port) and _is_address(name.strip("[]"))

    def opens(self, token: str) -> bool:
        """Whether this is the token; it takes as long whatever the answer."""
        return _same(token, self.token)

    def is_inside(self, headers: Headers) -> bool:
        """Whether a request has the cookie."""
        try:
            jar = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self.cookie in jar and _same(jar[self.cookie].value, self.session)

    def may_act(self, headers: Headers, form: str) -> bool:
        """Whether a request that would change something comes from a page of ours."""
        origin = headers.get("origin")
        if origin is not None and not self.is_named(urlsplit(origin).netloc):
            return False
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return False
        return _same(form, self.form)


class Door:
    """Lets in who has the token or the cookie, and tells the browser what it may do.

    Args:
        inside: The pages.
        keys: What opens.
    """

    def __init__(self, inside: ASGIApp, keys: Keys) -> None:
        self._inside = inside
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._refuse(scope) or self._inside
        await answer(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> Response | None:
        """The answer to whom is not let in, or is only just; None for who is inside."""
        headers = Headers(scope=scope)
        if not self._keys.is_named(headers.get("host", "")):
            return PlainTextResponse(
                "400: this console is not reached by that name; see --name of `engine console`\n",
                400,
            )
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = next((value for name, value in query if name == "token"), None)
        if token is not None and scope["method"] in {"GET", "HEAD"}:
            return self._open(scope["path"], token, query)
        if self._keys.is_inside(headers):
            return None
        return PlainTextResponse(_HINT, 401)

    def _open(self, path: str, token: str, query: list[tuple[str, str]]) -> Response:
        if not self._keys.opens(token):
            return PlainTextResponse(_HINT, 401)
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        # A path that begins with two slashes would lead to another host.
        place = "/" + path.lstrip("/\\") + (f"?{rest}" if rest else "")
        answer = RedirectResponse(place, 303)
        answer.set_cookie(
            self._keys.cookie, self._keys.session, path="/", httponly=True, samesite="strict"
        )
        return answer


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _names_of(host: str, port: int) -> set[str]:
    """As `Host` has it: where a console listens there, and by which names that is reached."""
    names = {host}
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - as above
        names |= {socket.gethostname(), "localhost", "127.0.0.1", "::1"}
    elif host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback):
        names |= {"localhost", "127.0.0.1", "::1"}
    hosts = {f"[{name}]" if ":" in name else name.lower() for name in names}
    return {f"{name}:{port}" for name in hosts} | (hosts if port == 80 else set())
