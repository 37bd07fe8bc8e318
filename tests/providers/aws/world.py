"""What resources of AWS need around them, made by a client that Windlass has no part in."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.providers.aws.moto_server import Emulator

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@dataclass(frozen=True)
class World:
    """Ids and names of what is there."""

    vpc: str
    empty_vpc: str
    subnets: tuple[str, str]
    gateway: str
    group: str
    template: str
    targets: str
    balancer: str
    role: str
    policy: str
    cluster: str
    tasks: tuple[str, str]
    zone: str
    image: str

    def is_there(self, emulator: Emulator) -> bool:
        """Whether the emulator still knows of it."""
        return any(vpc["VpcId"] == self.vpc for vpc in emulator.client("ec2").describe_vpcs()["Vpcs"])

    @classmethod
    def make(cls, emulator: Emulator) -> World:
        ec2, elb, ecs = emulator.client("ec2"), emulator.client("elbv2"), emulator.client("ecs")
        vpc = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
        one, two = (
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.99.{n}.0/24", AvailabilityZone=f"eu-central-1{zone}")["Subnet"][
                "SubnetId"
            ]
            for n, zone in ((1, "a"), (2, "b"))
        )
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        data = {"ImageId": image, "InstanceType": "t3.micro"}
        template = ec2.create_launch_template(LaunchTemplateName="world", LaunchTemplateData=data)["LaunchTemplate"]
        targets = elb.create_target_group(Name="world", Port=80, Protocol="HTTP", VpcId=vpc)["TargetGroups"][0]
        balancer = elb.create_load_balancer(Name="world", Subnets=[one, two])["LoadBalancers"][0]
        role = emulator.client("iam").create_role(RoleName="world", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
        read = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
        policy = emulator.client("iam").create_policy(PolicyName="world", PolicyDocument=json.dumps(read))["Policy"]
        cluster = ecs.create_cluster(clusterName="world")["cluster"]["clusterArn"]
        container = {"name": "web", "image": "web:1", "memory": 64}
        tasks = [
            ecs.register_task_definition(family="world", containerDefinitions=[container])["taskDefinition"]
            for _ in range(2)
        ]
        zone = emulator.client("route53").create_hosted_zone(Name="example.test.", CallerReference="world")
        return cls(
            vpc,
            ec2.create_vpc(CidrBlock="10.98.0.0/16")["Vpc"]["VpcId"],
            (one, two),
            gateway,
            ec2.create_security_group(GroupName="world", Description="d", VpcId=vpc)["GroupId"],
            template["LaunchTemplateId"],
            targets["TargetGroupArn"],
            balancer["LoadBalancerArn"],
            role["Arn"],
            policy["Arn"],
            cluster,
            (tasks[0]["taskDefinitionArn"], tasks[1]["taskDefinitionArn"]),
            zone["HostedZone"]["Id"].rpartition("/")[2],
            image,
        )
