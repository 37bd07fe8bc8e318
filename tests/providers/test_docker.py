"""The provider `docker` on a dockerd of the tests' own; skipped, with the reason, where none can run."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import clock
from app.domain.enums import ChangeAction
from app.domain.errors import Severity
from app.engine.preflighting import _NO_ANSWER
from app.providers.base import ErrorKind, JsonObject, ProviderError, ResourceType
from app.providers.conformance import OWNER, STRANGER, Sample, StandaloneContext, check_resource_type
from app.providers.docker.image import ImageType
from app.providers.docker.network import NetworkType
from app.providers.docker.provider import DockerProvider
from app.providers.docker.service import ServiceType
from app.providers.docker.volume import VolumeType
from app.providers.preflights import PreflightRequest
from app.providers.sources import Sources
from tests.providers import engines

pytestmark = [
    pytest.mark.skipif(engines.missing() is not None, reason=engines.missing() or ""),
    pytest.mark.xdist_group("docker"),
]
NEIGHBOUR = "windlass:conformance:stack:neighbour"
IMAGE = "windlass-test/web:1"
SERVE = ["/bin/httpd", "-f", "-p", "80", "-h", "/www"]


@pytest.fixture(scope="session")
def host() -> Iterator[str]:
    with engines.engine() as address:
        yield address


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    engines.rootfs(folder / "rootfs.tar")
    return folder


@pytest.fixture
def provider(host: str, archives: Path) -> DockerProvider:
    return DockerProvider([host], Sources([archives]))


@pytest.fixture
async def make(provider: DockerProvider, host: str, tmp_path: Path) -> AsyncIterator[Any]:
    async with provider.session({"host": host}) as engine:

        def context(operation: str = "op", owner: str = OWNER) -> StandaloneContext:
            return StandaloneContext(operation, owner, engine, tmp_path, deadline=clock.monotonic() + 60)

        yield context


@pytest.fixture
async def surroundings(make: Any, archives: Path) -> AsyncIterator[None]:
    """An image and a network of the tenant's."""
    images, networks = ImageType(Sources([archives])), NetworkType()
    given = {"reference": IMAGE, "from": "ROOTFS", "archive": str(archives / "rootfs.tar")}
    image = await images.create(make("image", NEIGHBOUR), given)
    network = await networks.create(make("network", NEIGHBOUR), {"name": "web-net"})
    yield
    await networks.delete(make("network", NEIGHBOUR), network)
    await images.delete(make("image", NEIGHBOUR), image)


def service(**more: Any) -> JsonObject:
    given = {"name": "web", "image": IMAGE, "network": "web-net", "command": SERVE, "stopSeconds": 0,
             "ports": [{"container": 80}], "ready": {"http": {"port": 80, "path": "/cgi-bin/"}}, **more}  # fmt: skip
    properties, faults = ServiceType().check({"ready": {"tcp": {"port": 80}}, **given})
    assert faults == []
    return {**properties, **({"secretEnvironment": more["secretEnvironment"]} if "secretEnvironment" in more else {})}


TCP = {"ready": {"tcp": {"port": 80}, "timeoutSeconds": 10}}


async def refused(attempt: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await attempt
    return caught.value


async def conforms(kind: ResourceType, make: Any, sample: Sample) -> None:
    checks = await check_resource_type(kind, make, sample)
    assert [(check.name, check.detail) for check in checks if not check.passed] == []


async def test_a_network_conforms(make: Any) -> None:
    await conforms(
        NetworkType(),
        make,
        Sample({"name": "conform"}, None, {"name": "conform", "internal": True}, ({}, {"name": "/"})),
    )


async def test_a_volume_conforms(make: Any) -> None:
    await conforms(VolumeType(), make, Sample({"name": "conform"}, None, {"name": "other"}, ({}, {"name": "../x"})))


async def test_an_image_conforms(make: Any, archives: Path) -> None:
    given = {"reference": "conform:1", "from": "ROOTFS", "archive": str(archives / "rootfs.tar")}
    sample = Sample(given, None, {**given, "reference": "conform:2"}, ({}, {**given, "from": "PULL"}))
    await conforms(ImageType(Sources([archives])), make, sample)


def planned(**properties: Any) -> PreflightRequest:
    return PreflightRequest(ChangeAction.CREATE, properties)


@pytest.mark.usefixtures("surroundings")
async def test_what_stands_in_the_way_is_known_beforehand(make: Any, archives: Path, tmp_path: Path) -> None:
    stranger = make("ask", STRANGER)
    for kind, properties in (
        (NetworkType(), {"name": "web-net"}),
        (
            ImageType(Sources([archives])),
            {"reference": IMAGE, "from": "BUILD", "archive": str(archives / "rootfs.tar")},
        ),
    ):
        error = await refused(kind.preflight(stranger, planned(**properties)))
        assert (error.kind, "exists already" in error.message) == (ErrorKind.ALREADY_EXISTS, True)
    elsewhere = {"reference": "new:1", "from": "ROOTFS", "archive": str(tmp_path / "rootfs.tar")}
    error = await refused(ImageType(Sources([archives])).preflight(stranger, planned(**elsewhere)))
    assert (error.kind, error.path) == (ErrorKind.ACCESS_DENIED, ("archive",))
    # The engine has no way to any registry: that says nothing about the image.
    pulled = {"reference": "new:1", "from": "PULL", "source": "127.0.0.1:9/none:1"}
    error = await refused(ImageType(Sources()).preflight(stranger, planned(**pulled)))
    assert error.kind in _NO_ANSWER
    assert list(await ImageType(Sources()).preflight(stranger, planned(**{**pulled, "source": IMAGE}))) == []
    (fault,) = await ServiceType().preflight(stranger, planned(name="other", image="windlass-test/none:1"))
    assert (fault.severity, fault.code, fault.path) == (Severity.ERROR, "NOT_FOUND", ("image",))


@pytest.mark.usefixtures("surroundings")
async def test_a_port_that_somebody_has_is_known_beforehand(make: Any) -> None:
    mine, port = make("ports"), 28_411
    made = await ServiceType().create(mine, service(ports=[{"container": 80, "host": port}], **TCP))
    try:
        asked = planned(name="other", replicas=2, ports=[{"container": 80}, {"container": 80, "host": port - 1}])
        (fault,) = await ServiceType().preflight(make("ask", STRANGER), asked)
        assert (fault.code, fault.path) == ("PORT_TAKEN", ("ports", "1", "host"))
        assert f"port {port} " in fault.message
        assert list(await ServiceType().preflight(mine, asked)) == []
    finally:
        await ServiceType().delete(mine, made)


@pytest.mark.usefixtures("surroundings")
async def test_a_service_conforms(make: Any) -> None:
    base = {"name": "conform", "image": IMAGE, "network": "web-net", "command": SERVE, "stopSeconds": 0, **TCP}
    sample = Sample(
        {**base, "secretEnvironment": {"KEY": "word"}},
        {**base, "environment": {"A": "1"}, "replicas": 2},
        {**base, "name": "other"},
        (
            {},
            {**base, "replicas": 0},
            {**base, "privileged": True},
            {**base, "volumes": [{"volume": "/", "path": "/h"}]},
        ),
    )
    await conforms(ServiceType(), make, sample)


@pytest.mark.usefixtures("surroundings")
async def test_a_service_answers_is_scaled_and_seen_when_it_loses_a_replica(make: Any) -> None:
    kind, context = ServiceType(), make()
    state = await kind.create(context, service(replicas=3, **TCP))
    assert len(state.outputs["addresses"]) == 3
    async with httpx.AsyncClient(trust_env=False) as client:
        codes = [(await client.get(f"http://{address}/")).status_code for address in state.outputs["addresses"]]
    assert codes == [404] * 3
    engine = context.connection
    await engine.remove_container("web-2")
    live = await kind.read(context, state)
    assert live is not None
    drift = kind.compare(live.properties, state.properties)
    assert [(change.path, change.before, change.after) for change in drift.changes] == [(("replicas",), 2, 3)]
    before = {(await engine.container(name))["Id"] for name in ("web-1", "web-3")}
    healed = await kind.update(make("heal"), live, service(replicas=4, **TCP), drift)
    assert healed.outputs["containers"] == ["web-1", "web-2", "web-3", "web-4"]
    # Those that were as they should be were left alone.
    assert {(await engine.container(name))["Id"] for name in ("web-1", "web-3")} == before
    fewer = await kind.update(make("less"), healed, service(replicas=1, **TCP), drift)
    assert fewer.outputs["containers"] == ["web-1"]
    await kind.delete(make("end"), fewer)
    assert await engine.replicas("web") == []


@pytest.mark.usefixtures("surroundings")
async def test_a_rolling_update_that_fails_leaves_some_and_goes_back(make: Any) -> None:
    """What the engine does: the partial state is recorded, read again, and converged to what was before."""
    kind = ServiceType()
    before = await kind.create(make(), service(replicas=3, **TCP))
    script = "echo getting ready; echo no database >&2; exit 3"
    worse = service(replicas=3, command=["/bin/sh", "-c", script], restart="NEVER", **TCP)
    change = kind.compare(before.properties, worse)
    error = await refused(kind.update(make("worse"), before, worse, change))
    assert (error.kind, error.code) == (ErrorKind.NOT_STABILIZED, "NOT_READY")
    assert error.message.startswith("web-1 ended with 3; the last it said: ")
    assert "no database" in error.message
    assert error.partial is not None
    assert error.partial.outputs["containers"] == ["web-2", "web-3"]
    live = await kind.read(make("back"), before)
    assert live is not None
    back = kind.compare(live.properties, before.properties)
    assert back.action is ChangeAction.UPDATE
    restored = await kind.update(make("back"), live, before.properties, back)
    assert restored.properties == before.properties
    assert restored.outputs["containers"] == ["web-1", "web-2", "web-3"]
    await kind.delete(make("end"), restored)


@pytest.mark.usefixtures("surroundings")
async def test_what_an_interrupted_creation_left_is_removed_and_what_it_finished_is_found(make: Any) -> None:
    kind = ServiceType()
    state = await kind.create(make(), service(replicas=2, **TCP))
    found = await kind.recover(make(), service(replicas=2, **TCP))
    assert found == state
    await make().connection.remove_container("web-2")
    assert await kind.recover(make(), service(replicas=2, **TCP)) is None
    assert await make().connection.replicas("web") == []


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("probe", [{"http": {"port": 80}}, {"tcp": {"port": 81}}, {"command": ["/bin/false"]}])
async def test_a_probe_that_never_holds_ends_in_time(probe: JsonObject, make: Any) -> None:
    began = clock.monotonic()
    kind = ServiceType()
    wanted = service(ready={**probe, "timeoutSeconds": 0.6})
    error = await refused(kind.create(make(), wanted))
    assert (error.kind, clock.monotonic() - began < 5) == (ErrorKind.NOT_STABILIZED, True)
    assert "was not ready after 1 s" in error.message
    assert error.partial is not None
    await kind.delete(make(), error.partial)


@pytest.mark.usefixtures("surroundings")
async def test_probes_that_hold(make: Any) -> None:
    kind = ServiceType()
    serve = "mkdir -p /tmp/w; echo hi > /tmp/w/index.html; exec /bin/httpd -f -p 80 -h /tmp/w"
    for ready in ({"http": {"port": 80, "path": "/index.html"}}, {"command": ["/bin/true"]}, {}):
        state = await kind.create(make(), service(command=["/bin/sh", "-c", serve], ready=ready))
        await kind.delete(make(), state)


@pytest.mark.usefixtures("surroundings")
async def test_a_network_in_use_is_worth_another_try(make: Any) -> None:
    networks, kind = NetworkType(), ServiceType()
    network = await networks.create(make("n"), {"name": "busy"})
    state = await kind.create(make("s", NEIGHBOUR), service(network=network.id, **TCP))
    error = await refused(networks.delete(make("d"), network))
    assert error.kind is ErrorKind.DEPENDENCY
    await kind.delete(make("e", NEIGHBOUR), state)
    await networks.delete(make("d"), network)
    assert await networks.read(make(), network) is None


async def test_a_volume_that_is_there_is_nobodys_by_creating_it_again(make: Any) -> None:
    """The engine hands out the one that is there, and says that it made it."""
    volumes = VolumeType()
    theirs = await volumes.create(make("t", STRANGER), {"name": "data"})
    assert (await refused(volumes.create(make(), {"name": "data"}))).kind is ErrorKind.ALREADY_EXISTS
    await volumes.delete(make(), theirs)
    assert await volumes.read(make("t", STRANGER), theirs) is not None
    await volumes.delete(make("t", STRANGER), theirs)


@pytest.mark.usefixtures("surroundings")
async def test_a_volume_outlives_its_containers_and_is_in_use_meanwhile(make: Any) -> None:
    volumes, kind = VolumeType(), ServiceType()
    volume = await volumes.create(make("v"), {"name": "keep"})
    mount = {"volumes": [{"volume": "keep", "path": "/data"}], "ready": {}}
    script = "echo kept > /data/file; exec sleep 60"
    writer = await kind.create(make("w"), service(command=["/bin/sh", "-c", script], **mount))
    assert (await refused(volumes.delete(make("d"), volume))).kind is ErrorKind.DEPENDENCY
    await kind.delete(make("w"), writer)
    check = {"ready": {"command": ["/bin/sh", "-c", "[ $(cat /data/file) = kept ]"], "timeoutSeconds": 5}}
    reader = await kind.create(make("r"), service(command=["/bin/sleep", "60"], **{**mount, **check}))
    await kind.delete(make("r"), reader)
    await volumes.delete(make("d"), volume)


@pytest.mark.usefixtures("surroundings")
async def test_what_is_another_tenants_is_not_used(make: Any) -> None:
    kind = ServiceType()
    other = "windlass:rival:stack:web"
    for what in ({}, {"network": "bridge"}, {"network": "host"}):
        error = await refused(kind.create(make("o", other), service(**what)))
        assert error.kind in {ErrorKind.ACCESS_DENIED, ErrorKind.NOT_FOUND}, what
    volume = await VolumeType().create(make("v", other), {"name": "theirs"})
    mounted = service(volumes=[{"volume": "theirs", "path": "/x"}])
    assert (await refused(kind.create(make(), mounted))).kind is ErrorKind.ACCESS_DENIED
    await VolumeType().delete(make("v", other), volume)
    assert await make().connection.replicas("web") == []


@pytest.mark.usefixtures("surroundings")
async def test_images_are_built_and_loaded(make: Any, archives: Path) -> None:
    images = ImageType(Sources([archives]))
    with tarfile.open(archives / "context.tar", "w") as packed:
        content = f"FROM {IMAGE}\nENV BUILT=yes\n".encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(content)
        packed.addfile(entry, io.BytesIO(content))
    context = make("b")
    given = {"reference": "built:1", "from": "BUILD", "archive": str(archives / "context.tar")}
    built = await images.create(context, given)
    assert any("Step 2/" in line for _, line in context.lines)
    (archives / "bad.tar").write_bytes(b"no tar")
    for source in ("BUILD", "LOAD"):
        bad = {"reference": "bad:1", "from": source, "archive": str(archives / "bad.tar")}
        assert (await refused(images.create(make("x"), bad))).kind in {ErrorKind.INVALID, ErrorKind.INTERNAL}
    for outside in ("/etc/passwd", str(archives / ".." / "x.tar"), str(archives / "nothing.tar")):
        error = await refused(images.create(make("x"), {**given, "reference": "out:1", "archive": outside}))
        assert (error.kind, error.path) == (ErrorKind.ACCESS_DENIED, ("archive",))
    await images.delete(context, built)
