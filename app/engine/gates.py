"""Gates: a step asks, is let go of by its worker, and is looked at again when it is answered.

A gate that waits has no worker and no due time. Its deadline is a timer of its own, on which the tick acts.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.db.ledger import Ledger
from app.db.sealing import Sealer
from app.db.statements import Statement, dumps
from app.domain.enums import ErrorClass
from app.domain.expressions import embedded
from app.domain.values import Value, reveal
from app.engine import rehearsing
from app.engine.work import Asking, Failed, Outcome, Succeeded, Work

_ANSWER = Statement(
    "SELECT answer FROM gate WHERE tenant_id = :tenant AND step_run_id = :step AND answered_at IS NOT NULL"
)
_APPROVERS = Statement(
    "SELECT id, email FROM app_user WHERE tenant_id = :tenant AND email = ANY(:emails) AND kind = 'PERSON'"
)
_ASK = Statement(
    "INSERT INTO gate (tenant_id, step_run_id, kind, prompt, input_schema, approvers, on_timeout, deadline_at)"
    " VALUES (:tenant, :step, :kind, :prompt, :schema::jsonb, :approvers::text[], :on_timeout,"
    " clock_timestamp() + make_interval(secs => :seconds))"
    " ON CONFLICT (tenant_id, step_run_id) DO UPDATE SET prompt = excluded.prompt, approvers = excluded.approvers,"
    " deadline_at = excluded.deadline_at, closed_at = NULL, delegations = NULL"
)

# The word was there before the question.
_TOLD = Statement(
    "INSERT INTO gate (tenant_id, step_run_id, kind, prompt, approved, answer, answered_by, answered_at, closed_at)"
    " VALUES (:tenant, :step, :kind, '', true, :answer::jsonb, :by, :at::text::timestamptz, clock_timestamp())"
    " ON CONFLICT DO NOTHING"
)


async def look(ledger: Ledger, work: Work, scope: Mapping[str, Value], sealer: Sealer) -> Outcome:
    """What has come of the gate: the answer as outputs, or the question, asked now."""
    fetch = ledger.transaction.fetch
    key = {"tenant": work.tenant_id, "step": work.step_id}
    answered = await fetch(_ANSWER, key)
    if answered:
        return Succeeded(outputs=sealer.open(answered[0]["answer"] or {}, work.tenant_id))
    gate = work.spec["gate"]
    told = (ledger.configuration.get("signals") or {}).get(work.key)
    if told is not None:
        values = {"kind": gate["kind"], "answer": dumps(told["payload"]), "by": told["by"], "at": told["at"]}
        await fetch(_TOLD, {**key, **values})
        return Succeeded(outputs=sealer.open(told["payload"], work.tenant_id))
    emails = gate["approvers"]
    known = {row["email"]: row["id"] for row in await fetch(_APPROVERS, {"tenant": work.tenant_id, "emails": emails})}
    missing = sorted(set(emails) - known.keys())
    if missing:
        message = f"there is no user {', '.join(missing)} who could answer"
        return Failed(ErrorClass.PERMANENT, "NOT_FOUND", message)
    prompt = str(reveal(embedded.render(gate["prompt"], scope)))
    if work.rehearsal is not None:
        return Succeeded(outputs=rehearsing.answer(gate))
    await fetch(
        _ASK,
        {
            **key,
            "kind": gate["kind"],
            "prompt": prompt,
            "schema": dumps(gate["inputSchema"]) if gate["inputSchema"] else None,
            "approvers": [f"user:{known[email]}" for email in emails],
            "on_timeout": gate["onTimeout"],
            "seconds": gate["seconds"],
        },
    )
    return Asking(prompt)
