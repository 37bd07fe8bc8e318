"""What the containers of a service are made of, and which of the engine's freedoms they are not given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.providers.base import Context, ErrorKind, JsonObject, ProviderError, Schema
from app.providers.docker.labels import NAME_PATTERN, OWNER, digest, refuse_foreign

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine

_PORT: JsonObject = {"type": "integer", "minimum": 1, "maximum": 65_535}
_ENTRIES: JsonObject = {
    "type": "object",
    "maxProperties": 200,
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    "additionalProperties": {"type": "string"},
}
_MOST_PROCESSES = 4096
SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "image", "network"],
    "properties": {
        "name": {"type": "string", "pattern": NAME_PATTERN},
        "image": {"type": "string", "minLength": 1, "maxLength": 300, "description": "a name, or sha256:… of an image"},
        "network": {"type": "string", "minLength": 1, "description": "a network of the tenant's, by name or id"},
        "command": {"type": "array", "items": {"type": "string"}, "maxItems": 200},
        "environment": _ENTRIES,
        "secretEnvironment": {**_ENTRIES, "x-sensitive": True},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 100, "default": 1},
        "ports": {
            "type": "array",
            "maxItems": 20,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["container"],
                "properties": {
                    "container": _PORT,
                    "host": {**_PORT, "description": "of the first replica; each next one has the next. Else any"},
                    "address": {"type": "string", "pattern": "^[0-9a-fA-F.:]+$", "default": "127.0.0.1"},
                },
            },
        },
        "volumes": {
            "type": "array",
            "maxItems": 20,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["volume", "path"],
                "properties": {
                    "volume": {"type": "string", "pattern": NAME_PATTERN},
                    "path": {"type": "string", "pattern": "^/[^:]+$"},
                    "readOnly": {"type": "boolean", "default": False},
                },
            },
        },
        "memoryMegabytes": {"type": "integer", "minimum": 8, "maximum": 1_048_576},
        "cpus": {"type": "number", "exclusiveMinimum": 0, "maximum": 256},
        "user": {"type": "string", "pattern": "^[A-Za-z0-9_:-]{1,64}$"},
        "restart": {"enum": ["NEVER", "ON_FAILURE", "ALWAYS"], "default": "ALWAYS"},
        "stopSeconds": {"type": "integer", "minimum": 0, "maximum": 600, "default": 10},
        "ready": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "http": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["port"],
                    "properties": {
                        "port": _PORT,
                        "path": {"type": "string", "pattern": "^/[\\x21-\\x7e]*$", "default": "/"},
                    },
                },
                "tcp": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["port"],
                    "properties": {"port": _PORT},
                },
                "command": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 100},
                "timeoutSeconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600, "default": 30},
            },
            "maxProperties": 2,
        },
    },
}
_RESTART = {"NEVER": "no", "ON_FAILURE": "on-failure", "ALWAYS": "unless-stopped"}
# How many there are, and how long one is waited for, makes no container another one.
_BESIDE = frozenset({"replicas", "stopSeconds", "ready"})


@dataclass(frozen=True, slots=True)
class Specification:
    """What every replica of a service is made by; `image_id` and `network_id` are what its names stand for."""

    properties: Mapping[str, Any]
    hash: str
    image_id: str
    network_id: str

    @classmethod
    async def of(cls, context: Context, engine: Engine, properties: JsonObject) -> Specification:
        """Raises ProviderError for an image or network that is not there, or that is another tenant's."""
        image = await engine.image(properties["image"])
        if image is None:
            message = f"the engine has no image {properties['image']}"
            raise ProviderError(ErrorKind.NOT_FOUND, message, path=("image",))
        labels = (image.get("Config") or {}).get("Labels") or {}
        if OWNER in labels:
            # What nobody has marked was put there by the operator, for everybody.
            refuse_foreign(context, labels, f"the image {properties['image']}")
        network = await engine.network(properties["network"])
        if network is None:
            message = f"the engine has no network {properties['network']}"
            raise ProviderError(ErrorKind.NOT_FOUND, message, path=("network",))
        refuse_foreign(context, network.get("Labels"), f"the network {properties['network']}")
        for mount in properties.get("volumes") or ():
            volume = await engine.volume(mount["volume"])
            if volume is None:
                message = f"the engine has no volume {mount['volume']}"
                raise ProviderError(ErrorKind.NOT_FOUND, message, path=("volumes",))
            refuse_foreign(context, volume.get("Labels"), f"the volume {mount['volume']}")
        return cls(properties, cls.hash_of(context, properties), image["Id"], network["Id"])

    @staticmethod
    def hash_of(context: Context, properties: Mapping[str, Any]) -> str:
        """Equal for equal containers."""
        return digest(context, {name: value for name, value in properties.items() if name not in _BESIDE})

    @property
    def name(self) -> str:
        return str(self.properties["name"])

    @property
    def text(self) -> str:
        """The properties as they are written on a container: everybody who may ask the engine can read it."""
        shown = {name: value for name, value in self.properties.items() if name != "secretEnvironment"}
        return json.dumps(shown, sort_keys=True)

    def container_name(self, number: int) -> str:
        return f"{self.name}-{number}"

    def config(self, number: int, labels: Mapping[str, str]) -> JsonObject:
        """What the engine is told of one replica. No privileges, no folders of its machine, no network but this."""
        given = self.properties
        environment = {**(given.get("environment") or {}), **(given.get("secretEnvironment") or {})}
        config: JsonObject = {
            "Image": self.image_id,
            "Labels": dict(labels),
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "ExposedPorts": {f"{port['container']}/tcp": {} for port in given.get("ports") or ()},
            "NetworkingConfig": {"EndpointsConfig": {self.network_id: {"Aliases": [self.name]}}},
            "HostConfig": {
                "NetworkMode": self.network_id,
                "PortBindings": self._bindings(number),
                "Mounts": [
                    {"Type": "volume", "Source": each["volume"], "Target": each["path"],
                     "ReadOnly": each.get("readOnly", False)}
                    for each in given.get("volumes") or ()
                ],
                "RestartPolicy": {"Name": _RESTART[given.get("restart", "ALWAYS")]},
                "SecurityOpt": ["no-new-privileges"],
                "PidsLimit": _MOST_PROCESSES,
                "Init": True,
            },
        }  # fmt: skip
        if given.get("command"):
            config["Cmd"] = list(given["command"])
        if given.get("user"):
            config["User"] = given["user"]
        if given.get("memoryMegabytes"):
            config["HostConfig"]["Memory"] = given["memoryMegabytes"] * 1024 * 1024
        if given.get("cpus"):
            config["HostConfig"]["NanoCpus"] = int(given["cpus"] * 1_000_000_000)
        return config

    def _bindings(self, number: int) -> JsonObject:
        bindings: JsonObject = {}
        for port in self.properties.get("ports") or ():
            host = str(port["host"] + number - 1) if port.get("host") else ""
            entry = {"HostIp": port.get("address", "127.0.0.1"), "HostPort": host}
            bindings.setdefault(f"{port['container']}/tcp", []).append(entry)
        return bindings
