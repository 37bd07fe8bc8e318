"""`aws.s3.bucket`: a bucket, its versions, its encryption and who may not see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from app.domain.enums import TemplateType
from app.providers.aws.marks import as_list, from_list
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found, chosen
from app.providers.base import Context, ErrorKind, Idempotency, JsonObject, ProviderError

if TYPE_CHECKING:
    from app.providers.aws.account import Account

# Where a bucket is without saying so.
FIRST_REGION = "us-east-1"


class BucketType(AwsType):
    """A bucket. One with anything in it cannot be deleted: what is in it is nobody's but its users'."""

    name = "aws.s3.bucket"
    title = "bucket"
    description = "A place for objects. It can be deleted when it is empty."
    template_type = TemplateType.INFRASTRUCTURE
    service, named, idempotency = "s3", "BucketName", Idempotency.NAME
    stateful = True

    async def find(self, account: Account, identity: str) -> Found | None:
        if await account.find("s3", "head_bucket", Bucket=identity) is None:
            return None
        return await self._told(account, identity)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        try:
            return await self.find(context.connection, properties["BucketName"])
        except ProviderError as error:
            if error.kind is not ErrorKind.ACCESS_DENIED:
                raise
            # Names of buckets are one for all the world: this one is in another account.
            message = f"the bucket {properties['BucketName']} exists already, and is not to be seen"
            raise ProviderError(ErrorKind.ALREADY_EXISTS, message, path=("BucketName",)) from error

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        answer = await account.read("s3", "list_buckets")
        for item in answer.get("Buckets", ()):
            yield await self._told(account, item["Name"])

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        account: Account = context.connection
        name = properties["BucketName"]
        configuration: JsonObject = {"Tags": as_list(tags)}
        if account.region != FIRST_REGION:
            configuration["LocationConstraint"] = account.region
        await account.write("s3", "create_bucket", Bucket=name, CreateBucketConfiguration=configuration)
        return str(name)

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        account: Account = context.connection
        bucket = {"Bucket": found.id}
        if "VersioningConfiguration" in touched:
            versioning = properties.get("VersioningConfiguration") or {"Status": "Suspended"}
            await account.write("s3", "put_bucket_versioning", **bucket, VersioningConfiguration=versioning)
        if "PublicAccessBlockConfiguration" in touched:
            await account.write(
                "s3",
                "put_public_access_block",
                **bucket,
                PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"],
            )
        if "BucketEncryption" in touched:
            rules = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
            wanted = {"Rules": [{"ApplyServerSideEncryptionByDefault": _renamed(rule)} for rule in rules]}
            await account.write("s3", "put_bucket_encryption", **bucket, ServerSideEncryptionConfiguration=wanted)

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        """S3 knows all tags of a bucket together, and nothing of a single one."""
        kept = {key: value for key, value in found.tags.items() if key not in gone and not key.startswith("aws:")}
        await account.write("s3", "put_bucket_tagging", Bucket=found.id, Tagging={"TagSet": as_list({**kept, **tags})})

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("s3", "delete_bucket", Bucket=found.id)

    async def _told(self, account: Account, name: str) -> Found:
        asked = {"Bucket": name}
        versioning = await account.find("s3", "get_bucket_versioning", **asked) or {}
        public = await account.find("s3", "get_public_access_block", **asked) or {}
        encryption = await account.find("s3", "get_bucket_encryption", **asked) or {}
        tags = await account.find("s3", "get_bucket_tagging", **asked) or {}
        properties: JsonObject = {"BucketName": name}
        if versioning.get("Status"):
            properties["VersioningConfiguration"] = {"Status": versioning["Status"]}
        if public.get("PublicAccessBlockConfiguration"):
            properties["PublicAccessBlockConfiguration"] = dict(public["PublicAccessBlockConfiguration"])
        if encryption.get("ServerSideEncryptionConfiguration"):
            rules = encryption["ServerSideEncryptionConfiguration"]["Rules"]
            properties["BucketEncryption"] = {"ServerSideEncryptionConfiguration": [_rule(rule) for rule in rules]}
        arn = f"arn:aws:s3:::{name}"
        outputs = {
            "BucketName": name,
            "Arn": arn,
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{account.region}.amazonaws.com",
        }
        return Found(name, properties, outputs, from_list(tags.get("TagSet")), arn)


def _rule(rule: JsonObject) -> JsonObject:
    default = rule.get("ApplyServerSideEncryptionByDefault") or {}
    found = chosen(default, "SSEAlgorithm")
    if default.get("KMSMasterKeyID"):
        found["KMSMasterKeyID"] = default["KMSMasterKeyID"]
    return {"ServerSideEncryptionByDefault": found}


def _renamed(rule: JsonObject) -> Any:
    return rule["ServerSideEncryptionByDefault"]
