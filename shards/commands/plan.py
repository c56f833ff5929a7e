"""`shards plan`: which shards should go where. Changes nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, out, print_json, print_table, run_loop
from engine.errors import InputError
from engine.ledger.nouns import SHARD_COUNT_MAX
from shards.draft import draw_plan
from shards.planning import Plan
from shards.seats import NOBODY


def plan(
    move: Annotated[
        list[str] | None,
        typer.Option(
            "--move", metavar="SHARD=WORKER", help="Move this shard to this worker; repeatable."
        ),
    ] = None,
    drain: Annotated[
        list[str] | None,
        typer.Option("--drain", metavar="WORKER", help="Take all shards from it; repeatable."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="SHARD=WEIGHT",
            help="What a shard weighs instead of its measured load; repeatable.",
        ),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the plan here, for `shards apply`."),
    ] = None,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Plan moves that even out the load, or those that are asked for.

    Nothing is changed. A worker is named by its id, as `shards status` shows it, or its beginning.

    Example: shards plan --out plan.json
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    weights = {shard: _number(text) for shard, text in pairs(weight, "--weight").items()}
    made = run_loop(draw_plan(addresses.postgres_dsn, pairs(move, "--move"), drain or [], weights))
    if out_file is not None:
        write_plan(out_file, made)
    if json:
        print_json(made)
    else:
        show_plan(made)
        if out_file is not None and made.moves:
            out.print(f"Next: shards apply {out_file}")


def pairs(texts: Sequence[str] | None, option: str) -> dict[int, str]:
    """Read SHARD=SOMETHING, each shard once.

    Raises:
        BadParameter: When it is written in another way.
    """
    found: dict[int, str] = {}
    for text in texts or ():
        shard, equals, value = text.partition("=")
        is_number = (
            shard.isascii() and shard.isdecimal() and len(shard) <= len(str(SHARD_COUNT_MAX))
        )
        if not (equals and value and is_number) or int(shard) in found:
            raise typer.BadParameter(f"{option} {text[:80]!r}: write SHARD=..., each shard once")
        found[int(shard)] = value
    return found


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise typer.BadParameter(f"--weight {text!r}: a weight is a number, not below 0")
    return number


def write_plan(file: Path, made: Plan) -> None:
    """Write a plan so that a person can read it.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    except OSError as error:
        raise InputError(f"cannot write {file}: {error}") from error


def show_plan(made: Plan) -> None:
    """Print a plan."""
    if made.moves:
        print_table(
            ["shard", "from", "to", "weight"],
            [
                (step.shard, short(step.source), short(step.target), f"{step.weight:,.0f}")
                for step in made.moves
            ],
            numbers=["shard", "weight"],
        )
    pause = made.expected_pause_ms
    out.print(f"{len(made.moves)} moves; skew {made.skew_before:.2f}, then {made.skew_after:.2f}")
    if made.moves:
        known = f"about {pause:.0f} ms, as lately" if pause is not None else "not measured yet"
        out.print(f"Pause of each shard that is moved: {known}; the others go on.")


def short(worker: str) -> str:
    """A worker's id as it is shown."""
    return "nobody" if worker == NOBODY else worker[:8]
