"""A small disk of its own, in memory, which can be filled without harm to others."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def small_disk(at: Path, mib: int) -> Iterator[None]:
    """A file system for the length of the block; 0 MiB for a plain directory.

    Raises:
        SystemExit: It cannot be mounted: that needs root.
    """
    at.mkdir()
    if not mib:
        yield
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0755", "tmpfs", str(at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"no small disk, which needs root: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=False)
