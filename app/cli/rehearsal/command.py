"""`windlass rehearse`, from the file to the exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from rich.console import Console

from app.cli import manifests
from app.cli.applying import submittable
from app.cli.client import CommandFailed
from app.cli.manifests import Kind, Manifest
from app.cli.rehearsal import documents, inventory
from app.cli.rehearsal.findings import Exit, Failure, Finding, differences, undone
from app.cli.rehearsal.injecting import INJECTED
from app.cli.rehearsal.stage import Stage
from app.cli.rehearsal.standins import Cast, Given, Stand, standing_in
from app.cli.rehearsal.telling import Say, Teller
from app.cli.terminal import plain
from app.db.models import DeploymentPlan, OrchestrationJob, StepRun
from app.domain.errors import DomainError, Severity
from app.domain.operations import OperationKind
from app.domain.statuses import PlanStatus, StepStatus
from app.services.previews import diagnostics_of
from app.settings import Settings

_FAILED = frozenset({StepStatus.FAILED, StepStatus.COMPENSATION_FAILED})


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be rehearsed. The plans of `after` come first, and have to succeed as they are."""

    file: Path
    after: Sequence[Path] = ()
    fail_at: Sequence[str] = ()
    policies: Path | None = None
    region: str = "eu-central-1"
    seconds: float = 600.0
    docker: str | None = None
    modules: bool = False
    sources: Sequence[Path] = ()
    # Values of parameters in the place of those in the file, as texts of YAML.
    parameters: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> tuple[list[Manifest], list[Manifest]]:
        """The documents of `after`, and those of `file`. Raises CommandFailed with every fault."""
        before = [manifest for path in self.after for manifest in manifests.read(path)]
        found = manifests.read(self.file)
        submittable(self.file, found)
        values = documents.parameters_of(self.parameters)
        changed = [[documents.with_parameters(one, values) for one in part] for part in (before, found)]
        return changed[0], changed[1]

    def given(self) -> Given:
        """What the plans use, and what of this machine they may. Raises CommandFailed."""
        everything = [manifest for part in self.read() for manifest in part]
        return Given(
            documents.providers_of(everything),
            documents.outputs_read(everything),
            self.region,
            self.docker,
            self.modules,
            self.sources,
        )


def run(wish: Wish, output: str) -> int:
    """Rehearse and tell of it. Raises CommandFailed where that is not possible."""
    given = wish.given()
    settings = Settings.from_environment(os.environ)
    console = Console(stderr=output == "json")

    def say(text: str, style: str) -> None:
        console.print(plain(text, style), soft_wrap=True)

    with thrown_away() as (folder, url), standing_in(settings, given, url) as cast:
        findings = asyncio.run(rehearse(wish, cast, url, folder, say))
    if output == "json":
        told = orjson.dumps([finding.document() for finding in findings], option=orjson.OPT_INDENT_2).decode()
        Console().print(plain(told), soft_wrap=True)
    return int(max(finding.exit for finding in findings))


async def rehearse(wish: Wish, cast: Cast, database_url: str, folder: Path, say: Say) -> list[Finding]:
    """What each plan of the file came to, on a migrated database without tenants. Raises CommandFailed."""
    before, found = wish.read()
    teller = Teller(say)
    teller.begin(str(wish.file), cast, documents.providers_of([*before, *found]))
    try:
        serving = nullcontext() if cast.desk is None else cast.desk.serving(database_url)
        async with asyncio.timeout(wish.seconds), serving, Stage.open(database_url, cast, folder) as stage:
            return await _Rehearsal(wish, stage, teller).run(before, found)
    except TimeoutError as error:
        message = f"not over after {wish.seconds:g} s; --timeout gives it more"
        raise CommandFailed(message) from error


@dataclass(slots=True)
class _Rehearsal:
    wish: Wish
    stage: Stage
    teller: Teller
    types: set[str] = field(default_factory=set)
    stacks: dict[str, None] = field(default_factory=dict)

    async def run(self, before: list[Manifest], found: list[Manifest]) -> list[Finding]:
        """What came of the plans in `found`. What was made for real is gone afterwards, or named."""
        left: list[str] = []
        try:
            findings = await self._run(before, found)
        finally:
            if self.stage.cast.real:
                left = await self._tidy_up()
        if left:
            raise CommandFailed(*(f"could not be tidied up: {one}" for one in left))
        return findings

    async def _tidy_up(self) -> list[str]:
        """Take away what the plans have left of their stacks; what is there in spite of it."""
        found: list[str] = []
        for stack in reversed(self.stacks):
            left = [f"{key} ({one.type} {one.external_id})" for key, one in (await self.stage.removed(stack)).items()]
            self.teller.say(f"tidied up {stack}: {'; '.join(left) or 'nothing'} is left", "red" if left else "")
            found += left
        return found

    async def _run(self, before: list[Manifest], found: list[Manifest]) -> list[Finding]:
        with _blaming(str(self.wish.file)):
            await self.stage.connect(documents.connections_of([*before, *found]))
        for finding in await self._plans(before, self._no_failures):
            if finding.exit is not Exit.WOULD_SUCCEED:
                message = f"plan {finding.plan} has to succeed before {self.wish.file} is rehearsed, and does not"
                raise CommandFailed(message)
        if self.wish.policies is not None:
            with _blaming(str(self.wish.policies)):
                await self.stage.judge_by(documents.policies_in(self.wish.policies))
        several = sum(manifest.kind is Kind.PLAN for manifest in found) > 1
        return await self._plans(found, self._known_failures if several else self._failures)

    async def _plans(self, found: list[Manifest], failures: Callable[[list[str]], list[str]]) -> list[Finding]:
        findings = []
        for manifest in found:
            self.types.update(documents.types_of(manifest))
            with _blaming(manifest.source):
                if manifest.kind is Kind.PLAN:
                    findings.append(await self._plan(manifest, failures))
                else:
                    await self.stage.define(manifest)
                    self._tell_gates(manifest)
        return findings

    def _tell_gates(self, manifest: Manifest) -> None:
        for key in documents.without_people(manifest)[1]:
            self.teller.say(f"  gate {key} is answered with yes, and a made-up form", "yellow")

    async def _plan(self, manifest: Manifest, failures: Callable[[list[str]], list[str]]) -> Finding:
        stage = self.stage
        plan = await stage.submit(manifest)
        self.stacks[plan.stack] = None
        stands = {
            change["key"]: stage.cast.of(change["type"])
            for change in (plan.preview or {}).get("changes", ())
            if stage.registry.has_type(change["type"]) or stage.registry.has_task(change["type"])
        }
        self.teller.preview(plan, stands)
        if plan.last_job_id is None:
            return self._idle(plan, stands)
        steps = await stage.steps(plan.last_job_id)
        await stage.inject(plan.last_job_id, failures([step.step_key for step in steps]))
        recorded, there = await stage.recorded(plan.stack), await inventory.things(stage, self.types)
        job = await stage.carry_out(plan.last_job_id, self.teller.event)
        now = await inventory.things(stage, self.types)
        steps = await stage.steps(job.id)
        self._tell_warnings(steps)
        finding = self._finding(plan, stands, job, steps)
        if finding.failed:
            left = differences(recorded, await stage.recorded(plan.stack))
            finding = replace(finding, remained=left, strays=sorted(there ^ now))
        else:
            finding = replace(finding, made=len(now - there))
        self.teller.finding(finding)
        return finding

    def _tell_warnings(self, steps: list[StepRun]) -> None:
        """What was found beforehand and stopped nobody."""
        asking = (step for step in steps if step.operation is OperationKind.PREFLIGHT)
        for found in (found for step in asking for found in (step.outputs or {}).get("findings", ())):
            if found["severity"] == Severity.WARN:
                self.teller.say(f"warned    {'.'.join(found['path'])}: {found['message']} ({found['code']})", "yellow")

    def _idle(self, plan: DeploymentPlan, stands: dict[str, Stand]) -> Finding:
        if plan.status is not PlanStatus.SUCCEEDED:
            message = f"the plan is {plan.status}, and is rehearsed no further: {plan.status_message or ''}".rstrip(
                ": "
            )
            raise CommandFailed(message)
        finding = Finding(plan.plan_name, plan.stack, None, plan.preview or {}, stands)
        self.teller.finding(finding)
        return finding

    def _finding(
        self, plan: DeploymentPlan, stands: dict[str, Stand], job: OrchestrationJob, steps: list[StepRun]
    ) -> Finding:
        failures = []
        for step in steps:
            error = step.error or {}
            if not error:
                continue
            if (
                step.status in _FAILED
                or error.get("code") == INJECTED
                or (job.error or {}).get("stepKey") == step.step_key
            ):
                code, text = str(error.get("code", "")), str(error.get("message") or step.status_message or "")
                failures.append(Failure(step.step_key, code, text, stands.get(step.step_key), code == INJECTED))
        return Finding(
            plan=plan.plan_name,
            stack=plan.stack,
            status=job.status,
            preview=plan.preview or {},
            stands=stands,
            failures=failures,
            undone=undone({step.step_key: step.status for step in steps}),
            simulated=[key for key, stand in stands.items() if stand is Stand.SIMULATED],
        )

    @staticmethod
    def _no_failures(keys: list[str]) -> list[str]:  # noqa: ARG004
        return []

    def _failures(self, keys: list[str]) -> list[str]:  # noqa: ARG002  the engine says which there are
        return list(self.wish.fail_at)

    def _known_failures(self, keys: list[str]) -> list[str]:
        """Where there are several plans: those that this one has."""
        return [name for name in self.wish.fail_at if name.removesuffix(":undo") in keys]


@contextmanager
def thrown_away() -> Iterator[tuple[Path, str]]:
    """A folder, and a migrated database on a server of its own; both are gone afterwards. Raises CommandFailed."""
    # Part of an extra, which a worker's installation may do without.
    try:
        from app.embedded.postgres import EmbeddedPostgres
        from app.embedded.processes import ServerFailed
    except ImportError as error:
        message = "a rehearsal needs PostgreSQL's wheel: install windlass[rehearsal]"
        raise CommandFailed(message) from error
    from app.db.migrating import migrate

    logging.getLogger("alembic").setLevel(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="windlass-rehearsal-"))
    server = EmbeddedPostgres(folder / "postgres", durable=False)
    try:
        url = server.start()
        migrate(url)
        yield folder / "files", url
    except ServerFailed as error:
        raise CommandFailed(*str(error).splitlines()) from error
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _blaming(source: str) -> Iterator[None]:
    """What is refused is told with the place of the document."""
    try:
        yield
    except DomainError as error:
        lines = []
        for found in diagnostics_of(error):
            place = ".".join(found.path)
            more = f" — {found.suggestion}" if found.suggestion else ""
            lines.append(f"{source}: {place + ': ' if place else ''}{found.message} ({found.code}){more}")
        raise CommandFailed(*lines) from error
