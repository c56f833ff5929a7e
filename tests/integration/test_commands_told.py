"""What people are told when something is wrong: the id, the line, the server, the next command."""

import asyncio
import json
import os
import shlex
from pathlib import Path

import pytest

from tests.integration.test_commands import (
    ALICE,
    BANK,
    json_lines,
    transfer,
)
from tests.ledgers import Ledger
from tests.proxies import proxied
from tests.told import UUID, people, run


@pytest.fixture
async def peopled(ledger: Ledger) -> Ledger:
    return await people(ledger)


async def test_the_id_of_a_transfer_is_shown_before_it_is_sent_and_unknown_is_exit_code_3(
    peopled: Ledger, tmp_path: Path
) -> None:
    """Without its id a person sends again, and pays twice."""
    (tmp_path / "t.jsonl").write_text(json_lines(transfer(900, BANK, ALICE, 7)))
    pay = ["transfer", "--debit", "bank", "--credit", "bakery", "--amount", "5", "--code", "1"]
    plain, as_json, submitted = await asyncio.gather(
        run(peopled, *pay),
        run(peopled, *pay, "--json"),
        run(peopled, "submit", str(tmp_path / "t.jsonl"), "--json"),
    )
    assert [plain.code, as_json.code, submitted.code] == [3, 3, 3]
    assert plain.err.startswith("Sending transfer ")
    [shown, *later] = UUID.findall(plain.err)
    assert later, "the error names it too"
    assert set(later) == {shown}
    again = plain.err.strip().splitlines()[-1].strip()
    document = json.loads(as_json.out)
    assert document["outcome"] is None
    assert document["id"] in document["again"]
    assert json.loads(submitted.out) == {
        "id": transfer(900, BANK, ALICE, 7)["id"],
        "outcome": None,
    }
    async with peopled.working():
        for command, transfer_id in ((again, shown), (document["again"], document["id"])):
            program, *words = shlex.split(command)
            assert program == "engine"
            told = await run(peopled, *words)
            assert told.code == 0, told.err
            assert transfer_id in told.out
    rows = await peopled.sql("SELECT count(*) FROM ledger.transfers")
    assert rows[0][0] == 3, "each once, though asked again"


@pytest.mark.parametrize("end", ["the connection is lost", "no answer comes"])
async def test_accounts_whose_creation_is_in_doubt_are_unknown_and_asked_for_again(
    ledger: Ledger, tmp_path: Path, end: str
) -> None:
    made = {"id": ALICE, "ledger": 978, "code": 1}
    (tmp_path / "a.jsonl").write_text(json_lines(made))
    create = ["accounts", "create", str(tmp_path / "a.jsonl"), "--json"]
    async with proxied(ledger.app_dsn) as (proxy, through):
        if end == "no answer comes":
            proxy.mute(b"COMMIT")
        else:
            proxy.lose("answer", b"COMMIT")
        told = await run(ledger, *create, ENGINE_POSTGRES_DSN=through)
        assert told.code == 3, told.err
        assert json.loads(told.out) == {"id": ALICE, "outcome": None}
        assert "Send the same file again" in told.err
        again = await run(ledger, *create, ENGINE_POSTGRES_DSN=through)
    assert json.loads(again.out) == {"id": ALICE, "outcome": "exists"}
    assert again.code == 0


async def test_accounts_that_could_not_be_asked_for_are_not_unknown(
    ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text(json_lines({"id": ALICE, "ledger": 978, "code": 1}))
    away = await run(
        ledger,
        *["accounts", "create", str(tmp_path / "a.jsonl"), "--json"],
        ENGINE_POSTGRES_DSN="postgresql://nobody@127.0.0.1:1/none",
    )
    assert away.code == 1


async def test_what_a_transfer_lacks_is_named(peopled: Ledger) -> None:
    missing, nothing, coded = await asyncio.gather(
        run(peopled, "transfer", "--debit", "bank", "--amount", "5"),
        run(peopled, "transfer"),
        run(peopled, "transfer", "--help"),
    )
    assert (missing.code, nothing.code) == (2, 2)
    assert "--credit and --code are missing" in missing.err
    assert "--debit and --credit and --amount and --code are missing" in nothing.err
    assert "default: 0" not in coded.out


async def test_a_password_is_not_in_the_command_that_asks_again() -> None:
    from engine.commands.transfer import _without_password  # noqa: PLC0415

    assert _without_password("--redis-url=redis://me:secret@host:1/0") == (
        "--redis-url=redis://me:...@host:1/0"
    )
    assert _without_password("redis://host:1/0") == "redis://host:1/0"


async def test_a_csv_without_a_header_is_an_error_that_says_so(
    peopled: Ledger, tmp_path: Path
) -> None:
    row = f"{transfer(901, BANK, ALICE, 7)['id']},{BANK},{ALICE},7,978,1\n"
    (tmp_path / "one.csv").write_text(row)
    (tmp_path / "accounts.csv").write_text("019b0000-0000-7000-8000-0000000000bb,978,1\n")
    (tmp_path / "noid.csv").write_text("ledger,code\n978,1\n")
    for words in (
        ["submit", "one.csv"],
        ["accounts", "create", "accounts.csv"],
        ["accounts", "create", "noid.csv"],
    ):
        ended = await run(peopled, *words[:-1], str(tmp_path / words[-1]))
        assert ended.code == 1
        assert "line 1 is no header" in ended.err
        assert "nothing was sent" in ended.err


async def test_a_csv_as_spreadsheets_write_it_is_read_or_told_how_to_export_it(
    peopled: Ledger, tmp_path: Path
) -> None:
    header = "id,debit_account_id,credit_account_id,amount,ledger,code"
    row = f"{transfer(902, BANK, ALICE, 7)['id']},{BANK},{ALICE},7,978,1"
    file = tmp_path / "sheet.csv"
    file.write_bytes(b"\xef\xbb\xbf" + f"\r\n{header}\r\n\r\n{row}\r\n,,,,,\r\n".encode())
    async with peopled.working():
        read = await run(peopled, "submit", str(file))
    assert read.code == 0, read.err
    assert "1 transfers decided" in read.out
    for text, told in (
        (f"{header}\n{row}\n".replace(",", ";").encode(), "separated by ';'"),
        (f"{header}\n{row}\n".replace(",", "\t").encode(), "separated by '\\t'"),
        (f"{header}\n{row}\n".encode("utf-16"), "not in UTF-8"),
    ):
        file.write_bytes(text)
        ended = await run(peopled, "submit", str(file))
        assert ended.code == 1
        assert told in ended.err
        assert "nothing was sent" in ended.err


async def test_a_key_that_stands_twice_in_an_account_is_refused(peopled: Ledger) -> None:
    line = '{"id":"019b0000-0000-7000-8000-0000000000bc","ledger":978,"code":1,"code":2}'
    ended = await run(peopled, "accounts", "create", "-", given=line)
    assert ended.code == 1
    assert "field `code` twice" in ended.err
    assert not await peopled.sql("SELECT FROM ledger.accounts WHERE id = $1", line[7:43])


async def test_files_that_are_none_end_in_a_line(peopled: Ledger, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(bytes(range(256)) * 20)
    (tmp_path / "garbage.csv").write_bytes(bytes(range(256)) * 20)
    endless = tmp_path / "endless.jsonl"
    endless.write_bytes(b"[" * 1_100_000)
    (tmp_path / "deep.jsonl").write_bytes(b"[" * 100_000)
    cases = [
        (["submit", str(tmp_path)], 2),
        (["submit", ""], 2),
        (["submit", str(garbage)], 1),
        (["submit", str(tmp_path / "garbage.csv")], 1),
        (["submit", str(endless)], 1),
        (["submit", str(tmp_path / "deep.jsonl")], 1),
        (["accounts", "create", str(tmp_path / "deep.jsonl")], 1),
        (["accounts", "create", str(garbage)], 1),
        (["submit", os.devnull], 0),
        (["demo", "--keep", str(garbage)], 2),
        (["up", "--data", str(garbage)], 1),
        (["shards", "apply", str(tmp_path)], 1),
        (["shards", "apply", str(garbage)], 1),
    ]
    ended = await asyncio.gather(*(run(peopled, *words) for words, _ in cases))
    for (words, code), end in zip(cases, ended, strict=True):
        assert end.code == code, (words, end.err)
        assert "not foreseen" not in end.err, (words, end.err)


async def test_names_with_escapes_and_newlines_are_shown_written_out(peopled: Ledger) -> None:
    name = "al\x1b[31mice\nX"
    for words in (
        ["accounts", "list"],
        ["accounts", "show", name],
        ["balance", name],
        ["history", name],
    ):
        ended = await run(peopled, *words)
        assert ended.code == 0, ended.err
        assert "\x1b" not in ended.out
        assert "al\\x1b[31mice\\nX" in ended.out
    wrong = await run(peopled, "balance", "\x1b[31mnobody")
    assert "\x1b[31mnobody" not in wrong.err


async def test_numbers_beyond_measure_are_wrong_usage(peopled: Ledger) -> None:
    pay = ["transfer", "--debit", BANK, "--credit", ALICE, "--code", "1", "--ledger", "978"]
    wrong = [
        ["history", "bank", "--limit", "99999999999"],
        ["history", "bank", "--limit", "-1"],
        ["history", "bank", "--before-number", str(2**63)],
        ["history", "bank", "--before", "99999-01-01"],
        ["accounts", "list", "--limit", str(10**30)],
        [*pay, "--amount", "9" * 5000],
        [*pay, "--amount", str(2**128)],
        [*pay, "--amount", "-1"],
        [*pay, "--amount", "5", "--timeout", str(2**32)],
        [*pay[:-1], str(2**32), "--amount", "5"],
        [*pay, "--amount", "5", "--id", "x"],
        ["status", "--waiting-seconds-max", "-1"],
        ["init", "--shards", "9" * 50],
        ["worker", "--workers", "0"],
        ["worker", "--shards", "9" * 5000],
        ["shards", "plan", "--move", f"{'9' * 5000}=x"],
        ["shards", "plan", "--weight", "3=nan"],
        ["shards", "auto", "--every", "nan"],
    ]
    ended = await asyncio.gather(*(run(peopled, *words) for words in wrong))
    for words, end in zip(wrong, ended, strict=True):
        assert end.code == 2, (words, end.out, end.err)


async def test_output_that_nobody_takes_ends_in_a_line_at_most(peopled: Ledger) -> None:
    full = [["accounts", "list"], ["status", "--json"], ["balance", "bank"], ["--help"]]
    for words in full:
        ended = await run(peopled, *words, shell="> /dev/full")
        assert (ended.code, ended.err) == (1, "error: No space left on device\n"), words
    for shell, codes in (("| true", {0}), (">&-", {0, 1}), ("2> /dev/full", {0}), ("<&-", {0})):
        ended = await run(peopled, "accounts", "list", shell=shell)
        assert ended.code in codes, (shell, ended.err)
        assert ended.err == "", shell
    assert "standard input is closed" in (await run(peopled, "submit", "-", shell="<&-")).err


async def test_a_terminal_of_ascii_and_no_home_are_enough(peopled: Ledger) -> None:
    await peopled.sql("UPDATE ledger.accounts SET name = 'caf\u00e9 \u20ac' WHERE id = $1", ALICE)
    ascii_only = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "HOME": ""}
    for words in (["accounts", "list"], ["balance", ALICE], ["status", "--help"], ["verify"]):
        ended = await run(peopled, *words, **ascii_only)
        assert ended.code == 0, ended.err
        assert ended.out.isascii()
    listed = await run(peopled, "accounts", "list", "--json", **ascii_only)
    assert "caf\u00e9 \u20ac" in {json.loads(line)["name"] for line in listed.out.splitlines()}
