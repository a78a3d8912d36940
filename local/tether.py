"""Start a program that ends with its parent: ``python tether.py PARENT_PID PROGRAM ARGUMENTS…``.

A parent that is killed outright (``kill -9``) can't end its children; the kernel does it where they ask for it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; survives the exec below


def main() -> None:
    """Ask to be ended with the parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent is gone already")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
