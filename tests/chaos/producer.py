"""A producer in a process of its own, so that it can be killed or frozen: `python -m ...`.

Whatever it does it writes down before: `sent` before an entry is added, `added` and `answered`
after. The record survives a SIGKILL, since what was written to a file is in the system's hands. An
entry is sent again, with the same ids, until it is answered.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from tests.chaos.requests import (
    FORMATS,
    PLAIN,
    Drawer,
    Request,
    accounts_of,
    bulk,
    decode_outcomes,
    encode,
)
from tests.ledgers import redis_at
from tests.producers import AWAY

TASKS: Final = 3
FLOODS: Final = 3
"""Entries of many plain transfers under way at the same time."""
RESEND_SECONDS: Final = 2.0
TWINS: Final = 0.15
"""Share of entries that are put on the stream of another shard too, at the same time."""


class Record:
    """The lines of what a producer did.

    Args:
        file: Unbuffered, to append to.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, what: str, request: str, **more: Any) -> None:
        line = {"what": what, "request": request, "at": time.time(), **more}
        self._file.write(json.dumps(line).encode() + b"\n")


class Producer:
    """Sends until it is ended.

    Args:
        options: Of the command line.
        record: Of what it does.
    """

    def __init__(self, options: argparse.Namespace, record: Record) -> None:
        self._options = options
        self._record = record
        self._accounts = accounts_of(options.accounts_seed)
        self._stopping = Path(options.until)

    async def run(self) -> None:
        """All tasks, until the file of the end is there and all is answered."""
        tasks = [self._mix(f"{self._options.seed}.{n}") for n in range(TASKS)]
        if self._options.bulk:
            tasks += [self._flood(f"{self._options.seed}.bulk{n}") for n in range(FLOODS)]
        await asyncio.gather(*tasks)

    async def _mix(self, name: str) -> None:
        chance = random.Random(name)
        drawer = Drawer(self._accounts, chance)
        while not self._stopping.exists():
            batch = drawer.batch()
            form = chance.choice(FORMATS)
            await self._until_answered(name, chance, form, batch, transfers=batch)

    async def _flood(self, name: str) -> None:
        chance = random.Random(name)
        while not self._stopping.exists():
            seed, count = chance.getrandbits(60), self._options.bulk
            batch = bulk(self._accounts[PLAIN], seed, count)
            await self._until_answered(name, chance, "bin", batch, seed=seed, count=count)

    async def _until_answered(
        self, name: str, chance: random.Random, form: str, batch: list[Request], **told: Any
    ) -> None:
        first = next((t["debit_account_id"] for t in batch if "debit_account_id" in t), None)
        home = int(first[-8:], 16) if first and chance.random() < 0.9 else chance.getrandbits(32)
        shard = home % self._options.shards
        reply = f"{self._options.prefix}:answers:chaos.{name}"
        request = str(uuid.uuid4())
        self._record.write("sent", request, shard=shard, form=form, **told)
        twin = shard
        if chance.random() < TWINS:
            twin = chance.randrange(self._options.shards)
        streams = [
            f"{self._options.prefix}:transfers:{{{each:04d}}}"
            for each in dict.fromkeys((shard, twin))
        ]
        fields = {form: encode(batch, form), "reply": reply, "request": request}
        while True:
            with contextlib.suppress(*AWAY):
                outcomes = await self._attempt(streams, fields, reply, request, form)
                if outcomes is not None:
                    self._record.write("answered", request, outcomes=outcomes)
                    return
            await asyncio.sleep(0.05)

    async def _attempt(
        self, streams: Sequence[str], fields: dict[Any, Any], reply: str, request: str, form: str
    ) -> Sequence[Any] | None:
        async with redis_at(self._options.redis_url) as connection:
            last: Any = await connection.xrevrange(reply, count=1)
            after = last[0][0] if last else b"0"
            for _ in streams:
                self._record.write("adding", request)
            added: Any = await asyncio.gather(*(connection.xadd(s, fields) for s in streams))
            self._record.write("added", request, entry=added[0].decode())
            deadline = time.monotonic() + RESEND_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                async with asyncio.timeout(left + 1):
                    found: Any = await connection.xread(
                        {reply: after}, block=round(left * 1000) + 1
                    )
                for answer_id, answer in found[0][1] if found else ():
                    after = answer_id
                    if answer[b"request"] == request.encode() and b"outcomes" in answer:
                        return decode_outcomes(answer[b"outcomes"], form)
        return None


def main(arguments: Sequence[str]) -> None:
    """As a process."""
    parser = argparse.ArgumentParser()
    for name in ("redis-url", "prefix", "record", "until", "seed"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--accounts-seed", type=int, required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--bulk", type=int, default=0, help="transfers of an entry of plain ones")
    options = parser.parse_args(arguments)
    with Path(options.record).open("ab", buffering=0) as file:
        asyncio.run(Producer(options, Record(file)).run())


if __name__ == "__main__":
    main(sys.argv[1:])
