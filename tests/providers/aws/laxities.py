"""Where the emulator is not like AWS, each with what the tests expect of it instead.

What is named here must be so: when the emulator learns better, a test fails and the line goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tests.providers.aws.moto_server import REGION, Emulator
from tests.providers.aws.world import World

UPDATED = "what is updated reads back without a difference"

# By type: the checks of the conformance kit that cannot pass.
FAILING_CHECKS: dict[str, dict[str, str]] = {
    "aws.rds.subnet_group": {UPDATED: "ModifyDBSubnetGroup answers, and forgets the group"},
}
# By type: the names that are left out where an answer is lost. A bucket that was made without its tags is known for
# ours by the name that we made up, and by nothing else.
NAMELESS: dict[str, tuple[str, ...]] = {"aws.s3.bucket": ("BucketName",)}


@dataclass(frozen=True)
class Laxity:
    """`shown` says whether the emulator still does what AWS, as `on_aws` says, does not do."""

    name: str
    on_aws: str
    shown: Callable[[Emulator, World], bool]


def _accepts(call: Callable[..., Any], **parameters: Any) -> bool:
    try:
        call(**parameters)
    except ClientError:
        return False
    return True


def _bucket_forgets_tags(emulator: Emulator, world: World) -> bool:  # noqa: ARG001
    s3 = emulator.client("s3")
    wanted = {"LocationConstraint": REGION, "Tags": [{"Key": "a", "Value": "b"}]}
    s3.create_bucket(Bucket="lax-bucket", CreateBucketConfiguration=wanted)
    return not _accepts(s3.get_bucket_tagging, Bucket="lax-bucket")


def _subnet_group_is_forgotten(emulator: Emulator, world: World) -> bool:
    rds = emulator.client("rds")
    rds.create_db_subnet_group(DBSubnetGroupName="lax", DBSubnetGroupDescription="d", SubnetIds=list(world.subnets))
    rds.modify_db_subnet_group(DBSubnetGroupName="lax", SubnetIds=[world.subnets[0]])
    return not _accepts(rds.describe_db_subnet_groups, DBSubnetGroupName="lax")


def _group_larger_than_its_most(emulator: Emulator, world: World) -> bool:
    groups = emulator.client("autoscaling")
    template = {"LaunchTemplateId": world.template, "Version": "1"}
    place = {"LaunchTemplate": template, "VPCZoneIdentifier": world.subnets[0]}
    return _accepts(groups.create_auto_scaling_group, AutoScalingGroupName="lax", MinSize=3, MaxSize=1, **place)


def _group_updated_to_no_version(emulator: Emulator, world: World) -> bool:
    groups = emulator.client("autoscaling")
    template = {"LaunchTemplateId": world.template, "Version": "1"}
    groups.create_auto_scaling_group(
        AutoScalingGroupName="lax-2", MinSize=0, MaxSize=1, LaunchTemplate=template, VPCZoneIdentifier=world.subnets[0]
    )
    nowhere = {**template, "Version": "77"}
    return _accepts(groups.update_auto_scaling_group, AutoScalingGroupName="lax-2", LaunchTemplate=nowhere)


def _group_in_use_is_deleted(emulator: Emulator, world: World) -> bool:
    ec2 = emulator.client("ec2")
    group = ec2.create_security_group(GroupName="lax", Description="d", VpcId=world.vpc)["GroupId"]
    place = {"ImageId": world.image, "SubnetId": world.subnets[0], "SecurityGroupIds": [group]}
    ec2.run_instances(MinCount=1, MaxCount=1, **place)
    return _accepts(ec2.delete_security_group, GroupId=group)


def _token_makes_a_second_instance(emulator: Emulator, world: World) -> bool:
    ec2 = emulator.client("ec2")
    asked = {"ImageId": world.image, "MinCount": 1, "MaxCount": 1, "ClientToken": "lax"}
    one, two = (ec2.run_instances(**asked)["Instances"][0]["InstanceId"] for _ in range(2))
    return bool(one != two)


def _listener_without_certificate(emulator: Emulator, world: World) -> bool:
    forward = [{"Type": "forward", "TargetGroupArn": world.targets}]
    place = {"LoadBalancerArn": world.balancer, "Port": 8443, "Protocol": "HTTPS"}
    return _accepts(emulator.client("elbv2").create_listener, **place, DefaultActions=forward)


def _restored_is_the_same(emulator: Emulator, world: World) -> bool:  # noqa: ARG001
    rds = emulator.client("rds")
    rds.create_db_instance(
        DBInstanceIdentifier="lax", DBInstanceClass="db.t3.micro", Engine="postgres", AllocatedStorage=20,
        MasterUsername="windlass", MasterUserPassword="password",
    )  # fmt: skip
    rds.create_db_snapshot(DBSnapshotIdentifier="lax", DBInstanceIdentifier="lax")
    rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="lax-2", DBSnapshotIdentifier="lax")
    one, two = (
        rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DbiResourceId"]
        for name in ("lax", "lax-2")
    )
    return bool(one == two)


def _service_never_runs(emulator: Emulator, world: World) -> bool:
    ecs = emulator.client("ecs")
    ecs.create_service(cluster=world.cluster, serviceName="lax", taskDefinition=world.tasks[0], desiredCount=1)
    (found,) = ecs.describe_services(cluster=world.cluster, services=["lax"])["services"]
    return bool(found["runningCount"] == 0)


def _dry_run_makes_a_network(emulator: Emulator, world: World) -> bool:  # noqa: ARG001
    return _accepts(emulator.client("ec2").create_vpc, CidrBlock="10.96.0.0/16", DryRun=True)


LAXITIES = (
    Laxity("CreateBucket forgets tags", "a bucket has its tags when it is made", _bucket_forgets_tags),
    Laxity("ModifyDBSubnetGroup loses the group", "the group is changed", _subnet_group_is_forgotten),
    Laxity("MinSize may exceed MaxSize", "CreateAutoScalingGroup refuses it", _group_larger_than_its_most),
    Laxity("a group takes any version", "UpdateAutoScalingGroup refuses it", _group_updated_to_no_version),
    Laxity("a used security group is deleted", "DeleteSecurityGroup: DependencyViolation", _group_in_use_is_deleted),
    Laxity("RunInstances ignores its token", "one token, one instance", _token_makes_a_second_instance),
    Laxity("HTTPS needs no certificate", "CreateListener refuses it", _listener_without_certificate),
    Laxity("a restored database has the old id", "every instance has an id of its own", _restored_is_the_same),
    Laxity("CreateVpc, CreateSubnet and CreateRouteTable ignore DryRun", "nothing is made", _dry_run_makes_a_network),
    Laxity("tasks of a service never run", "the scheduler starts them", _service_never_runs),
)
