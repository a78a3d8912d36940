"""Run the simulator until it is told to end."""

from __future__ import annotations

import argparse
import json
import os
import signal

from simulator.server import Simulator


def main() -> None:
    """Read the command line, serve, and end cleanly at SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="simulator", description="A local stand-in for the EMO service.")
    parser.add_argument("--host", default="127.0.0.1", help="address of this machine to listen at")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--api-key", default=os.environ.get("SIMULATOR_API_KEY", "sk-simulator"))
    parser.add_argument("--seconds-per-second", type=float, default=0.2, help="a task's seconds per second of voice")
    parser.add_argument("--task-seconds", type=float, help="a task's seconds, whatever the voice")
    parser.add_argument("--running", type=int, default=1, help="tasks at once")
    parser.add_argument("--manual", action="store_true", help="tasks run until /control/finish-all")
    args = vars(parser.parse_args())
    # Blocked before any thread starts, so that only sigwait below sees them.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with Simulator(**args) as sim:
        print(json.dumps({"base_url": sim.base_url, "control_url": sim.control_url}), flush=True)
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
