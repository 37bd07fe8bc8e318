"""How a rehearsal is told, line by line; the first and the last say that it is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.cli.rehearsal.findings import Exit, Finding
from app.cli.rehearsal.standins import Cast, Stand
from app.db.models import DeploymentPlan, EventLog
from app.domain.events import EventKind

Say = Callable[[str, str], None]

_STYLES = {
    "SUCCEEDED": "green",
    "COMPENSATED": "green",
    "FAILED": "red",
    "COMPENSATION_FAILED": "red",
    "ROLLBACK_FAILED": "red",
    "COMPENSATING": "yellow",
    "ROLLING_BACK": "yellow",
    "ROLLED_BACK": "yellow",
    "PAUSED": "yellow",
}
# What a step goes through on its way says nothing that its end does not.
_PASSING = frozenset({"READY", "PENDING", "WAITING"})
_VERDICTS = {
    Exit.WOULD_SUCCEED: ("the plan would succeed, as far as emulators and simulations can tell", "green"),
    Exit.WOULD_FAIL_CLEANLY: ("the plan would FAIL and be rolled back; nothing would remain of it", "yellow"),
    Exit.WOULD_LEAVE_SOMETHING: ("the plan would FAIL and LEAVE SOMETHING behind", "red"),
}


@dataclass(frozen=True, slots=True)
class Teller:
    """Says lines, each with a style of rich."""

    say: Say

    def begin(self, name: str, cast: Cast, used: frozenset[str]) -> None:
        """What is rehearsed, and on what."""
        real = [each for each in cast.real if each in used]
        but = f", but for {' and '.join(real)}, as you asked" if real else "; nothing outside this machine is touched"
        self.say(f"REHEARSAL of {name}: emulated{but}", "bold")
        for provider in sorted(used & cast.parts.keys()):
            part = cast.parts[provider]
            self.say(f"  {provider:<10} {part.stand.value}: {part.by}", _style(part.stand))

    def preview(self, plan: DeploymentPlan, stands: Mapping[str, Stand]) -> None:
        """What the plan would do."""
        self.say(f"plan {plan.plan_name} on stack {plan.stack}", "bold")
        for change in (plan.preview or {}).get("changes", ()):
            stand = stands.get(change["key"])
            label = f" [{stand.value}]" if stand else ""
            cut = ", with downtime" if change["downtime"] else ""
            self.say(f"  {change['action']:<9} {change['key']} ({change['type']}){label}{cut}", "")
        for found in plan.diagnostics or ():
            self.say(f"  {found['severity']} {'.'.join(found['path'])}: {found['message']}", "yellow")
        for key in (plan.preview or {}).get("pointsOfNoReturn", ()):
            self.say(f"  {key} cannot be taken back", "yellow")

    def event(self, event: EventLog) -> None:
        """A fact of the journal."""
        data = event.data
        status = data.get("status")
        if event.kind == EventKind.STEP_STATUS_CHANGED and status not in _PASSING:
            again = f" attempt {data['attempt']}" if data.get("attempt", 0) > 1 else ""
            why = f": {data['message']}" if data.get("message") else ""
            self.say(f"  step {data['stepKey']} {status}{again}{why}", _STYLES.get(str(status), ""))
        elif event.kind == EventKind.JOB_STATUS_CHANGED and status in _STYLES:
            self.say(f"  job {status}", _STYLES[str(status)])

    def finding(self, finding: Finding) -> None:
        """What came of a plan."""
        for failure in finding.failures:
            stand = "injected" if failure.injected else failure.stand.value if failure.stand else "by itself"
            self.say(f"failed    {failure.step}: {failure.message} ({failure.code}, {stand})", "red")
        if finding.failed:
            self.say(f"undone    {', '.join(finding.undone) or 'nothing: nothing had been done'}", "")
            self.say(f"remained  {'; '.join(finding.remained) or 'nothing, by the records'}", "")
            if finding.emulates:
                there = "; ".join(f"{thing.type} {thing.id}" for thing in finding.strays)
                self.say(f"          {there or 'nothing, as the emulators themselves say'}", "")
        elif finding.emulates:
            self.say(f"made      {finding.made} things in emulators", "")
        if finding.simulated:
            self.say(
                f"          {', '.join(finding.simulated)}: only simulated, so nothing was learned about"
                " what the outside world would say; --fail-at lets them fail",
                "yellow",
            )
        text, style = _VERDICTS[finding.exit]
        self.say(f"emulated: {text}", style)


def _style(stand: Stand) -> str:
    return "" if stand is Stand.EMULATED else "yellow"
