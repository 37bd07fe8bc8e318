"""The package of somebody else: found by its entry point, and tried out with the plugin, as the how-to says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs" / "howto" / "write-a-provider.md"


def _blocks() -> list[str]:
    """The Python of the how-to, in order: the provider, then its tests, then what may be added to its type."""
    return re.findall(r"```python\n(.*?)```", HOWTO.read_text(), re.DOTALL)


def _installed(folder: Path, *, asked: bool = False) -> dict[str, str]:
    """The how-to's package as pip would have put it there; the environment in which it is found."""
    provider, tests, preflight = _blocks()[:3]
    (folder / "acme_shelf.py").write_text(provider)
    if asked:
        adding = provider.replace("    async def read(", f"{preflight}\n    async def read(", 1)
        adding = adding.replace("import json\n", "import json\nfrom app.domain.errors import Diagnostic, Severity\n", 1)
        (folder / "acme_shelf.py").write_text(adding)
    (folder / "test_shelf.py").write_text(tests)
    (folder / "conftest.py").write_text('pytest_plugins = ["app.providers.testing"]\n')
    metadata = folder / "acme_shelf-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-shelf\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[windlass.providers]\nshelf = acme_shelf:ShelfProvider\n")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def _run(folder: Path, *argv: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_provider_of_the_how_to_conforms_and_a_careless_one_does_not(tmp_path: Path) -> None:
    environment = _installed(tmp_path, asked=True)
    # In a folder of its own: beside this run's it would close that to the servers that run as another user.
    options = ("-q", "--basetemp", str(tmp_path / "run"), "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")
    good = _run(tmp_path, "-m", "pytest", *options, environment=environment)
    assert "2 passed" in good.stdout, good.stdout + good.stderr
    module = tmp_path / "acme_shelf.py"
    careless = module.read_text().replace("path.unlink(missing_ok=True)", "pass")
    assert careless != module.read_text()
    module.write_text(careless)
    bad = _run(tmp_path, "-m", "pytest", *options, environment=environment)
    assert "what is deleted cannot be read" in bad.stdout


def test_it_is_loaded_where_the_installation_names_it(tmp_path: Path) -> None:
    code = (
        "import os; from app.settings import Settings; from workers.house import registry_of;"
        "print('shelf.book' in registry_of(Settings.from_environment(os.environ)).type_names())"
    )
    environment = _installed(tmp_path)
    told = [_run(tmp_path, "-c", code, environment={**environment, **more}).stdout.strip()
            for more in ({}, {"WINDLASS_PROVIDERS": "shelf"})]  # fmt: skip
    assert told == ["False", "True"]
