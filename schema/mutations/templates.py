"""Mutations of resource templates."""

from __future__ import annotations

import strawberry
from strawberry.scalars import JSON

from app.db.uow import Transaction
from app.services import templates
from schema.context import Info
from schema.enums import TemplateType
from schema.fields import described
from schema.nodes import number_in
from schema.payloads import DeletedPayload, TemplatePayload, mapping, mutate

_TEMPLATE = "ResourceTemplate"


@strawberry.input
class CreateTemplateInput:
    idempotency_key: str
    name: str
    type: TemplateType
    content: JSON = strawberry.field(description="{parameters?, resources, outputs?, constraints?}")
    description: str | None = None
    is_public: bool = strawberry.field(default=False, description="Other tenants may deploy its published revisions.")
    tags: JSON | None = None
    metadata: JSON | None = None


@strawberry.input(description="A field that is left out or null stays as it is.")
class UpdateTemplateInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int
    name: str | None = None
    type: TemplateType | None = None
    content: JSON | None = None
    description: str | None = None
    is_public: bool | None = None
    tags: JSON | None = None
    metadata: JSON | None = None


@strawberry.input
class PublishTemplateInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int


@strawberry.input
class TemplateActionInput:
    idempotency_key: str
    id: strawberry.ID
    expected_version: int | None = None

    def command(self) -> templates.TemplateAction:
        return templates.TemplateAction(number_in(self.id, _TEMPLATE), self.expected_version)


@strawberry.type
class TemplateMutations:
    @described("A draft; publish it to deploy it.")
    async def create_resource_template(self, info: Info, input: CreateTemplateInput) -> TemplatePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = templates.CreateTemplate(
                name=input.name,
                type=input.type,
                content=mapping(input.content, "content") or {},
                description=input.description,
                is_public=input.is_public,
                tags=mapping(input.tags, "tags"),
                metadata=mapping(input.metadata, "metadata"),
            )
            context = info.context
            template = await templates.create(transaction, context.principal, command, context.dependencies)
            return {"resource_template": template.id}

        return await mutate(info, TemplatePayload, "createResourceTemplate", input, verb)

    @strawberry.mutation
    async def update_resource_template(self, info: Info, input: UpdateTemplateInput) -> TemplatePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = templates.UpdateTemplate(
                id=number_in(input.id, _TEMPLATE),
                expected_version=input.expected_version,
                name=input.name,
                type=input.type,
                content=mapping(input.content, "content"),
                description=input.description,
                is_public=input.is_public,
                tags=mapping(input.tags, "tags"),
                metadata=mapping(input.metadata, "metadata"),
            )
            context = info.context
            template = await templates.update(transaction, context.principal, command, context.dependencies)
            return {"resource_template": template.id}

        return await mutate(info, TemplatePayload, "updateResourceTemplate", input, verb)

    @described("Freezes the draft as the next revision; nothing happens when it is published as it is.")
    async def publish_resource_template(self, info: Info, input: PublishTemplateInput) -> TemplatePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            command = templates.TemplateAction(number_in(input.id, _TEMPLATE), input.expected_version)
            context = info.context
            template, revision = await templates.publish(transaction, context.principal, command, context.dependencies)
            return {"resource_template": template.id, "revision": revision.id}

        return await mutate(info, TemplatePayload, "publishResourceTemplate", input, verb)

    @described("Advises against a published template; plans that use it go on.")
    async def deprecate_resource_template(self, info: Info, input: TemplateActionInput) -> TemplatePayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            template = await templates.deprecate(transaction, info.context.principal, input.command())
            return {"resource_template": template.id}

        return await mutate(info, TemplatePayload, "deprecateResourceTemplate", input, verb)

    @strawberry.mutation
    async def delete_resource_template(self, info: Info, input: TemplateActionInput) -> DeletedPayload:
        async def verb(transaction: Transaction) -> dict[str, int | None]:
            await templates.delete(transaction, info.context.principal, input.command())
            return {}

        return await mutate(info, DeletedPayload, "deleteResourceTemplate", input, verb, deleted_id=input.id)
