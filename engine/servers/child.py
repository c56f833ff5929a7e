"""The first code of a child process: sets it up, then becomes the server.

`process.start_child` runs this file with a bare interpreter, so it imports nothing of the
engine. It is a program and not a `preexec_fn`, which may deadlock in a process with threads.

    child.py OWNER_PID SIGNAL self|namespace|UID:GID PROGRAM ARGUMENT...
"""

import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NOBODY = 65534
FAILED = 126


def main(owner_pid: str, death_signal: str, run_as: str, *command: str) -> None:
    """Become `command`, as `run_as`, to be sent `death_signal` when the owner dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    if run_as == "namespace":
        enter_namespace(libc)
    elif run_as != "self":
        uid, gid = run_as.split(":")
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    # Last, since a change of user clears it.
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(owner_pid):
        sys.exit(FAILED)  # the owner died before the signal was set
    os.execv(command[0], command)  # noqa: S606 - there is no shell here to go through


def enter_namespace(libc: ctypes.CDLL) -> None:
    """Take the number of `nobody` in a user namespace; on disk it is still this user."""
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"no user namespace: {os.strerror(code)}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, AttributeError) as error:  # AttributeError: a libc without unshare
        sys.stderr.write(f"{error}\n")
        sys.exit(FAILED)
