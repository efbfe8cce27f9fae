"""The calls that aws-load-balancer-controller makes for a Service with pod targets, in its order (reference: section 4.2
of elbv2.md), and what it would compare in its next pass: it must find nothing to change."""

from conftest import PODS, SUBNETS, VPC

CLUSTER = {"Key": "elbv2.k8s.aws/cluster", "Value": "lab"}
STACK = {"Key": "service.k8s.aws/stack", "Value": "default/web"}
NAME = "k8s-default-web-0123456789"
NODE_GROUP = "sg-0d00000000000ddd1"
CHECK = {
    "HealthCheckProtocol": "TCP",
    "HealthCheckPort": "traffic-port",
    "HealthCheckIntervalSeconds": 10,
    "HealthCheckTimeoutSeconds": 10,
    "HealthyThresholdCount": 3,
    "UnhealthyThresholdCount": 3,
}


def tag_filter(tag):
    return {"Name": f"tag:{tag['Key']}", "Values": [tag["Value"]]}


def create_group(ec2, name, *tags):
    specification = {"ResourceType": "security-group", "Tags": list(tags)}
    created = ec2.create_security_group(
        GroupName=name, Description="[k8s] Managed", VpcId=VPC, TagSpecifications=[specification]
    )
    return created["GroupId"]


def test_controller_builds_a_load_balancer_and_finds_nothing_to_change(emulator):
    elb, ec2 = emulator.elb, emulator.ec2
    in_vpc = {"Name": "vpc-id", "Values": [VPC]}
    assert elb.describe_load_balancers()["LoadBalancers"] == []
    role = {"Name": "tag:kubernetes.io/role/internal-elb", "Values": ["", "1"]}
    subnets = [s["SubnetId"] for s in ec2.describe_subnets(Filters=[in_vpc, role])["Subnets"]]
    assert subnets == SUBNETS
    ec2.describe_availability_zones(ZoneIds=["apne2-az1", "apne2-az2", "apne2-az3"])
    backend_tag = {"Key": "elbv2.k8s.aws/resource", "Value": "backend-sg"}
    assert ec2.describe_security_groups(Filters=[in_vpc, tag_filter(CLUSTER), tag_filter(backend_tag)])["SecurityGroups"] == []
    backend = create_group(ec2, "k8s-traffic-lab-0123456789", CLUSTER, backend_tag)
    assert ec2.describe_security_groups(Filters=[tag_filter(CLUSTER), tag_filter(STACK)])["SecurityGroups"] == []
    managed = create_group(ec2, "k8s-default-web-abcdef0123", CLUSTER, STACK)
    assert ec2.describe_security_groups(GroupIds=[managed])["SecurityGroups"][0]["IpPermissions"] == []
    open_port = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": ""}]}
    ec2.authorize_security_group_ingress(GroupId=managed, IpPermissions=[open_port])
    assert elb.describe_target_groups()["TargetGroups"] == []
    group = emulator.group(NAME, Tags=[CLUSTER, STACK], **CHECK)
    elb.describe_target_group_attributes(TargetGroupArn=group)
    proxy = [{"Key": "proxy_protocol_v2.enabled", "Value": "false"}]
    elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=proxy)
    mappings = [{"SubnetId": subnet} for subnet in subnets]
    balancer = emulator.balancer(
        NAME, Subnets=[], SubnetMappings=mappings, SecurityGroups=[managed, backend], IpAddressType="ipv4", Tags=[CLUSTER, STACK]
    )
    wanted = [{"Key": "load_balancing.cross_zone.enabled", "Value": "false"}]
    assert wanted[0] in elb.describe_load_balancer_attributes(LoadBalancerArn=balancer)["Attributes"]
    elb.modify_load_balancer_attributes(LoadBalancerArn=balancer, Attributes=wanted)
    assert elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"] == []
    action = {"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": group, "Weight": 1}]}}
    listener = emulator.listener(balancer, group, DefaultActions=[action], Tags=[CLUSTER, STACK])
    elb.describe_listener_attributes(ListenerArn=listener)
    rule = elb.describe_rules(ListenerArn=listener)["Rules"][0]["RuleArn"]
    elb.describe_tags(ResourceArns=[rule])
    assert elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"] == []
    instances = ec2.describe_instances(InstanceIds=["i-0a0000000000000a1"])["Reservations"]
    assert instances[0]["Instances"][0]["NetworkInterfaces"][0]["Groups"][0]["GroupId"] == NODE_GROUP
    from_backend = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "UserIdGroupPairs": [{"GroupId": backend}]}
    ec2.authorize_security_group_ingress(GroupId=NODE_GROUP, IpPermissions=[from_backend])
    ec2.describe_vpcs(VpcIds=[VPC])
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": pod, "Port": 8080} for pod in PODS])

    # The next pass: each thing that is compared is as it is wanted.
    found = elb.describe_load_balancers()["LoadBalancers"][0]
    assert [zone["SubnetId"] for zone in found["AvailabilityZones"]] == subnets
    assert (found["SecurityGroups"], found["IpAddressType"]) == ([managed, backend], "ipv4")
    assert found["EnablePrefixForIpv6SourceNat"] == "off", "without it SetSubnets is called in every pass"
    shown = elb.describe_target_groups()["TargetGroups"][0]
    assert {key: shown[key] for key in CHECK} == CHECK
    described = elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"][0]["DefaultActions"][0]
    assert described["ForwardConfig"]["TargetGroups"] == action["ForwardConfig"]["TargetGroups"]
    for arn, tags in [(t["ResourceArn"], t["Tags"]) for t in elb.describe_tags(ResourceArns=[balancer, group, listener])["TagDescriptions"]]:
        assert tags == [CLUSTER, STACK], arn
    rules = ec2.describe_security_groups(GroupIds=[NODE_GROUP])["SecurityGroups"][0]["IpPermissions"]
    assert rules[0]["UserIdGroupPairs"][0]["GroupId"] == backend

    # And its end.
    elb.delete_load_balancer(LoadBalancerArn=balancer)
    elb.deregister_targets(TargetGroupArn=group, Targets=[{"Id": pod, "Port": 8080} for pod in PODS])
    ec2.revoke_security_group_ingress(GroupId=NODE_GROUP, IpPermissions=[from_backend])
    elb.delete_target_group(TargetGroupArn=group)
    for security_group in (managed, backend):
        ec2.delete_security_group(GroupId=security_group)
    counts = emulator.counts()
    assert counts.pop("securityGroups") == 1 and not any(counts.values()), counts
