"""The pages of the console by their addresses, and what becomes of a form."""

import contextlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from engine.console.accounts_page import account_content, accounts_content
from engine.console.acts import Acts
from engine.console.door import Door, Keys
from engine.console.events_page import events_content
from engine.console.forms import second_step
from engine.console.freezes_page import freezes_content
from engine.console.layout import Frame, address, page
from engine.console.letters_page import letter_content, letters_content
from engine.console.markup import Child, tag
from engine.console.overview_page import overview_content
from engine.console.plans_page import draft_content, plans_content
from engine.console.where_page import life_content, where_search
from engine.errors import ConfigurationError, EngineError, InputError, TryAgainError
from engine.operating.overview import gather_overview
from engine.operating.where import find
from engine.servers import Addresses
from engine.store.reader import ReadingAddress

FORM_BYTES_MAX: Final = 1024 * 1024
"""Of what a form sends: a repaired letter is the largest."""
SAID_MAX: Final = 64
"""Sentences that wait for the page that shows them."""

STATIC_TYPES: Final = {
    "console.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

Content = list[Child]
Handler = Callable[[Request], Awaitable[Response]]


class Console:
    """The pages.

    Args:
        acting: The servers, as whoever acts.
        reading: The same Postgres, as a reader.
        prefix: Of the names of the streams.
        by: Who acts, where a form names nobody else.
        keys: What opens the door.
    """

    def __init__(
        self, acting: Addresses, reading: ReadingAddress, prefix: str, by: str, keys: Keys
    ) -> None:
        self._reading = Addresses(reading.dsn, acting.redis_url)
        self._prefix = prefix
        self._keys = keys
        self._frame = Frame(reading.role, by, keys.form)
        self._acts = Acts(acting, reading.dsn, prefix)
        self._said: OrderedDict[str, str] = OrderedDict()
        routes = [
            Route("/", self._overview),
            Route("/events", self._events),
            Route("/letters", self._letters),
            Route("/letters/{letter}", self._letter),
            Route("/accounts", self._accounts),
            Route("/where", self._where),
            Route("/plans", self._plans),
            Route("/plans/new", self._new_plan),
            Route("/freezes", self._freezes),
            Route("/acts/{verb}", self._act, methods=["POST"]),
            Route("/static/{name}", _static),
        ]
        errors = {EngineError: self._error, 404: self._missing, 405: self._missing}
        self.app: Final = Door(
            Starlette(routes=routes, exception_handlers=errors, lifespan=self._lifespan), keys
        )
        """To be served."""

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self._acts.close()

    def _page(self, request: Request, place: str, title: str, content: Content) -> Response:
        said = self._said.pop(request.query_params.get("said", ""), None)
        return HTMLResponse(page(self._frame, place, title, *content, said=said))

    async def _overview(self, request: Request) -> Response:
        found = await gather_overview(self._reading)
        return self._page(request, "/", "Overview", overview_content(found))

    async def _events(self, request: Request) -> Response:
        since = request.query_params.get("since", "1h")
        content = await events_content(self._reading.postgres_dsn, since)
        return self._page(request, "/events", "Events", content)

    async def _letters(self, request: Request) -> Response:
        state = request.query_params.get("state", "open")
        content = await letters_content(self._reading.postgres_dsn, state)
        return self._page(request, "/letters", "Dead letters", content)

    async def _letter(self, request: Request) -> Response:
        name = request.path_params["letter"]
        content = await letter_content(self._frame, self._reading.postgres_dsn, name)
        return self._page(request, "/letters", f"Dead letter {name}", content)

    async def _accounts(self, request: Request) -> Response:
        dsn = self._reading.postgres_dsn
        wanted = request.query_params.get("account", "").strip()
        if not wanted:
            return self._page(request, "/accounts", "Accounts", await accounts_content(dsn))
        before = _whole(request.query_params.get("before"))
        content = await account_content(dsn, wanted, before)
        return self._page(request, "/accounts", f"Account {wanted}", content)

    async def _where(self, request: Request) -> Response:
        wanted = request.query_params.get("id", "").strip()
        if not wanted:
            return self._page(request, "/where", "Where is it", [where_search()])
        _check_text(wanted)
        life = await find(*self._reading, self._prefix, wanted)
        return self._page(request, "/where", "Where is it", life_content(life))

    async def _plans(self, request: Request) -> Response:
        content = await plans_content(self._frame, self._reading.postgres_dsn)
        return self._page(request, "/plans", "Plans", content)

    async def _new_plan(self, request: Request) -> Response:
        plan = await self._acts.draw()
        content = draft_content(self._frame, plan)
        return self._page(request, "/plans", f"Plan {plan.plan[:8]}", content)

    async def _freezes(self, request: Request) -> Response:
        query = request.query_params
        content = await freezes_content(
            self._frame,
            self._reading.postgres_dsn,
            query.get("kind", "account"),
            query.get("what", ""),
        )
        return self._page(request, "/freezes", "Freezes", content)

    async def _act(self, request: Request) -> Response:
        """The first step asks for a yes; the second does it."""
        fields = await _read_form(request)
        if not self._keys.may_act(request.headers, fields.get("form", "")):
            return PlainTextResponse(
                "403: this form is not of a page of this console; load the page again\n", 403
            )
        verb = self._acts.verbs.get(request.path_params["verb"])
        if verb is None:
            return await self._missing(request, None)
        if fields.get("sure") != "yes":
            asked = await verb.ask(fields)
            return self._page(request, asked.back, asked.title, second_step(self._frame, asked))
        done = await verb.do(fields)
        key = secrets.token_urlsafe(8)
        self._said[key] = done.said
        while len(self._said) > SAID_MAX:
            self._said.popitem(last=False)
        return RedirectResponse(address(done.path, said=key), 303)

    async def _error(self, request: Request, error: Exception) -> Response:
        """What went wrong, in the words of the commands."""
        status = 500
        for kind, code in ((InputError, 400), (TryAgainError, 503), (ConfigurationError, 409)):
            if isinstance(error, kind):
                status = code
                break
        content: Content = [
            tag("p", str(error), class_="verdict wrong", role="alert"),
            tag("p", tag("a", "To the overview", href="/")),
        ]
        answer = self._page(request, "", "That did not work", content)
        answer.status_code = status
        return answer

    async def _missing(self, request: Request, error: Exception | None) -> Response:
        content: Content = [
            tag("p", "There is no such page."),
            tag("p", tag("a", "To the overview", href="/")),
        ]
        answer = self._page(request, "", "Not here", content)
        answer.status_code = getattr(error, "status_code", 404)
        return answer


async def _read_form(request: Request) -> dict[str, str]:
    """The fields of a form, each once.

    Raises:
        InputError: It is too large, or no form of ours.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > FORM_BYTES_MAX:
            raise InputError(f"the form sends more than {FORM_BYTES_MAX:,} bytes")
    try:
        fields = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict"))
    except (UnicodeDecodeError, ValueError):
        raise InputError("the form cannot be read") from None
    for value in fields.values():
        _check_text(value)
    # As browsers send the ends of lines.
    return {name: value.replace("\r\n", "\n") for name, value in fields.items()}


def _check_text(text: str) -> None:
    """See that Postgres could store it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("that is no text") from None
    if "\0" in text:
        raise InputError("a text has no NUL")


def _whole(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise InputError(f"{text[:80]!r} is no number of a posting")
    return int(text)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC_TYPES:
        return PlainTextResponse("404\n", 404)
    content = (files("engine.console") / "static" / name).read_bytes()
    return Response(content, media_type=STATIC_TYPES[name])
