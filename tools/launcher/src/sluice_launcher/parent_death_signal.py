"""Run a command that gets a signal when its parent dies: `python leash.py SIGNAL PARENT COMMAND...`.

A program of its own because the kernel forgets the wish when credentials change, as they do under `unshare`,
and because code between fork and exec is not safe in a process that has threads. Imports nothing of ours.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(signal_number: int, parent: int, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    # The parent may have died before the wish was made.
    if os.getppid() != parent:
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as fault:
        sys.exit(f"{command[0]}: {fault.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
