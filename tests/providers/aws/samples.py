"""For each type, properties to try in the world around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.providers.conformance import Sample
from tests.providers.aws.world import TRUST, World

Make = Callable[[World], Sample]


def _vpc(world: World) -> Sample:  # noqa: ARG001
    return Sample(
        properties={"CidrBlock": "10.1.0.0/16", "Tags": {"Name": "one", "gone": "x"}},
        updated={"CidrBlock": "10.1.0.0/16", "EnableDnsHostnames": True, "Tags": {"Name": "two"}},
        replaced={"CidrBlock": "10.2.0.0/16"},
        invalid=({}, {"CidrBlock": "ten"}, {"CidrBlock": "10.1.0.0/16", "Tags": {"aws:x": "y"}}),
        unique=False,
    )


def _subnet(world: World) -> Sample:
    place = {"VpcId": world.vpc, "CidrBlock": "10.99.9.0/24"}
    return Sample(
        properties={**place, "AvailabilityZone": "eu-central-1b"},
        updated={**place, "MapPublicIpOnLaunch": True, "Tags": {"tier": "web"}},
        replaced={**place, "CidrBlock": "10.99.10.0/24"},
        invalid=({}, {"VpcId": "v"}, {**place, "Colour": "blue"}),
    )


def _gateway(world: World) -> Sample:
    return Sample(
        properties={"VpcId": world.empty_vpc, "Tags": {"Name": "one"}},
        updated={"VpcId": world.empty_vpc, "Tags": {"Name": "two"}},
        replaced={"VpcId": world.vpc},
        invalid=({"VpcId": 7}, {"Tags": {"windlass:owner": "me"}}),
    )


def _routes(world: World) -> Sample:
    return Sample(
        properties={
            "VpcId": world.vpc,
            "Routes": [
                {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": world.gateway},
                {"DestinationCidrBlock": "172.16.0.0/16", "GatewayId": world.gateway},
            ],
            "SubnetIds": [world.subnets[0]],
        },
        updated={
            "VpcId": world.vpc,
            "Routes": [{"DestinationCidrBlock": "10.200.0.0/16", "GatewayId": world.gateway}],
            "SubnetIds": [world.subnets[1]],
        },
        replaced={"VpcId": "vpc-other"},
        invalid=({}, {"VpcId": "v", "Routes": [{"DestinationCidrBlock": "0.0.0.0/0"}]}),
        unique=False,
    )


def _group(world: World) -> Sample:
    place = {"GroupName": "conform", "GroupDescription": "d", "VpcId": world.vpc}
    web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIp": "0.0.0.0/0"}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "SourceSecurityGroupId": world.group}
    return Sample(
        properties={**place, "SecurityGroupIngress": [web, ssh]},
        updated={
            **place,
            "SecurityGroupIngress": [{**web, "Description": "all"}, {**web, "FromPort": 443, "ToPort": 443}],
            "SecurityGroupEgress": [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"}],
        },
        replaced={**place, "GroupName": "conform-2"},
        invalid=({}, {**place, "SecurityGroupIngress": [{"FromPort": 1}]}),
    )


def _template(world: World) -> Sample:
    data = {"ImageId": world.image, "InstanceType": "t3.micro"}
    return Sample(
        properties={"LaunchTemplateName": "conform", "LaunchTemplateData": {**data, "UserData": "c2VjcmV0"}},
        updated={
            "LaunchTemplateName": "conform",
            "LaunchTemplateData": {**data, "InstanceType": "t3.small", "SecurityGroupIds": [world.group]},
        },
        replaced={"LaunchTemplateName": "conform-2", "LaunchTemplateData": data},
        invalid=({}, {"LaunchTemplateData": {"Colour": "blue"}}),
    )


def _scaling(world: World) -> Sample:
    base = {
        "AutoScalingGroupName": "conform",
        "LaunchTemplate": {"LaunchTemplateId": world.template, "Version": "1"},
        "VPCZoneIdentifier": list(world.subnets),
        "MinSize": 1,
        "MaxSize": 4,
    }
    return Sample(
        properties={**base, "DesiredCapacity": 2, "Tags": {"tier": "web", "gone": "x"}},
        updated={**base, "DesiredCapacity": 3, "TargetGroupARNs": [world.targets], "Tags": {"tier": "app"}},
        replaced={**base, "AutoScalingGroupName": "conform-2"},
        invalid=({}, {**base, "MinSize": -1}, {**base, "MaxSize": "4"}),
    )


def _db_subnets(world: World) -> Sample:
    base = {"DBSubnetGroupName": "conform", "DBSubnetGroupDescription": "d"}
    return Sample(
        properties={**base, "SubnetIds": list(world.subnets)},
        updated={**base, "DBSubnetGroupDescription": "e", "SubnetIds": [world.subnets[0]], "Tags": {"a": "b"}},
        replaced={**base, "DBSubnetGroupName": "conform-2", "SubnetIds": list(world.subnets)},
        invalid=({}, {**base, "SubnetIds": "all"}, {"DBSubnetGroupName": "UPPER", "SubnetIds": []}),
    )


def _database(world: World) -> Sample:  # noqa: ARG001
    base: dict[str, Any] = {
        "DBInstanceIdentifier": "conform",
        "DBInstanceClass": "db.t3.micro",
        "Engine": "postgres",
        "AllocatedStorage": 20,
        "MasterUsername": "windlass",
        "MasterUserPassword": "first-password",
    }
    return Sample(
        properties={**base, "BackupRetentionPeriod": 3, "Tags": {"tier": "data"}},
        updated={**base, "DBInstanceClass": "db.t3.small", "MasterUserPassword": "second-password", "MultiAZ": True},
        replaced={**base, "DBName": "other"},
        invalid=({}, {**base, "AllocatedStorage": "20"}, {**base, "MasterUserPassword": "short"}),
    )


def _balancer(world: World) -> Sample:
    base = {"Name": "conform", "Subnets": list(world.subnets)}
    return Sample(
        properties={**base, "Scheme": "internal", "SecurityGroups": [world.group], "Tags": {"a": "b"}},
        updated={**base, "SecurityGroups": [world.group], "Tags": {"a": "c"}},
        replaced={**base, "Scheme": "internet-facing"},
        invalid=({}, {**base, "Scheme": "public"}, {**base, "Name": "-"}),
    )


def _targets(world: World) -> Sample:
    base = {"Name": "conform", "Port": 80, "Protocol": "HTTP", "VpcId": world.vpc}
    return Sample(
        properties={**base, "HealthCheckPath": "/health"},
        updated={**base, "HealthCheckPath": "/ready", "Matcher": {"HttpCode": "200-204"}, "Tags": {"a": "b"}},
        replaced={**base, "Port": 8080},
        invalid=({}, {**base, "Protocol": "SMTP"}, {**base, "TargetType": "lambda"}),
    )


def _listener(world: World) -> Sample:
    base = {"LoadBalancerArn": world.balancer, "Port": 80, "Protocol": "HTTP"}
    fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain"}}
    return Sample(
        properties={**base, "DefaultActions": [{"Type": "forward", "TargetGroupArn": world.targets}]},
        updated={**base, "DefaultActions": [fixed], "Tags": {"a": "b"}},
        replaced={**base, "Port": 8080, "DefaultActions": [fixed]},
        invalid=({}, {**base, "DefaultActions": [{"Type": "sing"}]}),
    )


def _bucket(world: World) -> Sample:  # noqa: ARG001
    base = {"BucketName": "conform-bucket"}
    locked = dict.fromkeys(("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True)
    encrypted = {"ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}
    return Sample(
        properties={**base, "VersioningConfiguration": {"Status": "Enabled"}, "Tags": {"a": "b", "gone": "x"}},
        updated={
            **base,
            "PublicAccessBlockConfiguration": locked,
            "BucketEncryption": encrypted,
            "VersioningConfiguration": {"Status": "Suspended"},
            "Tags": {"a": "c"},
        },
        replaced={"BucketName": "conform-bucket-2"},
        invalid=({"BucketName": "UPPER"}, {"VersioningConfiguration": {"Status": "Perhaps"}}),
    )


def _instance(world: World) -> Sample:
    base = {"ImageId": world.image, "InstanceType": "t3.micro", "SubnetId": world.subnets[0]}
    return Sample(
        properties={**base, "SecurityGroupIds": [world.group], "UserData": "c2VjcmV0", "Tags": {"tier": "web"}},
        updated={**base, "InstanceType": "t3.small", "Tags": {"tier": "app"}},
        replaced={**base, "SubnetId": world.subnets[1]},
        invalid=({}, {**base, "Colour": "blue"}),
        unique=False,
    )


def _volume(world: World) -> Sample:  # noqa: ARG001
    base = {"AvailabilityZone": "eu-central-1a", "VolumeType": "gp3"}
    return Sample(
        properties={**base, "Size": 10, "Encrypted": True},
        updated={**base, "Size": 20, "Encrypted": True, "Tags": {"a": "b"}},
        replaced={**base, "AvailabilityZone": "eu-central-1b", "Size": 10},
        invalid=({}, {**base, "VolumeType": "tape"}, {**base, "Size": "10"}),
        unique=False,
    )


def _table(world: World) -> Sample:  # noqa: ARG001
    base = {
        "TableName": "conform",
        "AttributeDefinitions": [
            {"AttributeName": "b", "AttributeType": "S"},
            {"AttributeName": "a", "AttributeType": "S"},
        ],
        "KeySchema": [{"AttributeName": "a", "KeyType": "HASH"}, {"AttributeName": "b", "KeyType": "RANGE"}],
    }
    few, many = ({"ReadCapacityUnits": units, "WriteCapacityUnits": units} for units in (2, 9))
    return Sample(
        properties={**base, "ProvisionedThroughput": few, "Tags": {"a": "b", "gone": "x"}},
        updated={**base, "ProvisionedThroughput": many, "DeletionProtectionEnabled": False, "Tags": {"a": "c"}},
        replaced={**base, "TableName": "conform-2", "BillingMode": "PAY_PER_REQUEST"},
        invalid=({}, {**base, "KeySchema": []}, {**base, "BillingMode": "FREE"}),
    )


def _queue(world: World) -> Sample:  # noqa: ARG001
    base = {"QueueName": "conform.fifo", "FifoQueue": True}
    return Sample(
        properties={**base, "DelaySeconds": 5, "Tags": {"a": "b", "gone": "x"}},
        updated={**base, "VisibilityTimeout": 60, "ContentBasedDeduplication": True, "Tags": {"a": "c"}},
        replaced={"QueueName": "conform", "FifoQueue": False},
        invalid=({"QueueName": "a b"}, {**base, "DelaySeconds": -1}),
    )


def _topic(world: World) -> Sample:  # noqa: ARG001
    return Sample(
        properties={"TopicName": "conform", "DisplayName": "one", "Tags": {"a": "b", "gone": "x"}},
        updated={"TopicName": "conform", "DisplayName": "two", "Tags": {"a": "c"}},
        replaced={"TopicName": "conform-2"},
        invalid=({"TopicName": "a b"}, {"FifoTopic": "yes"}),
    )


def _alarm(world: World) -> Sample:  # noqa: ARG001
    base = {
        "AlarmName": "conform",
        "Namespace": "AWS/EC2",
        "MetricName": "CPUUtilization",
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 2,
        "Threshold": 80,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    group = {"Name": "AutoScalingGroupName", "Value": "conform"}
    return Sample(
        properties={**base, "Dimensions": [group], "AlarmDescription": "hot", "Tags": {"a": "b", "gone": "x"}},
        updated={
            **base,
            "Threshold": 90,
            "AlarmActions": ["arn:aws:sns:eu-central-1:123456789012:x"],
            "Tags": {"a": "c"},
        },
        replaced={**base, "AlarmName": "conform-2"},
        invalid=({}, {**base, "Statistic": "Guess"}),
    )


def _role(world: World) -> Sample:
    base = {"RoleName": "conform", "AssumeRolePolicyDocument": TRUST}
    read = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
    both = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    return Sample(
        properties={
            **base,
            "ManagedPolicyArns": [world.policy],
            "Policies": [{"PolicyName": "a", "PolicyDocument": read}, {"PolicyName": "b", "PolicyDocument": read}],
            "Tags": {"a": "b", "gone": "x"},
        },
        updated={
            **base,
            "Description": "d",
            "MaxSessionDuration": 7200,
            "Policies": [{"PolicyName": "b", "PolicyDocument": both}, {"PolicyName": "c", "PolicyDocument": read}],
            "Tags": {"a": "c"},
        },
        replaced={**base, "Path": "/team/"},
        invalid=({}, {**base, "AssumeRolePolicyDocument": "{}"}, {**base, "MaxSessionDuration": 1}),
    )


def _record(world: World) -> Sample:
    base = {"HostedZoneId": world.zone, "Name": "www.example.test", "Type": "A"}
    return Sample(
        properties={**base, "TTL": 60, "ResourceRecords": ["192.0.2.7", "192.0.2.1"]},
        updated={**base, "TTL": 300, "ResourceRecords": ["192.0.2.9"]},
        replaced={**base, "Name": "shop.example.test", "TTL": 60, "ResourceRecords": ["192.0.2.9"]},
        invalid=({}, {**base, "Name": "www.example.test."}, {**base, "TTL": "60"}),
    )


def _function(world: World) -> Sample:
    base = {"FunctionName": "conform", "Runtime": "python3.12", "Handler": "index.handle", "Role": world.role}
    one, two = ({"ZipFile": f"def handle(event, context):\n    return {n}\n"} for n in (1, 2))
    return Sample(
        properties={**base, "Code": one, "Environment": {"Variables": {"A": "b"}}, "Tags": {"a": "b", "gone": "x"}},
        updated={**base, "Code": two, "Timeout": 9, "ReservedConcurrentExecutions": 2, "Tags": {"a": "c"}},
        replaced={**base, "FunctionName": "conform-2", "Code": one},
        invalid=({}, {**base, "Code": one, "MemorySize": 1}, {**base, "Code": {"Colour": "blue"}}),
    )


def _service(world: World) -> Sample:
    base = {"ServiceName": "conform", "Cluster": world.cluster, "TaskDefinition": world.tasks[0]}
    return Sample(
        properties={**base, "DesiredCount": 2, "LaunchType": "EC2", "Tags": {"a": "b"}},
        updated={**base, "DesiredCount": 3, "TaskDefinition": world.tasks[1], "Tags": {"a": "c"}},
        replaced={**base, "ServiceName": "conform-2", "DesiredCount": 1},
        invalid=({}, {**base, "DesiredCount": -1}, {**base, "DesiredCount": 1, "Cluster": "default"}),
    )


SAMPLES: dict[str, Make] = {
    "aws.ec2.vpc": _vpc,
    "aws.ec2.subnet": _subnet,
    "aws.ec2.internet_gateway": _gateway,
    "aws.ec2.route_table": _routes,
    "aws.ec2.security_group": _group,
    "aws.ec2.launch_template": _template,
    "aws.autoscaling.group": _scaling,
    "aws.rds.subnet_group": _db_subnets,
    "aws.rds.instance": _database,
    "aws.elbv2.load_balancer": _balancer,
    "aws.elbv2.target_group": _targets,
    "aws.elbv2.listener": _listener,
    "aws.s3.bucket": _bucket,
    "aws.ec2.instance": _instance,
    "aws.ec2.volume": _volume,
    "aws.dynamodb.table": _table,
    "aws.sqs.queue": _queue,
    "aws.sns.topic": _topic,
    "aws.cloudwatch.alarm": _alarm,
    "aws.iam.role": _role,
    "aws.route53.record": _record,
    "aws.lambda.function": _function,
    "aws.ecs.service": _service,
}
