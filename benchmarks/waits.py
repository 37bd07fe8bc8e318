"""How long something took, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def table_of(what: str, found: Mapping[str, Sequence[float]]) -> list[str]:
    """Lines with the median, the 95th percentile and the longest, in ms, of seconds by their names."""
    lines = [f"| {what} | p50 ms | p95 ms | max ms |", "|---|--:|--:|--:|"]
    for name, seconds in found.items():
        p95 = statistics.quantiles(seconds, n=20)[18]
        lines.append(
            f"| {name} | {statistics.median(seconds) * 1e3:.1f} | {p95 * 1e3:.1f} | {max(seconds) * 1e3:.1f} |"
        )
    return lines
