"""Fuzzing guided by coverage: decoders get bytes that reach lines which no bytes before reached.

    scripts/fuzz --coverage                    each decoder for a minute
    scripts/fuzz --coverage json dsn --seconds 600

It needs atheris: `.venv/bin/python -m pip install 'atheris>=3'`, or the extra `fuzz`. What breaks a
decoder is printed and kept in a file; so is the seed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

try:
    import atheris
except ImportError:
    sys.exit("no atheris here: .venv/bin/python -m pip install 'atheris>=3'")

with atheris.instrument_imports(include=["engine"]):
    from tests.fuzz.decoders import DECODERS

SEEDS: Final = {
    "json": b'[{"id":"00112233-4455-6677-8899-aabbccddeeff","amount":1,"flags":["linked"]}]',
    "mp": b"\x91\x82\xa2id\xc4\x10" + bytes(16) + b"\xa6amount\x01",
    "bin": bytes(128),
    "answer": b'\x00["created","exists"]',
    "dsn": b"user:secret@127.0.0.1:5432/engine?sslmode=require&connect_timeout=3",
}
BYTES_MAX: Final = 2048


def fuzz_one(name: str, seconds: int, seed: int, corpus: Path) -> None:
    """Give bytes to one decoder, in this process; it ends at its end, or when something breaks."""
    (corpus / "seed").write_bytes(SEEDS[name])
    words = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={BYTES_MAX}"]
    words += ["-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={Path.cwd()}/fuzz-{name}-"]
    atheris.Setup([sys.argv[0], *words, str(corpus)], DECODERS[name])
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fuzz --coverage")
    parser.add_argument("decoders", nargs="*", metavar="DECODER", help=", ".join(DECODERS))
    parser.add_argument("--seconds", type=int, default=60, help="for each")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.decoders or list(DECODERS)
    if unknown := set(names) - DECODERS.keys():
        parser.error(f"no decoder {', '.join(sorted(unknown))}")
    if options.here:
        with tempfile.TemporaryDirectory(prefix="engine-fuzz-") as directory:
            fuzz_one(names[0], options.seconds, options.seed, Path(directory))
        return
    broken = []
    for name in names:
        print(f"{name}: {options.seconds} s, seed {options.seed}", flush=True)
        words = [name, "--here", "--seconds", str(options.seconds), "--seed", str(options.seed)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.coverage", *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ,
        )
        lines = done.stderr.splitlines() + done.stdout.splitlines()
        figures = [line for line in lines if line.startswith("#") and "cov:" in line][-1:]
        print("\n".join(figures or lines[-20:]), flush=True)
        if done.returncode != 0:
            broken.append(name)
            print("\n".join(lines[-40:]), flush=True)
    sys.exit(f"broken: {', '.join(broken)}" if broken else 0)


if __name__ == "__main__":
    main()
