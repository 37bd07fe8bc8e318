"""`aws.lambda.function`: code that runs when it is called."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from app.domain.enums import TemplateType
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found, Phase, chosen
from app.providers.base import Context, ErrorKind, Idempotency, JsonObject, ProviderError

if TYPE_CHECKING:
    from app.providers.aws.account import Account

CONFIGURATION = ("Runtime", "Role", "Handler", "Description", "Timeout", "MemorySize", "Environment")
CONCURRENCY = "ReservedConcurrentExecutions"
# What is made of code that is written into the declaration, by the beginning of the runtime's name.
FILES = {"nodejs": "index.js", "python": "index.py"}
FIRST_DAY = (1980, 1, 1, 0, 0, 0)


class FunctionType(AwsType):
    """A function. AWS does not give its code back, so a change of that by somebody else is not seen."""

    name = "aws.lambda.function"
    title = "function"
    description = "Code that AWS runs when it is called."
    template_type = TemplateType.APPLICATION
    service, named, idempotency = "lambda", "FunctionName", Idempotency.NAME
    late = frozenset({CONCURRENCY})
    scalable = frozenset({"/MemorySize", f"/{CONCURRENCY}"})

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.find("lambda", "get_function", FunctionName=identity)
        return None if answer is None else _told(answer)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self.find(context.connection, properties["FunctionName"])

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for item in account.pages("lambda", "list_functions", "Functions"):
            found = await self.find(account, item["FunctionName"])
            if found is not None:
                yield found

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = chosen(properties, "FunctionName", *CONFIGURATION)
        try:
            await context.connection.write("lambda", "create_function", **wanted, Code=_code(properties), Tags=tags)
        except ProviderError as error:
            if error.kind is ErrorKind.INVALID and "cannot be assumed" in error.message:
                # A role that was made a moment ago is not known everywhere yet.
                raise ProviderError(ErrorKind.DEPENDENCY, error.message, code=error.code) from error
            raise
        return str(properties["FunctionName"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        account: Account = context.connection
        function = {"FunctionName": found.id}
        if "Code" in touched:
            await account.write("lambda", "update_function_code", **function, **_code(properties))
        settings = chosen(properties, *(name for name in CONFIGURATION if name in touched))
        if "Environment" in touched:
            settings["Environment"] = properties.get("Environment") or {"Variables": {}}
        if settings:
            await self._calm(context, found.id)
            await account.write("lambda", "update_function_configuration", **function, **settings)
        if CONCURRENCY in touched and properties.get(CONCURRENCY) is None:
            await account.write("lambda", "delete_function_concurrency", **function)
        elif CONCURRENCY in touched:
            await account.write("lambda", "put_function_concurrency", **function, **chosen(properties, CONCURRENCY))

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("lambda", "tag_resource", Resource=found.arn, Tags=tags)
        if gone:
            await account.write("lambda", "untag_resource", Resource=found.arn, TagKeys=gone)

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("lambda", "delete_function", FunctionName=found.id)

    async def _calm(self, context: Context, identity: str) -> None:
        """Waits until AWS has taken the last change: it takes one after the other."""
        account: Account = context.connection
        while (found := await self.find(account, identity)) is not None and found.phase is Phase.BUSY:
            await context.sleep(account.pause)


def _told(answer: Mapping[str, Any]) -> Found:
    item = answer["Configuration"]
    name, arn = item["FunctionName"], item["FunctionArn"]
    properties = {"FunctionName": name, **chosen(item, *CONFIGURATION)}
    if "Environment" in properties:
        properties["Environment"] = chosen(properties["Environment"], "Variables")
    properties.update(chosen(answer.get("Concurrency") or {}, CONCURRENCY))
    busy = item.get("State") == "Pending" or item.get("LastUpdateStatus") == "InProgress"
    phase = Phase.BROKEN if item.get("State") == "Failed" else Phase.BUSY if busy else Phase.READY
    message = str(item.get("StateReason") or item.get("LastUpdateStatusReason") or "it is being made")
    tags = answer.get("Tags") or {}
    return Found(name, properties, {"FunctionName": name, "Arn": arn}, tags, arn, phase, message, arn=arn)


def _code(properties: JsonObject) -> JsonObject:
    """The code as AWS takes it: a text is put into an archive, always the same for the same text."""
    code = dict(properties["Code"])
    text = code.pop("ZipFile", None)
    if text is None:
        return code
    name = next((file for start, file in FILES.items() if properties["Runtime"].startswith(start)), None)
    if name is None:
        message = f"code for {properties['Runtime']} cannot be written into the declaration"
        raise ProviderError(ErrorKind.INVALID, message, path=("Code", "ZipFile"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(zipfile.ZipInfo(name, FIRST_DAY), text)
    return {**code, "ZipFile": archive.getvalue()}
