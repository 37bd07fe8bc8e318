"""How far an installation lets its tenants reach through it: what operators have to allow, and providers it is for."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.domain.tofu import signing_key
from app.egress import Egress
from app.providers.aws.provider import AwsProvider
from app.providers.base import Provider
from app.providers.command.provider import CommandProvider
from app.providers.command.task import Allowance
from app.providers.docker.provider import DockerProvider
from app.providers.http.provider import HttpProvider
from app.providers.sources import Sources
from app.providers.tofu.backend import Backend
from app.providers.tofu.provider import TofuProvider
from app.providers.tofu.runs import Installation
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Reach:
    """By default nothing inside is reached, and nothing of this machine is used."""

    egress: Egress = field(default_factory=Egress)
    commands: Allowance = field(default_factory=Allowance)
    engines: Sequence[str] = ()
    sources: Sources = field(default_factory=Sources)
    tofu: Installation = field(default_factory=Installation)
    # What a connection to AWS may name in place of AWS's own servers.
    aws_endpoints: Sequence[str] = ()

    @classmethod
    def of(cls, settings: Settings) -> Reach:
        """What the settings allow. Raises SettingsError."""
        commands = Allowance.of(settings)
        sources = Sources([Path(folder) for folder in settings.source_directories])
        backend = None
        if settings.tofu_state_url is not None:
            key = signing_key(base64.b64decode(settings.required("secret_key")))
            backend = Backend(settings.tofu_state_url, key)
        return cls(
            egress=Egress.for_providers(settings),
            commands=commands,
            engines=settings.docker_hosts,
            sources=sources,
            tofu=Installation(settings.tofu_binary, backend, sources, settings.tofu_inline, commands.uid),
            aws_endpoints=settings.aws_allowed_endpoints,
        )

    def providers(self) -> Sequence[Provider]:
        """The providers that reach no further than this."""
        return (
            AwsProvider(endpoints=self.aws_endpoints),
            HttpProvider(self.egress),
            CommandProvider(self.commands),
            DockerProvider(self.engines, self.sources),
            TofuProvider(self.tofu),
        )
