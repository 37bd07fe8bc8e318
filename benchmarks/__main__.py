"""Run the benchmarks and print their tables: `make bench`, or `make bench ARGS="jobs"`."""

from __future__ import annotations

import argparse
import asyncio

from benchmarks import dispatch, jobs, latency
from benchmarks.surroundings import describe

BENCHMARKS = {"dispatch": dispatch.run, "jobs": jobs.run, "latency": latency.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all of them by default")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured, in turn")
    given = parser.parse_args()
    print(describe())
    for name in given.names or BENCHMARKS:
        print(asyncio.run(BENCHMARKS[name](given.rounds)))


if __name__ == "__main__":
    main()
