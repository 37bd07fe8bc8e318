"""`aws.ec2.instance`: a machine."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from app.domain.enums import TemplateType
from app.providers.aws.ec2 import Ec2Type, tags_of
from app.providers.aws.marks import OPERATION, Mark, as_list, token
from app.providers.aws.things import Found, Phase, chosen
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError

if TYPE_CHECKING:
    from app.providers.aws.account import Account

# A machine that is stopped to be given another type: without this nobody would start it again after an interruption.
RESIZING = "windlass:resizing"
GIVEN = ("ImageId", "InstanceType", "KeyName", "SubnetId", "SecurityGroupIds", "UserData", "EbsOptimized")
PHASES = {"pending": Phase.BUSY, "stopping": Phase.BUSY, "shutting-down": Phase.LEAVING}


class InstanceType(Ec2Type):
    """A machine. Another type means that it is stopped, changed and started again."""

    name = "aws.ec2.instance"
    title = "instance"
    description = "A machine; it is stopped and started again when it is given another type."
    template_type = TemplateType.INFRASTRUCTURE
    kind, describes, items, key = "instance", "describe_instances", "Instances", "InstanceId"
    scalable = frozenset({"/InstanceType"})
    stateful = True

    async def told(self, account: Account, item: Mapping[str, Any]) -> Found | None:
        identity, tags, state = item["InstanceId"], tags_of(item), item["State"]["Name"]
        if state == "terminated":
            return None
        properties = chosen(item, "ImageId", "InstanceType", "KeyName", "SubnetId", "EbsOptimized")
        properties["SecurityGroupIds"] = [group["GroupId"] for group in item.get("SecurityGroups", ())]
        if item.get("IamInstanceProfile"):
            properties["IamInstanceProfile"] = item["IamInstanceProfile"]["Arn"].rpartition("/")[2]
        answer = await account.find("ec2", "describe_instance_attribute", InstanceId=identity, Attribute="userData")
        if (answer or {}).get("UserData", {}).get("Value"):
            properties["UserData"] = answer["UserData"]["Value"]
        if RESIZING in tags:
            del properties["InstanceType"]
        outputs = {
            "InstanceId": identity,
            "AvailabilityZone": item["Placement"]["AvailabilityZone"],
            **chosen({**item, "PrivateIp": item.get("PrivateIpAddress")}, "PrivateIp", "VpcId"),
            **chosen({"PublicIp": item.get("PublicIpAddress")}, "PublicIp"),
        }
        return Found(identity, properties, outputs, tags, identity, PHASES.get(state, Phase.READY), f"it is {state}")

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.find("ec2", "describe_instances", InstanceIds=[identity])
        for reservation in (answer or {}).get("Reservations", ()):
            for item in reservation["Instances"]:
                return await self.told(account, item)
        return None

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:  # noqa: ARG002
        mine = [{"Name": f"tag:{OPERATION}", "Values": [Mark.of(context).operation]}]
        async for found in self._all(context.connection, Filters=mine):
            return found
        return None

    def everything(self, account: Account) -> AsyncIterator[Found]:
        return self._all(account)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = chosen(properties, *GIVEN)
        if "UserData" in wanted:
            # The SDK encodes what it is given here, and nowhere else.
            wanted["UserData"] = _decoded(wanted["UserData"])
        if properties.get("IamInstanceProfile"):
            wanted["IamInstanceProfile"] = {"Name": properties["IamInstanceProfile"]}
        answer = await context.connection.write(
            "ec2",
            "run_instances",
            **wanted,
            MinCount=1,
            MaxCount=1,
            ClientToken=token(context),
            TagSpecifications=self.tagged(tags),
        )
        return str(answer["Instances"][0]["InstanceId"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        if "InstanceType" not in touched:
            return
        account: Account = context.connection
        one = {"InstanceIds": [found.id]}
        mark = as_list({RESIZING: properties["InstanceType"]})
        await account.write("ec2", "create_tags", Resources=[found.id], Tags=mark)
        await account.write("ec2", "stop_instances", **one)
        while await self._state_of(account, found.id) != "stopped":
            context.progress(None, f"{found.id} is stopping")
            await context.sleep(account.pause)
        wanted = {"Value": properties["InstanceType"]}
        await account.write("ec2", "modify_instance_attribute", InstanceId=found.id, InstanceType=wanted)
        await account.write("ec2", "start_instances", **one)
        await account.write("ec2", "delete_tags", Resources=[found.id], Tags=[{"Key": RESIZING}])

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("ec2", "terminate_instances", InstanceIds=[found.id])

    async def _state_of(self, account: Account, identity: str) -> str:
        answer = await account.read("ec2", "describe_instances", InstanceIds=[identity])
        return str(answer["Reservations"][0]["Instances"][0]["State"]["Name"])

    async def _all(self, account: Account, **asked: Any) -> AsyncIterator[Found]:
        async for reservation in account.pages("ec2", "describe_instances", "Reservations", **asked):
            for item in reservation["Instances"]:
                found = await self.told(account, item)
                if found is not None:
                    yield found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        message = "UserData is a text in base64"
        raise ProviderError(ErrorKind.INVALID, message, path=("UserData",)) from error
