"""The engine with providers that reach further than files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from app.db.models import ProviderConnection
from app.db.places import connection_place
from app.domain.values import Secret
from app.providers.base import Provider
from app.providers.registry import Registry
from tests.engine.harness import SEALER, Workshop

EXAMPLES = Path(__file__).parents[2] / "examples"


async def equip(workshop: Workshop, *providers: Provider, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Let the workshop work with these providers as well, each with a default connection."""
    workshop.registry = Registry([workshop.provider, *providers])
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        for provider in providers:
            config = {name: Secret(value) for name, value in configs.get(provider.name, {}).items()}
            transaction.session.add(
                ProviderConnection(
                    tenant_id=workshop.tenant_id,
                    name="main",
                    provider=provider.name,
                    is_default=True,
                    config=SEALER.seal(config, workshop.tenant_id, connection_place(provider.name, "main")),
                    created_by="user:1",
                )
            )
    workshop.runners.clear()
    workshop.workers.clear()
    await workshop.hire()


async def submit_example(workshop: Workshop, name: str, **parameters: Any) -> int:
    """The plan of an example, with other parameters; the id of its job."""
    documents = {each["kind"]: each for each in yaml.safe_load_all((EXAMPLES / name / f"{name}.yaml").read_text())}
    spec = documents["Template"]["spec"]
    content = {key: spec[key] for key in ("parameters", "resources", "outputs") if key in spec}
    template = await workshop.template(content, f"{name}-template")
    workflow = await workshop.workflow(*documents["Workflow"]["spec"]["steps"], name=f"{name}-workflow")
    return await workshop.submit(template, workflow, stack=documents["Plan"]["spec"]["stack"], **parameters)
