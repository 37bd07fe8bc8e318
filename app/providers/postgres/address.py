"""Where a PostgreSQL server is, and how to say so to asyncpg, to libpq programs and to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from app.providers.base import ErrorKind, ProviderError, Schema

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
# Options that name files (sslkey, passfile, service) are left out: they would read the worker's disk for a tenant.
OPTIONS = frozenset({"host", "port", "sslmode", "target_session_attrs", "application_name"})

CONFIG_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "url": {
            "type": "string",
            "minLength": 1,
            "writeOnly": True,
            "x-sensitive": True,
            "description": "postgresql://user:password@host:port/database of an administrator",
        },
        "host": {"type": "string", "minLength": 1},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "user": {"type": "string", "minLength": 1},
        "password": {"type": "string", "writeOnly": True, "x-sensitive": True},
        "database": {"type": "string", "minLength": 1, "description": "the database to work from"},
        "sslmode": {"enum": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]},
    },
    "oneOf": [{"required": ["url"]}, {"required": ["host", "user"]}],
}


@dataclass(frozen=True, slots=True)
class Address:
    """A server, an account on it and the database to work from. `hosts` as written in a URL; empty with a socket."""

    user: str
    password: str | None = field(repr=False)
    hosts: str
    database: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> Self:
        """The address that a connection's configuration means; INVALID where it means none."""
        if "url" in config:
            return cls._from_url(config["url"])
        options = {key: str(config[key]) for key in ("sslmode",) if key in config}
        host, port = config["host"], config.get("port", 5432)
        if host.startswith("/"):
            options |= {"host": host, "port": str(port)}
        hosts = "" if host.startswith("/") else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        database = config.get("database", "postgres")
        return cls(config["user"], config.get("password"), hosts, database, tuple(sorted(options.items())))

    @classmethod
    def _from_url(cls, url: str) -> Self:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            message = "the URL of a PostgreSQL server begins with postgresql://"
            raise ProviderError(ErrorKind.INVALID, message, path=("url",))
        account, _, hosts = parts.netloc.rpartition("@")
        user, _, password = account.partition(":")
        options = dict(parse_qsl(parts.query))
        user = options.pop("user", unquote(user)) or "postgres"
        password = options.pop("password", unquote(password))
        database = options.pop("dbname", unquote(parts.path.lstrip("/"))) or "postgres"
        if refused := sorted(options.keys() - OPTIONS):
            message = f"the URL may not have these options: {', '.join(refused)}"
            raise ProviderError(ErrorKind.INVALID, message, path=("url",))
        return cls(user, password or None, hosts, database, tuple(sorted(options.items())))

    @property
    def is_socket(self) -> bool:
        """Whether the server is reached through a socket in the worker's own file system."""
        return any(key == "host" and value.startswith("/") for key, value in self.options)

    def url(self, database: str | None = None) -> str:
        """A libpq URL without the password."""
        name = self.database if database is None else database
        query = f"?{urlencode(self.options, safe='/')}" if self.options else ""
        return f"postgresql://{quote(self.user, safe='')}@{self.hosts}/{quote(name, safe='')}{query}"
