"""Bringing what a server has to what manifests say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.cli.client import Client, CommandFailed
from app.cli.manifests import Kind, Manifest

_ERRORS = "userErrors { code message path ... on ValidationError { diagnostics { code message path suggestion } } }"
_TEMPLATES = """query($name: String!) { resourceTemplates(filter: {name: {eq: $name}}, first: 100) { nodes {
  id version name description type isPublic tags content status tenant { id } latest { id number content } } } }"""
_WORKFLOWS = """query($name: String!) { workflows(filter: {name: {eq: $name}}, first: 100) { nodes {
  id version name description type definition status } } }"""
_PREVIEW = """query($input: PreviewPlanInput!) { previewPlan(input: $input) {
  preview { summary { create update replace delete import noChange run } changes { key type action } }
  diagnostics { severity code message path suggestion } } }"""
_CREATE_TEMPLATE = f"""mutation($input: CreateTemplateInput!) {{ createResourceTemplate(input: $input) {{
  resourceTemplate {{ id version }} {_ERRORS} }} }}"""
_UPDATE_TEMPLATE = f"""mutation($input: UpdateTemplateInput!) {{ updateResourceTemplate(input: $input) {{
  resourceTemplate {{ id version }} {_ERRORS} }} }}"""
_PUBLISH_TEMPLATE = f"""mutation($input: PublishTemplateInput!) {{ publishResourceTemplate(input: $input) {{
  revision {{ id number }} {_ERRORS} }} }}"""
_CREATE_WORKFLOW = f"""mutation($input: CreateWorkflowInput!) {{ createWorkflow(input: $input) {{
  workflow {{ id version }} {_ERRORS} }} }}"""
_UPDATE_WORKFLOW = f"""mutation($input: UpdateWorkflowInput!) {{ updateWorkflow(input: $input) {{
  workflow {{ id version }} {_ERRORS} }} }}"""
_CREATE_PLAN = f"""mutation($input: CreatePlanInput!) {{ createPlan(input: $input) {{
  plan {{ id status statusMessage activeJob {{ id }} lastJob {{ id }}
    diagnostics {{ severity code message path suggestion }} }} {_ERRORS} }} }}"""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Submitted:
    """A plan that was handed in, and the job that executes it, if there is something to do."""

    plan_id: str
    status: str
    job_id: str | None


class Applier:
    """Applies manifests one by one; `say` gets a line for each, with what changed."""

    def __init__(self, client: Client, say: Say, *, dry_run: bool = False) -> None:
        self._client = client
        self._say = say
        self._dry_run = dry_run

    async def apply(self, manifest: Manifest) -> None:
        """Raises CommandFailed; what was applied before stays applied."""
        try:
            match manifest.kind:
                case Kind.TEMPLATE:
                    await self._template(manifest)
                case Kind.WORKFLOW:
                    await self._workflow(manifest)
                case Kind.PLAN if self._dry_run:
                    await self._preview(manifest)
                case Kind.PLAN:
                    await self.submit(manifest)
        except CommandFailed as failure:
            raise CommandFailed(*(f"{manifest.source}: {line}" for line in failure.lines)) from failure

    async def submit(self, manifest: Manifest) -> Submitted:
        """Make a plan and hand it in."""
        given = await self._plan_input(manifest)
        payload = await self._client.mutate(_CREATE_PLAN, _keyed(given))
        plan = payload["plan"]
        job = plan["activeJob"] or plan["lastJob"]
        submitted = Submitted(plan["id"], plan["status"], job and job["id"])
        self._said(manifest, f"created {plan['id']} {plan['status']}")
        if plan["status"] == "INVALID":
            raise CommandFailed(*_diagnostics(plan["diagnostics"]))
        if submitted.job_id is not None:
            self._say(f"job {submitted.job_id}")
        return submitted

    async def _template(self, manifest: Manifest) -> None:
        wanted = {
            "description": manifest.description,
            "type": manifest.spec.get("type", "CUSTOM"),
            "isPublic": bool(manifest.spec.get("public", False)),
            "tags": manifest.tags,
            "content": manifest.without("type", "public"),
        }
        found = (await self._client.ask(_TEMPLATES, {"name": manifest.name}))["resourceTemplates"]["nodes"]
        # A public template of another tenant may have the same name.
        own = next((template for template in found if template["tenant"] is not None), None)
        if own is None:
            if self._dry_run:
                self._said(manifest, "would be created")
                return
            payload = await self._client.mutate(_CREATE_TEMPLATE, _keyed({"name": manifest.name, **_given(wanted)}))
            number = await self._publish(payload["resourceTemplate"])
            self._said(manifest, f"created, revision {number}")
            return
        changed = changed_paths({key: own[key] for key in wanted}, wanted)
        published = own["latest"] is not None and own["latest"]["content"] == wanted["content"]
        if not changed and published:
            self._said(manifest, "unchanged")
        elif self._dry_run:
            self._said(manifest, "would be updated" if changed else "would be published", changed)
        else:
            template = own
            if changed:
                payload = await self._client.mutate(_UPDATE_TEMPLATE, _keyed(_update(own, wanted, changed)))
                template = payload["resourceTemplate"]
            number = own["latest"]["number"] if published else await self._publish(template)
            self._said(manifest, f"updated, revision {number}", changed)

    async def _publish(self, template: Mapping[str, Any]) -> int:
        given = {"id": template["id"], "expectedVersion": template["version"]}
        payload = await self._client.mutate(_PUBLISH_TEMPLATE, _keyed(given))
        return int(payload["revision"]["number"])

    async def _workflow(self, manifest: Manifest) -> None:
        wanted = {
            "description": manifest.description,
            "type": manifest.spec.get("type", "CUSTOM"),
            "definition": manifest.without("type"),
        }
        found = (await self._client.ask(_WORKFLOWS, {"name": manifest.name}))["workflows"]["nodes"]
        if not found:
            if not self._dry_run:
                await self._client.mutate(_CREATE_WORKFLOW, _keyed({"name": manifest.name, **_given(wanted)}))
            self._said(manifest, "would be created" if self._dry_run else "created")
            return
        own = found[0]
        changed = changed_paths({key: own[key] for key in wanted}, wanted)
        if not changed:
            self._said(manifest, "unchanged")
            return
        if not self._dry_run:
            await self._client.mutate(_UPDATE_WORKFLOW, _keyed(_update(own, wanted, changed)))
        self._said(manifest, "would be updated" if self._dry_run else "updated", changed)

    async def _preview(self, manifest: Manifest) -> None:
        try:
            plan = await self._plan_input(manifest)
        except CommandFailed as failure:
            # In a dry run the template it names may be one that would have been made just before.
            self._said(manifest, f"cannot be previewed yet: {failure.lines[0]}")
            return
        known = ("workflowId", "templateRevisionId", "parameters", "constraints")
        given = {"stack": plan.get("stack", manifest.name), **{key: plan[key] for key in known if key in plan}}
        result = (await self._client.ask(_PREVIEW, {"input": given}))["previewPlan"]
        if result["preview"] is None:
            raise CommandFailed(*_diagnostics(result["diagnostics"]))
        counts = [f"{number} {name}" for name, number in result["preview"]["summary"].items() if number]
        self._said(manifest, f"would do {', '.join(counts) or 'nothing'}")
        for change in result["preview"]["changes"]:
            self._say(f"  {change['action']} {change['key']} ({change['type']})")

    async def _plan_input(self, manifest: Manifest) -> dict[str, Any]:
        spec = manifest.spec
        given: dict[str, Any] = {
            "name": manifest.name,
            "description": manifest.description,
            "type": spec.get("type", "IMMEDIATE"),
            "stack": spec.get("stack"),
            "parameters": spec.get("parameters"),
            "configuration": spec.get("configuration"),
            "schedule": _as_json(spec.get("schedule")),
            "condition": spec.get("condition"),
            "validUntil": _as_json(spec.get("validUntil")),
            "constraints": spec.get("constraints"),
            "failureStrategy": spec.get("failureStrategy"),
            "rollbackScope": spec.get("rollbackScope"),
            "metadata": None if manifest.tags is None else {"tags": manifest.tags},
        }
        if "template" in spec:
            given["templateRevisionId"] = await self._revision(str(spec["template"]))
        if "workflow" in spec:
            given["workflowId"] = await self._workflow_id(str(spec["workflow"]))
        return _given(given)

    async def _revision(self, name: str) -> str:
        found = (await self._client.ask(_TEMPLATES, {"name": name}))["resourceTemplates"]["nodes"]
        ready = [template for template in found if template["latest"] is not None]
        if not ready:
            message = f"spec.template: there is no published template {name}"
            raise CommandFailed(message)
        own = [template for template in ready if template["tenant"] is not None]
        return str((own or ready)[0]["latest"]["id"])

    async def _workflow_id(self, name: str) -> str:
        found = (await self._client.ask(_WORKFLOWS, {"name": name}))["workflows"]["nodes"]
        if not found:
            message = f"spec.workflow: there is no workflow {name}"
            raise CommandFailed(message)
        return str(found[0]["id"])

    def _said(self, manifest: Manifest, what: str, changed: list[str] | None = None) -> None:
        self._say(f"{manifest.kind.value.lower()} {manifest.name} {what}")
        for path in changed or ():
            self._say(f"  {path}")


def submittable(path: Path, manifests: list[Manifest]) -> list[Manifest]:
    """The plans among them. Raises CommandFailed when there is none."""
    plans = [manifest for manifest in manifests if manifest.kind is Kind.PLAN]
    if not plans:
        message = f"{path}: there is no Plan in it; `windlass apply` takes the rest"
        raise CommandFailed(message)
    return plans


def changed_paths(before: Any, after: Any, path: str = "") -> list[str]:
    """Where two JSON trees differ: `+ path` came, `- path` went, `~ path` is another value."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: list[str] = []
        for key in sorted({*before, *after}):
            place = f"{path}.{key}" if path else str(key)
            if key not in before:
                found.append(f"+ {place}")
            elif key not in after:
                found.append(f"- {place}")
            else:
                found.extend(changed_paths(before[key], after[key], place))
        return found
    return [] if before == after else [f"~ {path}"]


def _update(own: Mapping[str, Any], wanted: Mapping[str, Any], changed: list[str]) -> dict[str, Any]:
    touched = {path[2:].split(".")[0] for path in changed}
    values = {key: value for key, value in wanted.items() if key in touched}
    return {"id": own["id"], "expectedVersion": own["version"], **values}


def _as_json(value: Any) -> Any:
    """YAML has moments of its own, JSON does not. One without an offset is UTC, as YAML says."""
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).isoformat()
    return value.isoformat() if isinstance(value, date) else value


def _keyed(given: dict[str, Any]) -> dict[str, Any]:
    return {"idempotencyKey": uuid4().hex, **given}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _diagnostics(found: list[dict[str, Any]]) -> list[str]:
    lines = []
    for item in found:
        place = ".".join(item["path"])
        hint = f" — {item['suggestion']}" if item.get("suggestion") else ""
        lines.append(f"{place + ': ' if place else ''}{item['message']} ({item['code']}){hint}")
    return lines or ["the plan is not valid"]
