"""Resource templates: a draft that is edited, and revisions that are published and never change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select

from app import clock
from app.auth.principal import Principal
from app.db.models import DeploymentPlan, ResourceTemplate, TemplateRevision
from app.db.uow import Transaction
from app.domain.definitions.template import TemplateDefinition, parse_template
from app.domain.enums import DefinitionStatus, Permission, TemplateType
from app.domain.errors import Conflict, IllegalState
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.faults import name_fault, refuse
from app.services.records import locked, one_at_a_time, refuse_while_used, same_version, store

NAME_LIMIT = 200
_UNIQUE_NAME = "uq_resource_template_tenant_name"


@dataclass(frozen=True, slots=True)
class CreateTemplate:
    """A template to be. `content` as docs/architecture.md describes template documents."""

    name: str
    type: TemplateType
    content: Mapping[str, Any]
    description: str | None = None
    is_public: bool = False
    tags: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class UpdateTemplate:
    """Changes to the draft; None leaves a field as it is. What is published changes with the next publication."""

    id: int
    expected_version: int
    name: str | None = None
    type: TemplateType | None = None
    content: Mapping[str, Any] | None = None
    description: str | None = None
    is_public: bool | None = None
    tags: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TemplateAction:
    """An action on a template; with `expected_version` only if nobody changed it since."""

    id: int
    expected_version: int | None = None


async def create(
    transaction: Transaction, principal: Principal, command: CreateTemplate, dependencies: Dependencies
) -> ResourceTemplate:
    """Store a draft. Raises Invalid with every fault of the content, Conflict when the name is taken."""
    authorize(transaction, principal, Permission.WRITE)
    refuse([name_fault(command.name, NAME_LIMIT, "the name of the template", "name")])
    definition = parse_template(command.content, dependencies.catalogue, path=("content",))
    template = ResourceTemplate(
        tenant_id=transaction.tenant_id,
        template_name=command.name.strip(),
        template_type=command.type,
        status=DefinitionStatus.DRAFT,
        description=command.description,
        is_public=command.is_public,
        tags=_plain(command.tags),
        metadata_=_plain(command.metadata),
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    _fill(template, command.content, definition)
    await store(transaction, template, _taken(template.template_name))
    return template


async def update(
    transaction: Transaction, principal: Principal, command: UpdateTemplate, dependencies: Dependencies
) -> ResourceTemplate:
    """Change the draft."""
    authorize(transaction, principal, Permission.WRITE)
    template = await _find(transaction, command.id, command.expected_version)
    if command.name is not None:
        refuse([name_fault(command.name, NAME_LIMIT, "the name of the template", "name")])
        template.template_name = command.name.strip()
    if command.content is not None:
        _fill(template, command.content, parse_template(command.content, dependencies.catalogue, path=("content",)))
    for field in ("description", "is_public"):
        value = getattr(command, field)
        if value is not None:
            setattr(template, field, value)
    if command.type is not None:
        template.template_type = command.type
    if command.tags is not None:
        template.tags = dict(command.tags)
    if command.metadata is not None:
        template.metadata_ = dict(command.metadata)
    template.updated_by = transaction.actor
    await store(transaction, template, _taken(template.template_name))
    return template


async def publish(
    transaction: Transaction, principal: Principal, command: TemplateAction, dependencies: Dependencies
) -> tuple[ResourceTemplate, TemplateRevision]:
    """Freeze the draft as the next revision. Publishing what is published already gives the revision there is."""
    authorize(transaction, principal, Permission.WRITE)
    template = await _find(transaction, command.id, command.expected_version)
    parse_template(template.template_content, dependencies.catalogue, path=("content",))
    checksum = hashlib.sha256(orjson.dumps(template.template_content, option=orjson.OPT_SORT_KEYS)).hexdigest()
    latest = await _latest(transaction, template.id)
    if latest is None or latest.checksum != checksum or latest.is_public != template.is_public:
        latest = TemplateRevision(
            tenant_id=transaction.tenant_id,
            template_id=template.id,
            number=latest.number + 1 if latest else 1,
            status=DefinitionStatus.PUBLISHED,
            content=template.template_content,
            checksum=checksum,
            is_public=template.is_public,
            published_at=clock.utc_now(),
            created_by=transaction.actor,
            updated_by=transaction.actor,
        )
        await store(transaction, latest)
    template.status = DefinitionStatus.PUBLISHED
    template.latest_revision_id = latest.id
    template.updated_by = transaction.actor
    await store(transaction, template)
    return template, latest


async def deprecate(transaction: Transaction, principal: Principal, command: TemplateAction) -> ResourceTemplate:
    """Advise against the template; plans that use it go on."""
    authorize(transaction, principal, Permission.WRITE)
    template = await _find(transaction, command.id, command.expected_version)
    if template.status is not DefinitionStatus.PUBLISHED:
        message = f"a template that is {template.status} cannot be deprecated"
        raise IllegalState(message, status=template.status, path=("id",))
    template.status = DefinitionStatus.DEPRECATED
    template.updated_by = transaction.actor
    await store(transaction, template)
    return template


async def delete(transaction: Transaction, principal: Principal, command: TemplateAction) -> ResourceTemplate:
    """Hide the template. Raises Conflict while plans that are not over use it."""
    authorize(transaction, principal, Permission.DELETE)
    await one_at_a_time(transaction)
    template = await _find(transaction, command.id, command.expected_version)
    await refuse_while_used(transaction, DeploymentPlan.template_id == template.id, "template")
    template.is_deleted = True
    template.updated_by = transaction.actor
    await store(transaction, template)
    return template


def _fill(template: ResourceTemplate, content: Mapping[str, Any], definition: TemplateDefinition) -> None:
    """Keep the document whole, and its parts in the columns that lists and details show."""
    template.template_content = dict(content)
    template.parameters = dict(content.get("parameters") or {})
    template.outputs = dict(content.get("outputs") or {})
    template.constraints = content.get("constraints") or []
    template.dependencies = [
        {
            "from": edge.source,
            "to": edge.target,
            "explicit": edge.explicit,
            "path": edge.path,
            "expression": edge.expression,
        }
        for edge in definition.graph.edges
    ]


async def _find(transaction: Transaction, template_id: int, expected_version: int | None) -> ResourceTemplate:
    query = select(ResourceTemplate).where(
        ResourceTemplate.tenant_id == transaction.tenant_id,
        ResourceTemplate.id == template_id,
        ~ResourceTemplate.is_deleted,
    )
    template = await locked(transaction, query, "template")
    same_version(template.version, expected_version, "template")
    return template


async def _latest(transaction: Transaction, template_id: int) -> TemplateRevision | None:
    found: TemplateRevision | None = await transaction.session.scalar(
        select(TemplateRevision)
        .where(TemplateRevision.tenant_id == transaction.tenant_id, TemplateRevision.template_id == template_id)
        .order_by(TemplateRevision.number.desc())
        .limit(1)
    )
    return found


def _taken(name: str) -> dict[str, Conflict]:
    return {_UNIQUE_NAME: Conflict(f"there already is a template '{name}'", path=("name",))}


def _plain(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)
