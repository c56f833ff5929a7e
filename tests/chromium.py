"""A real Chromium without a window: that of the system, or out of Debian's packages."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from tests.promtool import NoPackageError, run

PACKAGE: Final = "chromium-headless-shell"
WITH: Final = "fonts-dejavu-core"
"""Without a font there are no words in a picture."""
INSTALLED: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

_FONTS: Final = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
<include ignore_missing="yes">/etc/fonts/fonts.conf</include>
<dir>{root}/usr/share/fonts</dir><cachedir>{root}/fonts-cache</cachedir>
<alias binding="strong"><family>system-ui</family>
<prefer><family>DejaVu Sans</family></prefer></alias>
<alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
<alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""


class NoChromiumError(Exception):
    """There is none, and none can be had here; says why."""


class Chromium(NamedTuple):
    """A browser that can be started."""

    program: str
    environment: dict[str, str]


def find_chromium(directory: Path) -> Chromium:
    """The browser; taken out of packages into a directory, once, where none is installed.

    Raises:
        NoChromiumError: This is no Debian, or its packages are out of reach.
    """
    for name in INSTALLED:
        found = shutil.which(name)
        if found is not None:
            return Chromium(found, dict(os.environ))
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = directory / "root"
        if not (directory / "whole").exists():
            try:
                _take_out(directory, root)
            except NoPackageError as error:
                raise NoChromiumError(str(error)) from error
            (directory / "whole").touch()
    libraries = sorted({str(file.parent) for file in (root / "usr" / "lib").rglob("*.so*")})
    fonts = directory / "fonts.conf"
    fonts.write_text(_FONTS.format(root=root))
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "FONTCONFIG_FILE": str(fonts),
    }
    return Chromium(str(root / "usr" / "lib" / "chromium" / PACKAGE), environment)


def _take_out(directory: Path, root: Path) -> None:
    """Download what an installation would bring, and lay it beside each other."""
    for file in directory.glob("*.deb"):
        file.unlink()
    run(["apt-get", "update"], directory)
    wanted = ["apt-get", "install", "--simulate", "--no-install-recommends", PACKAGE, WITH]
    said = run(wanted, directory)
    packages = [line.split()[1] for line in said.splitlines() if line.startswith("Inst ")]
    run(["apt-get", "download", *packages], directory)
    for file in sorted(directory.glob("*.deb")):
        run(["dpkg-deb", "-x", str(file), str(root)], directory)
        file.unlink()
