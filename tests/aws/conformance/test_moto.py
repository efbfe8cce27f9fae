"""Replies compared field by field with moto's, on what moto does as AWS does (reference: section 3.1 of elbv2.md)."""

import re

import boto3
import pytest
from conftest import REGION, VPC, Emulator
from moto.server import ThreadedMotoServer

ACCOUNTS = re.compile(r"111122223333|123456789012")


class Both:
    """The same call to both, and what their replies differ in."""

    def __init__(self, emulator, moto):
        self.clients = {"ours": emulator, "moto": moto}

    def call(self, service, operation, ours, moto):
        arguments = {"ours": ours, "moto": moto}
        return {
            name: getattr(self.clients[name](service), operation)(**arguments[name]) for name in ("ours", "moto")
        }


@pytest.fixture(scope="module")
def sides():
    emulator = Emulator()
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()

    def moto(service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

    yield emulator.client, moto
    server.stop()
    emulator.stop()


# Fields in which the two differ for a reason: identities, and what moto does not return or returns wrongly (3.2).
DIFFERENT = {
    "LoadBalancerArn", "TargetGroupArn", "ListenerArn", "RuleArn", "ResourceArn", "LoadBalancerArns", "DNSName", "CreatedTime",
    "CanonicalHostedZoneId", "VpcId", "AvailabilityZones", "EnablePrefixForIpv6SourceNat", "SslPolicy",
    "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic", "ResponseMetadata", "SecurityGroups", "GroupId", "GroupArn",
    "SecurityGroupArn", "OwnerId", "SecurityGroupRuleId", "GroupOwnerId", "SecurityGroupRuleArn", "SubnetId", "SubnetArn",
    # moto's fields that AWS leaves out of such a reply, and the other way round
    "Order", "TargetGroupStickinessConfig", "AlpnPolicy", "MutualAuthentication", "Certificates", "Tags",
}


def differences(ours, moto, path=""):
    if isinstance(ours, dict) and isinstance(moto, dict):
        found = []
        for key in sorted((set(ours) | set(moto)) - DIFFERENT):
            if key not in ours or key not in moto:
                found.append(f"{path}.{key}: only {'ours' if key in ours else 'moto'}: {ours.get(key, moto.get(key))}")
            else:
                found += differences(ours[key], moto[key], f"{path}.{key}")
        return found
    if isinstance(ours, list) and isinstance(moto, list):
        if len(ours) != len(moto):
            return [f"{path}: {len(ours)} items, moto {len(moto)}"]
        return [d for n, (a, b) in enumerate(zip(ours, moto)) for d in differences(a, b, f"{path}[{n}]")]
    return [] if ours == moto else [f"{path}: {ours!r}, moto {moto!r}"]


@pytest.fixture(scope="module")
def world(sides):
    """A load balancer with a group and a listener on both sides; identities by name."""
    ours, moto = sides
    vpc = moto("ec2").create_vpc(CidrBlock="127.10.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        moto("ec2").create_subnet(VpcId=vpc, CidrBlock=f"127.10.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]["SubnetId"]
        for n, zone in ((1, "a"), (2, "b"))
    ]
    sides = {
        "ours": {"vpc": VPC, "subnets": ["subnet-0a00000000000aaa1", "subnet-0b00000000000bbb1"]},
        "moto": {"vpc": vpc, "subnets": subnets},
    }
    made = {}
    for name, client in (("ours", ours), ("moto", moto)):
        elb, side = client("elbv2"), sides[name]
        side["balancer_reply"] = elb.create_load_balancer(
            Name="web", Type="network", Scheme="internal", Subnets=side["subnets"], IpAddressType="ipv4",
            Tags=[{"Key": "a", "Value": "b"}],
        )
        side["balancer"] = side["balancer_reply"]["LoadBalancers"][0]["LoadBalancerArn"]
        side["group_reply"] = elb.create_target_group(
            Name="web", Protocol="TCP", Port=80, VpcId=side["vpc"], TargetType="ip", Tags=[{"Key": "a", "Value": "b"}]
        )
        side["group"] = side["group_reply"]["TargetGroups"][0]["TargetGroupArn"]
        side["listener_reply"] = elb.create_listener(
            LoadBalancerArn=side["balancer"], Protocol="TCP", Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": side["group"]}],
        )
        side["listener"] = side["listener_reply"]["Listeners"][0]["ListenerArn"]
        made[name] = (elb, side)
    return made


def compare(world, call):
    replies = [call(*world[name]) for name in ("ours", "moto")]
    assert differences(*replies) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda elb, w: w["balancer_reply"],
        lambda elb, w: w["group_reply"],
        lambda elb, w: elb.describe_load_balancers(LoadBalancerArns=[w["balancer"]]),
        lambda elb, w: elb.describe_load_balancers(Names=["web"]),
        lambda elb, w: elb.describe_target_groups(TargetGroupArns=[w["group"]]),
        lambda elb, w: elb.describe_listeners(LoadBalancerArn=w["balancer"])["Listeners"][0]["Port"],
        lambda elb, w: elb.describe_listeners(ListenerArns=[w["listener"]])["Listeners"][0]["Protocol"],
        lambda elb, w: elb.describe_tags(ResourceArns=[w["balancer"], w["group"]]),
        lambda elb, w: [d["Tags"] for d in elb.describe_tags(ResourceArns=[w["balancer"], w["group"]])["TagDescriptions"]],
        lambda elb, w: elb.set_ip_address_type(LoadBalancerArn=w["balancer"], IpAddressType="ipv4"),
        lambda elb, w: elb.describe_rules(ListenerArn=w["listener"])["Rules"][0]["Priority"],
    ],
    ids=[
        "create load balancer", "create target group", "load balancer by arn", "load balancer by name", "target group",
        "listener of load balancer", "listener by arn", "tags", "tag values", "address type", "rules",
    ],
)
def test_reply_is_the_one_of_moto(world, call):
    compare(world, call)


ATTRIBUTES = [
    ("group", "deregistration_delay.timeout_seconds", "60"),
    ("group", "preserve_client_ip.enabled", "true"),
    ("group", "proxy_protocol_v2.enabled", "true"),
    ("balancer", "load_balancing.cross_zone.enabled", "true"),
    ("balancer", "deletion_protection.enabled", "false"),
    ("listener", "tcp.idle_timeout.seconds", "60"),
]
CALLS = {
    "group": ("target_group", "TargetGroupArn"),
    "balancer": ("load_balancer", "LoadBalancerArn"),
    "listener": ("listener", "ListenerArn"),
}


@pytest.mark.parametrize(("kind", "key", "value"), ATTRIBUTES)
def test_attribute_is_read_back_as_by_moto(world, kind, key, value):
    noun, field = CALLS[kind]

    def call(elb, side):
        arn = {field: side[kind]}
        getattr(elb, f"modify_{noun}_attributes")(**arn, Attributes=[{"Key": key, "Value": value}])
        attributes = getattr(elb, f"describe_{noun}_attributes")(**arn)["Attributes"]
        return next(a for a in attributes if a["Key"] == key)

    compare(world, call)


FAILURES = [
    lambda elb, w: elb.delete_target_group(TargetGroupArn=w["group"]),
    lambda elb, w: elb.describe_load_balancers(LoadBalancerArns=[w["balancer"][:-4] + "0000"]),
    lambda elb, w: elb.describe_target_groups(TargetGroupArns=[w["group"][:-4] + "0000"]),
    lambda elb, w: elb.describe_listeners(ListenerArns=[w["listener"][:-4] + "0000"]),
    lambda elb, w: elb.create_target_group(Name="x" * 33, Protocol="TCP", Port=80, VpcId=w["vpc"]),
    lambda elb, w: elb.register_targets(TargetGroupArn=w["group"][:-4] + "0000", Targets=[{"Id": "10.0.0.1"}]),
]


@pytest.mark.parametrize(
    "call", FAILURES, ids=["group in use", "no balancer", "no group", "no listener", "long name", "register at no group"]
)
def test_error_code_is_the_one_of_moto(world, call):
    from botocore.exceptions import ClientError

    codes = []
    for name in ("ours", "moto"):
        with pytest.raises(ClientError) as refused:
            call(*world[name])
        codes.append(refused.value.response["Error"]["Code"])
    assert codes[0] == codes[1]


def test_security_group_looks_as_moto_shows_it(sides, world):
    shown = []
    permission = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 81, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "x"}]}
    for client, name in zip(sides, ("ours", "moto")):
        ec2 = client("ec2")
        group = ec2.create_security_group(GroupName="mine", Description="d", VpcId=world[name][1]["vpc"])["GroupId"]
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
        shown.append(ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0])
    assert differences(*shown) == []
