"""The table of benchmarks/queries.py: rates and waits of each side, as the middle of what the rounds gave.

The machine changes its speed by half within seconds, so sides are compared within a round: each ratio is the middle of
those of the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CONCURRENCY = (1, 16, 64)


@dataclass
class Measured:
    """One side on one query at one concurrency: of each round the requests a second, how long each request waited
    (seconds, sorted), and what one took of the server's processor (seconds).
    """

    rates: list[float] = field(default_factory=list)
    waits: list[list[float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def waited(self, share: float) -> list[float]:
        """What so many of the requests of each round waited at most, in seconds."""
        return [waits[int(len(waits) * share)] for waits in self.waits]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def table_of(
    found: Mapping[tuple[str, int, str], Measured],
    sides: Sequence[str],
    peer: str,
    expected: Mapping[str, bytes],
    seconds: float,
) -> str:
    """By query, concurrency and side; the last side is the bound. Without the peer its columns hold a dash."""
    rounds = max(len(one.rates) for one in found.values())
    sizes = ", ".join(f"{name} {len(body):,} B" for name, body in expected.items())
    lines = [
        f"\n### Queries ({rounds} rounds of {seconds} s, in turn; {sizes})\n",
        (
            "a: a plan with three relations; b: 50 plans with workflow, ten steps, template, three jobs; c: 100 jobs"
            " of a status; d: `__typename`. All are the middle of what the rounds gave, ratios of those within a"
            f" round; the last is p99 by {peer}'s p50.\n"
        ),
        f"| | requests/s | of the bound | × {peer} | p50 ms | p99 ms | server CPU ms | p99 / p50 of {peer} |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in expected:
        for concurrency in CONCURRENCY:
            bound, other = found[name, concurrency, sides[-1]], found.get((name, concurrency, peer))
            for side in sides:
                one = found.get((name, concurrency, side))
                if one is None:
                    continue
                p50, p99 = (statistics.median(one.waited(share)) * 1e3 for share in (0.5, 0.99))
                faster = "–" if other is None else f"{_ratio(one.rates, other.rates):.2f}"
                later = "–" if other is None else f"{_ratio(one.waited(0.99), other.waited(0.5)):.2f}"
                lines.append(
                    f"| {name}, {concurrency} at a time: {side} | {statistics.median(one.rates):,.0f}"
                    f" | {_ratio(one.rates, bound.rates):.2f} | {faster} | {p50:.2f} | {p99:.2f}"
                    f" | {statistics.median(one.cpu) * 1e3:.3f} | {later} |"
                )
    return "\n".join(lines)
