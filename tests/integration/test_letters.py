"""Dead letters: listed, shown, repaired and sent again, dismissed; each act is kept."""

import json
from typing import Any

import asyncpg
import pytest

from engine.errors import InputError
from engine.operating.letters import (
    dismiss_letter,
    find_letter,
    parse_name,
    payload_of,
    repair,
    resend_letter,
    show_fields,
)
from engine.store.letters import Letter, Letters, open_letters
from engine.streams.inspection import StreamsInspection
from tests.desks import Desk, desk_over, transfer
from tests.ledgers import Ledger, until


async def spoil(desk: Desk, **fields: Any) -> None:
    await desk.redis.xadd(desk.stream(), fields | {"reply": desk.reply, "request": "r-1"})
    await desk.drained()


async def answered(desk: Desk, count: int) -> None:
    """So many answers, of which the first says that the entry could not be read."""

    async def enough() -> bool:
        return await desk.redis.xlen(desk.reply) >= count

    await until(enough, f"{count} answers")


async def only_letter(letters: Letters) -> Letter:
    [listed] = await letters.list(None, 10)
    return await find_letter(letters, listed.letter)


async def send_again(ledger: Ledger, repaired: bytes | None, **options: bool) -> str:
    streams = StreamsInspection(ledger.redis_url, ledger.prefix)
    await streams.open()
    try:
        async with open_letters(ledger.app_dsn) as letters:
            letter = await only_letter(letters)
            return await resend_letter(letters, streams, letter, repaired, "a test", **options)
    finally:
        await streams.close()


async def state_of(ledger: Ledger) -> tuple[str, str | None]:
    async with open_letters(ledger.app_dsn) as letters:
        letter = await only_letter(letters)
        return letter.state, letter.acted_by


async def test_a_repaired_letter_is_decided_and_answered_to_who_asked(ledger: Ledger) -> None:
    good = transfer()
    async with desk_over(ledger) as desk, ledger.working():
        await spoil(desk, json=json.dumps([good | {"amount": "much"}]))
        assert await state_of(ledger) == ("open", None)
        entry = await send_again(ledger, json.dumps([good]).encode())
        await answered(desk, 2)
        assert await desk.count() == 1
        [_, (_, answer)] = await desk.redis.xrange(desk.reply)
        assert answer[b"request"] == b"r-1"
    assert await state_of(ledger) == ("resent", "a test")
    [act] = await ledger.sql("SELECT * FROM ledger.letter_acts")
    assert (act["entry"], act["repaired"]) == (entry, True)


async def test_what_would_be_a_dead_letter_again_is_not_sent(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await spoil(desk, json="{")
        with pytest.raises(InputError, match="dead letter again"):
            await send_again(ledger, None)
        with pytest.raises(InputError):
            await send_again(ledger, b"[{]")
        assert await state_of(ledger) == ("open", None)
        assert await desk.redis.xlen(desk.stream()) == 0


async def test_one_of_which_only_the_beginning_was_kept_is_not_sent_as_it_was(
    ledger: Ledger,
) -> None:
    """Cut off between two transfers it would even be readable, and be another request."""
    async with desk_over(ledger) as desk, ledger.working():
        await spoil(desk, bin=bytes(128 * 40_000))
        with pytest.raises(InputError, match="only its beginning was kept"):
            await send_again(ledger, None)


async def test_to_send_it_again_twice_creates_nothing_twice(ledger: Ledger) -> None:
    good = json.dumps([transfer()]).encode()
    async with desk_over(ledger) as desk, ledger.working():
        await spoil(desk, json="{")
        await send_again(ledger, good)
        with pytest.raises(InputError, match="--again"):
            await send_again(ledger, good)
        await send_again(ledger, good, again=True)
        await answered(desk, 3)
        assert await desk.count() == 1


async def test_a_crash_before_it_was_marked_leaves_it_open_and_harmless(ledger: Ledger) -> None:
    good = transfer()
    async with desk_over(ledger) as desk, ledger.working():
        await spoil(desk, json="{")
        await desk.send([good])  # as sent by whom the crash met
        assert await state_of(ledger) == ("open", None)
        await send_again(ledger, json.dumps(good).encode())
        await answered(desk, 3)
        assert await desk.count() == 1


async def test_a_letter_is_dismissed_with_a_reason_and_only_once(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await spoil(desk, json="{")
    async with open_letters(ledger.app_dsn) as letters:
        letter = await only_letter(letters)
        with pytest.raises(InputError, match="reason"):
            await dismiss_letter(letters, letter, "a test", " ")
        await dismiss_letter(letters, letter, "a test", "noise")
        with pytest.raises(InputError, match="dismissed already"):
            await dismiss_letter(letters, await only_letter(letters), "a test", "again")
        assert await letters.list("open", 10) == []
        [dismissed] = await letters.list("dismissed", 10)
    assert dismissed.letter == letter.letter


async def test_acts_are_never_changed(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await spoil(desk, json="{")
    async with open_letters(ledger.app_dsn) as letters:
        await dismiss_letter(letters, await only_letter(letters), "a test", "noise")
    for change in ("UPDATE ledger.letter_acts SET reason = ''", "DELETE FROM ledger.letter_acts"):
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await ledger.sql(change)


async def test_lines_of_json_repair_a_letter_too(ledger: Ledger) -> None:
    lines = "\n".join(json.dumps(transfer()) for _ in range(3)).encode()
    async with desk_over(ledger) as desk, ledger.working():
        await spoil(desk, json="{")
        await send_again(ledger, lines)
        await answered(desk, 2)
        assert await desk.count() == 3


def letter_of(*fields: bytes) -> Letter:
    return Letter("0:0:5-0", 0, "5-0", "why", "open", "", 0, 5, 0, list(fields), *[None] * 4)


def test_bytes_that_are_no_text_are_shown_as_hex() -> None:
    shown = show_fields(letter_of(b"bin", b"\x00\xff", b"reply", "stré".encode()))
    assert [(field.name, field.value, field.form) for field in shown] == [
        ("bin", "00ff", "hex"),
        ("reply", "stré", "text"),
    ]


def test_a_field_that_stood_twice_is_kept_once_by_a_repair() -> None:
    letter = letter_of(b"json", b"1", b"json", b"2", b"request", b"a", b"request", b"b")
    fields = repair(letter, json.dumps(transfer()).encode(), "engine")
    assert fields[::2] == [b"json", b"request"]
    assert fields[3] == b"a"


def test_a_repair_leaves_out_a_reply_to_where_none_may_go() -> None:
    letter = letter_of(b"json", b"{", b"reply", b"engine:transfers:{0000}", b"request", b"a")
    assert repair(letter, json.dumps(transfer()).encode(), "engine")[::2] == [b"json", b"request"]


def test_a_letter_without_a_payload_has_none_to_correct() -> None:
    with pytest.raises(InputError):
        payload_of(letter_of(b"reply", b"x"))
    assert payload_of(letter_of(b"json", b"{")) == b"{"


@pytest.mark.parametrize("text", ["", "7", "0:5-0", "0:0:5", "x:0:5-0", "0:0:5-0 ", "-1:0:5-0"])
def test_what_names_no_letter_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_name(text)


def test_a_name_is_read_as_it_is_written() -> None:
    assert parse_name("12:3:1764286429000-7").name == "12:3:1764286429000-7"
