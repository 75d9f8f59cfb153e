"""Runs a command that receives a signal when its parent dies: `parent_death_signal.py SIGNAL PARENT COMMAND...`.

A program of its own, because the kernel clears the setting when credentials change, as they do under `unshare`,
and because code between fork and exec is not safe in a process with threads. It imports no other module of Sluice.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def prefix(signal_number: int) -> list[str]:
    """The words before a command that is to receive ``signal_number`` when this process dies.

    The signal follows the thread that starts the command: start it from the main thread.
    """
    return [sys.executable, "-I", "-S", __file__, str(int(signal_number)), str(os.getpid())]


def main(signal_number: int, parent: int, command: list[str]) -> None:
    """Request the signal, then become the command."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    # The parent may have died before the request.
    if os.getppid() != parent:
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as fault:
        sys.exit(f"{command[0]}: {fault.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
