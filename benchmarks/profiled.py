"""Runs a bridge command under cProfile, its threads too: `python profiled.py OUT.pstats serve --config …`."""

from __future__ import annotations

import cProfile
import pstats
import sys
import threading

from bridge.cli import main


def run(out: str) -> None:
    """The command until it ends, then the profile of all threads together."""
    profiles: list[cProfile.Profile] = []
    plain = threading.Thread.run

    def profiled(thread: threading.Thread) -> None:
        profile = cProfile.Profile()
        profiles.append(profile)
        profile.runcall(plain, thread)

    threading.Thread.run = profiled  # type: ignore[method-assign, assignment]
    first = cProfile.Profile()
    try:
        first.runcall(main)
    finally:
        stats = pstats.Stats(first)
        for profile in profiles:
            stats.add(profile)
        stats.dump_stats(out)


if __name__ == "__main__":
    path = sys.argv.pop(1)
    run(path)
