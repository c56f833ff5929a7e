"""Prometheus's own checker of rules: that of the system, or out of Debian's package."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

DOWNLOAD_SECONDS_MAX: Final = 300.0
"""Guards against hanging."""


class NoPackageError(Exception):
    """There is none, and none can be had here; says why."""


def find_promtool(directory: Path) -> str:
    """The program; taken out of the package into a directory where none is installed.

    Raises:
        NoPackageError: This is no Debian, or its packages are out of reach.
    """
    found = shutil.which("promtool")
    if found is not None:
        return found
    try:
        run(["apt-get", "download", "prometheus"], directory)
    except NoPackageError:
        run(["apt-get", "update"], directory)
        run(["apt-get", "download", "prometheus"], directory)
    [package] = directory.glob("prometheus_*.deb")
    run(["dpkg-deb", "-x", str(package), "."], directory)
    return str(directory / "usr" / "bin" / "promtool")


def run(command: list[str], directory: Path) -> str:
    """What a command of Debian's says.

    Raises:
        NoPackageError: It is not there, or ends otherwise than well.
    """
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
        raise NoPackageError(str(error)) from error
    if ended.returncode != 0:
        raise NoPackageError(f"{' '.join(command)}: {ended.stderr.strip()}")
    return ended.stdout
