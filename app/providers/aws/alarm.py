"""`aws.cloudwatch.alarm`: says when a metric is not as it should be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from app.domain.enums import TemplateType
from app.providers.aws.marks import as_list, from_list
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found, chosen
from app.providers.base import Context, Idempotency, JsonObject

if TYPE_CHECKING:
    from app.providers.aws.account import Account

SETTINGS = (
    "AlarmDescription", "Namespace", "MetricName", "Dimensions", "Statistic", "Period", "EvaluationPeriods",
    "Threshold", "ComparisonOperator", "TreatMissingData", "ActionsEnabled", "AlarmActions", "OKActions",
)  # fmt: skip


class AlarmType(AwsType):
    """An alarm. AWS makes and changes it by the same request, which takes whatever is there."""

    name = "aws.cloudwatch.alarm"
    title = "alarm"
    description = "Says when a metric of CloudWatch is not as it should be."
    template_type = TemplateType.MONITORING
    service, named, idempotency = "cloudwatch", "AlarmName", Idempotency.NAME

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.read("cloudwatch", "describe_alarms", AlarmNames=[identity], AlarmTypes=["MetricAlarm"])
        for item in answer.get("MetricAlarms", ()):
            return await self._told(account, item)
        return None

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self.find(context.connection, properties["AlarmName"])

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for item in account.pages("cloudwatch", "describe_alarms", "MetricAlarms"):
            yield await self._told(account, item)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        name = properties["AlarmName"]
        wanted = chosen(properties, *SETTINGS)
        await context.connection.write("cloudwatch", "put_metric_alarm", AlarmName=name, **wanted, Tags=as_list(tags))
        return str(name)

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:  # noqa: ARG002
        """All of it: what is left out would be forgotten, and keeps the value that it has."""
        wanted = {**chosen(found.properties, *SETTINGS), **chosen(properties, *SETTINGS)}
        await context.connection.write("cloudwatch", "put_metric_alarm", AlarmName=found.id, **wanted)

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("cloudwatch", "tag_resource", ResourceARN=found.arn, Tags=as_list(tags))
        if gone:
            await account.write("cloudwatch", "untag_resource", ResourceARN=found.arn, TagKeys=gone)

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("cloudwatch", "delete_alarms", AlarmNames=[found.id])

    async def _told(self, account: Account, item: Mapping[str, Any]) -> Found:
        name, arn = item["AlarmName"], item["AlarmArn"]
        answer = await account.find("cloudwatch", "list_tags_for_resource", ResourceARN=arn)
        properties = {"AlarmName": name, "Dimensions": [], **chosen(item, *SETTINGS)}
        tags = from_list((answer or {}).get("Tags"))
        return Found(name, properties, {"AlarmName": name, "Arn": arn}, tags, arn, arn=arn)
