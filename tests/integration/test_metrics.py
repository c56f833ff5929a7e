"""What a process tells Prometheus is what it did; whether it lives and is ready."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families

from engine.commands.crew import parse_listen
from engine.errors import ConfigurationError, TryAgainError
from engine.operating.endpoint import open_endpoint
from engine.operating.facts import gather
from engine.operating.histogram import CountedHistogram
from engine.operating.metrics import Metrics
from engine.store.freezes import FreezeAct, set_freeze
from engine.worker.worker import Worker
from tests.desks import A, batch, desk_over, transfer
from tests.ledgers import Ledger, until
from tests.moving import move
from tests.on_call import ask
from tests.proxies import proxied


async def sample(address: str, name: str, **labels: str) -> float | None:
    _, text = await ask(address, "/metrics")
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return found.value
    return None


@contextlib.asynccontextmanager
async def measured(worker: Worker) -> AsyncIterator[tuple[str, Metrics]]:
    metrics = Metrics([worker])
    async with open_endpoint(metrics, ("127.0.0.1", 0)) as address:
        yield address, metrics


async def test_what_is_told_is_what_was_decided(ledger: Ledger) -> None:
    worker = ledger.worker()
    async with desk_over(ledger) as desk, measured(worker) as (address, _):
        async with ledger.working(worker):
            refused = transfer(amount=1, code=0)
            await desk.send([transfer(), transfer(), refused])
            await desk.send([transfer()], shard=3)
            await desk.answers(2)
        assert await sample(address, "engine_transfers_total", outcome="created") == 3
        outcome = "code_must_not_be_zero"
        assert await sample(address, "engine_transfers_total", outcome=outcome) == 1
        assert await sample(address, "engine_shard_transfers_total", shard="3") == 1
        assert await sample(address, "engine_postings_total") == 6
        assert await sample(address, "engine_entries_total") == 2
        assert await sample(address, "engine_answer_seconds_count") == 2
        [row] = await ledger.sql(
            "SELECT count(*) AS n FROM ledger.flushes WHERE kind IN ('flush', 'locked')"
            " AND transfers + declined + postings > 0"
        )
        kinds = [await sample(address, "engine_flushes_total", kind=k) for k in ("flush", "locked")]
        assert sum(kind or 0 for kind in kinds) >= row["n"]
        _, text = await ask(address, "/metrics")
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", text), "an id is told"


async def test_a_process_is_ready_when_its_workers_are(ledger: Ledger) -> None:
    worker = ledger.worker()
    async with measured(worker) as (address, _):
        assert await ask(address, "/livez") == (200, "alive\n")
        status, why = await ask(address, "/readyz")
        assert status == 503
        assert "1 of 1 workers" in why
        async with ledger.working(worker):
            assert await ask(address, "/readyz") == (200, "ready\n")
            assert await sample(address, "engine_owned_shards") == 16


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/metrics", "POST", 405),
        ("/metrics?x=1", "GET", 200),
        ("/livez", "HEAD", 200),
    ],
)
async def test_other_requests_are_refused(
    ledger: Ledger, path: str, method: str, status: int
) -> None:
    async with measured(ledger.worker()) as (address, _):
        assert (await ask(address, path, method))[0] == status


async def test_who_sends_no_http_harms_nobody(ledger: Ledger) -> None:
    async with measured(ledger.worker()) as (address, _):
        host, _, port = address.rpartition(":")
        for sent in (b"\x00" * 100, b"x" * 100_000, b"GET\r\n\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            if b"\r\n" not in sent:
                writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
        assert (await ask(address, "/livez"))[0] == 200


async def test_an_address_in_use_is_a_clear_error(ledger: Ledger) -> None:
    async with measured(ledger.worker()) as (address, metrics):
        host, _, port = address.rpartition(":")
        with pytest.raises(ConfigurationError, match="--metrics"):
            async with open_endpoint(metrics, (host, int(port))):
                pass


async def test_the_ledger_is_told_as_the_doctor_finds_it(ledger: Ledger) -> None:
    worker = ledger.worker()

    async def look(metrics: Metrics) -> None:
        metrics.ledger.set_facts(await gather(ledger.dsn, ledger.redis_url, ledger.prefix))

    async with desk_over(ledger) as desk, measured(worker) as (address, metrics):
        await desk.send([transfer()])
        await look(metrics)
        labels: dict[str, Any] = {"rule": "shards_have_no_worker", "severity": "urgent"}
        assert await sample(address, "engine_finding", **labels) == 1
        assert await sample(address, "engine_unowned_shards") == 16
        assert await sample(address, "engine_waiting_entries", shard="0") == 1
        async with ledger.working(worker):
            await desk.answers(1)
            await desk.drained()
            await look(metrics)
            assert await sample(address, "engine_finding", **labels) == 0
            assert await sample(address, "engine_unowned_shards") == 0
            assert await sample(address, "engine_waiting_entries", shard="0") == 0
            assert await sample(address, "engine_server_up", server="postgres") == 1


async def test_bounds_leases_and_what_must_be_zero_are_told(ledger: Ledger) -> None:
    worker = ledger.worker()
    async with desk_over(ledger) as desk, measured(worker) as (address, metrics):
        async with ledger.working(worker):
            await desk.ask()
            metrics.ledger.set_facts(await gather(ledger.dsn, ledger.redis_url, ledger.prefix))
            name = str(uuid.UUID(bytes=worker.store.worker))[:8]
            assert 0 < (await sample(address, "engine_lease_seconds", worker=name) or 0) <= 5
            fill = await sample(address, "engine_worker_fill_ratio", bound="accounts")
            assert fill == 2 / worker.settings.accounts_max
            connections = await sample(address, "engine_bound_fill_ratio", bound="connections")
            assert 0 < (connections or 0) < 1
            assert await sample(address, "engine_imbalance") == 0
            assert await sample(address, "engine_lost_commits_total", fate="committed") == 0
        metrics.ledger.set_facts(await gather(ledger.dsn, ledger.redis_url, ledger.prefix))
        assert await sample(address, "engine_lease_seconds", worker=name) is None, "it is gone"


async def test_a_pause_of_a_moved_shard_is_told(ledger: Ledger) -> None:
    source, target = ledger.worker(), ledger.worker()
    async with ledger.working(source, target), measured(source) as (address, metrics):
        shard = min(source.owned)
        await move(ledger, {shard: target})
        metrics.ledger.set_facts(await gather(ledger.dsn, ledger.redis_url, ledger.prefix))
        assert (await sample(address, "engine_handover_pause_seconds") or 0) > 0


async def test_a_commit_whose_answer_was_lost_is_counted_by_its_fate(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, proxied(ledger.engine_dsn) as (proxy, through):
        apart = Ledger(through, ledger.redis_url, ledger.prefix, ledger.shard_count)
        worker = apart.worker()
        async with measured(worker) as (address, _), apart.working(worker):
            await desk.ask()
            proxy.lose("answer", b"COMMIT")
            await desk.send(batch(900))
            await desk.answers(2)
            assert await sample(address, "engine_lost_commits_total", fate="committed") == 1


async def test_what_waited_for_a_thaw_is_no_slow_answer(ledger: Ledger) -> None:
    worker = ledger.worker()
    async with desk_over(ledger) as desk, measured(worker) as (address, _):
        await set_freeze(ledger.dsn, FreezeAct("freeze", "account", A, "a test", "x", False))
        async with ledger.working(worker):
            await desk.send([transfer()])
            await desk.drained()
            assert await sample(address, "engine_entries_total") == 1
            await set_freeze(ledger.dsn, FreezeAct("thaw", "account", A, "a test", "x", False))
            await desk.answers(1)
            assert await sample(address, "engine_entries_total") == 2
            assert await sample(address, "engine_answer_seconds_count") == 0


async def test_sessions_that_end_are_counted_by_cause(ledger: Ledger) -> None:
    async with measured(ledger.worker()) as (address, metrics):
        metrics.hear_end(TryAgainError("Postgres is out of reach: gone"))
        metrics.hear_end(TryAgainError("Redis is out of reach: gone"))
        metrics.hear_end(TryAgainError("shards are owned that are not worked on"))
        for cause in ("postgres", "redis", "other"):
            assert await sample(address, "engine_session_ends_total", cause=cause) == 1


async def test_a_flood_of_scrapes_is_answered(ledger: Ledger) -> None:
    async with measured(ledger.worker()) as (address, _):
        answers = await asyncio.gather(*(ask(address, "/metrics") for _ in range(50)))
        await until(lambda: True, "the end")
    assert {status for status, _ in answers} == {200}


def test_a_histogram_counts_each_value_in_its_bucket() -> None:
    histogram = CountedHistogram("x_seconds", "", (0.1, 1))
    histogram.observe(0.1, 3)
    histogram.observe(0.5)
    histogram.observe(7, 2)
    [family] = histogram.collect()
    found = {(s.name, s.labels.get("le")): s.value for s in family.samples}
    assert found["x_seconds_bucket", "0.1"] == 3
    assert found["x_seconds_bucket", "1"] == 4
    assert found["x_seconds_bucket", "+Inf"] == found["x_seconds_count", None] == 6
    assert found["x_seconds_sum", None] == pytest.approx(14.8)


@pytest.mark.parametrize(
    ("text", "listen"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0)), ("box:1", ("box", 1))],
)
def test_where_to_listen_is_read(text: str, listen: tuple[str, int]) -> None:
    assert parse_listen(text, "--metrics") == listen


@pytest.mark.parametrize("text", ["", ":", "9464", "host:", ":9464", "host:x", "host:70000"])
def test_what_is_no_address_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_listen(text, "--metrics")
