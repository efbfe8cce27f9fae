"""The emulator's table of operations against the API models that AWS publishes with botocore."""

import botocore.session
import pytest
from botocore.model import ListShape, StructureShape

SERVICES = {"elb": "elbv2", "ec2": "ec2", "sts": "sts"}
# Codes that an operation answers although its model does not name them, and why.
UNNAMED = {
    "CreateTargetGroup": {"DuplicateTagKeys"},  # named for CreateLoadBalancer; the same check
    "CreateListener": {"DuplicateTagKeys"},
    "SetSubnets": {"ResourceInUse"},  # an elastic address that is taken
    "DeregisterTargets": {"TooManyTargets"},  # the unpublished limit of a call
    "AddListenerCertificates": {"InvalidConfigurationRequest"},  # a listener that is not TLS
    "RemoveListenerCertificates": {"CertificateNotFound"},
}
# Codes of a feature that is left out.
TRUST_STORES = {"TrustStoreNotFound", "TrustStoreNotReady"}
# Fields of AWS that are not emulated: of application load balancers, of IPAM and of other features left out.
LEFT_OUT = {
    "CreateLoadBalancer": {"CustomerOwnedIpv4Pool", "IpamPools"},
    "CreateTargetGroup": {"TargetControlPort"},
    "CreateListener": {"MutualAuthentication"},
    "ModifyListener": {"MutualAuthentication"},
}


def operations(emulate):
    return emulate().control("GET", "/v1/operations")


@pytest.fixture(scope="module")
def models():
    session = botocore.session.get_session()
    return {service: session.get_service_model(name) for service, name in SERVICES.items()}


def wire_name(service, name, shape):
    if service != "ec2":
        return name
    return shape.serialization.get("queryName") or capital(shape.serialization.get("name", name))


def capital(name):
    return name[:1].upper() + name[1:]


def compare(service, where, fields, shape):
    """What the table says otherwise than the model."""
    members = {wire_name(service, name, member): (name, member) for name, member in shape.members.items()}
    problems = []
    for field in fields:
        path = f"{where}.{field['name']}"
        if field["name"] not in members:
            problems.append(f"{path}: AWS has no such field")
            continue
        name, member = members[field["name"]]
        if field["required"] and name not in shape.required_members:
            problems.append(f"{path}: AWS does not require it")
        if not field["required"] and name in shape.required_members:
            problems.append(f"{path}: AWS requires it")
        problems += compare_kind(service, path, field, member)
    return problems


def compare_kind(service, path, field, member):
    kinds = {"string": "text", "structure": "record", "long": "integer", "double": "integer"}
    kind = kinds.get(member.type_name, member.type_name)
    if kind == "text" and getattr(member, "enum", None):
        kind = "enum" if field["kind"] == "enum" else kind
    if kind != field["kind"]:
        return [f"{path}: AWS has {kind}, not {field['kind']}"]
    problems = []
    limits = member.metadata
    if field["kind"] == "enum" and set(field["values"]) != set(member.enum):
        problems.append(f"{path}: AWS has the values {member.enum}")
    if service != "ec2" and field["kind"] == "integer":
        for limit in ("min", "max"):
            if limit in limits and limits[limit] != field.get(limit):
                problems.append(f"{path}: AWS has {limit} {limits[limit]}, not {field.get(limit)}")
    if service != "ec2" and field["kind"] == "text" and "max" in limits and limits["max"] != field.get("max"):
        problems.append(f"{path}: AWS has max {limits['max']}, not {field.get('max')}")
    inner = member.member if isinstance(member, ListShape) else member
    if field.get("fields") and isinstance(inner, StructureShape):
        problems += compare(service, path, field["fields"], inner)
    return problems


def test_every_field_is_of_the_form_that_aws_publishes(emulate, models):
    problems = []
    for operation in operations(emulate):
        shape = models[operation["service"]].operation_model(operation["name"]).input_shape
        if shape is not None:
            problems += compare(operation["service"], operation["name"], operation["fields"], shape)
    assert problems == []


def test_no_field_of_elbv2_is_missing(emulate, models):
    missing = {}
    for operation in operations(emulate):
        if operation["service"] == "elb":
            shape = models["elb"].operation_model(operation["name"]).input_shape
            known = {field["name"] for field in operation["fields"]} | LEFT_OUT.get(operation["name"], set())
            if absent := set(shape.members) - known:
                missing[operation["name"]] = absent
    assert missing == {}


def test_errors_of_elbv2_are_those_that_aws_names(emulate, models):
    wrong = {}
    for operation in operations(emulate):
        if operation["service"] == "elb":
            shapes = models["elb"].operation_model(operation["name"]).error_shapes
            named = {shape.metadata.get("error", {}).get("code", shape.name) for shape in shapes} - TRUST_STORES
            own = set(operation["errors"])
            if difference := (own - UNNAMED.get(operation["name"], set())) ^ named:
                wrong[operation["name"]] = difference
    assert wrong == {}
