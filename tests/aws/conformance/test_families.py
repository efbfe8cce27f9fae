"""IPv6 as boto3 sees it: dualstack load balancers, their addresses and prefixes, IPv6 targets and subnets."""

import ipaddress
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from conftest import SUBNETS, VPC

# The lab's VPC has IPv6; that of loopback addresses, which the other tests have, has none.
WORLD = Path(__file__).resolve().parents[2] / "lab" / "world.yaml"
CHOSEN = ["2001:db8:0:1a11::abcd", "2001:db8:0:1a12::abcd"]


@pytest.fixture
def dual(emulate):
    return emulate(arguments=[f"--world={WORLD}"])


def mappings(**fields):
    names = list(fields)
    rows = zip(*fields.values(), strict=True)
    return [{"SubnetId": s, **dict(zip(names, row, strict=True))} for s, row in zip(SUBNETS, rows, strict=False)]


def described(emulator, arn):
    return emulator.elb.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"][0]


def test_families_come_and_go(dual):
    arn = dual.balancer(Subnets=SUBNETS[:2])
    assert described(dual, arn)["IpAddressType"] == "ipv4"
    reply = dual.elb.set_subnets(
        LoadBalancerArn=arn, SubnetMappings=mappings(IPv6Address=CHOSEN), IpAddressType="dualstack"
    )
    assert reply["IpAddressType"] == "dualstack"
    zones = described(dual, arn)["AvailabilityZones"]
    assert [zone["LoadBalancerAddresses"] for zone in zones] == [[{"IPv6Address": a}] for a in CHOSEN]
    assert dual.elb.set_ip_address_type(LoadBalancerArn=arn, IpAddressType="ipv4")["IpAddressType"] == "ipv4"
    zones = described(dual, arn)["AvailabilityZones"]
    assert [zone["LoadBalancerAddresses"] for zone in zones] == [[], []]


def test_source_nat_gives_each_zone_a_prefix_of_its_subnet(dual):
    arn = dual.balancer(IpAddressType="dualstack", EnablePrefixForIpv6SourceNat="on", Subnets=SUBNETS[:2])
    balancer = described(dual, arn)
    assert balancer["EnablePrefixForIpv6SourceNat"] == "on"
    subnets = {subnet["SubnetId"]: subnet for subnet in dual.ec2.describe_subnets(SubnetIds=SUBNETS)["Subnets"]}
    for zone in balancer["AvailabilityZones"]:
        (prefix,) = map(ipaddress.ip_network, zone["SourceNatIpv6Prefixes"])
        (block,) = subnets[zone["SubnetId"]]["Ipv6CidrBlockAssociationSet"]
        assert block["Ipv6CidrBlockState"]["State"] == "associated"
        assert prefix.prefixlen == 80 and prefix.subnet_of(ipaddress.ip_network(block["Ipv6CidrBlock"]))
    wanted = ["auto_assigned", "2001:db8:0:1a12:7::/80"]
    reply = dual.elb.set_subnets(LoadBalancerArn=arn, SubnetMappings=mappings(SourceNatIpv6Prefix=wanted))
    assert reply["AvailabilityZones"][1]["SourceNatIpv6Prefixes"] == wanted[1:]
    assert reply["AvailabilityZones"][0] == balancer["AvailabilityZones"][0]


def test_ipv6_targets_get_healthy(dual):
    balancer = dual.balancer(IpAddressType="dualstack", Subnets=SUBNETS[:2])
    group = dual.elb.create_target_group(
        Name="six", Protocol="TCP", Port=80, VpcId=VPC, TargetType="ip", IpAddressType="ipv6"
    )["TargetGroups"][0]["TargetGroupArn"]
    with pytest.raises(ClientError, match="'ipv6'"):
        action = [{"Type": "forward", "TargetGroupArn": group}]
        dual.elb.create_listener(
            LoadBalancerArn=dual.balancer("four"), Protocol="TCP", Port=80, DefaultActions=action
        )
    dual.elb.create_listener(LoadBalancerArn=balancer, Protocol="TCP", Port=80, DefaultActions=action)
    dual.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": "2001:DB8:0:1a11:0:0:0:15"}])
    (health,) = dual.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert health["Target"] == {"Id": "2001:db8:0:1a11::15", "Port": 80, "AvailabilityZone": "ap-northeast-2a"}
    # Nothing listens there, and nothing checks: the data plane is off.
    assert health["TargetHealth"]["State"] == "initial"
    # However it is spelled, it is one target.
    spelled = {"TargetGroupArn": group, "Targets": [{"Id": "2001:db8:0:1a11::0:0015"}]}
    (health,) = dual.elb.describe_target_health(**spelled)["TargetHealthDescriptions"]
    assert health["TargetHealth"]["State"] == "initial"
    dual.elb.deregister_targets(**spelled)
    (health,) = dual.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert health["TargetHealth"]["State"] == "draining"
    with pytest.raises(ClientError, match="not a valid IPv6 address"):
        dual.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": "192.168.11.21"}])
    with pytest.raises(ClientError, match="'ipv6'") as refused:
        dual.elb.set_ip_address_type(LoadBalancerArn=balancer, IpAddressType="ipv4")
    assert refused.value.response["Error"]["Code"] == "InvalidConfigurationRequest"


def test_interfaces_are_found_by_their_ipv6_address(dual):
    filters = [{"Name": "ipv6-addresses.ipv6-address", "Values": ["2001:db8:0:1a11::c0a8:b0a"]}]
    (interface,) = dual.ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    assert interface["PrivateIpAddress"] == "192.168.11.10"
    assert interface["Ipv6Addresses"] == [{"Ipv6Address": "2001:db8:0:1a11::c0a8:b0a", "IsPrimaryIpv6": False}]
    (vpc,) = dual.ec2.describe_vpcs()["Vpcs"]
    assert vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"] == "2001:db8:0:1a00::/56"
