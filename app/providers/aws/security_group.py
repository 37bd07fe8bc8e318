"""`aws.ec2.security_group`: who may talk to what is in a VPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.domain.diffing import same
from app.domain.enums import TemplateType
from app.providers.aws.ec2 import Ec2Type, tags_of
from app.providers.aws.things import Found, chosen
from app.providers.base import Context, JsonObject

if TYPE_CHECKING:
    from app.providers.aws.account import Account

# The property, the operations that add and take away, what AWS calls the rules, and the property for another group.
DIRECTIONS = (
    ("SecurityGroupIngress", "ingress", "IpPermissions", "SourceSecurityGroupId"),
    ("SecurityGroupEgress", "egress", "IpPermissionsEgress", "DestinationSecurityGroupId"),
)


class SecurityGroupType(Ec2Type):
    """A set of rules. Rules are compared one by one, so that a change of one leaves the others in force."""

    name = "aws.ec2.security_group"
    title = "security group"
    description = "Rules for who may talk to the resources that are in the group."
    template_type = TemplateType.SECURITY
    named = "GroupName"
    kind, describes, items = "security-group", "describe_security_groups", "SecurityGroups"
    key, removes = "GroupId", "delete_security_group"

    async def told(self, account: Account, item: Mapping[str, Any]) -> Found | None:  # noqa: ARG002
        identity = item["GroupId"]
        properties: JsonObject = {
            "GroupName": item["GroupName"],
            "GroupDescription": item["Description"],
            "VpcId": item["VpcId"],
        }
        for name, _, permissions, other in DIRECTIONS:
            properties[name] = _rules(item.get(permissions, ()), other)
        return Found(identity, properties, {"GroupId": identity}, tags_of(item), identity)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        place = [
            {"Name": "vpc-id", "Values": [properties["VpcId"]]},
            {"Name": "group-name", "Values": [properties["GroupName"]]},
        ]
        return await self._search(context, place)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        answer = await context.connection.write(
            "ec2",
            "create_security_group",
            GroupName=properties["GroupName"],
            Description=properties["GroupDescription"],
            VpcId=properties["VpcId"],
            TagSpecifications=self.tagged(tags),
        )
        return str(answer["GroupId"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        account: Account = context.connection
        for name, direction, _, other in DIRECTIONS:
            if name not in touched:
                continue
            there, wanted = found.properties[name], properties.get(name) or []
            added, gone = _without(wanted, there), _without(there, wanted)
            # First what is new: whoever may talk before and after may talk meanwhile. A rule of which nothing but the
            # description is new is the same rule to AWS, and has to go first.
            if gone and any(_same_place(rule, old) for rule in added for old in gone):
                await self._apply(account, f"revoke_security_group_{direction}", found.id, gone, other)
                gone = []
            if added:
                await self._apply(account, f"authorize_security_group_{direction}", found.id, added, other)
            if gone:
                await self._apply(account, f"revoke_security_group_{direction}", found.id, gone, other)

    async def _apply(
        self, account: Account, operation: str, identity: str, rules: Sequence[JsonObject], other: str
    ) -> None:
        permissions = [_permission(rule, other) for rule in rules]
        await account.write("ec2", operation, GroupId=identity, IpPermissions=permissions)


def _rules(permissions: Sequence[Mapping[str, Any]], other: str) -> list[JsonObject]:
    """Each rule as a declaration has it: AWS puts several of the same ports together."""
    rules: list[JsonObject] = []
    for permission in permissions:
        ports = chosen(permission, "IpProtocol", "FromPort", "ToPort")
        rules += [{**ports, **chosen(found, "CidrIp", "Description")} for found in permission.get("IpRanges", ())]
        groups = permission.get("UserIdGroupPairs", ())
        rules += [{**ports, other: found["GroupId"], **chosen(found, "Description")} for found in groups]
    return rules


def _permission(rule: JsonObject, other: str) -> JsonObject:
    described = chosen(rule, "Description")
    permission = chosen(rule, "IpProtocol", "FromPort", "ToPort")
    if rule.get("CidrIp"):
        permission["IpRanges"] = [{"CidrIp": rule["CidrIp"], **described}]
    if rule.get(other):
        permission["UserIdGroupPairs"] = [{"GroupId": rule[other], **described}]
    return permission


def _without(rules: Sequence[JsonObject], others: Sequence[JsonObject]) -> list[JsonObject]:
    return [rule for rule in rules if not any(same(rule, other) for other in others)]


def _same_place(rule: JsonObject, other: JsonObject) -> bool:
    return same({**rule, "Description": None}, {**other, "Description": None})
