"""What can be done from the console: the verbs of the commands, each after a yes.

Nothing is decided here. Reading goes by the reader's address; what changes something goes by the
address that the commands use, whose role the database holds to what it may.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, NamedTuple
from uuid import UUID

import structlog

from engine.console.forms import Asked
from engine.errors import InputError
from engine.operating.freeze_acts import check_words, find_frozen, read_kind
from engine.operating.letters import dismiss_letter, find_letter, resend_letter
from engine.servers import Addresses
from engine.store.freezes import FreezeAct, set_freeze
from engine.store.letters import Letter, open_letters
from engine.store.operations import open_operations
from engine.streams.inspection import StreamsInspection
from engine.streams.streams import Streams
from shards.applying import Bounds, apply_plan
from shards.draft import draw_plan
from shards.planning import Plan

DRAWN_MAX: Final = 16
"""Plans that are kept until somebody applies them; the oldest are forgotten."""
APPLY_SECONDS: Final = 1.0
"""So long it is waited for a plan that is refused at once."""

Fields = Mapping[str, str]

_log = structlog.get_logger()


class Done(NamedTuple):
    """What was done, and the page that shows it."""

    said: str
    path: str


class Verb(NamedTuple):
    """What can be done."""

    ask: Callable[[Fields], Awaitable[Asked]]
    """Says what would be done. Raises InputError where it cannot be."""
    do: Callable[[Fields], Awaitable[Done]]


class Acts:
    """The verbs.

    Args:
        acting: The servers, as whoever acts.
        reading: The same Postgres, as a reader.
        prefix: Of the names of the streams.
    """

    def __init__(self, acting: Addresses, reading: str, prefix: str) -> None:
        self._acting = acting
        self._reading = reading
        self._prefix = prefix
        self._drawn: OrderedDict[str, Plan] = OrderedDict()
        self._applying: set[asyncio.Task[object]] = set()
        self.verbs: Final[Mapping[str, Verb]] = {
            "freeze": Verb(self._ask_freeze, self._freeze),
            "thaw": Verb(self._ask_thaw, self._thaw),
            "resend": Verb(self._ask_resend, self._resend),
            "dismiss": Verb(self._ask_dismiss, self._dismiss),
            "apply": Verb(self._ask_apply, self._apply),
            "abort": Verb(self._ask_abort, self._abort),
        }

    # Freezes.

    async def _ask_freeze(self, fields: Fields) -> Asked:
        asked = await self._freeze_act("freeze", fields, by="somebody")
        declines = asked.declines
        return Asked(
            "freeze",
            f"Freeze {asked.kind} {asked.what}",
            "Requests that match are declined until it is thawed. All others go on."
            if declines
            else "Requests that match wait, in order, until it is thawed. All others go on.",
            [
                ("Asked for", fields.get("what", "")),
                ("What matches", "is declined" if declines else "waits"),
                ("Why", asked.reason),
            ],
            _kept(fields, "kind", "what", "how", "reason"),
            "/freezes",
        )

    async def _freeze(self, fields: Fields) -> Done:
        asked = await self._freeze_act("freeze", fields, fields.get("by", ""))
        await set_freeze(self._acting.postgres_dsn, asked)
        return Done(f"{asked.kind} {asked.what} is frozen.", "/freezes")

    async def _ask_thaw(self, fields: Fields) -> Asked:
        asked = await self._freeze_act("thaw", fields, by="somebody")
        return Asked(
            "thaw",
            f"Thaw {asked.kind} {asked.what}",
            "What waits for it is decided, in order.",
            [("Why", asked.reason)],
            _kept(fields, "kind", "what", "reason"),
            "/freezes",
        )

    async def _thaw(self, fields: Fields) -> Done:
        asked = await self._freeze_act("thaw", fields, fields.get("by", ""))
        await set_freeze(self._acting.postgres_dsn, asked)
        return Done(f"{asked.kind} {asked.what} is thawed.", "/freezes")

    async def _freeze_act(
        self, act: Literal["freeze", "thaw"], fields: Fields, by: str
    ) -> FreezeAct:
        kind = read_kind(fields.get("kind", ""))
        reason = fields.get("reason", "")
        check_words(by, reason)
        what = await find_frozen(self._reading, kind, fields.get("what", ""))
        declines = fields.get("how") == "decline"
        return FreezeAct(act, kind, what, by, reason, declines)

    # Dead letters.

    async def _ask_resend(self, fields: Fields) -> Asked:
        letter = await self._letter(fields)
        repaired = fields.get("repaired")
        again = letter.state == "resent"
        return Asked(
            "resend",
            f"Send {letter.letter} again",
            "Its transfers are added to its stream once more; ids that were decided stay decided.",
            [
                ("Reason", letter.reason),
                ("Its transfers", "as they came" if repaired is None else repaired),
                *([("Sent before", f"by {letter.acted_by}")] if again else []),
            ],
            _kept(fields, "letter", "repaired"),
            f"/letters/{letter.letter}",
        )

    async def _resend(self, fields: Fields) -> Done:
        by = _by(fields)
        repaired = fields.get("repaired")
        streams = StreamsInspection(self._acting.redis_url, self._prefix)
        try:
            await streams.open()
            async with open_letters(self._acting.postgres_dsn) as letters:
                letter = await find_letter(letters, fields.get("letter", ""))
                entry = await resend_letter(
                    letters,
                    streams,
                    letter,
                    None if repaired is None else repaired.encode(),
                    by,
                    again=letter.state == "resent",
                )
        finally:
            await streams.close()
        return Done(f"{letter.letter} is sent again as {entry}.", f"/letters/{letter.letter}")

    async def _ask_dismiss(self, fields: Fields) -> Asked:
        letter = await self._letter(fields)
        return Asked(
            "dismiss",
            f"Dismiss {letter.letter}",
            "Nothing will be done about it. It is kept, with the reason.",
            [("Reason", letter.reason), ("Why", fields.get("reason", ""))],
            _kept(fields, "letter", "reason"),
            f"/letters/{letter.letter}",
        )

    async def _dismiss(self, fields: Fields) -> Done:
        by = _by(fields)
        async with open_letters(self._acting.postgres_dsn) as letters:
            letter = await find_letter(letters, fields.get("letter", ""))
            await dismiss_letter(letters, letter, by, fields.get("reason", ""))
        return Done(f"{letter.letter} is dismissed.", f"/letters/{letter.letter}")

    async def _letter(self, fields: Fields) -> Letter:
        async with open_letters(self._reading) as letters:
            return await find_letter(letters, fields.get("letter", ""))

    # Plans.

    async def draw(self) -> Plan:
        """A plan that would even out the load; it is kept until it is applied."""
        plan = await draw_plan(self._reading, {}, [], {})
        self._drawn[plan.plan] = plan
        while len(self._drawn) > DRAWN_MAX:
            self._drawn.popitem(last=False)
        return plan

    async def _ask_apply(self, fields: Fields) -> Asked:
        plan = self._plan(fields)
        return Asked(
            "apply",
            f"Apply plan {plan.plan[:8]}",
            "Its shards are moved, two at a time, while traffic flows. The workers do the moving.",
            [
                ("Moves", f"{len(plan.moves)}"),
                ("Skew", f"{plan.skew_before:.2f}, then {plan.skew_after:.2f}"),
            ],
            _kept(fields, "plan"),
            "/plans",
        )

    async def _apply(self, fields: Fields) -> Done:
        plan, by = self._plan(fields), _by(fields)
        task: asyncio.Task[object] = asyncio.create_task(self._move(plan, by))
        self._applying.add(task)
        task.add_done_callback(self._applied)
        await asyncio.wait({task}, timeout=APPLY_SECONDS)
        if task.done():
            await task
        return Done(f"Plan {plan.plan[:8]} is being applied.", "/plans")

    async def _move(self, plan: Plan, by: str) -> object:
        # Its bounds ask nothing of the streams.
        streams = Streams(self._acting.redis_url, self._prefix)
        async with open_operations(self._acting.postgres_dsn) as operations:
            return await apply_plan(operations, streams, plan, Bounds(), by, lambda _: None)

    def _applied(self, task: "asyncio.Task[object]") -> None:
        self._applying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Where it began, its row says so too.
            _log.warning("plan_not_applied", reason=str(error))

    async def _ask_abort(self, fields: Fields) -> Asked:
        plan = fields.get("plan", "")
        return Asked(
            "abort",
            f"Abort plan {plan[:8]}",
            "What is half moved is moved, the rest stays where it is.",
            [("Plan", plan)],
            _kept(fields, "plan"),
            "/plans",
        )

    async def _abort(self, fields: Fields) -> Done:
        by = _by(fields)
        async with open_operations(self._acting.postgres_dsn) as operations:
            plans, _ = await operations.abort(f"aborted by {by}", _plan_id(fields))
        if not plans:
            raise InputError("it was over already: nothing is to be aborted")
        return Done(f"Plan {plans[0][:8]} is aborted.", "/plans")

    def _plan(self, fields: Fields) -> Plan:
        plan = self._drawn.get(fields.get("plan", ""))
        if plan is None:
            raise InputError("this plan is forgotten: draw it again")
        return plan

    async def close(self) -> None:
        """Apply no more: what was asked for the workers finish."""
        for task in self._applying:
            task.cancel()
        await asyncio.gather(*self._applying, return_exceptions=True)


def _kept(fields: Fields, *names: str) -> dict[str, str]:
    return {name: fields[name] for name in names if name in fields}


def _by(fields: Fields) -> str:
    by = fields.get("by", "")
    check_words(by, "as said")
    return by


def _plan_id(fields: Fields) -> str:
    text = fields.get("plan", "")
    try:
        return str(UUID(text))
    except ValueError:
        raise InputError(f"{text[:80]!r} is no plan") from None
