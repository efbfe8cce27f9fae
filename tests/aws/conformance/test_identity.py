"""Roles for service accounts: web identity tokens signed as an API server signs them, exchanged by boto3."""

import base64
import json
import time

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import REGION, Emulator
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "https://kubernetes.default.svc.cluster.local"
ROLE = "arn:aws:iam::111122223333:role/sluice-registrar"
SUBJECT = "system:serviceaccount:sluice-system:sluice-registrar"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwks(self):
        numbers = self.key.public_key().public_numbers()
        number = lambda n: encode(n.to_bytes((n.bit_length() + 7) // 8, "big"))
        return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "n": number(numbers.n), "e": number(numbers.e)}]}

    def token(self, **changes):
        claims = {"iss": ISSUER, "sub": SUBJECT, "aud": ["sts.amazonaws.com"], "exp": int(time.time()) + 600, **changes}
        signed = encode(json.dumps({"alg": "RS256", "kid": "one"}).encode()) + "." + encode(json.dumps(claims).encode())
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return signed + "." + encode(signature)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    issuer = Issuer()
    path = tmp_path_factory.mktemp("oidc") / "jwks.json"
    path.write_text(json.dumps(issuer.jwks()))
    issuer.emulator = Emulator(arguments=[f"--oidc-jwks={path}", f"--oidc-issuer={ISSUER}"])
    yield issuer
    issuer.emulator.stop()


def assume(emulator, token):
    unsigned = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
    sts = boto3.client("sts", region_name=REGION, endpoint_url=f"http://{emulator.api}", config=unsigned)
    return sts.assume_role_with_web_identity(RoleArn=ROLE, RoleSessionName="test", WebIdentityToken=token)


def test_token_of_the_service_account_gives_credentials_that_work(issuer):
    given = assume(issuer.emulator, issuer.token())
    assert given["SubjectFromWebIdentityToken"] == SUBJECT
    credentials = given["Credentials"]
    client = boto3.client(
        "elbv2",
        region_name=REGION,
        endpoint_url=f"http://{issuer.emulator.api}",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    client.describe_load_balancers()
    who = issuer.emulator.calls("DescribeLoadBalancers")[-1]["who"]
    assert who == "arn:aws:sts::111122223333:assumed-role/sluice-registrar/test"
    logged = issuer.emulator.calls("AssumeRoleWithWebIdentity")[-1]
    assert "WebIdentityToken" not in json.dumps(logged), "the log holds no token"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sub": "system:serviceaccount:default:default"}, "AccessDenied"),
        ({"aud": ["https://elsewhere"]}, "InvalidIdentityToken"),
        ({"iss": "https://elsewhere"}, "InvalidIdentityToken"),
        ({"exp": 1}, "InvalidIdentityToken"),
    ],
    ids=["another account", "another audience", "another issuer", "expired"],
)
def test_other_tokens_are_refused(issuer, changes, code):
    with pytest.raises(ClientError, match=code):
        assume(issuer.emulator, issuer.token(**changes))


def test_token_of_another_key_is_refused(issuer):
    with pytest.raises(ClientError, match="InvalidIdentityToken"):
        assume(issuer.emulator, Issuer().token())
