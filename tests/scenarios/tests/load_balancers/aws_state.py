"""Prints what AWS has, read by boto3, as JSON with the names that `registrar plan` uses.

{"loadBalancers": {name: {..., "Listeners": {port: ...}}}, "targetGroups": {resource tag: ...}, "securityGroups": {id: ...}}

Of several target groups with one resource tag that which a load balancer uses stands there, and the others in "surplus".
"""

import json
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.exceptions import ClientError

RESOURCE = "service.k8s.aws/resource"

elb = boto3.client("elbv2")
ec2 = boto3.client("ec2")


def pages(operation, key, **arguments):
    return [item for page in elb.get_paginator(operation).paginate(**arguments) for item in page[key]]


def pairs(items):
    return {item["Key"]: item["Value"] for item in items}


def tags_of(arns):
    batches = [arns[start : start + 20] for start in range(0, len(arns), 20)]
    found = [elb.describe_tags(ResourceArns=batch)["TagDescriptions"] for batch in batches]
    return {tagged["ResourceArn"]: pairs(tagged["Tags"]) for batch in found for tagged in batch}


def listener(found):
    shown = {key: found[key] for key in ("ListenerArn", "Port", "Protocol", "SslPolicy") if key in found}
    attributes = elb.describe_listener_attributes(ListenerArn=found["ListenerArn"])["Attributes"]
    shown["Attributes"] = pairs(attributes)
    shown["AlpnPolicy"] = next(iter(found.get("AlpnPolicy", [])), None)
    if found["Protocol"] == "TLS":
        certificates = elb.describe_listener_certificates(ListenerArn=found["ListenerArn"])["Certificates"]
        certificates.sort(key=lambda certificate: not certificate.get("IsDefault", False))
        shown["Certificates"] = [certificate["CertificateArn"] for certificate in certificates]
    forward = found["DefaultActions"][0]["ForwardConfig"]
    shown["Forward"] = {group["TargetGroupArn"]: group.get("Weight") for group in forward["TargetGroups"]}
    shown["Sticky"] = forward.get("TargetGroupStickinessConfig", {}).get("Enabled")
    return shown


def addresses(zone):
    shown = next(iter(zone.get("LoadBalancerAddresses", [])), {})
    return {**shown, "SourceNatIpv6Prefix": next(iter(zone.get("SourceNatIpv6Prefixes", [])), None)}


def load_balancer(found):
    arn = found["LoadBalancerArn"]
    keys = ("LoadBalancerArn", "LoadBalancerName", "Type", "Scheme", "IpAddressType", "VpcId")
    shown = {key: found[key] for key in (*keys, "EnablePrefixForIpv6SourceNat")}
    shown["State"] = found["State"]["Code"]
    shown["SecurityGroups"] = sorted(found.get("SecurityGroups", []))
    shown["Subnets"] = sorted(zone["SubnetId"] for zone in found["AvailabilityZones"])
    shown["Addresses"] = {zone["SubnetId"]: addresses(zone) for zone in found["AvailabilityZones"]}
    private_link = found.get("EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic")
    shown["EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"] = private_link
    shown["Attributes"] = pairs(elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"])
    capacity = elb.describe_capacity_reservation(LoadBalancerArn=arn).get("MinimumLoadBalancerCapacity") or {}
    shown["MinimumLoadBalancerCapacity"] = capacity.get("CapacityUnits")
    shown["Listeners"] = {
        str(one["Port"]): listener(one) for one in pages("describe_listeners", "Listeners", LoadBalancerArn=arn)
    }
    return shown


def target_group(found):
    shown = {key: value for key, value in found.items() if key != "Matcher"}
    shown["Matcher"] = found.get("Matcher", {}).get("HttpCode")
    attributes = elb.describe_target_group_attributes(TargetGroupArn=found["TargetGroupArn"])["Attributes"]
    shown["Attributes"] = pairs(attributes)
    return shown


def permissions(group):
    for rule in group["IpPermissions"]:
        base = {key: rule[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in rule}
        for field, key in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"), ("PrefixListIds", "PrefixListId")):
            for source in rule.get(field, []):
                yield base | {key: source[key]}
        for source in rule.get("UserIdGroupPairs", []):
            yield base | {"GroupId": source["GroupId"]}


def security_group(found):
    rules = sorted(permissions(found), key=lambda rule: json.dumps(rule, sort_keys=True))
    return {
        "GroupId": found["GroupId"],
        "GroupName": found["GroupName"],
        "IpPermissions": rules,
        "Tags": pairs(found.get("Tags", [])),
    }


def state():
    with ThreadPoolExecutor(8) as pool:
        balancers = list(pool.map(load_balancer, pages("describe_load_balancers", "LoadBalancers")))
        groups = list(pool.map(target_group, pages("describe_target_groups", "TargetGroups")))
    listeners = [one for balancer in balancers for one in balancer["Listeners"].values()]
    tags = tags_of(
        [one["LoadBalancerArn"] for one in balancers]
        + [one["TargetGroupArn"] for one in groups]
        + [one["ListenerArn"] for one in listeners]
    )
    for one in balancers:
        one["Tags"] = tags[one["LoadBalancerArn"]]
    for one in groups:
        one["Tags"] = tags[one["TargetGroupArn"]]
    for one in listeners:
        one["Tags"] = tags[one["ListenerArn"]]
    by_resource, surplus = {}, []
    for one in sorted(groups, key=lambda one: not one["LoadBalancerArns"]):
        resource = one["Tags"].get(RESOURCE, one["TargetGroupName"])
        if resource in by_resource:
            surplus.append(one)
        else:
            by_resource[resource] = one
    return {
        "loadBalancers": {one["LoadBalancerName"]: one for one in balancers},
        "targetGroups": by_resource,
        "surplus": surplus,
        "securityGroups": {
            one["GroupId"]: security_group(one) for one in ec2.describe_security_groups()["SecurityGroups"]
        },
        "subnets": {one["SubnetId"]: pairs(one.get("Tags", [])) for one in ec2.describe_subnets()["Subnets"]},
    }


# What others delete meanwhile is looked for again.
for last in [False] * 9 + [True]:
    try:
        print(json.dumps(state()))
        break
    except ClientError as error:
        if last or "NotFound" not in error.response["Error"]["Code"]:
            raise
