"""The provider `aws`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from app.domain.addresses import Allowed, refusal
from app.domain.errors import Diagnostic, Severity
from app.providers.aws.alarm import AlarmType
from app.providers.aws.autoscaling import AutoScalingGroupType
from app.providers.aws.dynamodb import TableType
from app.providers.aws.ecs import ServiceType
from app.providers.aws.elbv2 import ListenerType, LoadBalancerType, TargetGroupType
from app.providers.aws.function import FunctionType
from app.providers.aws.iam import RoleType
from app.providers.aws.instance import InstanceType
from app.providers.aws.launch_template import LaunchTemplateType
from app.providers.aws.messaging import QueueType, TopicType
from app.providers.aws.network import InternetGatewayType, RouteTableType, SubnetType, VpcType
from app.providers.aws.rds import DatabaseInstanceType, SubnetGroupType
from app.providers.aws.route53 import RecordType
from app.providers.aws.s3 import BucketType
from app.providers.aws.security_group import SecurityGroupType
from app.providers.aws.volume import VolumeType
from app.providers.base import ErrorKind, JsonObject, Provider, ProviderError, ResourceType, Schema

if TYPE_CHECKING:
    from app.providers.aws.account import Account

_SECRET = {"type": "string", "minLength": 1, "writeOnly": True, "x-sensitive": True}
CONFIG_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["region", "accessKeyId", "secretAccessKey"],
    "properties": {
        # A region is part of the names of AWS's servers, so nothing else may be in it.
        "region": {"type": "string", "pattern": "^[a-z]{2,4}(-[a-z]{2,12}){1,3}-[0-9]{1,2}$"},
        "accessKeyId": _SECRET,
        "secretAccessKey": _SECRET,
        "sessionToken": _SECRET,
        "roleArn": {
            "type": "string",
            "pattern": "^arn:aws[a-z-]*:iam::[0-9]{12}:role/.{1,512}$",
            "description": "a role to assume with the credentials",
        },
        "externalId": {**_SECRET, "description": "what the role asks of whoever assumes it"},
        "endpointUrl": {
            "type": "string",
            "maxLength": 500,
            "description": "another server than AWS's, which the installation has to allow",
        },
    },
    "dependentRequired": {"externalId": ["roleArn"]},
}
_PORTS = {"https": 443, "http": 80}


class AwsProvider(Provider):
    """Networks, machines, databases and more of accounts of AWS.

    `endpoints`: the hosts, each with a port or without, that a connection may name in place of AWS's own servers; none
    of them is asked for before. `patience`, `pause` and `dry_runs` as for Account.
    """

    name = "aws"
    title = "Amazon Web Services"
    version = "1"
    config_schema: ClassVar[Schema] = CONFIG_SCHEMA

    def __init__(
        self,
        *,
        endpoints: Sequence[str] = (),
        patience: float = 12.0,
        pause: float = 5.0,
        dry_runs: frozenset[str] = frozenset(),
    ) -> None:
        self._allowed = Allowed.parse(endpoints)
        self._patience = patience
        self._pause = pause
        self._dry_runs = dry_runs
        self._types = types()

    def types(self) -> Sequence[ResourceType]:
        return self._types

    def check_config(self, config: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        value, diagnostics = super().check_config(config)
        reason = self._refusal(config.get("endpointUrl"))
        if reason is not None:
            diagnostics.append(Diagnostic(Severity.ERROR, "INVALID", reason, ("endpointUrl",)))
        return value, diagnostics

    def session(self, config: Mapping[str, Any]) -> AbstractAsyncContextManager[Account]:
        return self._session(config)

    @asynccontextmanager
    async def _session(self, config: Mapping[str, Any]) -> AsyncIterator[Account]:
        reason = self._refusal(config.get("endpointUrl"))
        if reason is not None:
            raise ProviderError(ErrorKind.ACCESS_DENIED, reason, path=("endpointUrl",))
        try:
            # The SDK takes half a second to import, and is not part of every installation.
            from app.providers.aws.account import Account  # noqa: PLC0415
        except ImportError as error:
            message = "this installation has no SDK for AWS: install windlass[aws]"
            raise ProviderError(ErrorKind.INVALID, message, code="SDK_MISSING") from error
        account = Account(dict(config), self._patience, self._pause, self._dry_runs)
        try:
            yield account
        finally:
            await account.close()

    def _refusal(self, url: Any) -> str | None:
        """Why a connection may not name this server; None when it may."""
        if not isinstance(url, str):
            return None
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
        except ValueError:
            return "this is no URL"
        if not host or port is None or parts.username or parts.query or parts.fragment:
            return "the URL of a server is http:// or https://, a host and perhaps a port"
        if not self._allowed.names_host(host, port):
            return f"this installation does not allow {host}; WINDLASS_AWS_ALLOWED_ENDPOINTS names what it allows"
        return self._literal(host, port)

    def _literal(self, host: str, port: int) -> str | None:
        """Addresses of the cloud's own services are never allowed, whatever the setting says."""
        try:
            return refusal(host, port, [ip_address(host)], self._allowed)
        except ValueError:
            return None


def types() -> tuple[ResourceType, ...]:
    """Every type, made without the SDK."""
    return (
        VpcType(), SubnetType(), InternetGatewayType(), RouteTableType(), SecurityGroupType(), LaunchTemplateType(),
        AutoScalingGroupType(), SubnetGroupType(), DatabaseInstanceType(), LoadBalancerType(), TargetGroupType(),
        ListenerType(), BucketType(), InstanceType(), VolumeType(), TableType(), QueueType(), TopicType(), AlarmType(),
        RoleType(), RecordType(), FunctionType(), ServiceType(),
    )  # fmt: skip
