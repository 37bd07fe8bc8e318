"""What stands in for each provider in a rehearsal: an emulator where there is one, a simulation where there is none."""

from __future__ import annotations

import logging
import secrets
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.cli.client import CommandFailed
from app.cli.rehearsal.states import Desk, desk
from app.providers.aws.provider import AwsProvider
from app.providers.base import Provider, TaskType
from app.providers.command.task import Allowance
from app.providers.core.provider import CoreProvider
from app.providers.core.tasks import WaitTask
from app.providers.docker.provider import DockerProvider
from app.providers.postgres.provider import PostgresProvider
from app.providers.reach import Reach
from app.providers.registry import Registry, installed
from app.providers.simulated import SimulatedProvider, SimulatedTask
from app.providers.sources import Sources
from app.providers.tofu.backend import Backend
from app.providers.tofu.provider import TofuProvider
from app.providers.tofu.runs import Installation
from app.settings import Settings

LAXITIES = "docs/howto/aws.md"
_MADE_UP = "asked nothing; what it gives is made up from its schemas"
_NO_MOTO = "to rehearse what is on AWS, moto and the SDK are needed: install windlass[rehearsal]"
# What moto refuses to carry out where it is asked not to; the other operations of EC2 it carries out all the same.
MOTO_DRY_RUNS = frozenset(
    {
        "create_internet_gateway", "create_launch_template", "create_security_group", "create_volume", "run_instances",
    }
)  # fmt: skip
_RESET_SECONDS = 10
# Nobody listens there; a workspace is refused where the installation keeps no states at all.
_NO_STATES = "http://127.0.0.1:9"


class Stand(StrEnum):
    """How much a rehearsal of a resource proves."""

    EMULATED = "emulated"
    SIMULATED = "simulated"
    # Somebody gave it to the rehearsal, to be used and tidied up.
    REAL = "real"


@dataclass(frozen=True, slots=True)
class Given:
    """What the plans use, and what of this machine they may really use.

    `needed` are the names of providers, `asked` the outputs that expressions read, by type. `docker` is the address of
    an engine, `modules` whether OpenTofu runs, `sources` the folders that archives and modules may be in.
    """

    needed: frozenset[str]
    asked: Mapping[str, frozenset[str]]
    region: str = "eu-central-1"
    docker: str | None = None
    modules: bool = False
    sources: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class StandIn:
    """What stands in for one provider; `by` says in words what that is, `config` leads every connection to it."""

    provider: Provider
    stand: Stand
    by: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cast:
    """Everything that stands in, by the name of the provider."""

    parts: Mapping[str, StandIn]
    # Where OpenTofu keeps its states, if it really runs.
    desk: Desk | None = None

    @property
    def real(self) -> list[str]:
        """The names of the providers that are themselves."""
        return [name for name, part in self.parts.items() if part.stand is Stand.REAL]

    @property
    def registry(self) -> Registry:
        return Registry(part.provider for part in self.parts.values())

    def of(self, type_name: str) -> Stand:
        """How the provider of a type or a task is stood in for."""
        return self.parts[type_name.split(".", 1)[0]].stand


class _Impatient(CoreProvider):
    """The provider `core`, for which nobody waits."""

    def tasks(self) -> Sequence[TaskType]:
        return [SimulatedTask(task, guessed=True) if isinstance(task, WaitTask) else task for task in super().tasks()]


@contextmanager
def standing_in(settings: Settings, given: Given, postgres_url: str) -> Iterator[Cast]:
    """The stand-ins, as long as the block lasts. `postgres_url` is that of a server which can be thrown away.

    Raises CommandFailed where an emulator is missing.
    """
    with ExitStack() as stack:
        parts, place = [_core(), _postgres(postgres_url)], None
        if "aws" in given.needed:
            parts.append(_aws(stack.enter_context(emulated_aws()), given.region))
        sources = Sources([*given.sources, *(Path(folder) for folder in settings.source_directories)])
        if given.docker is not None and "docker" in given.needed:
            parts.append(_docker(given.docker, sources))
        if given.modules and "tofu" in given.needed:
            place = stack.enter_context(desk())
            parts.append(_tofu(Installation(settings.tofu_binary, place.backend, sources, inline=True)))
        known = {part.provider.name for part in parts}
        parts += [
            StandIn(SimulatedProvider(provider, given.asked), Stand.SIMULATED, _MADE_UP)
            for provider in _others(settings)
            if provider.name not in known
        ]
        yield Cast({part.provider.name: part for part in parts}, place)


def _core() -> StandIn:
    return StandIn(_Impatient(), Stand.EMULATED, "in a folder that is thrown away; nobody waits for waits")


def _postgres(url: str) -> StandIn:
    by = "by a PostgreSQL of its own that is thrown away: a real server, and an empty one"
    return StandIn(PostgresProvider(), Stand.EMULATED, by, {"url": url})


def _aws(endpoint: str, region: str) -> StandIn:
    if find_spec("aiobotocore") is None:
        # The provider says so, too, but it would look like a failure of the plan.
        raise CommandFailed(_NO_MOTO)
    host = endpoint.partition("://")[2]
    # Made up, and new each time: the keys of a tenant have no business here, and would open nothing.
    keys = {"accessKeyId": f"EMULATED{secrets.token_hex(6).upper()}", "secretAccessKey": secrets.token_hex(20)}
    by = f"by moto {_moto_version()}, which is laxer than AWS; where: {LAXITIES}"
    config = {"region": region, **keys, "endpointUrl": endpoint}
    return StandIn(
        AwsProvider(endpoints=[host], patience=0, pause=0.01, dry_runs=MOTO_DRY_RUNS), Stand.EMULATED, by, config
    )


def _docker(host: str, sources: Sources) -> StandIn:
    by = f"on the engine {host}, which you named; what is made there is removed at the end"
    return StandIn(DockerProvider([host], sources), Stand.REAL, by, {"host": host})


def _tofu(installation: Installation) -> StandIn:
    by = f"{installation.binary} runs the modules on this machine, without any credentials; what they make is destroyed"
    return StandIn(TofuProvider(installation), Stand.REAL, by)


def _others(settings: Settings) -> Sequence[Provider]:
    # Every workspace may be declared: whether an installation runs it is that installation's affair.
    tofu = Installation(settings.tofu_binary, Backend(_NO_STATES, bytes(32)), inline=True)
    return (*Reach(commands=Allowance.of(settings), tofu=tofu).providers(), *installed(settings.providers))


@contextmanager
def emulated_aws() -> Iterator[str]:
    """The address of an emulator of AWS that begins with nothing. It is in this process, on a port of its own."""
    try:
        # An extra, and it takes more than a second to import.
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise CommandFailed(_NO_MOTO) from error
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # It warns of how it writes some of its errors; what it writes arrives.
    warnings.filterwarnings("ignore", category=UserWarning, module="moto")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        # What it has is the process's, and not the server's: an earlier one may have left something.
        reset = urllib.request.Request(f"{address}/moto-api/reset", method="POST")  # noqa: S310  our own server
        with urllib.request.urlopen(reset, timeout=_RESET_SECONDS):  # noqa: S310
            pass
        yield address
    finally:
        server.stop()


def _moto_version() -> str:
    try:
        return version("moto")
    except PackageNotFoundError:
        return "(of unknown version)"
