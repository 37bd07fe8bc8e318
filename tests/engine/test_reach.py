"""Jobs that reach servers, programs, engines and modules: what they do, and what is left after a rollback."""

from __future__ import annotations

import json
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.rehearsal.findings import Exit
from app.cli.rehearsal.standins import Stand
from app.domain.addresses import Allowed
from app.domain.errors import Invalid
from app.domain.statuses import JobStatus
from app.egress import Egress
from app.engine.ticking import tick
from app.providers.command.provider import CommandProvider
from app.providers.command.task import Allowance
from app.providers.docker.provider import DockerProvider
from app.providers.http.provider import HttpProvider
from app.providers.sources import Sources
from app.providers.tofu.provider import TofuProvider
from app.providers.tofu.runs import Installation
from tests.cli.rehearsal.conftest import Rehearse, Told, example, held, told  # noqa: F401  two of them fixtures
from tests.engine.harness import Workshop
from tests.engine.reaching import EXAMPLES, equip, submit_example
from tests.engine.test_recovery import die_at
from tests.providers import engines
from tests.providers.restful import Restful, serving
from tests.providers.tofu import Keeper, keeping, program

FAIL = {"key": "fail", "type": "CUSTOM", "order": 9, "configuration": {"task": "core.assert"},
        "inputs": {"that": False, "message": "no"}}  # fmt: skip
ALL = {"key": "all", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "*"}}


@pytest.fixture
async def server() -> AsyncIterator[Restful]:
    async with serving() as restful:
        yield restful


async def equipped(workshop: Workshop, server: Restful) -> None:
    http = HttpProvider(Egress(Allowed.parse(["127.0.0.1"])))
    await equip(workshop, http, configs={"http": {"baseUrl": server.url, "idempotencyKeys": True}})


def record(**more: Any) -> dict[str, Any]:
    progress = {"status": "/state", "done": ["done"], "failed": ["failed"], "identity": "/record"}
    return {
        "resources": {
            "record": {
                "type": "http.resource",
                "properties": {
                    "path": "/records", "fields": {"name": "one"}, "mark": "managed",
                    "secretFields": {"password": "a-word-of-secrecy"}, **more,
                },
            },
            "late": {
                "type": "http.resource",
                "dependsOn": ["record"],
                "properties": {
                    "path": "/records", "fields": {"name": "two"}, "progress": progress,
                    "secretFields": {"password": "a-word-of-secrecy"},
                },
            },
        }
    }  # fmt: skip


async def test_lost_answers_and_late_ones_end_in_one_record_each_and_a_rollback_in_none(
    workshop: Workshop, server: Restful
) -> None:
    await equipped(workshop, server)
    template = await workshop.template(record())
    server.accidents.extend(["BUSY", "LOSE", None, "LATER"])
    job = await workshop.settle(await workshop.submit(template))
    assert job.status is JobStatus.SUCCEEDED
    assert sorted(each["name"] for each in server.records.values()) == ["one", "two"]
    workflow = await workshop.workflow(ALL, FAIL)
    server.accidents.extend([None, "LOSE"])
    changed = await workshop.template(record(fields={"name": "one", "size": 2}), "changed")
    job = await workshop.settle(await workshop.submit(changed, workflow))
    assert job.status is JobStatus.ROLLED_BACK
    assert {each["name"]: each.get("size") for each in server.records.values()} == {"one": None, "two": None}


async def test_a_first_deployment_that_fails_leaves_no_record(workshop: Workshop, server: Restful) -> None:
    await equipped(workshop, server)
    server.accidents.extend([None, "LATER"])
    job = await workshop.settle(
        await workshop.submit(await workshop.template(record()), await workshop.workflow(ALL, FAIL))
    )
    assert job.status is JobStatus.ROLLED_BACK
    assert server.records == {}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("way", ["lookup", "key"])
async def test_a_worker_lost_at_a_request_is_followed_by_one_that_asks(
    workshop: Workshop, server: Restful, monkeypatch: pytest.MonkeyPatch, place: str, way: str
) -> None:
    await equipped(workshop, server)
    lookup = {"path": "/records?name={fields.name}", "found": "/items/0"}
    more = {"lookup": lookup} if way == "lookup" else {}
    content = record(**more)
    del content["resources"]["late"]
    job_id = await workshop.submit(await workshop.template(content))
    await die_at(workshop, monkeypatch, place, workshop.rung.pop(0))
    assert len(server.records) == (0 if place == "before" else 1)
    await tick(workshop.database, ring_again_seconds=0)
    job = await workshop.settle(job_id)
    assert (job.status, job.recoveries) == (JobStatus.SUCCEEDED, 1)
    assert [each["name"] for each in server.records.values()] == ["one"]


async def test_what_a_provider_waits_for_is_kept_without_secrets(workshop: Workshop, server: Restful) -> None:
    await equipped(workshop, server)
    server.accidents.extend([None, "LATER"])
    job_id = await workshop.submit(await workshop.template(record()))
    await workshop.answer()
    [row] = await workshop.rows("SELECT handle::text AS handle FROM step_run WHERE handle IS NOT NULL")
    assert "/operations/" in row.handle
    assert "a-word-of-secrecy" not in row.handle
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    server.accidents.append("ECHO")
    refused = await workshop.settle(
        await workshop.submit(await workshop.template(record(fields={"name": "x"}), "echo"))
    )
    [error] = {
        row.error["message"] for row in await workshop.rows("SELECT error FROM step_run WHERE error IS NOT NULL")
    }
    assert 'the server answered 400: {"error":"no: ***"}' in error
    assert "a-word-of-secrecy" not in str(refused.error)
    sent = [json.loads(body) for method, _, _, body in server.seen if method == "POST"]
    assert {each["password"] for each in sent} == {"a-word-of-secrecy"}


async def test_commands_are_undone_and_say_nothing_secret(workshop: Workshop, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    await equip(workshop, CommandProvider(Allowance(frozenset({"/bin/sh"}))), configs={})
    run = {
        "key": "run", "type": "CUSTOM", "order": 1, "configuration": {"task": "command.run"},
        "inputs": {
            "argv": ["/bin/sh", "-c", f"read w; echo told $w; : > {mark}"],
            "stdin": "open-sesame\n",
            "undo": {"argv": ["/bin/sh", "-c", f"[ -e {mark} ] && echo gone > {mark}.undone; : < {mark}"]},
        },
    }  # fmt: skip
    job_id = await workshop.submit(None, await workshop.workflow(run, FAIL))
    job = await workshop.settle(job_id)
    assert job.status is JobStatus.ROLLED_BACK
    assert (tmp_path / "mark.undone").read_text() == "gone\n"
    rows = await workshop.rows("SELECT count(*) AS lines FROM job_log WHERE job_id = :job", job=job_id)
    assert rows[0].lines > 0
    async with workshop.database.read(workshop.tenant_id) as session:
        told = await _lines(session, job_id)
    assert "told ***" in told
    assert not any("open-sesame" in line for line in told)


async def _lines(session: Any, job_id: int) -> list[str]:
    from sqlalchemy import text

    from app.db import chunks

    rows = await session.execute(text("SELECT * FROM job_log WHERE job_id = :job ORDER BY first_seq"), {"job": job_id})
    plain = [chunks.plain_text(row["codec"], row["body"]) for row in rows.mappings()]
    return [line for text_ in plain for line in chunks.unpack(text_).messages]


async def test_commands_that_are_off_are_refused_while_planning(workshop: Workshop) -> None:
    await equip(workshop, CommandProvider(Allowance()), configs={})
    step = {"key": "run", "type": "CUSTOM", "order": 1, "configuration": {"task": "command.run"},
            "inputs": {"argv": ["/bin/sh"]}}  # fmt: skip
    workflow = await workshop.workflow(step)
    with pytest.raises(Invalid) as refused:
        await workshop.submit(None, workflow)
    assert [(fault.code, fault.path) for fault in refused.value.diagnostics] == [
        ("NOT_ALLOWED", ("steps", "0", "inputs", "argv", "0"))
    ]


def site(folder: Path) -> str:
    """The archive of the example's site, with a file system in the place of an image that would have to be pulled."""
    engines.rootfs(folder / "rootfs.tar")
    (folder / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\nCOPY index.html /www/index.html\n")
    (folder / "index.html").write_text("hello")
    with tarfile.open(folder / "site.tar", "w") as packed:
        for name in ("Dockerfile", "rootfs.tar", "index.html"):
            packed.add(folder / name, name)
    return str(folder / "site.tar")


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with engines.engine() as address:
        yield address


@pytest.mark.xdist_group("docker")
@pytest.mark.skipif(engines.missing() is not None, reason=engines.missing() or "")
async def test_a_rehearsal_on_a_real_engine_finds_the_failure_and_tidies_up(
    held: Rehearse,  # noqa: F811
    told: Told,  # noqa: F811
    host: str,
    tmp_path: Path,
) -> None:
    really = {"docker": host, "sources": [tmp_path], "parameters": {"archive": site(tmp_path)}}
    (finding,) = await held(example("containers-broken"), after=[example("containers")], **really)
    (failure,) = finding.failures
    assert (failure.step, failure.stand, finding.exit) == ("site", Stand.REAL, Exit.WOULD_FAIL_CLEANLY)
    assert "nobody there" in failure.message
    assert (finding.undone, finding.remained) == (["site"], [])
    assert told[-1] == "tidied up site: nothing is left"
    async with DockerProvider([host]).session({"host": host}) as engine:
        assert (await engine.replicas("site"), await engine.networks(name="site")) == ([], [])
        assert await engine.image("windlass-examples/site:1") is None


@pytest.mark.xdist_group("docker")
@pytest.mark.skipif(engines.missing() is not None, reason=engines.missing() or "")
async def test_the_container_examples(workshop: Workshop, host: str, tmp_path: Path) -> None:
    """Three replicas; a version that cannot work; the three replicas again."""
    archive = site(tmp_path)
    provider = DockerProvider([host], Sources([tmp_path]))
    await equip(workshop, provider, configs={"docker": {"host": host}})
    good = await workshop.settle(await submit_example(workshop, "containers", archive=archive), seconds=60)
    assert good.status is JobStatus.SUCCEEDED
    async with provider.session({"host": host}) as engine:
        before = await engine.replicas("site")
        bad = await workshop.settle(await submit_example(workshop, "containers-broken", archive=archive), seconds=60)
        after = await engine.replicas("site")
    assert bad.status is JobStatus.ROLLED_BACK
    assert "site-1 ended with 1; the last it said: " in str(bad.error)
    assert "nobody there" in str(bad.error)
    commands = [each["Config"]["Cmd"][0] for each in before]
    assert len(commands) == 3
    assert [each["Config"]["Cmd"][0] for each in after if each["State"]["Running"]] == commands


@pytest.fixture
async def keeper(database_url: str) -> AsyncIterator[Keeper]:
    async with keeping(database_url) as made:
        yield made


@pytest.mark.skipif(program() is None, reason="there is neither tofu nor terraform on the PATH")
async def test_the_tofu_examples(workshop: Workshop, keeper: Keeper) -> None:
    """Two modules, the second fed by the first; and two of which the second fails, after which there is nothing."""
    sources = Sources([EXAMPLES / "tofu" / "modules"])
    await equip(workshop, TofuProvider(Installation(program() or "", keeper.backend, sources)), configs={})
    modules = str(EXAMPLES / "tofu" / "modules")
    good = await workshop.settle(await submit_example(workshop, "tofu", modules=modules), seconds=60)
    assert good.status is JobStatus.SUCCEEDED
    states = "SELECT name, is_deleted FROM tofu_state ORDER BY name"
    assert [tuple(row) for row in await workshop.rows(states)] == [("application", False), ("network", False)]
    [made] = await workshop.rows("SELECT outputs FROM cloud_resource WHERE resource_key = 'application'")
    assert len(made.outputs["machines"]) == 2
    bad = await workshop.settle(await submit_example(workshop, "tofu-broken", modules=modules), seconds=60)
    assert bad.status is JobStatus.ROLLED_BACK
    assert "quota of load balancers exceeded" in str(bad.error)
    assert [row.name for row in await workshop.rows(states) if not row.is_deleted] == ["application", "network"]
