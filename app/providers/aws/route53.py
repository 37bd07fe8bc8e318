"""`aws.route53.record`: a name in a zone.

A record has no tags. Whose it is says a TXT record beside it, which is made and removed in the same request: AWS
carries out all of a request or nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from app.domain.enums import TemplateType
from app.providers.aws.marks import OPERATION, OWNER, Mark
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found, chosen
from app.providers.base import Context, ErrorKind, Idempotency, JsonObject, ProviderError

if TYPE_CHECKING:
    from app.providers.aws.account import Account

MARK_SECONDS = 300


class RecordType(AwsType):
    """A simple record: one set for a name and a type. Its id is "zone/type/name"."""

    name = "aws.route53.record"
    title = "DNS record"
    description = "A name in a zone, with a TXT record beside it that says whose it is."
    template_type = TemplateType.NETWORK
    service, idempotency = "route53", Idempotency.NAME

    async def find(self, account: Account, identity: str) -> Found | None:
        zone, _, rest = identity.partition("/")
        kind, _, name = rest.partition("/")
        item = await _item(account, zone, name, kind)
        if item is None:
            return None
        beside = await _item(account, zone, _beside(name, kind), "TXT")
        return _told(zone, item, _marks(beside))

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self.find(context.connection, _identity(properties))

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        await _send(context, properties["HostedZoneId"], [
            {"Action": "CREATE", "ResourceRecordSet": _record(properties)},
            {"Action": "CREATE", "ResourceRecordSet": _mark(properties["Name"], properties["Type"], tags)},
        ])  # fmt: skip
        return _identity(properties)

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:  # noqa: ARG002
        change = {"Action": "UPSERT", "ResourceRecordSet": _record(properties)}
        await _send(context, properties["HostedZoneId"], [change])

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:  # noqa: ARG002
        message = "a DNS record has no tags"
        raise ProviderError(ErrorKind.INTERNAL, message)

    async def remove(self, context: Context, found: Found) -> None:
        changes = [{"Action": "DELETE", "ResourceRecordSet": _record(found.properties)}]
        if Mark.parse(found.tags) is not None:
            mark = _mark(found.properties["Name"], found.properties["Type"], found.tags)
            changes.append({"Action": "DELETE", "ResourceRecordSet": mark})
        await _send(context, found.properties["HostedZoneId"], changes)

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for zone in account.pages("route53", "list_hosted_zones", "HostedZones"):
            identity = zone["Id"].rpartition("/")[2]
            items = account.pages("route53", "list_resource_record_sets", "ResourceRecordSets", HostedZoneId=identity)
            found = [item async for item in items]
            marks = {_plain(item["Name"]): _marks(item) for item in found if item["Type"] == "TXT"}
            for item in found:
                if not _plain(item["Name"]).startswith("_windlass-") and not item.get("SetIdentifier"):
                    yield _told(identity, item, marks.get(_beside(_plain(item["Name"]), item["Type"]), {}))


async def _send(context: Context, zone: str, changes: list[JsonObject]) -> None:
    account: Account = context.connection
    try:
        await account.write(
            "route53", "change_resource_record_sets", HostedZoneId=zone, ChangeBatch={"Changes": changes}
        )
    except ProviderError as error:
        if error.code == "InvalidChangeBatch" and "already exists" in error.message:
            raise ProviderError(ErrorKind.ALREADY_EXISTS, error.message, code=error.code) from error
        raise


async def _item(account: Account, zone: str, name: str, kind: str) -> Mapping[str, Any] | None:
    answer = await account.find(
        "route53",
        "list_resource_record_sets",
        HostedZoneId=zone,
        StartRecordName=name,
        StartRecordType=kind,
        MaxItems="1",
    )
    for item in (answer or {}).get("ResourceRecordSets", ()):
        if _plain(item["Name"]) == name and item["Type"] == kind and not item.get("SetIdentifier"):
            found: Mapping[str, Any] = item
            return found
    return None


def _told(zone: str, item: Mapping[str, Any], tags: dict[str, str]) -> Found:
    properties = {"HostedZoneId": zone, "Name": _plain(item["Name"]), **chosen(item, "Type", "TTL")}
    if item.get("ResourceRecords"):
        properties["ResourceRecords"] = sorted(record["Value"] for record in item["ResourceRecords"])
    if item.get("AliasTarget"):
        alias = chosen(item["AliasTarget"], "DNSName", "HostedZoneId", "EvaluateTargetHealth")
        properties["AliasTarget"] = {**alias, "DNSName": _plain(alias["DNSName"])}
    identity = _identity(properties)
    return Found(identity, properties, {"Name": properties["Name"]}, tags, identity)


def _identity(properties: JsonObject) -> str:
    return f"{properties['HostedZoneId']}/{properties['Type']}/{properties['Name']}"


def _record(properties: JsonObject) -> JsonObject:
    record = chosen(properties, "Name", "Type", "TTL", "AliasTarget")
    if properties.get("ResourceRecords"):
        record["ResourceRecords"] = [{"Value": value} for value in properties["ResourceRecords"]]
    return record


def _mark(name: str, kind: str, tags: Mapping[str, str]) -> JsonObject:
    # One string of a TXT record has at most 255 characters, and an owner may have 256.
    texts = [tags[OWNER][:200], tags[OWNER][200:], tags[OPERATION]]
    value = " ".join(f'"{text}"' for text in texts)
    return {"Name": _beside(name, kind), "Type": "TXT", "TTL": MARK_SECONDS, "ResourceRecords": [{"Value": value}]}


def _marks(item: Mapping[str, Any] | None) -> dict[str, str]:
    values = [record["Value"] for record in (item or {}).get("ResourceRecords", ())]
    texts = values[0].strip('"').split('" "') if len(values) == 1 else []
    if len(texts) != 3:
        return {}
    return {OWNER: texts[0] + texts[1], OPERATION: texts[2]}


def _beside(name: str, kind: str) -> str:
    return f"_windlass-{kind.lower()}.{name.replace('*', '_any')}"


def _plain(name: str) -> str:
    """A name as it is declared: AWS ends it with a dot, and writes the star as a number."""
    return name.replace("\\052", "*").rstrip(".").lower()
