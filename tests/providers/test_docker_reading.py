"""What can be said of the provider `docker` without an engine: whom it dials, and what it makes of what it reads."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.enums import ChangeAction
from app.providers.base import ErrorKind, JsonObject, ProviderError
from app.providers.conformance import OWNER, StandaloneContext
from app.providers.docker.labels import HASH, OPERATION, REPLICA, SERVICE, SPEC, digest
from app.providers.docker.labels import OWNER as OWNER_LABEL
from app.providers.docker.provider import DockerProvider
from app.providers.docker.service import ServiceType
from app.providers.docker.specification import Specification
from app.providers.docker.volume import VolumeType
from app.providers.sources import Sources

KIND = ServiceType()
BASE: JsonObject = {"name": "web", "image": "site:1", "network": "net"}


class Engine:
    """Answers with these containers."""

    def __init__(self, *containers: JsonObject) -> None:
        self.containers = list(containers)

    async def replicas(self, service: str) -> list[JsonObject]:
        assert service == "web"
        return self.containers


@pytest.fixture
def context(tmp_path: Path) -> StandaloneContext:
    return StandaloneContext("op", OWNER, None, tmp_path)


def declared(**more: Any) -> JsonObject:
    properties, faults = KIND.check({**BASE, **more})
    assert faults == []
    return {**properties, **({"secretEnvironment": more["secretEnvironment"]} if "secretEnvironment" in more else {})}


def container(
    context: StandaloneContext, properties: JsonObject, number: int, *, created: str = "1", running: bool = True
) -> JsonObject:
    """A container as the engine shows it."""
    specification = Specification(properties, Specification.hash_of(context, properties), "sha256:i", "net-id")
    labels = {
        OWNER_LABEL: OWNER, OPERATION: "op", SERVICE: "web", REPLICA: str(number),
        HASH: specification.hash, SPEC: specification.text,
    }  # fmt: skip
    ports = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(30_000 + number)}]}
    return {"Id": f"c{number}", "Name": f"/web-{number}", "Created": created, "Config": {"Labels": labels},
            "State": {"Running": running}, "NetworkSettings": {"Ports": ports}}  # fmt: skip


async def compared(context: StandaloneContext, wanted: JsonObject, *found: JsonObject) -> tuple[ChangeAction, set[str]]:
    """What a service whose containers are `found` lacks of what is wanted."""
    context.connection = Engine(*found)
    [state] = [await KIND.import_(context, "web")]
    live = await KIND.read(context, type(state)("web", wanted, {}))
    assert live is not None
    difference = KIND.compare(live.properties, wanted)
    return difference.action, {".".join(path) for path in difference.paths}


async def test_as_many_as_are_wanted_and_all_alike_is_no_change(context: StandaloneContext) -> None:
    wanted = declared(replicas=2, secretEnvironment={"KEY": "word"})
    found = [container(context, wanted, number) for number in (2, 1)]
    assert await compared(context, wanted, *found) == (ChangeAction.NO_CHANGE, set())
    state = await KIND.import_(context, "web")
    assert state.outputs["containers"] == ["web-1", "web-2"]
    assert state.outputs["addresses"] == ["127.0.0.1:30001", "127.0.0.1:30002"]
    # What is written on a container is there for everybody who may ask the engine.
    assert "word" not in json.dumps(found)


async def test_what_is_missing_stopped_or_too_much_is_seen(context: StandaloneContext) -> None:
    wanted = declared(replicas=2)
    one, two, three = (container(context, wanted, number) for number in (1, 2, 3))
    stopped = container(context, wanted, 2, running=False)
    for found in ([one], [one, stopped], [one, two, three]):
        assert await compared(context, wanted, *found) == (ChangeAction.UPDATE, {"replicas"})


async def test_half_an_update_differs_from_both_sides(context: StandaloneContext) -> None:
    before, after = declared(replicas=2), declared(replicas=2, environment={"A": "1"})
    old, new = container(context, before, 2), container(context, after, 1, created="2")
    assert (await compared(context, before, old, new))[1] == {"environment", "environment.A", "replicas"} - {
        "environment"
    }
    assert (await compared(context, after, old, new))[1] == {"replicas"}
    # All new ones, and an old one beside them that nobody has taken away.
    extra = container(context, after, 2, created="2")
    assert (await compared(context, after, old, new, extra))[1] == {"replicas"}


async def test_a_secret_that_is_another_is_another_container(context: StandaloneContext) -> None:
    wanted = declared(secretEnvironment={"KEY": "new-word"})
    found = container(context, declared(secretEnvironment={"KEY": "old-word"}), 1)
    action, paths = await compared(context, wanted, found)
    assert (action, paths) == (ChangeAction.UPDATE, {"secretEnvironment.KEY"})
    assert digest(context, {"a": 1}) != digest(StandaloneContext("op", "another", None, Path()), {"a": 1})


async def test_nothing_of_another_owner_is_read(context: StandaloneContext) -> None:
    wanted = declared()
    found = container(context, wanted, 1)
    found["Config"]["Labels"][OWNER_LABEL] = "windlass:rival:stack:web"
    context.connection = Engine(found)
    with pytest.raises(ProviderError) as refused:
        await KIND.import_(context, "web")
    assert refused.value.kind is ErrorKind.ALREADY_EXISTS


def test_a_container_gets_no_privileges_and_no_folders_of_the_machine() -> None:
    given = declared(
        ports=[{"container": 80, "host": 8080}, {"container": 81}], memoryMegabytes=64, cpus=0.5,
        volumes=[{"volume": "data", "path": "/data"}], secretEnvironment={"KEY": "word"},
    )  # fmt: skip
    config = Specification(given, "h", "sha256:i", "net-id").config(3, {"a": "b"})
    settings = config["HostConfig"]
    assert settings["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8082"}], "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
    }  # fmt: skip
    assert settings["Mounts"] == [{"Type": "volume", "Source": "data", "Target": "/data", "ReadOnly": False}]
    assert (settings["NetworkMode"], settings["SecurityOpt"]) == ("net-id", ["no-new-privileges"])
    assert (settings["Memory"], settings["NanoCpus"]) == (64 * 1024 * 1024, 500_000_000)
    assert not settings.keys() & {"Privileged", "Binds", "Devices", "CapAdd", "PidMode", "IpcMode"}
    for wrong in ({"volumes": [{"volume": "/etc", "path": "/x"}]}, {"privileged": True}, {"replicas": 0}):
        assert KIND.check({**BASE, **wrong})[1]


async def test_an_engine_that_is_not_allowed_is_not_dialled() -> None:
    host = "unix:///var/run/docker.sock"
    assert DockerProvider([host]).check_config({"host": host})[1] == []
    for provider in (DockerProvider(), DockerProvider(["tcp://10.0.0.1:2375"])):
        [fault] = provider.check_config({"host": host})[1]
        assert (fault.code, fault.path) == ("NOT_ALLOWED", ("host",))
        with pytest.raises(ProviderError, match="does not allow the engine"):
            async with provider.session({"host": host}):
                pass


async def test_an_engine_that_is_away_is_worth_another_try(tmp_path: Path) -> None:
    away = f"unix://{tmp_path}/nothing"
    async with DockerProvider([away]).session({"host": away}) as engine:
        with pytest.raises(ProviderError) as refused:
            await VolumeType().create(StandaloneContext("op", OWNER, engine, tmp_path), {"name": "x"})
    assert refused.value.kind is ErrorKind.UNAVAILABLE


async def test_an_engine_that_hangs_up_leaves_the_outcome_of_what_was_written_unknown(tmp_path: Path) -> None:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode().rpartition(" ")[0])
        if b"/version" in head:
            body = b'{"ApiVersion": "1.41"}'
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n")
            writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        writer.close()

    place = tmp_path / "s"
    host = f"unix://{place}"
    server = await asyncio.start_unix_server(serve, place)
    async with server, DockerProvider([host]).session({"host": host}) as engine:
        context = StandaloneContext("op", OWNER, engine, tmp_path)
        with pytest.raises(ProviderError) as written:
            await VolumeType().create(context, {"name": "x"})
        with pytest.raises(ProviderError) as read:
            await VolumeType().recover(context, {"name": "x"})
        with pytest.raises(ProviderError) as sent:
            await engine.upload("c1", "/volume", io.BytesIO(b"a file"))
    assert sent.value.kind is ErrorKind.OUTCOME_UNKNOWN
    assert (written.value.kind, read.value.kind) == (ErrorKind.OUTCOME_UNKNOWN, ErrorKind.UNAVAILABLE)
    # Nothing is written twice by a library that means well.
    writes = ["POST /v1.41/volumes/create", "PUT /v1.41/containers/c1/archive?path=/volume"]
    assert [each for each in asked if not each.startswith("GET")] == writes


def test_only_listed_folders_are_given_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "out" / "secret").write_text("x")
    (tmp_path / "in" / "file").write_text("x")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out" / "secret")
    sources = Sources([tmp_path / "in"])
    assert sources.find(f"{tmp_path}/in/file", field="archive") == tmp_path / "in" / "file"
    for name in ("in/link", "out/secret", "in/../out/secret", "in/nothing"):
        with pytest.raises(ProviderError, match="WINDLASS_SOURCE_DIRECTORIES"):
            sources.find(f"{tmp_path}/{name}", field="archive")
    with pytest.raises(ProviderError):
        Sources().find(f"{tmp_path}/in/file", field="archive")
