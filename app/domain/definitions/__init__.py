"""Templates and workflows as their authors write them, read into values that cannot be wrong any more."""

from __future__ import annotations
