"""`aws.iam.role`: who may do what in an account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from app.domain.diffing import same
from app.domain.enums import TemplateType
from app.providers.aws.marks import as_list, from_list
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found, chosen
from app.providers.base import Context, Idempotency, JsonObject

if TYPE_CHECKING:
    from app.providers.aws.account import Account


class RoleType(AwsType):
    """A role with its policies: those that it names, and those that are its own."""

    name = "aws.iam.role"
    title = "role"
    description = "A role, who may take it on, and what it may do."
    template_type = TemplateType.SECURITY
    service, named, idempotency = "iam", "RoleName", Idempotency.NAME

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.find("iam", "get_role", RoleName=identity)
        return None if answer is None else await self._told(account, answer["Role"])

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self.find(context.connection, properties["RoleName"])

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for item in account.pages("iam", "list_roles", "Roles"):
            # A list of roles leaves their tags out.
            found = await self.find(account, item["RoleName"])
            if found is not None:
                yield found

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = chosen(properties, "RoleName", "Path", "Description", "MaxSessionDuration")
        document = _text(properties["AssumeRolePolicyDocument"])
        await context.connection.write(
            "iam", "create_role", **wanted, AssumeRolePolicyDocument=document, Tags=as_list(tags)
        )
        return str(properties["RoleName"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        account: Account = context.connection
        role = {"RoleName": found.id}
        if "AssumeRolePolicyDocument" in touched:
            document = _text(properties["AssumeRolePolicyDocument"])
            await account.write("iam", "update_assume_role_policy", **role, PolicyDocument=document)
        if touched & {"Description", "MaxSessionDuration"}:
            wanted = chosen(properties, "Description", "MaxSessionDuration")
            await account.write("iam", "update_role", **role, **wanted)
        if "ManagedPolicyArns" in touched:
            there, named = set(found.properties["ManagedPolicyArns"]), set(properties.get("ManagedPolicyArns") or [])
            for arn in sorted(named - there):
                await account.write("iam", "attach_role_policy", **role, PolicyArn=arn)
            for arn in sorted(there - named):
                await account.write("iam", "detach_role_policy", **role, PolicyArn=arn)
        if "Policies" in touched:
            await self._own(account, found, properties.get("Policies") or [])

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("iam", "tag_role", RoleName=found.id, Tags=as_list(tags))
        if gone:
            await account.write("iam", "untag_role", RoleName=found.id, TagKeys=gone)

    async def remove(self, context: Context, found: Found) -> None:
        nothing = {**found.properties, "ManagedPolicyArns": [], "Policies": []}
        await self.change(context, found, nothing, frozenset({"ManagedPolicyArns", "Policies"}))
        await context.connection.write("iam", "delete_role", RoleName=found.id)

    async def _own(self, account: Account, found: Found, wanted: list[JsonObject]) -> None:
        there = {one["PolicyName"]: one["PolicyDocument"] for one in found.properties["Policies"]}
        aims = {one["PolicyName"]: one["PolicyDocument"] for one in wanted}
        for name, document in aims.items():
            if name not in there or not same(there[name], document):
                await account.write(
                    "iam", "put_role_policy", RoleName=found.id, PolicyName=name, PolicyDocument=_text(document)
                )
        for name in sorted(there.keys() - aims.keys()):
            await account.write("iam", "delete_role_policy", RoleName=found.id, PolicyName=name)

    async def _told(self, account: Account, item: Mapping[str, Any]) -> Found:
        name, role = item["RoleName"], {"RoleName": item["RoleName"]}
        attached = [
            each["PolicyArn"]
            async for each in account.pages("iam", "list_attached_role_policies", "AttachedPolicies", **role)
        ]
        own = []
        async for each in account.pages("iam", "list_role_policies", "PolicyNames", **role):
            policy = await account.find("iam", "get_role_policy", **role, PolicyName=each)
            if policy is not None:
                own.append({"PolicyName": each, "PolicyDocument": policy["PolicyDocument"]})
        properties = {
            **chosen(item, "RoleName", "Path", "AssumeRolePolicyDocument", "MaxSessionDuration"),
            "Description": item.get("Description", ""),
            "ManagedPolicyArns": attached,
            "Policies": own,
        }
        outputs = chosen(item, "RoleName", "Arn", "RoleId")
        return Found(name, properties, outputs, from_list(item.get("Tags")), item["RoleId"])


def _text(document: Any) -> str:
    return orjson.dumps(document).decode()
