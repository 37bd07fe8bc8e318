"""Every planted bug is caught by the proof that is known to catch it: were one not, the proof would prove nothing."""

from __future__ import annotations

import pytest

from app.embedded.postgres import EmbeddedPostgres
from tests.engine.hunting import Ground, by_crashes, by_games
from tests.engine.mutants import MUTANTS, planted

# Found by games that take long; `make mutants` looks for them, too.
LONG = {"late-effect-left", "claim-takes-running", "undo-while-running", "operation-per-attempt"}
HUNTED = [name for name, mutant in MUTANTS.items() if mutant.caught_by in ("crash", "random", "late")]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted({*HUNTED} - LONG))
def test_a_planted_bug_is_caught(postgres_server: EmbeddedPostgres, migrated_template: str, name: str) -> None:
    place = Ground(postgres_server.url, migrated_template)
    with planted(name):
        caught_by = MUTANTS[name].caught_by
        complaint = by_crashes(place) if caught_by == "crash" else by_games(place, late=caught_by == "late")
    assert complaint is not None, f"{MUTANTS[name].what}, and nobody has noticed"
