"""The story of a load balancer, told by the aws CLI alone, with connections to its real addresses."""

import collections
import http.client
import json
import os
import subprocess

import pytest
from conftest import REGION, SUBNETS, VPC, until


@pytest.fixture
def aws(emulate):
    """Runs the CLI against an emulator with lags of the profile fast, five times as fast."""
    emulator = emulate("fast", time_scale=5, data_plane=True, **{"lag.deregistration": "20s"})
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
        "AWS_ENDPOINT_URL": f"http://{emulator.api}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
    }

    def run(*arguments):
        done = subprocess.run(["aws", *arguments, "--output=json"], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    run.emulator = emulator
    return run


def get(address):
    """What the target behind a load balancer answers; None if there is no answer."""
    connection = http.client.HTTPConnection(address, 80, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except OSError:
        return None
    except http.client.HTTPException:
        return None
    finally:
        connection.close()


def test_cli_tells_the_story(aws, pods):
    created = aws("elbv2", "create-load-balancer", "--name=web", "--type=network", "--scheme=internal", "--subnets", *SUBNETS)
    balancer = created["LoadBalancers"][0]
    assert balancer["State"]["Code"] == "provisioning"
    arn = balancer["LoadBalancerArn"]
    group = aws(
        "elbv2", "create-target-group", "--name=web", "--protocol=TCP", "--port=8080", f"--vpc-id={VPC}", "--target-type=ip",
        "--health-check-interval-seconds=5",
    )["TargetGroups"][0]["TargetGroupArn"]
    cross_zone = "Key=load_balancing.cross_zone.enabled,Value=true"
    delay = "Key=deregistration_delay.timeout_seconds,Value=60"
    aws("elbv2", "modify-load-balancer-attributes", f"--load-balancer-arn={arn}", f"--attributes={cross_zone}")
    aws("elbv2", "modify-target-group-attributes", f"--target-group-arn={group}", f"--attributes={delay}")
    forward = f"Type=forward,TargetGroupArn={group}"
    aws("elbv2", "create-listener", f"--load-balancer-arn={arn}", "--protocol=TCP", "--port=80", f"--default-actions={forward}")
    aws("elbv2", "register-targets", f"--target-group-arn={group}", "--targets", f"Id={pods[0]}", f"Id={pods[1]}")

    def states():
        health = aws("elbv2", "describe-target-health", f"--target-group-arn={group}")["TargetHealthDescriptions"]
        return {d["Target"]["Id"]: d["TargetHealth"]["State"] for d in health}

    until("both targets are healthy", lambda: states() == {pods[0]: "healthy", pods[1]: "healthy"})
    changes = aws.emulator.control("GET", "/v1/log?kind=target")["entries"]
    assert [c["to"] for c in changes if c["who"] == f"{pods[0]}:8080"] == ["initial", "initial", "healthy"]

    name = aws.emulator.control("GET", f"/v1/names/{balancer['DNSName']}")
    assert len(name["addresses"]) == 3, "with cross-zone balancing every zone has healthy targets"
    served = collections.Counter(get(name["addresses"][n % 3]) for n in range(100))
    # Two-sided 99.9 % bound of a binomial distribution with n = 100, p = 1/2.
    assert set(served) == set(pods[:2]) and 34 <= served[pods[0]] <= 66, served

    after = aws.emulator.control("GET", "/v1/log")["last"]
    aws("elbv2", "deregister-targets", f"--target-group-arn={group}", "--targets", f"Id={pods[0]}")
    still = collections.Counter(get(name["addresses"][0]) for _ in range(40))
    assert states()[pods[0]] == "draining"
    over = aws.emulator.control("GET", f"/v1/log?kind=routing&who={pods[0]}:8080&after={after}&wait=20")["entries"]
    assert [entry["standing"] for entry in over] == ["none"]
    then = collections.Counter(get(name["addresses"][0]) for _ in range(40))
    assert (still[pods[0]] > 0, then) == (True, {pods[1]: 40}), (still, then)
    until("the target has left the list", lambda: states() == {pods[1]: "healthy"})
