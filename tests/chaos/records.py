"""What producers wrote down, read back."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.chaos.kept import Told
from tests.chaos.requests import PLAIN, Bulk, accounts_of


def read_records(files: Iterable[Path], accounts_seed: int) -> list[Told]:
    """The requests of all records; a line that a kill cut short was never acted upon.

    Args:
        files: A record a producer.
        accounts_seed: Of `accounts_of`, for what is told by its seed alone.
    """
    plain = accounts_of(accounts_seed)[PLAIN]
    found: list[Told] = []
    for file in files:
        requests: dict[str, dict[str, Any]] = {}
        for line in file.read_bytes().split(b"\n"):
            if not line.endswith(b"}"):
                continue
            told = json.loads(line)
            request = requests.setdefault(told["request"], {"attempts": 0})
            if told["what"] == "sent":
                request |= told
            elif told["what"] == "adding":
                request["attempts"] += 1
            elif told["what"] == "added":
                ms, seq = told["entry"].split("-")
                request["entry"] = int(ms), int(seq)
            else:
                request["outcomes"] = told["outcomes"]
        for name, request in requests.items():
            found.append(
                Told(
                    name,
                    request["shard"],
                    request.get("transfers") or Bulk(plain, request["seed"], request["count"]),
                    request["attempts"],
                    request.get("entry"),
                    request.get("outcomes"),
                )
            )
    return found
