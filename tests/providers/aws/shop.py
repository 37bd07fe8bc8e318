"""The engine with the provider aws on an emulator, and what there really is in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import OrchestrationJob, ProviderConnection
from app.db.places import connection_place
from app.engine.liveness import LOCK_CLASS
from app.providers.aws.provider import AwsProvider
from app.providers.registry import Registry
from app.services import previews
from app.services.previews import PreviewPlan
from tests.engine.harness import SEALER, Workshop
from tests.providers.aws.moto_server import Emulator

EXAMPLES = Path(__file__).parents[3] / "examples"
PASSWORD = "only-an-example-7"
ANOTHER_PASSWORD = "quite-another-example-8"


def content_of(example: str) -> dict[str, Any]:
    """The template of an example."""
    documents = yaml.safe_load_all((EXAMPLES / example / f"{example}.yaml").read_text())
    found: dict[str, Any] = next(each for each in documents if each["kind"] == "Template")["spec"]
    return {name: part for name, part in found.items() if name != "type"}


@dataclass
class Shop:
    """A tenant with a connection to the emulator."""

    workshop: Workshop
    emulator: Emulator
    alive: AsyncConnection

    @classmethod
    async def open(
        cls, open_workshop: Callable[..., Awaitable[Workshop]], emulator: Emulator, url: str | None = None
    ) -> Shop:
        """`url`: where the provider is sent to, if not straight to the emulator."""
        workshop = await open_workshop()
        aws = AwsProvider(endpoints=["127.0.0.1"], patience=0, pause=0.01)
        workshop.registry = Registry([workshop.provider, aws])
        workshop.runners.clear()
        await workshop.hire()
        config = emulator.config() if url is None else emulator.config(endpointUrl=url)
        checked, faults = aws.check_config(config)
        assert faults == []
        async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
            transaction.authorize("test")
            transaction.session.add(
                ProviderConnection(
                    tenant_id=workshop.tenant_id,
                    name="emulator",
                    provider="aws",
                    is_default=True,
                    config=SEALER.seal(checked, workshop.tenant_id, connection_place("aws", "emulator")),
                )
            )
        # Jobs take longer here than a worker may be without the lock that says that it lives.
        alive = await workshop.database.engine.connect()
        await alive.execution_options(isolation_level="AUTOCOMMIT")
        for worker in workshop.workers:
            await alive.execute(text("SELECT pg_advisory_lock(:class, :id)"), {"class": LOCK_CLASS, "id": worker.id})
        return cls(workshop, emulator, alive)

    async def close(self) -> None:
        """Ends the sessions with the emulator."""
        await self.alive.close()
        for runner in self.workshop.runners:
            await runner._connections._pool.close()

    async def deploy(self, template: int, **parameters: Any) -> OrchestrationJob:
        """A job that has ended."""
        return await self.workshop.settle(await self.workshop.submit(template, **parameters), seconds=60)

    async def preview(self, template: int, **parameters: Any) -> dict[str, str]:
        """What would be done, by resource."""
        command = PreviewPlan(template_revision_id=template, parameters=parameters, stack="stack")
        async with self.workshop.database.read(self.workshop.tenant_id) as session:
            found = await previews.preview(
                session, self.workshop.tenant_id, self.workshop.principal, command, self.workshop.dependencies
            )
        assert found.preview is not None, found.diagnostics
        return {change["key"]: change["action"] for change in found.preview["changes"]}

    def image(self) -> str:
        """A machine image that there is."""
        return str(self.emulator.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"])

    def machines(self) -> Any:
        """The auto-scaling group."""
        return self.emulator.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0]

    def database(self) -> Any:
        """The DB instance."""
        return self.emulator.client("rds").describe_db_instances()["DBInstances"][0]

    def machine(self) -> Any:
        """What machines are started from."""
        ec2 = self.emulator.client("ec2")
        versions = ec2.describe_launch_template_versions(LaunchTemplateName="shop-web", Versions=["$Default"])
        return versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]

    def there(self) -> dict[str, int]:
        """How many things of each kind there are, beside those that every account has."""
        ec2, rds, elb = (self.emulator.client(name) for name in ("ec2", "rds", "elbv2"))
        own = [{"Name": "tag-key", "Values": ["windlass:owner"]}]
        balancers = elb.describe_load_balancers()["LoadBalancers"]
        listeners = [
            listener
            for balancer in balancers
            for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
        ]
        groups = self.emulator.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        counted = {
            "vpc": [vpc for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]],
            "subnet": [each for each in ec2.describe_subnets()["Subnets"] if not each["DefaultForAz"]],
            "gateway": ec2.describe_internet_gateways(Filters=own)["InternetGateways"],
            "route_table": ec2.describe_route_tables(Filters=own)["RouteTables"],
            "security_group": ec2.describe_security_groups(Filters=own)["SecurityGroups"],
            "launch_template": ec2.describe_launch_templates()["LaunchTemplates"],
            "subnet_group": rds.describe_db_subnet_groups()["DBSubnetGroups"],
            "database": rds.describe_db_instances()["DBInstances"],
            "target_group": elb.describe_target_groups()["TargetGroups"],
            "load_balancer": balancers,
            "listener": listeners,
            "group": groups,
            "bucket": self.emulator.client("s3").list_buckets()["Buckets"],
        }
        return {name: len(found) for name, found in counted.items()}


WHOLE = {
    "vpc": 1, "subnet": 4, "gateway": 1, "route_table": 1, "security_group": 3, "launch_template": 1, "subnet_group": 1,
    "database": 1, "target_group": 1, "load_balancer": 1, "listener": 1, "group": 1, "bucket": 1,
}  # fmt: skip
NOTHING = dict.fromkeys(WHOLE, 0)
