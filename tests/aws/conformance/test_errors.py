"""Each error code, as boto3 sees it, and requests that no client of AWS would send."""

import http.client
import socket
import urllib.parse

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from conftest import PODS, SUBNETS, VPC, until

ACCOUNT = "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:"
NO_BALANCER = ACCOUNT + "loadbalancer/net/gone/0000000000000000"
NO_GROUP = ACCOUNT + "targetgroup/gone/0000000000000000"
NO_LISTENER = ACCOUNT + "listener/net/gone/0000000000000000/0000000000000000"
NO_RULE = ACCOUNT + "listener-rule/net/gone/0000000000000000/0000000000000000/0000000000000000"

# What the calls below are made with: an emulator with one of each resource and quotas of one.
SMALL = {
    "quota.network-load-balancers": 2,
    "quota.target-groups": 3,
    "quota.listeners-per-network-load-balancer": 3,
    "quota.targets-per-target-group": 2,
    "quota.target-groups-per-action-on-network-load-balancer": 1,
    "quota.certificates-per-network-load-balancer": 1,
    "quota.rules-per-security-group": 1,
    "quota.security-groups-per-vpc": 2,
}
RULE = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
OTHER_RULE = {"IpProtocol": "tcp", "FromPort": 2, "ToPort": 2, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
CERTIFICATE = [{"CertificateArn": "arn:aws:acm:ap-northeast-2:111122223333:certificate/2"}]
NLB = {"Name": "new", "Type": "network", "Subnets": SUBNETS[1:2]}
GROUP = {"Name": "new", "Protocol": "TCP", "Port": 1, "VpcId": VPC, "TargetType": "ip"}


def forward(*groups):
    return [{"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": g} for g in groups]}}]


# (service, operation, arguments from the resources `r`, code)
CASES = [
    ("elbv2", "create_load_balancer", lambda r: {**NLB, "Name": "web"}, "DuplicateLoadBalancerName"),
    ("elbv2", "create_load_balancer", lambda r: NLB, "TooManyLoadBalancers"),
    ("elbv2", "create_load_balancer", lambda r: {**NLB, "Type": "application"}, "InvalidConfigurationRequest"),
    ("elbv2", "create_load_balancer", lambda r: {**NLB, "Subnets": ["subnet-0"]}, "SubnetNotFound"),
    ("elbv2", "create_load_balancer", lambda r: {**NLB, "IpAddressType": "dualstack"}, "InvalidSubnet"),
    ("elbv2", "create_load_balancer", lambda r: {**NLB, "SecurityGroups": ["sg-0"]}, "InvalidSecurityGroup"),
    ("elbv2", "create_load_balancer", lambda r: {**NLB, "Tags": [{"Key": f"{n}"} for n in range(51)]}, "TooManyTags"),
    ("elbv2", "create_load_balancer", lambda r: {**NLB, "Tags": [{"Key": "a"}] * 2}, "DuplicateTagKeys"),
    (
        "elbv2",
        "create_load_balancer",
        lambda r: {**NLB, "Subnets": [], "SubnetMappings": [{"SubnetId": SUBNETS[0], "AllocationId": "eipalloc-0"}]},
        "AllocationIdNotFound",
    ),
    (
        "elbv2",
        "set_subnets",
        lambda r: {
            "LoadBalancerArn": r["public"],
            "SubnetMappings": [
                {"SubnetId": "subnet-0a00000000000aaa1", "AllocationId": r["eip"]},
                {"SubnetId": "subnet-0b00000000000bbb1", "AllocationId": r["eip"]},
            ],
        },
        "ResourceInUse",
    ),
    ("elbv2", "create_load_balancer", lambda r: {"Type": "network"}, "ValidationError"),
    ("elbv2", "describe_load_balancers", lambda r: {"Names": ["web", "gone"]}, "LoadBalancerNotFound"),
    ("elbv2", "delete_load_balancer", lambda r: {"LoadBalancerArn": r["balancer"]}, "OperationNotPermitted"),
    ("elbv2", "create_target_group", lambda r: {**GROUP, "Name": "web"}, "DuplicateTargetGroupName"),
    ("elbv2", "create_target_group", lambda r: GROUP, "TooManyTargetGroups"),
    ("elbv2", "describe_target_groups", lambda r: {"Names": ["web", "gone"]}, "TargetGroupNotFound"),
    ("elbv2", "delete_target_group", lambda r: {"TargetGroupArn": r["group"]}, "ResourceInUse"),
    (
        "elbv2",
        "register_targets",
        lambda r: {"TargetGroupArn": r["group"], "Targets": [{"Id": f"127.10.11.{n}"} for n in (21, 22, 23)]},
        "TooManyTargets",
    ),
    ("elbv2", "register_targets", lambda r: {"TargetGroupArn": r["group"], "Targets": [{"Id": "8.8.8.8"}]}, "InvalidTarget"),
    ("elbv2", "register_targets", lambda r: {"TargetGroupArn": r["group"], "Targets": []}, "ValidationError"),
    ("elbv2", "deregister_targets", lambda r: {"TargetGroupArn": NO_GROUP, "Targets": [{"Id": PODS[0]}]}, "TargetGroupNotFound"),
    ("elbv2", "describe_target_health", lambda r: {"TargetGroupArn": NO_GROUP}, "TargetGroupNotFound"),
    (
        "elbv2",
        "create_listener",
        lambda r: {"LoadBalancerArn": r["balancer"], "Protocol": "TCP", "Port": 80, "DefaultActions": forward(r["idle"])},
        "DuplicateListener",
    ),
    (
        "elbv2",
        "create_listener",
        lambda r: {"LoadBalancerArn": r["balancer"], "Protocol": "TCP", "Port": 99, "DefaultActions": forward(r["group"])},
        "TooManyListeners",
    ),
    (
        "elbv2",
        "modify_listener",
        lambda r: {"ListenerArn": r["listener"], "DefaultActions": forward(r["group"], r["idle"])},
        "TooManyUniqueTargetGroupsPerLoadBalancer",
    ),
    ("elbv2", "modify_listener", lambda r: {"ListenerArn": r["listener"], "DefaultActions": forward(r["udp"])}, "IncompatibleProtocols"),
    ("elbv2", "modify_listener", lambda r: {"ListenerArn": r["listener"], "DefaultActions": [{"Type": "redirect"}]}, "InvalidLoadBalancerAction"),
    ("elbv2", "modify_listener", lambda r: {"ListenerArn": r["listener"], "DefaultActions": forward(r["group"]) * 2}, "TooManyActions"),
    ("elbv2", "modify_listener", lambda r: {"ListenerArn": r["listener"], "SslPolicy": "x"}, "InvalidConfigurationRequest"),
    ("elbv2", "modify_listener", lambda r: {"ListenerArn": r["tls"], "SslPolicy": "x"}, "SSLPolicyNotFound"),
    ("elbv2", "modify_listener", lambda r: {"ListenerArn": r["tls"], "Certificates": [{"CertificateArn": "x"}]}, "CertificateNotFound"),
    ("elbv2", "modify_listener", lambda r: {"ListenerArn": r["tls"], "AlpnPolicy": ["x"]}, "ALPNPolicyNotFound"),
    ("elbv2", "add_listener_certificates", lambda r: {"ListenerArn": r["tls"], "Certificates": CERTIFICATE}, "TooManyCertificates"),
    (
        "elbv2",
        "create_listener",
        lambda r: {"LoadBalancerArn": r["balancer"], "Protocol": "HTTP", "Port": 1, "DefaultActions": forward(r["group"])},
        "UnsupportedProtocol",
    ),
    (
        "elbv2",
        "create_listener",
        lambda r: {"LoadBalancerArn": r["public"], "Protocol": "TCP", "Port": 1, "DefaultActions": forward(r["group"])},
        "TargetGroupAssociationLimit",
    ),
    ("elbv2", "delete_listener", lambda r: {"ListenerArn": NO_LISTENER}, "ListenerNotFound"),
    ("elbv2", "describe_rules", lambda r: {"RuleArns": [NO_RULE]}, "RuleNotFound"),
    ("elbv2", "describe_tags", lambda r: {"ResourceArns": [NO_BALANCER]}, "LoadBalancerNotFound"),
    ("elbv2", "add_tags", lambda r: {"ResourceArns": [r["group"]], "Tags": [{"Key": f"{n}"} for n in range(51)]}, "TooManyTags"),
    ("elbv2", "describe_load_balancers", lambda r: {"PageSize": 401}, "ValidationError"),
    ("elbv2", "describe_load_balancers", lambda r: {"PageSize": "many"}, "MalformedInput"),
    ("ec2", "describe_subnets", lambda r: {"SubnetIds": ["subnet-0"]}, "InvalidSubnetID.NotFound"),
    ("ec2", "describe_subnets", lambda r: {"Filters": [{"Name": "nonsense", "Values": ["x"]}]}, "InvalidParameterValue"),
    ("ec2", "describe_subnets", lambda r: {"MaxResults": 4}, "InvalidParameterValue"),
    ("ec2", "describe_vpcs", lambda r: {"VpcIds": ["vpc-0"]}, "InvalidVpcID.NotFound"),
    ("ec2", "describe_route_tables", lambda r: {"RouteTableIds": ["rtb-0"]}, "InvalidRouteTableID.NotFound"),
    ("ec2", "describe_instances", lambda r: {"InstanceIds": ["i-0"]}, "InvalidInstanceID.NotFound"),
    ("ec2", "describe_instances", lambda r: {"InstanceIds": ["web"]}, "InvalidInstanceID.Malformed"),
    ("ec2", "describe_network_interfaces", lambda r: {"NetworkInterfaceIds": ["eni-0"]}, "InvalidNetworkInterfaceID.NotFound"),
    ("ec2", "describe_security_groups", lambda r: {"GroupIds": ["sg-0"]}, "InvalidGroup.NotFound"),
    ("ec2", "describe_security_groups", lambda r: {"GroupIds": ["web"]}, "InvalidGroupId.Malformed"),
    ("ec2", "create_security_group", lambda r: {"GroupName": "mine", "Description": "x"}, "InvalidGroup.Duplicate"),
    ("ec2", "create_security_group", lambda r: {"GroupName": "more", "Description": "x"}, "SecurityGroupLimitExceeded"),
    ("ec2", "create_security_group", lambda r: {"GroupName": "more"}, "MissingParameter"),
    ("ec2", "delete_security_group", lambda r: {"GroupId": r["sg"]}, "DependencyViolation"),
    ("ec2", "authorize_security_group_ingress", lambda r: {"GroupId": r["sg"], "IpPermissions": [RULE]}, "InvalidPermission.Duplicate"),
    ("ec2", "authorize_security_group_ingress", lambda r: {"GroupId": r["sg"], "IpPermissions": [OTHER_RULE]}, "RulesPerSecurityGroupLimitExceeded"),
    ("ec2", "revoke_security_group_ingress", lambda r: {"GroupId": r["sg"], "IpPermissions": [OTHER_RULE]}, "InvalidPermission.NotFound"),
    ("ec2", "create_tags", lambda r: {"Resources": ["sg-0"], "Tags": [{"Key": "a", "Value": "b"}]}, "InvalidID"),
    ("ec2", "create_tags", lambda r: {"Resources": [r["sg"]], "Tags": [{"Key": f"k{n}"} for n in range(51)]}, "TagLimitExceeded"),
    ("ec2", "release_address", lambda r: {"AllocationId": r["eip"]}, "InvalidIPAddress.InUse"),
    ("ec2", "describe_addresses", lambda r: {"AllocationIds": ["eipalloc-0"]}, "InvalidAllocationID.NotFound"),
    ("sts", "assume_role", lambda r: {"RoleArn": "arn:aws:iam::1:role/other-role", "RoleSessionName": "x1"}, "AccessDenied"),
]


@pytest.fixture(scope="module")
def resources():
    """An emulator with one of everything, at its quotas."""
    from conftest import Emulator

    emulator = Emulator(**SMALL)
    r = {"emulator": emulator}
    r["sg"] = emulator.ec2.create_security_group(GroupName="mine", Description="x", VpcId=VPC)["GroupId"]
    emulator.ec2.authorize_security_group_ingress(GroupId=r["sg"], IpPermissions=[RULE])
    r["eip"] = emulator.ec2.allocate_address()["AllocationId"]
    r["balancer"] = emulator.balancer(SecurityGroups=[r["sg"]])
    mapping = [{"SubnetId": "subnet-0a00000000000aaa1", "AllocationId": r["eip"]}]
    r["public"] = emulator.balancer("public", Scheme="internet-facing", Subnets=[], SubnetMappings=mapping)
    r["group"], r["idle"] = emulator.group(), emulator.group("idle")
    r["udp"] = emulator.group("udp", Protocol="UDP")
    r["listener"] = emulator.listener(r["balancer"], r["group"])
    emulator.listener(r["balancer"], r["group"], 81)
    r["tls"] = emulator.listener(
        r["balancer"], r["group"], 443, Protocol="TLS", Certificates=[{"CertificateArn": CERTIFICATE[0]["CertificateArn"][:-1] + "1"}]
    )
    protection = [{"Key": "deletion_protection.enabled", "Value": "true"}]
    emulator.elb.modify_load_balancer_attributes(LoadBalancerArn=r["balancer"], Attributes=protection)
    yield r
    emulator.stop()


@pytest.mark.parametrize(("service", "operation", "arguments", "code"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_mistake_has_its_code(resources, service, operation, arguments, code):
    client = resources["emulator"].client(service)
    before = resources["emulator"].counts()
    with pytest.raises(ClientError) as refused:
        getattr(client, operation)(**arguments(resources))
    error = refused.value.response
    assert error["Error"]["Code"] == code, error
    assert error["Error"]["Message"] and error["ResponseMetadata"]["RequestId"]
    assert resources["emulator"].counts() == before


def test_every_code_of_every_operation_arrives_as_botocore_models_it(emulator):
    """Whatever nothing here provokes is ordered: code, status and exception class are those of AWS's API model."""
    ordered = 0
    for operation in emulator.control("GET", "/v1/operations"):
        service = {"elb": "elbv2"}.get(operation["service"], operation["service"])
        client = emulator.client(service)
        shapes = client.meta.service_model.operation_model(operation["name"]).error_shapes
        models = {shape.metadata.get("error", {}).get("code", shape.name): shape for shape in shapes}
        for code in operation["errors"]:
            emulator.fault({"refuse": {"code": code}}, action=operation["name"])
            with pytest.raises(ClientError) as refused:
                getattr(client, xform_name(operation["name"]))()
            answer = refused.value.response
            assert answer["Error"]["Code"] == code
            if code in models:
                status = models[code].metadata["error"]["httpStatusCode"]
                assert answer["ResponseMetadata"]["HTTPStatusCode"] == status, (operation["name"], code)
                assert type(refused.value).__name__ == models[code].name
            ordered += 1
    assert ordered > 130


def test_unsigned_and_stale_and_foreign_credentials_are_refused(emulator):
    def send(body, **headers):
        connection = http.client.HTTPConnection(emulator.api, timeout=10)
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()

    version = "Version=2015-12-01"
    scope = "20260101/ap-northeast-2/elasticloadbalancing/aws4_request, SignedHeaders=host, Signature=0"
    signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential=AKIAANY/{scope}"}
    cases = [
        (f"Action=DescribeLoadBalancers&{version}", {}, 403, "MissingAuthenticationToken"),
        (f"Action=DescribeLoadBalancers&{version}", {**signed, "X-Amz-Date": "20200101T000000Z"}, 400, "RequestExpired"),
        (
            f"Action=DescribeLoadBalancers&{version}",
            {"Authorization": f"AWS4-HMAC-SHA256 Credential=ASIANOBODY/{scope}"},
            403,
            "InvalidClientTokenId",
        ),
        (version, signed, 400, "MissingAction"),
        (f"Action=Nonsense&{version}", signed, 400, "InvalidAction"),
        ("Action=DescribeLoadBalancers&Version=2012-06-01", signed, 400, "InvalidAction"),
        ("Action=%zz", signed, 404, "MalformedQueryString"),
        (b"\xff\xfe", signed, 404, "MalformedQueryString"),
        ("Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::1:role/abcdef&RoleSessionName=ab&WebIdentityToken=abcd", {}, 400, "InvalidIdentityToken"),
        ("Action=Describe", {"Authorization": signed["Authorization"].replace("elasticloadbalancing", "route53")}, 400, "InvalidAction"),
        ("x" * (2 << 20), signed, 413, ""),
    ]
    for body, headers, status, code in cases:
        got, text = send(body, **headers)
        assert (got, f"<Code>{code}</Code>" in text or not code) == (status, True), (body[:80], got, text)
    many = urllib.parse.urlencode({f"ResourceArns.member.{n}": "x" for n in range(1, 12_000)})
    assert send(f"Action=DescribeTags&{version}&{many}", **signed)[0] == 400


def test_slow_and_dead_clients_block_nobody(emulator):
    """Two hundred connections that say half a word, and one client that gets its answer at once."""
    host, port = emulator.api.split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    for connection in idle[::2]:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nAction=")
    until("an answer", lambda: "LoadBalancers" in emulator.elb.describe_load_balancers(), 5)
    for connection in idle:
        connection.close()
