"""Whether the chaos run can fail: each safeguard is taken out of a copy, and a run must notice.

python -m tests.chaos.safeguards              # prints what noticed it; exit 1 where nothing did
python -m tests.chaos.safeguards --only fence --seeds 3
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from tests.bounds import MUTATED_SECONDS_MAX
from tests.mutations import COPIED, ROOT

MINUTES: Final = 0.7
SEEDS: Final = 3
"""How many runs may pass before it is said that nothing noticed."""


class Safeguard(NamedTuple):
    """What is taken out, in files of `engine`, and the faults under which that must show."""

    changes: tuple[tuple[str, str, str], ...]
    faults: str


NEWEST: Final = (
    "greatest($2, 1 + coalesce((SELECT max(f.sequence) FROM ledger.flushes f"
    " WHERE f.worker = me.worker), 0))"
)
"""The next number of the chain, whoever took the one that was expected."""

SAFEGUARDS: Final = {
    "fence": Safeguard(
        (
            ("store/queries/flushes/fence.sql", "SELECT me.worker, $2,", f"SELECT me.worker, {NEWEST},"),
            ("store/queries/flushes/flush_small.sql", "SELECT me.worker, $2,", f"SELECT me.worker, {NEWEST},"),
        ),
        "worker_frozen,link_stalled,shards_moved,table_locked",
    ),
    "unique id": Safeguard(
        (("store/migrations/0001_tables.sql", "id             uuid NOT NULL PRIMARY KEY,\n    expires_at", "id             uuid NOT NULL,\n    expires_at"),
         ("store/migrations/0001_tables.sql", "CREATE INDEX spent_expires_at", "CREATE INDEX spent_ids ON ledger.spent (id);\nCREATE INDEX spent_expires_at")),
        "link_stalled,table_locked",
    ),
    "position in the flush": Safeguard(
        (
            ("store/flush_writer.py", "        if flush.positions:\n", "        if False:\n"),
            ("store/queries/flushes/flush_small.sql", "FROM me, unnest($41::smallint[]", "FROM (SELECT FROM me WHERE false) AS nobody, unnest($41::smallint[]"),
        ),
        "worker_killed,valkey_wiped,valkey_older",
    ),
    "commit before answer": Safeguard(
        (
            (
                "worker/chain.py",
                "        self._numbers.append(await self._store.flush(flush))\n        self._on_committed(flush, opened.replies, opened.phases)\n",
                "        self._on_committed(flush, opened.replies, opened.phases)\n        self._numbers.append(await self._store.flush(flush))\n",
            ),
        ),
        "worker_killed,backends_ended,commit_lost",
    ),
    "look at owners after locking": Safeguard(
        (("store/flush_writer.py", "if owners <= before | {me}:", "if True:"),
         ("store/flush_writer.py", "return owners - {me}", "return before - {me}")),
        "worker_killed,worker_frozen,shards_moved,worker_stopped",
    ),
}  # fmt: skip


def noticed(safeguard: Safeguard, seed: int) -> str:
    """What a run said that failed without it; nothing where it passed."""
    with tempfile.TemporaryDirectory(prefix="engine-safeguard-") as directory:
        copy = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        for file, old, new in safeguard.changes:
            path = copy / "engine" / file
            text = path.read_text()
            if old not in text:
                raise SystemExit(f"{file} no longer has: {old!r}; mend the safeguard")
            path.write_text(text.replace(old, new))
        words = ["--minutes", str(MINUTES), "--seed", str(seed), "--only", safeguard.faults]
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos", *words],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            timeout=MUTATED_SECONDS_MAX,
            check=False,
        )
    if done.returncode == 0:
        return ""
    return done.stderr.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=list(SAFEGUARDS), help="this one")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=1, metavar="SEED")
    options = parser.parse_args()
    missed = False
    for name in [options.only] if options.only else SAFEGUARDS:
        said = ""
        for seed in range(options.first, options.first + options.seeds):
            said = noticed(SAFEGUARDS[name], seed)
            if said:
                print(f"without {name}: noticed with seed {seed}: {said[:200]}", flush=True)
                break
        if not said:
            print(f"without {name}: NOT NOTICED in {options.seeds} runs", flush=True)
            missed = True
    sys.exit(missed)


if __name__ == "__main__":
    main()
