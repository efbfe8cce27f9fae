"""Each operation's success, by boto3; every element of every reply is one that AWS's API model has."""

import xml.etree.ElementTree as ElementTree

import boto3
import pytest
from botocore.model import ListShape, StructureShape
from conftest import PODS, SUBNETS, VPC

NODE_GROUP = "sg-0d00000000000ddd1"


@pytest.fixture
def strict(monkeypatch, emulator):
    """An emulator whose clients fail on replies with elements that AWS does not have; it knows what was called."""
    called = set()
    plain = emulator.client

    def client(service, *arguments, **options):
        made = plain(service, *arguments, **options)

        def check(http_response, parsed, model, **_):
            called.add(model.name)
            if http_response.status_code == 200 and model.output_shape is not None:
                problems = unknown(service, ElementTree.fromstring(http_response.content), model)
                assert problems == [], (model.name, http_response.text)

        made.meta.events.register("after-call", check)
        return made

    monkeypatch.setattr(emulator, "client", client)
    emulator.called = called
    return emulator


def local(element):
    return element.tag.rpartition("}")[2]


def unknown(service, root, model):
    body, shape = root, model.output_shape
    if service != "ec2":
        assert local(root) == f"{model.name}Response"
        body = root[0]
        assert local(body) == f"{model.name}Result"
    return walk(body, shape, model.name)


def walk(element, shape, path):
    problems = []
    if isinstance(shape, ListShape):
        for item in element:
            if local(item) not in ("member", "item"):
                problems.append(f"{path}: <{local(item)}> in a list")
            problems += walk(item, shape.member, path)
    elif isinstance(shape, StructureShape):
        members = {member.serialization.get("name", name): member for name, member in shape.members.items()}
        for child in element:
            name = local(child)
            if name in members:
                problems += walk(child, members[name], f"{path}.{name}")
            elif name not in ("requestId", "return"):
                problems.append(f"{path}: <{name}> is not of AWS")
    elif len(element):
        problems.append(f"{path}: elements where a scalar is due")
    return problems


def test_every_operation_of_elbv2_succeeds(strict):
    elb = strict.client("elbv2")
    balancer = strict.balancer(SecurityGroups=[NODE_GROUP], Tags=[{"Key": "a", "Value": "b"}])
    group = strict.group()
    listener = strict.listener(balancer, group)
    certificate = "arn:aws:acm:ap-northeast-2:111122223333:certificate/1"
    tls = strict.listener(balancer, group, 443, Protocol="TLS", Certificates=[{"CertificateArn": certificate}])
    found = elb.describe_load_balancers(Names=["web"])["LoadBalancers"][0]
    assert found["DNSName"].startswith("web-") and found["Scheme"] == "internal"
    assert found["EnablePrefixForIpv6SourceNat"] == "off"
    assert found["EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"] == "on"
    attribute = [{"Key": "load_balancing.cross_zone.enabled", "Value": "true"}]
    changed = elb.modify_load_balancer_attributes(LoadBalancerArn=balancer, Attributes=attribute)["Attributes"]
    assert changed == elb.describe_load_balancer_attributes(LoadBalancerArn=balancer)["Attributes"]
    assert attribute[0] in changed and len(changed) > 1
    zones = elb.set_subnets(LoadBalancerArn=balancer, Subnets=SUBNETS)["AvailabilityZones"]
    assert [zone["SubnetId"] for zone in zones] == SUBNETS
    assert elb.set_security_groups(LoadBalancerArn=balancer, SecurityGroups=[NODE_GROUP])["SecurityGroupIds"]
    assert elb.set_ip_address_type(LoadBalancerArn=balancer, IpAddressType="ipv4")["IpAddressType"] == "ipv4"
    modified = elb.modify_target_group(TargetGroupArn=group, HealthCheckProtocol="HTTP", Matcher={"HttpCode": "200"})
    described = elb.describe_target_groups(LoadBalancerArn=balancer)["TargetGroups"]
    assert modified["TargetGroups"] == described and described[0]["Matcher"] == {"HttpCode": "200"}
    delay = [{"Key": "deregistration_delay.timeout_seconds", "Value": "3600"}]
    elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=delay)
    assert delay[0] in elb.describe_target_group_attributes(TargetGroupArn=group)["Attributes"]
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": PODS[0]}, {"Id": PODS[0], "Port": 9090}])
    health = elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert [d["Target"]["Port"] for d in health] == [8080, 9090]
    elb.deregister_targets(TargetGroupArn=group, Targets=[{"Id": PODS[0], "Port": 9090}, {"Id": PODS[1]}])
    elb.modify_listener(ListenerArn=listener, Port=81)
    assert elb.describe_listeners(ListenerArns=[listener])["Listeners"][0]["Port"] == 81
    idle = [{"Key": "tcp.idle_timeout.seconds", "Value": "60"}]
    elb.modify_listener_attributes(ListenerArn=listener, Attributes=idle)
    assert elb.describe_listener_attributes(ListenerArn=listener)["Attributes"] == idle
    rules = elb.describe_rules(ListenerArn=listener)["Rules"]
    assert [rule["IsDefault"] for rule in rules] == [True]
    elb.add_listener_certificates(ListenerArn=tls, Certificates=[{"CertificateArn": certificate + "2"}])
    elb.remove_listener_certificates(ListenerArn=tls, Certificates=[{"CertificateArn": certificate + "2"}])
    listed = elb.describe_listener_certificates(ListenerArn=tls)["Certificates"]
    assert listed == [{"CertificateArn": certificate, "IsDefault": True}]
    resources = [balancer, group, listener, rules[0]["RuleArn"]]
    elb.add_tags(ResourceArns=resources, Tags=[{"Key": "k", "Value": "v"}])
    elb.remove_tags(ResourceArns=[balancer], TagKeys=["k", "absent"])
    tags = elb.describe_tags(ResourceArns=resources)["TagDescriptions"]
    assert [t["Tags"] for t in tags] == [[{"Key": "a", "Value": "b"}]] + [[{"Key": "k", "Value": "v"}]] * 3
    reserved = elb.modify_capacity_reservation(
        LoadBalancerArn=balancer, MinimumLoadBalancerCapacity={"CapacityUnits": 8250}
    )
    assert elb.describe_capacity_reservation(LoadBalancerArn=balancer)["MinimumLoadBalancerCapacity"] == {
        "CapacityUnits": 8250
    }
    assert {s["State"]["Code"] for s in reserved["CapacityReservationState"]} == {"provisioned"}
    limits = {limit["Name"]: limit["Max"] for limit in elb.describe_account_limits()["Limits"]}
    assert limits["targets-per-network-load-balancer"] == "3000"
    for arn in (listener, tls):
        elb.delete_listener(ListenerArn=arn)
    elb.delete_load_balancer(LoadBalancerArn=balancer)
    elb.delete_target_group(TargetGroupArn=group)
    assert strict.called >= named(strict, "elb")


def named(emulator, service):
    return {o["name"] for o in emulator.control("GET", "/v1/operations") if o["service"] == service}


def test_every_operation_of_ec2_succeeds(strict):
    ec2 = strict.client("ec2")
    role = [{"Name": "vpc-id", "Values": [VPC]}, {"Name": "tag:kubernetes.io/role/internal-elb", "Values": ["", "1"]}]
    assert [s["SubnetId"] for s in ec2.describe_subnets(Filters=role)["Subnets"]] == SUBNETS
    tables = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": ["subnet-0a00000000000aaa1"]}])
    assert any(r.get("GatewayId", "").startswith("igw-") for r in tables["RouteTables"][0]["Routes"])
    zones = ec2.describe_availability_zones(ZoneIds=["apne2-az2"])["AvailabilityZones"]
    assert [(z["ZoneName"], z["ZoneType"]) for z in zones] == [("ap-northeast-2b", "availability-zone")]
    assert ec2.describe_vpcs(VpcIds=[VPC])["Vpcs"][0]["CidrBlockAssociationSet"][0]["CidrBlock"] == "127.10.0.0/16"
    instance = ec2.describe_instances(InstanceIds=["i-0a0000000000000a1"])["Reservations"][0]["Instances"][0]
    assert instance["NetworkInterfaces"][0]["Groups"][0]["GroupId"] == NODE_GROUP
    group = ec2.create_security_group(
        GroupName="k8s",
        Description="made here",
        VpcId=VPC,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": [{"Key": "elbv2.k8s.aws/cluster", "Value": "lab"}]}],
    )["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "all"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    tagged = [{"Name": "tag:elbv2.k8s.aws/cluster", "Values": ["lab"]}]
    found = ec2.describe_security_groups(Filters=tagged)["SecurityGroups"][0]
    assert found["IpPermissions"][0]["IpRanges"] == rule["IpRanges"]
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[rule])
    ec2.create_tags(Resources=[group], Tags=[{"Key": "k", "Value": "v"}])
    ec2.delete_tags(Resources=[group], Tags=[{"Key": "k"}])
    balancer = strict.balancer(SecurityGroups=[group])
    described = [{"Name": "description", "Values": ["ELB net/web/*"]}]
    interface = ec2.describe_network_interfaces(Filters=described)["NetworkInterfaces"][0]
    assert interface["InterfaceType"] == "network_load_balancer" and interface["Groups"][0]["GroupId"] == group
    strict.elb.delete_load_balancer(LoadBalancerArn=balancer)
    ec2.delete_security_group(GroupId=group)
    elastic = ec2.allocate_address(Domain="vpc")
    mapping = [{"SubnetId": "subnet-0a00000000000aaa1", "AllocationId": elastic["AllocationId"]}]
    balancer = strict.balancer("public", Subnets=[], SubnetMappings=mapping, Scheme="internet-facing")
    zones = strict.elb.describe_load_balancers(LoadBalancerArns=[balancer])["LoadBalancers"][0]["AvailabilityZones"]
    assert zones[0]["LoadBalancerAddresses"] == [
        {"IpAddress": elastic["PublicIp"], "AllocationId": elastic["AllocationId"]}
    ]
    strict.elb.delete_load_balancer(LoadBalancerArn=balancer)
    assert len(ec2.describe_addresses()["Addresses"]) == 1
    ec2.release_address(AllocationId=elastic["AllocationId"])
    assert strict.called >= named(strict, "ec2")


def test_sts_says_who_one_is_and_gives_roles(strict):
    sts = strict.client("sts")
    assert sts.get_caller_identity()["Arn"] == "arn:aws:iam::111122223333:user/AKIAANY"
    role = "arn:aws:iam::111122223333:role/sluice-registrar"
    given = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    session = boto3.client(
        "sts",
        region_name="ap-northeast-2",
        endpoint_url=f"http://{strict.api}",
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    assert session.get_caller_identity()["Arn"].endswith(":assumed-role/sluice-registrar/test")
    last = strict.calls("GetCallerIdentity")[-1]
    assert last["who"].endswith(":assumed-role/sluice-registrar/test"), "the log names the role"
