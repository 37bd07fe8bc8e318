"""What an installation can set, read once from the environment by a composition root and handed down."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

PREFIX = "WINDLASS_"
# What the command line reads as a client of some server; whoever has set it may start a server all the same.
_OF_CLIENTS = frozenset({f"{PREFIX}URL"})
_KEY_BYTES = 32


class SettingsError(Exception):
    """A setting makes no sense; the message names the variable and what would be right."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting; the variable of `pool_size` is WINDLASS_POOL_SIZE. Times are in seconds."""

    database_url: str | None = None
    # A streaming replica of it, which queries are answered by while it is not behind (app/db/replica.py).
    replica_url: str | None = None
    redis_url: str | None = None
    data_dir: Path = Path(".windlass")
    host: str = "127.0.0.1"
    port: int = 8080
    # Seals secrets: 32 bytes in base64.
    secret_key: str | None = None
    # Those it replaced, which still open what they sealed: `windlass keys rotate`.
    previous_secret_keys: tuple[str, ...] = ()
    # Where the demo tenant's connection `embedded` leads to; `windlass up` sets it to an embedded server that is for
    # nothing else, because whoever deploys to it is its superuser.
    default_postgres_url: str | None = None
    pool_size: int = 10
    # Off, every query is executed field by field: slower, and without what turns selections into SQL.
    compiled_queries: bool = True
    worker_threads: int = 32
    lease_seconds: float = 10.0
    tick_interval_seconds: float = 0.2
    # After this long a doorbell that nobody answered is rung again.
    redispatch_seconds: float = 5.0
    # How long a worker that is told to stop may finish what it has.
    drain_seconds: float = 20.0
    # The log of a job: it ends, and says so, when it has so many lines, or bytes before they are packed.
    log_max_lines: int = 1_000_000
    log_max_megabytes: int = 256
    # Lines are kept for so many days, and until the week they were written in is that old; 0 keeps them for ever.
    log_retention_days: int = 90
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    allowed_origins: tuple[str, ...] = ()
    # Hosts, addresses or networks, each with a port or without, that webhooks may reach beside the public internet.
    webhook_allowed_targets: tuple[str, ...] = ()
    # The providers of other packages to load, by the names of their entry points. Their code is trusted as ours is.
    providers: tuple[str, ...] = ()
    # As for webhooks, what the provider http may reach beside the public internet.
    http_allowed_targets: tuple[str, ...] = ()
    # The programs that the provider command may run, by absolute path, and as which user if workers run as root.
    commands: tuple[str, ...] = ()
    command_uid: int | None = None
    # The container engines that connections may name: unix:///path/to/socket or tcp://host:port.
    docker_hosts: tuple[str, ...] = ()
    # Folders in this machine that images and modules are taken from.
    source_directories: tuple[str, ...] = ()
    # The OpenTofu to run, and where its runs find the state that the API keeps: https://windlass.example
    tofu_binary: str = "tofu"
    tofu_state_url: str | None = None
    # Whether tenants may bring modules of their own: whoever may can run programs on the workers.
    tofu_inline: bool = False
    # Hosts, each with a port or without, that a connection of the provider aws may name in place of AWS's own servers.
    aws_allowed_endpoints: tuple[str, ...] = ()
    # Live operations in one API process at a time.
    live_per_principal: int = 1_000
    live_per_tenant: int = 10_000
    # Over how long an API that is told to stop sends away who follows something live: all at once they would come to
    # another one in the same moment.
    live_drain_seconds: float = 3.0
    # How long one GraphQL operation, or one event of a subscription, may take to be answered.
    operation_seconds: float = 20.0
    # WebSockets in one API process that have not said who they are yet, which they have to within five seconds.
    strangers_per_address: int = 500
    strangers: int = 2_000
    # What operations may cost, in points (schema/allowance.py): how many come back to a person each second, and how
    # many there are at most; a tenant has four times that. In each API process; 0 a second is no limit.
    rate_points_per_second: float = 500.0
    rate_burst_points: float = 20_000.0
    # An OpenID provider whose tokens are believed; all three, or none.
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_keys_url: str | None = None
    # As for webhooks, where its keys may be had from beside the public internet.
    oidc_allowed_targets: tuple[str, ...] = ()
    # What its tokens say the tenant by its slug, and the person by their e-mail address, under.
    oidc_tenant_claim: str = "windlass_tenant"
    oidc_email_claim: str = "email"
    # The key of a platform administrator, for `windlass access`, and how long one of them may be in a tenant.
    platform_key: str | None = None
    platform_access_minutes: int = 240
    # A JSON file of documents by id, and whether others are executed besides: `allowed`, or `required` where not.
    documents_file: Path | None = None
    documents: str = "allowed"
    # Whether those who are let in may ask for the schema, and are told what an unknown name may have meant.
    introspection: str = "allowed"
    log_level: str = "info"
    log_format: str = "console"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read WINDLASS_*. Raises SettingsError for a variable that is unknown or out of range."""
        given: dict[str, str] = {}
        for variable, value in environ.items():
            if variable.startswith(PREFIX) and value != "":
                name = variable.removeprefix(PREFIX).lower()
                if variable in _OF_CLIENTS:
                    continue
                if name not in cls.__struct_fields__:
                    raise SettingsError(_unknown(variable, cls.__struct_fields__))
                given[name] = value
        values: dict[str, Any] = {name: _split(value) if name in _LISTS else value for name, value in given.items()}
        try:
            settings = msgspec.convert(values, cls, strict=False, dec_hook=_decode)
        except msgspec.ValidationError as error:
            message = str(error)
            place = message.rpartition("`$.")[2].rstrip("`").partition("[")[0]
            reason = message.partition(" - at")[0]
            text = f"{PREFIX}{place.upper()}: {reason}"
            raise SettingsError(text) from None
        settings.check()
        return settings

    def required(self, name: str) -> str:
        """The value of a setting that this process cannot do without. Raises SettingsError when it is not set."""
        value = getattr(self, name)
        if value is None:
            message = f"{PREFIX}{name.upper()} is not set; `windlass up` sets it for its own processes"
            raise SettingsError(message)
        return str(value)

    def check(self) -> None:
        """Raises SettingsError where a value is out of range."""
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                message = f"{PREFIX}{name.upper()}: {value} is not between {least} and {most}"
                raise SettingsError(message)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                message = f"{PREFIX}{name.upper()}: '{getattr(self, name)}' is none of {', '.join(choices)}"
                raise SettingsError(message)
        for name in ("database_url", "replica_url"):
            if not (getattr(self, name) or _POSTGRESQL).startswith(_POSTGRESQL):
                message = f"{PREFIX}{name.upper()} begins with {_POSTGRESQL}"
                raise SettingsError(message)
        if self.redis_url is not None and not self.redis_url.startswith(("redis://", "rediss://", "unix://")):
            message = f"{PREFIX}REDIS_URL begins with redis://, rediss:// or unix://"
            raise SettingsError(message)
        if not all(map(_is_key, (self.secret_key or _ANY_KEY, *self.previous_secret_keys))):
            message = (
                f"{PREFIX}SECRET_KEY, and each of {PREFIX}PREVIOUS_SECRET_KEYS, is {_KEY_BYTES} random bytes in base64"
                f" (openssl rand -base64 {_KEY_BYTES})"
            )
            raise SettingsError(message)


_POSTGRESQL = "postgresql://"
_ANY_KEY = base64.b64encode(bytes(_KEY_BYTES)).decode()
_LISTS = frozenset(
    {
        "previous_secret_keys",
        "allowed_hosts", "allowed_origins", "webhook_allowed_targets", "http_allowed_targets",
        "oidc_allowed_targets", "commands", "docker_hosts", "source_directories", "providers", "aws_allowed_endpoints",
    }
)  # fmt: skip
_RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "pool_size": (2, 200),
    "worker_threads": (1, 256),
    "lease_seconds": (2, 600),
    "tick_interval_seconds": (0.02, 60),
    "redispatch_seconds": (0.5, 600),
    "drain_seconds": (0, 3600),
    "log_max_lines": (1_000, 100_000_000),
    "log_max_megabytes": (1, 100_000),
    "log_retention_days": (0, 36_500),
    "rate_points_per_second": (0, 1e9),
    "rate_burst_points": (1, 1e12),
    "platform_access_minutes": (1, 1_440),
    "live_per_principal": (1, 1_000_000),
    # More than one statement may take (app/db/answering.py).
    "operation_seconds": (6, 600),
    "strangers_per_address": (1, 1_000_000),
    "strangers": (1, 1_000_000),
    "live_per_tenant": (1, 1_000_000),
    # Less than a process may take to stop (app/cli/serve.py).
    "live_drain_seconds": (0, 8),
}
_CHOICES = {
    "documents": ("allowed", "required"),
    "introspection": ("allowed", "refused"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("console", "json"),
}


def _split(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value).expanduser()
    raise NotImplementedError


def _unknown(variable: str, fields: tuple[str, ...]) -> str:
    near = get_close_matches(variable.removeprefix(PREFIX).lower(), fields, n=1)
    hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
    return f"{variable} is not a setting{hint}"


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (ValueError, binascii.Error):
        return False
