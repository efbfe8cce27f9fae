"""Paging, limits, throttling, lost replies and idempotency, as boto3 and its own retries meet them."""

import concurrent.futures
import json

import pytest
from botocore.exceptions import ClientError, HTTPClientError
from conftest import PODS, SUBNETS, VPC


def test_401_groups_come_in_two_pages_and_smaller_pages_cover_all(emulator):
    elb = emulator.elb
    for n in range(401):
        elb.create_target_group(Name=f"g{n}", Protocol="TCP", Port=80, VpcId=VPC)
    first = elb.describe_target_groups()
    assert (len(first["TargetGroups"]), bool(first["NextMarker"])) == (400, True)
    second = elb.describe_target_groups(Marker=first["NextMarker"])
    assert (len(second["TargetGroups"]), "NextMarker" in second) == (1, False)
    pages = elb.get_paginator("describe_target_groups").paginate(PaginationConfig={"PageSize": 7})
    names = [group["TargetGroupName"] for page in pages for group in page["TargetGroups"]]
    assert names == [f"g{n}" for n in range(401)]


def test_401_load_balancers_come_in_two_pages(emulate):
    emulator = emulate(**{"quota.network-load-balancers": 500})
    zones = ["subnet-0a00000000000aaa1", "subnet-0b00000000000bbb1", "subnet-0c00000000000ccc1", *SUBNETS]
    for n in range(401):
        emulator.balancer(f"b{n}", Subnets=[zones[n % 6]])
    pages = list(emulator.elb.get_paginator("describe_load_balancers").paginate())
    assert [len(page["LoadBalancers"]) for page in pages] == [400, 1]


def test_ec2_pages_by_token(emulator):
    pages = emulator.ec2.get_paginator("describe_subnets").paginate(PaginationConfig={"PageSize": 5})
    assert [len(page["Subnets"]) for page in pages] == [5, 1]


def test_health_of_a_thousand_targets_comes_in_one_answer(emulator):
    group = emulator.group()
    targets = [{"Id": f"127.10.{11 + n % 3}.{1 + n // 3 % 120}", "Port": 1000 + n} for n in range(1000)]
    for start in range(0, 1000, 200):
        emulator.elb.register_targets(TargetGroupArn=group, Targets=targets[start : start + 200])
    assert len(emulator.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]) == 1000
    with pytest.raises(ClientError, match="TooManyTargets"):
        emulator.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": PODS[0]}])


def test_tags_and_load_balancers_are_asked_for_by_20_arns_and_not_by_21(emulator):
    groups = [emulator.group(f"g{n}") for n in range(21)]
    assert len(emulator.elb.describe_tags(ResourceArns=groups[:20])["TagDescriptions"]) == 20
    with pytest.raises(ClientError, match="ValidationError"):
        emulator.elb.describe_tags(ResourceArns=groups)
    with pytest.raises(ClientError, match="ValidationError"):
        emulator.elb.describe_load_balancers(Names=[f"b{n}" for n in range(21)])


@pytest.mark.parametrize("code", ["Throttling", "ThrottlingException"])
def test_throttled_call_is_retried_by_the_client(emulator, code):
    emulator.fault({"refuse": {"code": code}}, action="DescribeTargetGroups", times=2)
    emulator.client("elbv2", attempts=3).describe_target_groups()
    assert [call.get("error") for call in emulator.calls("DescribeTargetGroups")] == [code, code, None]


def test_bucket_is_shared_by_all_clients_and_refills(emulate):
    emulator = emulate(**{"bucket.targets": "20/4"})
    group = emulator.group()
    clients = [emulator.client("elbv2", key=f"AKIA{n}") for n in range(2)]
    refused = 0
    for n in range(24):
        try:
            clients[n % 2].register_targets(TargetGroupArn=group, Targets=[{"Id": PODS[0]}])
        except ClientError as error:
            assert error.response["Error"] == {"Type": "Sender", "Code": "Throttling", "Message": "Rate exceeded"}
            refused += 1
    assert 1 <= refused <= 4
    emulator.elb.describe_target_groups()
    patient = emulator.client("elbv2", attempts=10)
    patient.deregister_targets(TargetGroupArn=group, Targets=[{"Id": PODS[0]}])


def test_lost_reply_of_a_creation_ends_in_one_resource(emulator):
    emulator.fault("lose", action="CreateLoadBalancer")
    created = emulator.client("elbv2", attempts=3).create_load_balancer(Name="web", Type="network", Subnets=SUBNETS)
    assert len(emulator.calls("CreateLoadBalancer")) == 2
    assert emulator.elb.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"] == (
        created["LoadBalancers"][0]["LoadBalancerArn"]
    )
    assert emulator.counts()["loadBalancers"] == 1


def test_lost_reply_without_a_retry_is_an_error_and_an_effect(emulator):
    emulator.fault("lose")
    with pytest.raises(HTTPClientError):
        emulator.group()
    assert emulator.counts()["targetGroups"] == 1


@pytest.mark.parametrize(("effect", "groups"), [("fail-after", 1), ("fail-before", 0), ("unavailable", 0)])
def test_server_errors_come_before_or_after_the_effect(emulator, effect, groups):
    emulator.fault(effect)
    with pytest.raises(ClientError) as failed:
        emulator.group()
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503)
    assert emulator.counts()["targetGroups"] == groups
    emulator.group()
    assert emulator.counts()["targetGroups"] == 1


def test_client_that_retries_through_chaos_ends_with_neither_duplicates_nor_leaks(emulate):
    chaos = {"fault.lose-replies": 0.2, "fault.fail-after": 0.15, "fault.fail-before": 0.15}
    emulator = emulate(**chaos)
    client = emulator.client("elbv2", attempts=12)
    arns = [
        client.create_target_group(Name=f"g{n}", Protocol="TCP", Port=80, VpcId=VPC)["TargetGroups"][0]["TargetGroupArn"]
        for n in range(20)
    ]
    assert len(set(arns)) == emulator.counts()["targetGroups"] == 20
    assert len(emulator.calls("CreateTargetGroup")) > 20, "some were repeated"
    for arn in arns:
        client.delete_target_group(TargetGroupArn=arn)
    assert emulator.counts()["targetGroups"] == 0


def test_log_file_has_every_entry_in_order(emulate, tmp_path):
    path = tmp_path / "log.jsonl"
    emulator = emulate(arguments=[f"--log={path}"])
    emulator.elb.register_targets(TargetGroupArn=emulator.group(), Targets=[{"Id": PODS[0]}])
    asked = emulator.control("GET", "/v1/log")["entries"]
    emulator.stop()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert entries == asked
    assert [entry["sequence"] for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry["kind"] for entry in entries] == ["api", "target", "api"]


def test_creation_is_idempotent_only_with_equal_settings(emulate):
    emulator = emulate(**{"idempotency.compare-tags": "false"})
    first = emulator.balancer(Tags=[{"Key": "a", "Value": "1"}])
    assert emulator.balancer(Tags=[{"Key": "a", "Value": "2"}]) == first
    emulator.control("PUT", "/v1/settings", {"idempotency.compare-tags": "true"})
    with pytest.raises(ClientError, match="DuplicateLoadBalancerName"):
        emulator.balancer(Tags=[{"Key": "a", "Value": "2"}])


def test_concurrent_creations_of_one_name_make_one_resource(emulator):
    client = emulator.elb
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        make = lambda _: client.create_target_group(Name="web", Protocol="TCP", Port=80, VpcId=VPC)
        arns = {created["TargetGroups"][0]["TargetGroupArn"] for created in pool.map(make, range(16))}
    assert len(arns) == 1


def test_waiters_of_boto3_work(emulate):
    emulator = emulate("fast", time_scale=20)
    balancer = emulator.balancer()
    quick = {"Delay": 1, "MaxAttempts": 20}
    emulator.elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[balancer], WaiterConfig=quick)
    group = emulator.group()
    emulator.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": PODS[0]}])
    emulator.elb.deregister_targets(TargetGroupArn=group, Targets=[{"Id": PODS[0]}])
    gone = {"TargetGroupArn": group, "Targets": [{"Id": PODS[0]}]}
    emulator.elb.get_waiter("target_deregistered").wait(**gone, WaiterConfig=quick)
    emulator.elb.delete_load_balancer(LoadBalancerArn=balancer)
    emulator.elb.get_waiter("load_balancers_deleted").wait(LoadBalancerArns=[balancer], WaiterConfig=quick)


def test_control_api_refuses_with_a_remedy(emulator):
    import http.client

    cases = [
        ("PUT", "/v1/settings", '{"lag.registraton": "1s"}', "did you mean `lag.registration`"),
        ("PUT", "/v1/settings", '{"lag.registration": "1s", "quota.target-groups": "many"}', "a whole number"),
        ("PUT", "/v1/settings", "{", "the body is not as it should be"),
        ("POST", "/v1/faults", '{"effect": {"refuse": {"code": "Nonsense"}}}', "GET /v1/operations"),
        ("PUT", "/v1/zones/mars", '{"impaired": true}', "no zone `mars`"),
        ("PUT", "/v1/profile/slow", "", "use instant, fast or real-2023"),
        ("GET", "/v1/log?since=3", "", "log has no parameter `since`"),
        ("GET", "/v1/nothing", "", "there is no GET /v1/nothing"),
    ]
    for method, path, body, says in cases:
        connection = http.client.HTTPConnection(emulator.control_address, timeout=10)
        connection.request(method, path, body)
        response = connection.getresponse()
        text = response.read().decode()
        assert (response.status >= 400, says in text) == (True, True), (path, text)
    now = {row["key"]: row["value"] for row in emulator.control("GET", "/v1/settings")}
    assert now["lag.registration"] == "0s", "a change with one bad value changes nothing"
