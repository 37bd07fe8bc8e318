"""`aws.ec2.vpc`, `aws.ec2.subnet`, `aws.ec2.internet_gateway` and `aws.ec2.route_table`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from app.domain.diffing import Difference
from app.domain.enums import TemplateType
from app.providers.aws.differences import in_place
from app.providers.aws.ec2 import Ec2Type, tags_of
from app.providers.aws.marks import token
from app.providers.aws.things import Found, Phase, chosen
from app.providers.base import Context, JsonObject

if TYPE_CHECKING:
    from app.providers.aws.account import Account

DNS = {"EnableDnsSupport": "enableDnsSupport", "EnableDnsHostnames": "enableDnsHostnames"}


class VpcType(Ec2Type):
    """A network of an account."""

    name = "aws.ec2.vpc"
    title = "VPC"
    description = "A virtual network of an AWS account."
    template_type = TemplateType.NETWORK
    kind, describes, items, key, removes = "vpc", "describe_vpcs", "Vpcs", "VpcId", "delete_vpc"

    async def told(self, account: Account, item: Mapping[str, Any]) -> Found | None:
        identity = item["VpcId"]
        properties: JsonObject = {"CidrBlock": item["CidrBlock"]}
        for name, attribute in DNS.items():
            answer = await account.find("ec2", "describe_vpc_attribute", VpcId=identity, Attribute=attribute)
            properties[name] = bool(((answer or {}).get(name) or {}).get("Value"))
        phase = Phase.BUSY if item.get("State") == "pending" else Phase.READY
        return Found(identity, properties, {"VpcId": identity}, tags_of(item), identity, phase)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        answer = await context.connection.write(
            "ec2", "create_vpc", CidrBlock=properties["CidrBlock"], TagSpecifications=self.tagged(tags)
        )
        return str(answer["Vpc"]["VpcId"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        # Names need the resolver: it is turned on before them and off after them.
        order = sorted(touched & DNS.keys(), key=lambda name: (name == "EnableDnsHostnames") == properties[name])
        for name in order:
            value = {"Value": properties[name]}
            await context.connection.write("ec2", "modify_vpc_attribute", VpcId=found.id, **{name: value})


class SubnetType(Ec2Type):
    """A part of a VPC in one availability zone."""

    name = "aws.ec2.subnet"
    title = "subnet"
    description = "A part of a VPC in one availability zone."
    template_type = TemplateType.NETWORK
    kind, describes, items, key, removes = "subnet", "describe_subnets", "Subnets", "SubnetId", "delete_subnet"

    async def told(self, account: Account, item: Mapping[str, Any]) -> Found | None:  # noqa: ARG002
        identity = item["SubnetId"]
        properties = chosen(item, "VpcId", "CidrBlock", "AvailabilityZone", "MapPublicIpOnLaunch")
        outputs = {"SubnetId": identity, "AvailabilityZone": item["AvailabilityZone"]}
        phase = Phase.BUSY if item.get("State") == "pending" else Phase.READY
        return Found(identity, properties, outputs, tags_of(item), identity, phase)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        """The subnet with the declared addresses, of which a VPC has one, or that of this operation."""
        place = [
            {"Name": "vpc-id", "Values": [properties["VpcId"]]},
            {"Name": "cidr-block", "Values": [properties["CidrBlock"]]},
        ]
        return await self._search(context, place)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        answer = await context.connection.write(
            "ec2",
            "create_subnet",
            **chosen(properties, "VpcId", "CidrBlock", "AvailabilityZone"),
            TagSpecifications=self.tagged(tags),
        )
        return str(answer["Subnet"]["SubnetId"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        if "MapPublicIpOnLaunch" in touched:
            value = {"Value": bool(properties.get("MapPublicIpOnLaunch"))}
            await context.connection.write(
                "ec2", "modify_subnet_attribute", SubnetId=found.id, MapPublicIpOnLaunch=value
            )


class InternetGatewayType(Ec2Type):
    """The way from a VPC to the internet. CloudFormation has the attachment as a type of its own; here it is part."""

    name = "aws.ec2.internet_gateway"
    title = "internet gateway"
    description = "The way from a VPC to the internet, attached to it."
    template_type = TemplateType.NETWORK
    kind, describes, items = "internet-gateway", "describe_internet_gateways", "InternetGateways"
    key, removes = "InternetGatewayId", "delete_internet_gateway"

    async def told(self, account: Account, item: Mapping[str, Any]) -> Found | None:  # noqa: ARG002
        identity = item["InternetGatewayId"]
        attached = [one["VpcId"] for one in item.get("Attachments", ()) if one.get("State") != "detached"]
        properties = {"VpcId": attached[0]} if attached else {}
        return Found(identity, properties, {"InternetGatewayId": identity}, tags_of(item), identity)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        """The gateway of this operation, attached or not, or that which the VPC has: it can have one."""
        made = await super().locate(context, properties)
        if made is not None or not properties.get("VpcId"):
            return made
        return await self._search(context, [{"Name": "attachment.vpc-id", "Values": [properties["VpcId"]]}])

    def compare(
        self, prior: Mapping[str, Any] | None, desired: Mapping[str, Any], *, unknown_forces: bool = False
    ) -> Difference:
        """Being attached for the first time, or again after somebody detached it, needs no other gateway."""
        difference = super().compare(prior, desired, unknown_forces=unknown_forces)
        if prior is None or prior.get("VpcId"):
            return difference
        return in_place(difference, "VpcId")

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:  # noqa: ARG002
        answer = await context.connection.write("ec2", "create_internet_gateway", TagSpecifications=self.tagged(tags))
        return str(answer["InternetGateway"]["InternetGatewayId"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        if "VpcId" in touched and properties.get("VpcId"):
            await context.connection.write(
                "ec2", "attach_internet_gateway", InternetGatewayId=found.id, VpcId=properties["VpcId"]
            )

    async def remove(self, context: Context, found: Found) -> None:
        if found.properties.get("VpcId"):
            await context.connection.write(
                "ec2", "detach_internet_gateway", InternetGatewayId=found.id, VpcId=found.properties["VpcId"]
            )
        await super().remove(context, found)


class RouteTableType(Ec2Type):
    """The routes of subnets. CloudFormation has routes and associations as types of their own; here they are parts."""

    name = "aws.ec2.route_table"
    title = "route table"
    description = "Routes, and the subnets that use them."
    template_type = TemplateType.NETWORK
    kind, describes, items = "route-table", "describe_route_tables", "RouteTables"
    key, removes = "RouteTableId", "delete_route_table"

    async def told(self, account: Account, item: Mapping[str, Any]) -> Found | None:  # noqa: ARG002
        identity = item["RouteTableId"]
        routes = [_route(route) for route in item.get("Routes", ()) if _is_declared(route)]
        subnets = [one["SubnetId"] for one in _associations(item)]
        properties = {"VpcId": item["VpcId"], "Routes": routes, "SubnetIds": subnets}
        return Found(identity, properties, {"RouteTableId": identity}, tags_of(item), identity)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        answer = await context.connection.write(
            "ec2",
            "create_route_table",
            VpcId=properties["VpcId"],
            ClientToken=token(context),
            TagSpecifications=self.tagged(tags),
        )
        return str(answer["RouteTable"]["RouteTableId"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        account: Account = context.connection
        if "Routes" in touched:
            await self._route(account, found, properties.get("Routes") or [])
        if "SubnetIds" in touched:
            await self._associate(account, found.id, set(properties.get("SubnetIds") or []))

    async def remove(self, context: Context, found: Found) -> None:
        await self._associate(context.connection, found.id, set())
        await super().remove(context, found)

    async def _route(self, account: Account, found: Found, wanted: list[JsonObject]) -> None:
        there = {route["DestinationCidrBlock"]: route for route in found.properties["Routes"]}
        aims = {route["DestinationCidrBlock"]: route for route in wanted}
        for destination, route in aims.items():
            if there.get(destination) != route:
                operation = "replace_route" if destination in there else "create_route"
                await account.write("ec2", operation, RouteTableId=found.id, **route)
        for destination in there.keys() - aims.keys():
            await account.write("ec2", "delete_route", RouteTableId=found.id, DestinationCidrBlock=destination)

    async def _associate(self, account: Account, identity: str, wanted: set[str]) -> None:
        answer = await account.find("ec2", "describe_route_tables", RouteTableIds=[identity])
        tables = (answer or {}).get("RouteTables", ())
        there = {one["SubnetId"]: one["RouteTableAssociationId"] for table in tables for one in _associations(table)}
        for subnet in sorted(wanted - there.keys()):
            await account.write("ec2", "associate_route_table", RouteTableId=identity, SubnetId=subnet)
        for subnet in sorted(there.keys() - wanted):
            await account.write("ec2", "disassociate_route_table", AssociationId=there[subnet])


def _associations(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    gone = ("disassociating", "disassociated")
    return [
        one
        for one in item.get("Associations", ())
        if one.get("SubnetId") and (one.get("AssociationState") or {}).get("State") not in gone
    ]


def _is_declared(route: Mapping[str, Any]) -> bool:
    """Whether the route is one that a declaration can have: not that within the VPC, which every table has."""
    return bool(route.get("DestinationCidrBlock")) and route.get("GatewayId") != "local"


def _route(route: Mapping[str, Any]) -> JsonObject:
    return chosen(route, "DestinationCidrBlock", "GatewayId", "NatGatewayId")
