"""`python -m app.cli` is `windlass`."""

from __future__ import annotations

from app.cli import main

main()
