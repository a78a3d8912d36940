"""Run the simulator until it is told to end. What it writes is for this user alone: it holds faces."""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import threading
from pathlib import Path

from loopback import HOST
from simulator.server import Simulator


def main() -> None:
    """Read the command line, serve, and end cleanly at SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="simulator", description="A local stand-in for the video service.")
    parser.add_argument("--host", default=HOST, help="the address that it is bound to; %(default)s unless told")
    parser.add_argument(
        "--also-named", metavar="NAME", help="what Docker's containers call that address, if nobody else knows it so"
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--certificate", type=Path, help="speak HTTPS: a PEM file, with --private-key")
    parser.add_argument("--private-key", type=Path, help="of the certificate, a PEM file")
    parser.add_argument("--api-key", default=os.environ.get("SIMULATOR_API_KEY", "sk-simulator"))
    parser.add_argument("--seconds-per-second", type=float, default=0.2, help="a task's seconds per second of voice")
    parser.add_argument("--task-seconds", type=float, help="a task's seconds, whatever the voice")
    parser.add_argument("--running", type=int, default=1, help="tasks of one model at once")
    parser.add_argument(
        "--deployment", action="append", default=[], metavar="NAME=MODEL", help="a dedicated deployment"
    )
    parser.add_argument("--manual", action="store_true", help="tasks run until /control/finish-all")
    args = vars(parser.parse_args())
    files = args.pop("certificate"), args.pop("private_key")
    if any(files) != all(files):
        parser.error("--certificate and --private-key come both or neither")
    args["certificate"] = files if all(files) else None
    args["deployments"] = dict(each.split("=", 1) for each in args.pop("deployment"))
    os.umask(0o077)
    for stream in (1, 2):  # a log that whoever started us has opened
        if stat.S_ISREG(os.fstat(stream).st_mode):
            os.fchmod(stream, 0o600)
    # Handlers, not a mask: threads that imported libraries have started may take a signal, too.
    ended = threading.Event()
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, lambda *_: ended.set())
    with Simulator(**args) as sim:
        print(json.dumps({"base_url": sim.base_url, "control_url": sim.control_url}), flush=True)
        while not ended.wait(0.2):  # Python runs handlers in this thread, between two of its steps
            pass


if __name__ == "__main__":
    main()
