"""`aws.ec2.launch_template`: what machines of an auto-scaling group are started from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from app.domain.diffing import same
from app.domain.enums import TemplateType
from app.providers.aws.ec2 import Ec2Type, tags_of
from app.providers.aws.marks import token
from app.providers.aws.things import Found, chosen
from app.providers.base import Context, JsonObject

if TYPE_CHECKING:
    from app.providers.aws.account import Account


class LaunchTemplateType(Ec2Type):
    """A launch template whose default version is the declared one; an update makes a version and sets it."""

    name = "aws.ec2.launch_template"
    title = "launch template"
    description = "What the machines of an auto-scaling group are started from."
    template_type = TemplateType.INFRASTRUCTURE
    named = "LaunchTemplateName"
    kind, describes, items = "launch-template", "describe_launch_templates", "LaunchTemplates"
    key, removes = "LaunchTemplateId", "delete_launch_template"

    async def told(self, account: Account, item: Mapping[str, Any]) -> Found | None:
        identity = item["LaunchTemplateId"]
        versions = await account.find(
            "ec2", "describe_launch_template_versions", LaunchTemplateId=identity, Versions=["$Default"]
        )
        if not versions or not versions["LaunchTemplateVersions"]:
            return None
        properties = {
            "LaunchTemplateName": item["LaunchTemplateName"],
            "LaunchTemplateData": _data(versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]),
        }
        outputs = {
            "LaunchTemplateId": identity,
            "DefaultVersionNumber": str(item["DefaultVersionNumber"]),
            "LatestVersionNumber": str(item["LatestVersionNumber"]),
        }
        return Found(identity, properties, outputs, tags_of(item), identity)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        account: Account = context.connection
        answer = await account.find(
            "ec2", "describe_launch_templates", LaunchTemplateNames=[properties["LaunchTemplateName"]]
        )
        for item in (answer or {}).get("LaunchTemplates", ()):
            return await self.told(account, item)
        return None

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        answer = await context.connection.write(
            "ec2",
            "create_launch_template",
            LaunchTemplateName=properties["LaunchTemplateName"],
            LaunchTemplateData=properties["LaunchTemplateData"],
            ClientToken=token(context),
            TagSpecifications=self.tagged(tags),
        )
        return str(answer["LaunchTemplate"]["LaunchTemplateId"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:  # noqa: ARG002
        account: Account = context.connection
        wanted = properties["LaunchTemplateData"]
        number = await self._version(account, found.id, wanted)
        if number is None:
            answer = await account.write(
                "ec2", "create_launch_template_version", LaunchTemplateId=found.id, LaunchTemplateData=wanted
            )
            number = str(answer["LaunchTemplateVersion"]["VersionNumber"])
        await account.write("ec2", "modify_launch_template", LaunchTemplateId=found.id, DefaultVersion=number)

    async def _version(self, account: Account, identity: str, wanted: JsonObject) -> str | None:
        """The version that is like this already: what is taken back gets its old number again."""
        versions = account.pages(
            "ec2", "describe_launch_template_versions", "LaunchTemplateVersions", LaunchTemplateId=identity
        )
        async for version in versions:
            if same(_data(version["LaunchTemplateData"]), wanted):
                return str(version["VersionNumber"])
        return None


def _data(data: Mapping[str, Any]) -> JsonObject:
    kept = chosen(data, "ImageId", "InstanceType", "KeyName", "UserData", "EbsOptimized", "SecurityGroupIds")
    if data.get("IamInstanceProfile"):
        kept["IamInstanceProfile"] = chosen(data["IamInstanceProfile"], "Arn", "Name")
    return kept
