"""As whom Postgres runs. It refuses to be root; a normal user just runs it.

Root runs it in a user namespace, where it believes to be `nobody` while its files remain
root's. Where namespaces are forbidden it becomes another user, who then owns the data.
"""

import os
import pwd
from pathlib import Path

from engine.errors import ServerError
from engine.servers.process import run_program


def choose_identity(postgres: Path, data: Path) -> tuple[str, str]:
    """Choose as whom to run Postgres, by having it tell its version.

    Returns:
        `self`, `namespace` or `UID:GID`, as in `child.py`; and the version.

    Raises:
        ServerError: when nobody can; it says why each cannot.
    """
    failures = []
    for run_as, description in _candidates(data):
        try:
            return run_as, run_program([str(postgres), "--version"], run_as=run_as)
        except ServerError as error:
            failures.append(f"{description}: {error}")
    raise ServerError(
        f"cannot run {postgres}; {'; '.join(failures)}. Run as a normal user, or use a"
        " Postgres that runs already"
    )


def give(run_as: str, *paths: Path) -> None:
    """Give files to the user as whom Postgres runs, if that is another."""
    if ":" in run_as:
        uid, gid = run_as.split(":")
        for path in paths:
            os.chown(path, int(uid), int(gid))


def _candidates(data: Path) -> list[tuple[str, str]]:
    if os.geteuid() != 0:
        return [("self", "as this user")]
    namespace = ("namespace", "as root in a user namespace")
    if data.exists():
        owner = data.stat()
        if owner.st_uid == 0:
            return [namespace]
        return [(f"{owner.st_uid}:{owner.st_gid}", f"as the owner of {data}")]
    users = [user for user in pwd.getpwall() if user.pw_name in {"postgres", "nobody"}]
    users.sort(key=lambda user: user.pw_name, reverse=True)  # postgres first
    return [namespace, *((f"{u.pw_uid}:{u.pw_gid}", f"as user {u.pw_name}") for u in users)]
