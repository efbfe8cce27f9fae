"""An emulator for each test, with clients for it."""

import http.client
import json
import os
import re
import socketserver
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler

import boto3
import pytest
from botocore.config import Config

REGION = "ap-northeast-2"
VPC = "vpc-0a1b2c3d4e5f60718"
SUBNETS = ["subnet-0a00000000000aaa2", "subnet-0b00000000000bbb2", "subnet-0c00000000000ccc2"]
PODS = ["127.10.11.21", "127.10.12.21", "127.10.13.21"]


class Emulator:
    """A running emulator: AWS clients, and its control API."""

    def __init__(self, profile="instant", time_scale=1, data_plane=False, arguments=(), **settings):
        command = [
            os.environ["AWS_EMULATOR"],
            "--listen=127.0.0.1:0",
            "--control=127.0.0.1:0",
            f"--profile={profile}",
            f"--time-scale={time_scale}",
            *arguments,
        ]
        command += [] if data_plane else ["--no-data-plane"]
        command += [f"--set={key}={value}" for key, value in settings.items()]
        environment = {**os.environ, "RUST_LOG": "info", "NO_COLOR": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stderr:
            if found := re.search(r"api=(\S+) control=(\S+)", re.sub(r"\x1b\[[0-9;]*m", "", line)):
                self.api, self.control_address = found.groups()
                break
        else:
            raise RuntimeError("the emulator did not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def client(self, service, attempts=1, **options):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=f"http://{self.api}",
            aws_access_key_id=options.pop("key", "AKIAANY"),
            aws_secret_access_key="any",
            config=Config(retries={"mode": "standard", "total_max_attempts": attempts}, parameter_validation=False),
            **options,
        )

    @property
    def elb(self):
        return self.client("elbv2")

    @property
    def ec2(self):
        return self.client("ec2")

    def control(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.control_address, timeout=70)
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        return answer

    def fault(self, effect, action=None, times=1):
        self.control("POST", "/v1/faults", {"action": action, "times": times, "effect": effect})

    def calls(self, action):
        """The log's entries of an operation's calls."""
        entries = self.control("GET", "/v1/log?kind=api")["entries"]
        return [entry for entry in entries if entry["action"] == action]

    def counts(self):
        return self.control("GET", "/v1/counts")

    def balancer(self, name="web", **fields):
        fields = {"Subnets": SUBNETS[:1], "Scheme": "internal", "Type": "network", **fields}
        return self.elb.create_load_balancer(Name=name, **fields)["LoadBalancers"][0]["LoadBalancerArn"]

    def group(self, name="web", **fields):
        fields = {"Protocol": "TCP", "Port": 8080, "VpcId": VPC, "TargetType": "ip", **fields}
        return self.elb.create_target_group(Name=name, **fields)["TargetGroups"][0]["TargetGroupArn"]

    def listener(self, balancer, group, port=80, **fields):
        actions = [{"Type": "forward", "TargetGroupArn": group}]
        fields = {"Protocol": "TCP", "DefaultActions": actions, **fields}
        created = self.elb.create_listener(LoadBalancerArn=balancer, Port=port, **fields)
        return created["Listeners"][0]["ListenerArn"]

    def stop(self):
        """Ends the emulator in order; harmless if it has ended."""
        self.process.terminate()
        assert self.process.wait(timeout=15) == 0


@pytest.fixture
def emulate():
    """Starts emulators with settings of the test's choice."""
    started = []

    def start(*arguments, **settings):
        started.append(Emulator(*arguments, **settings))
        return started[-1]

    yield start
    for emulator in started:
        emulator.stop()


@pytest.fixture
def emulator(emulate):
    """An emulator without lags and without a data plane."""
    return emulate()


@pytest.fixture
def pods():
    """HTTP servers on the addresses of PODS, each of which answers with its address."""
    servers = []
    for address in PODS:

        class Handler(BaseHTTPRequestHandler):
            body = address.encode()

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(self.body)))
                self.end_headers()
                self.wfile.write(self.body)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        server = Server((address, 8080), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    yield PODS
    for server in servers:
        server.shutdown()
        server.server_close()


def until(what, condition, timeout=30):
    """Waits for a condition; fails with its name."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.02)
    return result
