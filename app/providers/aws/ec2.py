"""What the types of EC2 have in common: ids that AWS makes up, and tags that can be searched for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.errors import Diagnostic, Severity
from app.providers.aws.dry_runs import CarriedOut, DryContext, DryRuns, Known, NotAsked, NotKnown, WouldSucceed
from app.providers.aws.marks import OPERATION, Mark, as_list, from_list
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError
from app.providers.preflights import PreflightRequest

if TYPE_CHECKING:
    from app.providers.aws.account import Account


class Ec2Type(AwsType):
    """A kind of thing in EC2.

    `kind` is its name among those that can be tagged; `describes` the operation that tells of it, which takes ids as
    `ids` and gives items as `items`, each with its id as `key`; `removes` the operation that removes it.
    """

    service = "ec2"
    kind: ClassVar[str]
    describes: ClassVar[str]
    items: ClassVar[str]
    key: ClassVar[str]
    removes: ClassVar[str]

    @property
    def ids(self) -> str:
        return f"{self.key}s"

    @abstractmethod
    async def told(self, account: Account, item: Mapping[str, Any]) -> Found | None:
        """What an item of the answer says; None where it says that the thing is gone."""

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.find("ec2", self.describes, **{self.ids: [identity]})
        for item in (answer or {}).get(self.items, ()):
            return await self.told(account, item)
        return None

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:  # noqa: ARG002
        return await self._search(context, [])

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("ec2", "create_tags", Resources=[found.id], Tags=as_list(tags))
        if gone:
            await account.write("ec2", "delete_tags", Resources=[found.id], Tags=[{"Key": key} for key in gone])

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("ec2", self.removes, **{self.key: found.id})

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for item in account.pages("ec2", self.describes, self.items):
            found = await self.told(account, item)
            if found is not None:
                yield found

    async def preflight(self, context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
        """The request that would make the thing, as a dry run: EC2 says whether it may be made, and refuses bad values.

        Nothing is asked where the request depends on what the job has yet to make. Raises what EC2 refuses it by.
        """
        if not request.makes:
            return ()
        dry = DryContext(context, DryRuns(context.connection))
        try:
            properties = Known(replace(request, properties=self.settled(dry, dict(request.properties))))
            await self.make(dry, properties, Mark.of(dry).tags(properties.get("Tags") or {}))
        except (WouldSucceed, NotKnown):
            return ()
        except NotAsked as call:
            message = f"{call}: whether this server, which is not AWS's, knows dry runs is not known; it was not asked"
            return [Diagnostic(Severity.INFO, "NOT_ASKED", message)]
        except CarriedOut as made:
            found = await self._search(context, [])
            if found is not None:
                await self.remove(context, found)
            then = "it is removed again" if found is not None else "look for it"
            message = f"{made}: this server knows no dry runs, and made it; {then}"
            raise ProviderError(ErrorKind.ACCESS_DENIED, message, code="DRY_RUN_IGNORED") from made
        message = f"{self.title}: nothing was asked of EC2"
        raise ProviderError(ErrorKind.INTERNAL, message)

    def tagged(self, tags: dict[str, str]) -> list[JsonObject]:
        """Tags as the operation that makes the thing takes them."""
        return [{"ResourceType": self.kind, "Tags": as_list(tags)}]

    async def _search(self, context: Context, filters: list[JsonObject]) -> Found | None:
        """What this operation made, or, with other filters, what is in the place of the declared thing."""
        account: Account = context.connection
        mark = Mark.of(context)
        asked = filters or [{"Name": f"tag:{OPERATION}", "Values": [mark.operation]}]
        async for item in account.pages("ec2", self.describes, self.items, Filters=asked):
            found = await self.told(account, item)
            if found is not None:
                return found
        return None


def tags_of(item: Mapping[str, Any]) -> dict[str, str]:
    """The tags of an item."""
    return from_list(item.get("Tags"))
