"""Connections to AWS: what they accept, whom they talk to, how often, and what errors mean."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from botocore import exceptions as botocore

from app.domain.values import Secret
from app.providers.aws.failures import kind_of, speaking
from app.providers.aws.marks import Mark, generated_name, without_marks
from app.providers.aws.network import VpcType
from app.providers.aws.provider import AwsProvider
from app.providers.base import ErrorKind, ProviderError, ResourceState
from app.providers.conformance import OWNER, StandaloneContext
from app.providers.faults import FaultKind
from app.settings import Settings
from tests.providers.aws.conftest import MakeContext
from tests.providers.aws.fault_proxy import Request, between
from tests.providers.aws.moto_server import KEYS, REGION, Emulator

CONFIG = {"region": REGION, **KEYS}


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({}, ("accessKeyId",)),
        ({**CONFIG, "region": "evil.example/#"}, ("region",)),
        ({**CONFIG, "region": "eu-central-1.evil.example"}, ("region",)),
        ({**CONFIG, "externalId": "x"}, ("roleArn",)),
        ({**CONFIG, "roleArn": "admin"}, ("roleArn",)),
        ({**CONFIG, "endpointUrl": "http://169.254.169.254"}, ("endpointUrl",)),
        ({**CONFIG, "endpointUrl": "http://10.0.0.7:8500"}, ("endpointUrl",)),
        ({**CONFIG, "endpointUrl": "http://localstack.test:4567"}, ("endpointUrl",)),
        ({**CONFIG, "endpointUrl": "http://localstack.test:4566/?x=y"}, ("endpointUrl",)),
        ({**CONFIG, "endpointUrl": "http://me:secret@localstack.test:4566"}, ("endpointUrl",)),
        ({**CONFIG, "endpointUrl": "file:///etc/passwd"}, ("endpointUrl",)),
    ],
)
def test_a_configuration_that_leads_elsewhere_is_refused(config: dict[str, Any], path: tuple[str, ...]) -> None:
    provider = AwsProvider(endpoints=["localstack.test:4566", "169.254.0.0/16"])
    assert path in [found.path for found in provider.check_config(config)[1]]


def test_what_is_sealed_and_what_the_installation_allows() -> None:
    provider = AwsProvider(endpoints=["localstack.test:4566"])
    config, faults = provider.check_config(
        {**CONFIG, "sessionToken": "t", "roleArn": "arn:aws:iam::123456789012:role/x", "externalId": "e",
         "endpointUrl": "http://localstack.test:4566"}
    )  # fmt: skip
    assert faults == []
    assert {name for name, value in config.items() if isinstance(value, Secret)} == {
        "accessKeyId", "secretAccessKey", "sessionToken", "externalId",
    }  # fmt: skip
    settings = Settings.from_environment({"WINDLASS_AWS_ALLOWED_ENDPOINTS": "localstack.test:4566, other"})
    assert settings.aws_allowed_endpoints == ("localstack.test:4566", "other")


async def test_a_session_with_a_server_that_is_not_allowed_is_refused() -> None:
    """The setting may have become stricter since the connection was made."""
    with pytest.raises(ProviderError) as caught:
        async with AwsProvider().session({**CONFIG, "endpointUrl": "http://localstack.test:4566"}):
            pass
    assert (caught.value.kind, caught.value.path) == (ErrorKind.ACCESS_DENIED, ("endpointUrl",))


async def test_without_the_sdk_the_types_are_there_and_a_session_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("app.providers.aws.account")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiobotocore.config", None)
    provider = AwsProvider()
    assert len(provider.types()) == 23
    with pytest.raises(ProviderError, match=r"install windlass\[aws\]") as caught:
        async with provider.session(CONFIG):
            pass
    assert caught.value.code == "SDK_MISSING"


async def test_the_sdk_is_not_imported_before_it_is_needed() -> None:
    code = (
        "from app.providers.registry import Registry; Registry.default(); import sys; 'botocore' in sys.modules and 1/0"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_credentials_of_the_machine_are_never_used(
    emulator: Emulator, provider: AwsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMACHINE")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    heads: list[bytes] = []

    def note(request: Request) -> None:
        heads.append(request.head)

    async with between(emulator, note) as proxy:
        provider = AwsProvider(endpoints=["127.0.0.1"])
        async with provider.session(emulator.config(endpointUrl=proxy.url)) as account:
            await account.read("ec2", "describe_vpcs")
    assert b"AKIATEST/" in heads[0]
    assert not any(b"AKIAMACHINE" in head for head in heads)


async def test_a_role_is_assumed_with_the_credentials_and_its_own_are_used(emulator: Emulator) -> None:
    role = {"roleArn": "arn:aws:iam::123456789012:role/deploy", "externalId": "ours"}
    requests: list[Request] = []

    def note(request: Request) -> None:
        requests.append(request)

    async with between(emulator, note) as proxy:
        provider = AwsProvider(endpoints=["127.0.0.1"])
        async with provider.session(emulator.config(endpointUrl=proxy.url, **role)) as account:
            await account.read("ec2", "describe_vpcs")
            await account.read("ec2", "describe_subnets")
    assert [request.operation for request in requests] == ["AssumeRole", "DescribeVpcs", "DescribeSubnets"]
    assert b"ExternalId=ours" in requests[0].body
    assert b"AKIATEST/" in requests[0].head
    assert all(b"AKIATEST/" not in request.head for request in requests[1:])


@pytest.mark.parametrize(("service", "operation", "parameters"), [
    ("ec2", "create_vpc", {"CidrBlock": "10.77.0.0/16"}),
    ("s3", "create_bucket", {"Bucket": "one-attempt", "CreateBucketConfiguration": {"LocationConstraint": REGION}}),
    ("s3", "delete_bucket", {"Bucket": "one-attempt"}),
])  # fmt: skip
async def test_a_write_is_sent_once_and_a_read_again(
    service: str, operation: str, parameters: dict[str, Any], emulator: Emulator
) -> None:
    seen: list[str] = []

    def lose(request: Request) -> FaultKind | None:
        seen.append(request.operation)
        return FaultKind.DROP_BEFORE if request.writes or len(seen) < 3 else None

    provider = AwsProvider(endpoints=["127.0.0.1"])
    async with (
        between(emulator, lose) as proxy,
        provider.session(emulator.config(endpointUrl=proxy.url)) as account,
    ):
        with pytest.raises(ProviderError) as caught:
            await account.write(service, operation, **parameters)
        assert (caught.value.kind, len(seen)) == (ErrorKind.OUTCOME_UNKNOWN, 1)
        await account.read("ec2", "describe_vpcs")
    assert seen[1:] == ["DescribeVpcs"] * 2


async def test_a_server_that_does_not_listen_is_unavailable() -> None:
    config = {**CONFIG, "endpointUrl": "http://127.0.0.1:1"}
    async with AwsProvider(endpoints=["127.0.0.1"]).session(config) as account:
        with pytest.raises(ProviderError) as caught:
            await account.write("ec2", "create_vpc", CidrBlock="10.0.0.0/16")
    assert caught.value.kind is ErrorKind.UNAVAILABLE


async def test_a_connection_that_is_reset_leaves_the_outcome_unknown() -> None:
    """The SDK says of it that no connection could be made."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, AwsProvider(endpoints=["127.0.0.1"]).session({**CONFIG, "endpointUrl": url}) as account:
        with pytest.raises(ProviderError) as caught:
            await account.write("ec2", "create_vpc", CidrBlock="10.0.0.0/16")
    assert caught.value.kind is ErrorKind.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("DependencyViolation", 400, ErrorKind.DEPENDENCY),
        ("ResourceInUse", 400, ErrorKind.DEPENDENCY),
        ("DeleteConflict", 409, ErrorKind.DEPENDENCY),
        ("RequestLimitExceeded", 503, ErrorKind.THROTTLED),
        ("ThrottlingException", 400, ErrorKind.THROTTLED),
        ("SlowDown", 503, ErrorKind.THROTTLED),
        ("VpcLimitExceeded", 400, ErrorKind.QUOTA),
        ("InstanceQuotaExceeded", 400, ErrorKind.QUOTA),
        ("UnauthorizedOperation", 403, ErrorKind.ACCESS_DENIED),
        ("AccessDeniedException", 403, ErrorKind.ACCESS_DENIED),
        ("InvalidGroup.Duplicate", 400, ErrorKind.ALREADY_EXISTS),
        ("DBInstanceAlreadyExists", 400, ErrorKind.ALREADY_EXISTS),
        ("InvalidVpcID.NotFound", 400, ErrorKind.NOT_FOUND),
        ("NoSuchEntity", 404, ErrorKind.NOT_FOUND),
        ("InvalidDBInstanceState", 400, ErrorKind.CONFLICT),
        ("MalformedPolicyDocument", 400, ErrorKind.INVALID),
        ("InternalFailure", 500, ErrorKind.OUTCOME_UNKNOWN),
        ("Whatever", 502, ErrorKind.OUTCOME_UNKNOWN),
        ("Whatever", 400, ErrorKind.INVALID),
    ],
)
def test_what_a_code_means(code: str, status: int, kind: ErrorKind) -> None:
    assert kind_of(code, status) is kind


async def test_an_error_keeps_its_code_and_says_how_long_to_wait() -> None:
    answer: Any = {
        "Error": {"Code": "Throttling", "Message": "slow"},
        "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {"retry-after": "7"}},
    }
    with pytest.raises(ProviderError) as caught:
        async with speaking("ec2.create_vpc", writes=True):
            raise botocore.ClientError(answer, "CreateVpc")
    assert (caught.value.code, caught.value.retry_after_seconds) == ("Throttling", 7.0)
    assert caught.value.message == "ec2.create_vpc: slow"


async def test_a_thing_is_found_by_its_mark_though_aws_is_slow_to_tell_of_it(
    make_context: MakeContext, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = VpcType()
    made: Any = await kind.create(make_context("slow"), {"CidrBlock": "10.66.0.0/16"})
    looks = 0
    locate = VpcType.locate

    async def late(self: VpcType, *arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return await locate(self, *arguments) if looks > 2 else None

    monkeypatch.setattr(VpcType, "locate", late)
    async with AwsProvider(endpoints=["127.0.0.1"], patience=0.5, pause=0.1).session(emulator.config()) as account:
        found = await kind.recover(make_context("slow", connection=account), {"CidrBlock": "10.66.0.0/16"})
    assert isinstance(found, ResourceState)
    assert (found.id, looks) == (made.id, 3)
    await kind.delete(make_context("slow"), made)


def test_marks_fit_into_tags() -> None:
    odd = StandaloneContext("op", 'windlass:acme:shop:web["ä/b"]', None, OWNER)  # type: ignore[arg-type]
    mark = Mark.of(odd)
    assert mark.owner == "windlass:acme:shop:web=5B=22=C3=A4/b=22=5D"
    assert Mark.parse(mark.tags({"Name": "x"})) == mark
    assert without_marks({**mark.tags({"Name": "x"}), "aws:cloudformation:stack-id": "y"}) == {"Name": "x"}
    long, longer = (
        Mark.of(StandaloneContext("op", "windlass:" + "x" * length, None, OWNER))  # type: ignore[arg-type]
        for length in (400, 401)
    )
    assert len(long.owner) == 256
    assert long != longer
    assert generated_name(odd) == generated_name(odd)
