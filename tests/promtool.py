"""Prometheus's own checker of rules: that of the system, or out of Debian's package."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

DOWNLOAD_SECONDS_MAX: Final = 300.0
"""Guards against hanging."""


class NoPromtoolError(Exception):
    """There is none, and none can be had here; says why."""


def find_promtool(directory: Path) -> str:
    """The program; taken out of the package into a directory where none is installed.

    Raises:
        NoPromtoolError: This is no Debian, or its packages are out of reach.
    """
    found = shutil.which("promtool")
    if found is not None:
        return found
    try:
        _run(["apt-get", "download", "prometheus"], directory)
    except NoPromtoolError:
        _run(["apt-get", "update"], directory)
        _run(["apt-get", "download", "prometheus"], directory)
    [package] = directory.glob("prometheus_*.deb")
    _run(["dpkg-deb", "-x", str(package), "."], directory)
    return str(directory / "usr" / "bin" / "promtool")


def _run(command: list[str], directory: Path) -> None:
    try:
        ended = subprocess.run(
            command,
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=DOWNLOAD_SECONDS_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoPromtoolError(str(error)) from error
    if ended.returncode != 0:
        raise NoPromtoolError(f"{' '.join(command)}: {ended.stderr.strip()}")
