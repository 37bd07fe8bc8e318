"""The outputs of a job that succeeded: the template's, evaluated against what has come into being."""

from __future__ import annotations

import structlog

from app.db.ledger import Ledger
from app.db.sealing import Sealer
from app.db.statements import Statement, dumps
from app.domain.errors import DomainError
from app.domain.expressions import embedded
from app.domain.values import Value
from app.engine.scope import read_scope

_logger = structlog.get_logger(__name__)
_WRITE = Statement("UPDATE orchestration_job SET outputs = :outputs::jsonb WHERE tenant_id = :tenant AND id = :id")


async def write(ledger: Ledger, sealer: Sealer) -> None:
    """Evaluate and store them. One that cannot be evaluated is left out: the deployment stands all the same."""
    declared = ledger.configuration.get("outputs") or {}
    if not declared:
        return
    references = ledger.configuration.get("outputReferences") or {}
    scope = await read_scope(ledger, sealer, {"references": references})
    values: dict[str, Value] = {}
    for name, output in declared.items():
        try:
            values[name] = embedded.render(output.get("value"), scope)
        except DomainError as error:
            _logger.info("an output cannot be evaluated", job_id=ledger.job_id, output=name, reason=error.message)
    stored = sealer.seal(values, ledger.transaction.tenant_id)
    await ledger.transaction.fetch(
        _WRITE,
        {"tenant": ledger.transaction.tenant_id, "id": ledger.job_id, "outputs": dumps(stored)},
    )
