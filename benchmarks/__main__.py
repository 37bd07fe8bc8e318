"""Run the benchmarks and print their tables: `make bench`, or `make bench ARGS="engine --rounds 5"`."""

from __future__ import annotations

import argparse

import uvloop

from benchmarks import (
    dispatch,
    engine,
    flood,
    hostile,
    idle,
    latency,
    live,
    logs,
    queries,
    recovery,
    row_security,
    scale,
)
from benchmarks.surroundings import describe

BENCHMARKS = {
    "dispatch": dispatch.run,
    "flood": flood.run,
    "engine": engine.run,
    "hostile": hostile.run,
    "idle": idle.run,
    "recovery": recovery.run,
    "latency": latency.run,
    "live": live.run,
    "logs": logs.run,
    "queries": queries.run,
    "row_security": row_security.run,
    "scale": scale.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all of them by default")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured, in turn")
    given = parser.parse_args()
    print(describe())
    for name in given.names or BENCHMARKS:
        print(uvloop.run(BENCHMARKS[name](given.rounds)))


if __name__ == "__main__":
    main()
