"""`aws.sqs.queue` and `aws.sns.topic`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from app.domain.enums import TemplateType
from app.providers.aws.marks import as_list, from_list, generated_name
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found, chosen
from app.providers.base import Context, Idempotency, JsonObject

if TYPE_CHECKING:
    from app.providers.aws.account import Account

FIFO = ".fifo"
NUMBERS = frozenset({
    "DelaySeconds", "MaximumMessageSize", "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds",
    "VisibilityTimeout",
})  # fmt: skip


class QueueType(AwsType):
    """A queue of SQS. Its attributes are texts to AWS."""

    name = "aws.sqs.queue"
    title = "queue"
    description = "A queue of SQS."
    template_type = TemplateType.APPLICATION
    service, named, idempotency = "sqs", "QueueName", Idempotency.NAME
    stateful = True

    def made_up(self, context: Context, properties: JsonObject) -> str:
        return generated_name(context) + (FIFO if properties.get("FifoQueue") else "")

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.find("sqs", "get_queue_attributes", QueueUrl=identity, AttributeNames=["All"])
        if answer is None:
            return None
        told = answer.get("Attributes", {})
        tags = await account.find("sqs", "list_queue_tags", QueueUrl=identity)
        name, arn = identity.rpartition("/")[2], told["QueueArn"]
        properties: JsonObject = {"QueueName": name, "FifoQueue": told.get("FifoQueue") == "true"}
        if properties["FifoQueue"]:
            properties["ContentBasedDeduplication"] = told.get("ContentBasedDeduplication") == "true"
        properties.update({key: int(told[key]) for key in sorted(NUMBERS) if key in told})
        outputs = {"QueueName": name, "QueueUrl": identity, "Arn": arn}
        return Found(identity, properties, outputs, (tags or {}).get("Tags") or {}, told.get("CreatedTimestamp", arn))

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        account: Account = context.connection
        answer = await account.find("sqs", "get_queue_url", QueueName=properties["QueueName"])
        return None if answer is None else await self.find(account, answer["QueueUrl"])

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for url in account.pages("sqs", "list_queues", "QueueUrls"):
            found = await self.find(account, url)
            if found is not None:
                yield found

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        attributes = _attributes(properties, NUMBERS | {"ContentBasedDeduplication"})
        if properties.get("FifoQueue"):
            attributes["FifoQueue"] = "true"
        answer = await context.connection.write(
            "sqs", "create_queue", QueueName=properties["QueueName"], Attributes=attributes, tags=tags
        )
        return str(answer["QueueUrl"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        attributes = _attributes(properties, touched)
        await context.connection.write("sqs", "set_queue_attributes", QueueUrl=found.id, Attributes=attributes)

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("sqs", "tag_queue", QueueUrl=found.id, Tags=tags)
        if gone:
            await account.write("sqs", "untag_queue", QueueUrl=found.id, TagKeys=gone)

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("sqs", "delete_queue", QueueUrl=found.id)


class TopicType(AwsType):
    """A topic of SNS."""

    name = "aws.sns.topic"
    title = "topic"
    description = "A topic of SNS."
    template_type = TemplateType.APPLICATION
    service, named, idempotency = "sns", "TopicName", Idempotency.NAME

    def made_up(self, context: Context, properties: JsonObject) -> str:
        return generated_name(context) + (FIFO if properties.get("FifoTopic") else "")

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.find("sns", "get_topic_attributes", TopicArn=identity)
        if answer is None:
            return None
        told = answer["Attributes"]
        tags = await account.find("sns", "list_tags_for_resource", ResourceArn=identity)
        name = identity.rpartition(":")[2]
        properties = {
            "TopicName": name,
            "FifoTopic": told.get("FifoTopic") == "true",
            "DisplayName": told.get("DisplayName", ""),
            "KmsMasterKeyId": told.get("KmsMasterKeyId") or None,
        }
        outputs = {"TopicName": name, "TopicArn": identity}
        return Found(identity, properties, outputs, from_list((tags or {}).get("Tags")), identity)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        account: Account = context.connection
        async for item in account.pages("sns", "list_topics", "Topics"):
            if item["TopicArn"].rpartition(":")[2] == properties["TopicName"]:
                return await self.find(account, item["TopicArn"])
        return None

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for item in account.pages("sns", "list_topics", "Topics"):
            found = await self.find(account, item["TopicArn"])
            if found is not None:
                yield found

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        attributes = chosen(properties, "DisplayName", "KmsMasterKeyId")
        if properties.get("FifoTopic"):
            attributes["FifoTopic"] = "true"
        answer = await context.connection.write(
            "sns", "create_topic", Name=properties["TopicName"], Attributes=attributes, Tags=as_list(tags)
        )
        return str(answer["TopicArn"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        for name in sorted(touched):
            value = properties.get(name) or ""
            await context.connection.write(
                "sns", "set_topic_attributes", TopicArn=found.id, AttributeName=name, AttributeValue=value
            )

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("sns", "tag_resource", ResourceArn=found.id, Tags=as_list(tags))
        if gone:
            await account.write("sns", "untag_resource", ResourceArn=found.id, TagKeys=gone)

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("sns", "delete_topic", TopicArn=found.id)


def _attributes(properties: JsonObject, names: Any) -> dict[str, str]:
    given = chosen(properties, *sorted(names))
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in given.items()}
