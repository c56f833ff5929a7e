"""What `engine top` shows of a moment, on terminals of any width."""

import io
import re

import pytest
from rich.console import Console

from engine.commands.top import frame
from engine.operating.health import Problem, ShardStatus, Status
from engine.operating.overview import Overview
from engine.store.inspection import Event
from engine.store.reports import Pace, PaceSecond, WorkerReport

WORKERS = ("0192f0c1-0000-7000-8000-00000000000a", "0192f0c2-0000-7000-8000-00000000000b")


def shard(number: int, **other: object) -> ShardStatus:
    facts = {
        "shard": number, "worker": WORKERS[number % 2], "alive": True, "host": "box", "process": 7,
        "state": "alive", "position": "1764286429000-0", "decided_at": None,
        "transfers_per_second": 12.0, "locked_flushes": 0, "target": None, "waiting": 0,
    }  # fmt: skip
    return ShardStatus(**(facts | other))  # type: ignore[arg-type]


def worker(number: int) -> WorkerReport:
    return WorkerReport(
        WORKERS[number], "box", 7, "2026-11-28T06:00:00.000000Z", True, 4.5, list(range(8)), None,
        False, None, None, None,
    )  # fmt: skip


def moment(shards: int = 16, **other: ShardStatus) -> Overview:
    status = Status(
        workers=[worker(0), worker(1)],
        shards=[other.get(f"s{number}", shard(number)) for number in range(shards)],
    )
    happened = Event(
        "2026-11-28T06:01:02.000000Z", "worker_died", "process 7 on box\x1b[2J", None, None, [0, 1]
    )
    pace = Pace(1234.0, 1.5, 20.0, 0.0, 0.012, 3.5)
    return Overview(status, pace, [PaceSecond(2, 10, 0), PaceSecond(1, 20, 1)], [happened])


def shown(found: Overview, width: int) -> str:
    output = io.StringIO()
    console = Console(file=output, width=width, highlight=False, markup=False)
    console.print(frame(found, width))
    return output.getvalue()


@pytest.mark.parametrize("width", [40, 59, 60, 80, 99, 100, 200])
def test_no_line_is_wider_than_the_terminal_and_the_figures_are_whole(width: int) -> None:
    text = shown(moment(), width)
    assert max(map(len, text.splitlines())) <= width
    for figure in ("1,234", "12 ms, 99%: 3.5 s", "2 alive", "0 of 16 shards", "All is well."):
        assert figure in text
    assert "worker died shards 0-1" in text


def test_what_is_wrong_comes_first_with_what_to_do() -> None:
    found = moment(s3=shard(3, state="dead", alive=False))
    found.status.healthy = False
    found.status.problems = [Problem("a worker is dead", "start another")]
    first, second, *_ = shown(found, 80).splitlines()
    assert first == "WRONG: a worker is dead"
    assert second == "   DO: start another"


def test_of_many_shards_those_at_rest_are_counted() -> None:
    found = moment(1024, s7=shard(7, waiting=5, oldest_waiting_seconds=2.0),
                   s9=shard(9, state="moving", target=WORKERS[0]))  # fmt: skip
    text = shown(found, 80)
    assert len(text.splitlines()) < 20
    assert "1022 shards have a worker and wait for nothing" in text
    assert re.search(r"7 +0192f0c2 +alive +5 +2.0 s", text)
    assert "0192f0c2 to 0192f0c1" in text


def test_names_with_escapes_do_not_steer_the_terminal() -> None:
    assert "\x1b" not in shown(moment(), 80)


def test_without_postgres_the_rest_is_shown() -> None:
    text = shown(Overview(Status(healthy=False, problems=[Problem("Postgres is away", "x")])), 60)
    assert "Postgres is away" in text
    assert "created/s" in text
