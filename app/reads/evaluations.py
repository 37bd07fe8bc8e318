"""Questions about what was seen of conditions and triggers."""

from __future__ import annotations

from app.db.models import ConditionEvaluation
from app.db.pages import Order
from app.reads import rows

ORDER = Order("evaluation:AT:True", (ConditionEvaluation.at,), ConditionEvaluation.id, descending=True)


def of_plan(tenant_id: int) -> rows.Relation[ConditionEvaluation]:
    """The evaluations of a plan that are kept, newest first."""
    query = rows.of_tenant(ConditionEvaluation, tenant_id)
    return rows.Relation(("evaluations", "plan_id"), query, ConditionEvaluation.plan_id, ORDER)
