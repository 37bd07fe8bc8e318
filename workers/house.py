"""Puts a process of the back door together: settings, database, bus, providers, broker."""

from __future__ import annotations

import os
import random
import socket
from dataclasses import dataclass
from importlib.metadata import version

import structlog

from app.bus.bus import Bus
from app.db.sealing import Sealer
from app.db.uow import Database, Rings
from app.domain.logs import LogRoom
from app.engine.claims import Claimer
from app.engine.connections import Connections
from app.engine.executor import Executor
from app.engine.liveness import Worker
from app.engine.observations import Archivist
from app.engine.observing import Observer
from app.engine.recorder import Recorder
from app.engine.runner import Runner
from app.engine.sweeping import Sweeper
from app.providers.reach import Reach
from app.providers.registry import Registry
from app.providers.sessions import WITHOUT_CONNECTION, Sessions
from app.services.dependencies import Dependencies
from app.settings import Settings
from app.telemetry import logging
from workers.broker import Broker, make_broker
from workers.doorbell import Doorbell

_logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class House:
    """What every process of the back door has."""

    settings: Settings
    database: Database
    bus: Bus
    broker: Broker
    doorbell: Doorbell


def build(name: str) -> House:
    """Read the settings and connect lazily to everything they name. Raises SettingsError."""
    settings = Settings.from_environment(os.environ)
    logging.configure(settings.log_level, settings.log_format)
    redis_url = settings.required("redis_url")
    bus = Bus(redis_url)
    broker = make_broker(redis_url)
    doorbell = Doorbell(broker, broker.tell, settings.worker_threads)

    def after_commit(rings: Rings) -> None:
        doorbell.ring(rings.due)
        bus.ring(Rings(streams=rings.streams, freed=rings.freed))

    database = Database.connect(
        settings.required("database_url"),
        name=name,
        pool_size=settings.pool_size,
        after_commit=after_commit,
        own_rings=doorbell.room,
    )
    return House(settings, database, bus, broker, doorbell)


def registry_of(settings: Settings) -> Registry:
    """The providers of the installation."""
    # A socket in this machine's file system often asks nobody for a password; tenants have no business there.
    return Registry.default(allowed=settings.providers, sockets=False, reach=Reach.of(settings))


def dependencies_of(house: House) -> Dependencies:
    """What firing a plan needs beside a database."""
    sealer = Sealer.of(house.settings)
    return Dependencies(registry_of(house.settings), sealer)


def worker_of(house: House) -> Worker:
    """The process as a worker, not yet registered."""
    return Worker(
        database=house.database,
        lease_seconds=house.settings.lease_seconds,
        name=f"{socket.gethostname()}-{os.getpid()}",
        version=version("windlass"),
        hands=house.settings.worker_threads,
    )


def observer_of(house: House) -> Observer:
    """What looks at resources as they are outside."""
    settings = house.settings
    dependencies = dependencies_of(house)
    registry, sealer = dependencies.catalogue, dependencies.sealer
    return Observer(
        house.database,
        Archivist(registry, sealer),
        Connections(house.database, sealer, Sessions(registry), WITHOUT_CONNECTION),
        settings.data_dir / "artifacts",
    )


def sweeper_of(house: House) -> Sweeper:
    """What looks behind undone effects."""
    dependencies = dependencies_of(house)
    registry, sealer = dependencies.catalogue, dependencies.sealer
    connections = Connections(house.database, sealer, Sessions(registry), WITHOUT_CONNECTION)
    return Sweeper(house.database, registry, sealer, connections, house.settings.data_dir / "artifacts")


def runner_of(house: House, worker: Worker) -> Runner:
    """The runner of a registered worker."""
    settings = house.settings
    sealer = Sealer.of(settings)
    registry = registry_of(settings)
    return Runner(
        house.database,
        Claimer(worker.id, registry, sealer),
        Executor(registry),
        Recorder(
            registry, sealer, random.random, room=LogRoom(settings.log_max_lines, settings.log_max_megabytes * 1024**2)
        ),
        Connections(house.database, sealer, Sessions(registry), WITHOUT_CONNECTION),
        settings.data_dir / "artifacts",
    )
