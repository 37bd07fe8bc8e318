"""Every planted bug is caught by the proof that is known to catch it: were one not, the proof would prove nothing."""

from __future__ import annotations

import pytest

from app.embedded.postgres import EmbeddedPostgres
from tests.engine.hunting import Ground, by_crashes, by_games
from tests.engine.mutants import MUTANTS, planted

HUNTED = sorted(name for name, mutant in MUTANTS.items() if mutant.caught_by in ("crash", "random", "late"))
# Of those that games find, two that are found at once, one by each kind of game; the others with `-m long`.
QUICK = {"finish-without-fence", "nothing-stops"} | {name for name in HUNTED if MUTANTS[name].caught_by == "crash"}
LONG = {"operation-per-attempt"} | {*HUNTED} - QUICK


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in HUNTED]
)
def test_a_planted_bug_is_caught(postgres_server: EmbeddedPostgres, migrated_template: str, name: str) -> None:
    place = Ground(postgres_server.url, migrated_template)
    with planted(name):
        caught_by = MUTANTS[name].caught_by
        complaint = by_crashes(place) if caught_by == "crash" else by_games(place, late=caught_by == "late")
    assert complaint is not None, f"{MUTANTS[name].what}, and nobody has noticed"
