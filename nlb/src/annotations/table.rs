//! The table itself. Facts per key: kind of value, default, the field it drives, what a change does.

use super::{Annotation, Change, Item, Kind, Object, Pairs, Tail, attributes::Scope, keys};
#[allow(clippy::wildcard_imports, reason = "the table names every key")]
use keys::*;

const SERVICE: Annotation = Annotation {
    key: "",
    tail: Tail::None,
    object: Object::Service,
    kind: Kind::Text,
    default: "none",
    drives: "",
    change: Change::InPlace,
    instead: None,
    help: "",
};

const fn row(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    drives: &'static str,
    change: Change,
    help: &'static str,
) -> Annotation {
    Annotation { key, kind, default, drives, change, help, ..SERVICE }
}

const fn old(row: Annotation, instead: &'static str) -> Annotation {
    Annotation { instead: Some(instead), ..row }
}

const fn with_tail(row: Annotation, tail: Tail) -> Annotation {
    Annotation { tail, ..row }
}

const fn on(row: Annotation, object: Object) -> Annotation {
    Annotation { object, ..row }
}

const ON_OFF: Kind = Kind::OneOf(&["on", "off"]);

use Change::{CreationOnly, InPlace, NewPods, Ownership, ReplacesLoadBalancer, ReplacesTargetGroups};

/// Every annotation, in the order of the reference.
#[rustfmt::skip]
pub static TABLE: &[Annotation] = &[
    // Which controller, identity, addressing.
    row(TYPE, Kind::Text, "none", "-", Ownership,
        "`external` (with a target type) or `nlb-ip` make the Service ours when it has no `spec.loadBalancerClass`; with a class it is ignored"),
    row(TARGET_TYPE, Kind::OneOf(&["ip", "instance"]), "setting `defaultTargetType` (`instance`)", "TargetType", ReplacesTargetGroups,
        "whether targets are pods (`ip`) or nodes (`instance`); readiness gates exist for `ip` only"),
    row(NAME, Kind::LoadBalancerName, "`k8s-<namespace>-<name>-<hash>`", "Name", CreationOnly,
        "name of the load balancer"),
    row(SCHEME, Kind::OneOf(&["internal", "internet-facing"]), "that of the existing load balancer, else setting `defaultScheme` (`internal`)", "Scheme", ReplacesLoadBalancer,
        "whether the load balancer has public addresses"),
    old(row(INTERNAL, Kind::Boolean, "none", "Scheme", ReplacesLoadBalancer,
        "old form of the scheme"), SCHEME),
    row(IP_ADDRESS_TYPE, Kind::OneOf(&["ipv4", "dualstack"]), "`ipv4`", "IpAddressType", InPlace,
        "address families of the load balancer"),
    row(SUBNETS, Kind::List(Item::Subnet), "those of the existing load balancer, else discovered by tags", "SubnetMappings[].SubnetId", InPlace,
        "one subnet per zone, by id or by the value of its `Name` tag"),
    row(EIP_ALLOCATIONS, Kind::List(Item::EipAllocation), "none", "SubnetMappings[].AllocationId", CreationOnly,
        "Elastic IP addresses, one per subnet in the same order; internet-facing only"),
    row(PRIVATE_IPV4_ADDRESSES, Kind::List(Item::Ipv4), "none", "SubnetMappings[].PrivateIPv4Address", CreationOnly,
        "private addresses, exactly one from each subnet; internal only"),
    row(IPV6_ADDRESSES, Kind::List(Item::Ipv6), "none", "SubnetMappings[].IPv6Address", CreationOnly,
        "IPv6 addresses, exactly one from each subnet; dualstack only"),
    row(SOURCE_NAT, ON_OFF, "`off`", "EnablePrefixForIpv6SourceNat", InPlace,
        "whether IPv6 flows are translated through a prefix, which UDP on a dualstack load balancer needs"),
    row(SOURCE_NAT_PREFIXES, Kind::List(Item::SourceNatPrefix), "none", "SubnetMappings[].SourceNatIpv6Prefix", InPlace,
        "prefix per subnet for IPv6 source NAT: `auto_assigned` or an IPv6 prefix of 80 bits"),
    row(ALLOW_REPLACEMENT, Kind::Text, "none", "-", InPlace,
        "name of the load balancer that may be given up when a change needs a new one; without it such a change waits"),
    // Security groups.
    row(SECURITY_GROUPS, Kind::List(Item::SecurityGroup), "a managed group", "SecurityGroups", InPlace,
        "security groups by id or `Name` tag instead of a managed one; only a load balancer made with groups can change them"),
    row(MANAGE_BACKEND_RULES, Kind::Boolean, "setting `enableManageBackendSecurityGroupRules` (`false`)", "-", InPlace,
        "with groups of your own: whether rules from the load balancer to the targets are kept too"),
    row(DISABLE_SECURITY_GROUPS, Kind::Boolean, "`false`", "SecurityGroups", CreationOnly,
        "make the load balancer without security groups, for life"),
    row(SOURCE_RANGES, Kind::List(Item::Cidr), "`0.0.0.0/0`, and `::/0` if dualstack", "IpPermissions[].IpRanges", InPlace,
        "who may connect, used only when `spec.loadBalancerSourceRanges` is empty and the group is a managed one"),
    row(PREFIX_LISTS, Kind::List(Item::PrefixList), "none", "IpPermissions[].PrefixListIds", InPlace,
        "prefix lists that may connect; without ranges they replace the open default"),
    row(PRIVATE_LINK_RULES, ON_OFF, "left alone", "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic", InPlace,
        "whether inbound rules hold for traffic that arrives through PrivateLink"),
    row(ICMP, ON_OFF, "`off`", "IpPermissions[]", InPlace,
        "let the ICMP messages of path MTU discovery in"),
    // Attributes, capacity, tags.
    row(ATTRIBUTES, Kind::Map(Pairs::Attributes(Scope::LoadBalancer)), "none", "ModifyLoadBalancerAttributes", InPlace,
        "attributes of the load balancer; only those given are set"),
    old(row(ACCESS_LOG_ENABLED, Kind::Boolean, "`false`", "access_logs.s3.enabled", InPlace,
        "access logs; `false` sends nothing"), ATTRIBUTES),
    old(row(ACCESS_LOG_BUCKET, Kind::Text, "none", "access_logs.s3.bucket", InPlace,
        "bucket of the access logs, when they are enabled"), ATTRIBUTES),
    old(row(ACCESS_LOG_PREFIX, Kind::Text, "none", "access_logs.s3.prefix", InPlace,
        "prefix of the access logs, when they are enabled"), ATTRIBUTES),
    old(row(CROSS_ZONE, Kind::Boolean, "none", "load_balancing.cross_zone.enabled", InPlace,
        "balance across zones; wins over the attribute of the same name"), ATTRIBUTES),
    row(CAPACITY, Kind::Map(Pairs::Capacity), "none", "ModifyCapacityReservation", InPlace,
        "`CapacityUnits=<n>`: reserved capacity; `0` gives it back"),
    row(TAGS, Kind::Map(Pairs::Tags), "none", "Tags", InPlace,
        "tags on everything that is made for the Service"),
    // Listeners.
    row(SSL_CERT, Kind::List(Item::CertificateArn), "none", "Certificates", InPlace,
        "certificates; the first is the default one. Turns the ports of `ssl-ports` into TLS listeners"),
    row(SSL_PORTS, Kind::List(Item::Port), "every port that is not UDP", "Listeners[].Protocol", InPlace,
        "which Service ports, by number or name, are TLS; needs a certificate"),
    row(SSL_POLICY, Kind::SslPolicy, "setting `defaultSslPolicy` (`ELBSecurityPolicy-2016-08`)", "SslPolicy", InPlace,
        "TLS versions and ciphers of the TLS listeners"),
    row(BACKEND_PROTOCOL, Kind::Text, "plain TCP", "TargetGroups[].Protocol", ReplacesTargetGroups,
        "`ssl`: TLS listeners talk TLS to the targets too; `tcp`: they do not"),
    row(ALPN, Kind::OneOf(&["None", "HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred"]), "none", "AlpnPolicy", InPlace,
        "protocol negotiation of the TLS listeners"),
    with_tail(row(LISTENER_ATTRIBUTES, Kind::Map(Pairs::Attributes(Scope::Listener)), "none", "ModifyListenerAttributes", InPlace,
        "attributes of one listener, for example `TCP-80`; not for TLS listeners"), Tail::Listener),
    row(TCP_UDP_LISTENER, Kind::Boolean, "feature `tcpUdpListener` (`false`)", "Listeners[].Protocol", ReplacesTargetGroups,
        "merge a TCP and a UDP port of one number into one TCP_UDP listener"),
    row(QUIC_PORTS, Kind::List(Item::Port), "none", "Listeners[].Protocol", ReplacesTargetGroups,
        "Service ports, by number or name, whose UDP becomes QUIC (and TCP_UDP becomes TCP_QUIC); `ip` targets only"),
    with_tail(row(ACTIONS, Kind::Action, "forward to the Service", "DefaultActions", InPlace,
        "JSON: forward a listener, for example `TCP-80`, to several target groups by weight"), Tail::Listener),
    // Target groups.
    row(TARGET_GROUP_ATTRIBUTES, Kind::Map(Pairs::Attributes(Scope::TargetGroup)), "`proxy_protocol_v2.enabled=false`", "ModifyTargetGroupAttributes", InPlace,
        "attributes of all target groups"),
    with_tail(row(TARGET_GROUP_ATTRIBUTES_OF_PORT, Kind::Map(Pairs::Attributes(Scope::TargetGroup)), "none", "ModifyTargetGroupAttributes", InPlace,
        "attributes of the target group of one Service port; they win over those of all"), Tail::Port),
    row(PROXY_PROTOCOL, Kind::OneOf(&["*"]), "none", "proxy_protocol_v2.enabled", InPlace,
        "`*`: proxy protocol v2 on all target groups"),
    row(PROXY_PROTOCOL_PORTS, Kind::List(Item::PortNumber), "none", "proxy_protocol_v2.enabled", InPlace,
        "numbers of the Service ports with proxy protocol v2; it is off on the others"),
    row(NODE_LABELS, Kind::Map(Pairs::Labels), "none", "spec.nodeSelector of the binding", InPlace,
        "labels of the nodes that become targets; `instance` only"),
    row(MULTI_CLUSTER, Kind::Boolean, "`false`", "spec.multiClusterTargetGroup of the binding", InPlace,
        "share the target groups with other clusters: only targets registered from here are deregistered"),
    row(POD_DRAIN, Kind::Drain { auto: true }, "`auto`", "spec.containers[].lifecycle.preStop of pods", NewPods,
        "how long pods keep serving after they are told to stop: `auto` (the configured floor, 120 s), `off` or seconds"),
    // Health checks.
    row(HEALTH_CHECK_PROTOCOL, Kind::OneOfAnyCase(&["tcp", "http", "https"]), "`TCP`, or `HTTP` for node targets with `externalTrafficPolicy: Local`", "HealthCheckProtocol", InPlace,
        "protocol of the health checks"),
    row(HEALTH_CHECK_PORT, Kind::HealthCheckPort, "`traffic-port`, or the health check node port with `Local`", "HealthCheckPort", InPlace,
        "`traffic-port`, a number, or the name of a Service port"),
    row(HEALTH_CHECK_PATH, Kind::HealthCheckPath, "`/`, or `/healthz` with `Local`", "HealthCheckPath", InPlace,
        "path of http and https health checks"),
    row(HEALTH_CHECK_CODES, Kind::StatusCodes, "`200-399`", "Matcher.HttpCode", InPlace,
        "status codes that count as healthy, for http and https health checks"),
    row(HEALTH_CHECK_INTERVAL, Kind::Integer { min: 5, max: 300 }, "`10`", "HealthCheckIntervalSeconds", InPlace,
        "seconds between two health checks"),
    row(HEALTH_CHECK_TIMEOUT, Kind::Integer { min: 2, max: 120 }, "`10`, or `6` with `Local`", "HealthCheckTimeoutSeconds", InPlace,
        "seconds after which a health check has failed; not more than the interval"),
    row(HEALTHY_THRESHOLD, Kind::Integer { min: 2, max: 10 }, "`3`, or `2` with `Local`", "HealthyThresholdCount", InPlace,
        "passed checks until an unhealthy target is healthy"),
    row(UNHEALTHY_THRESHOLD, Kind::Integer { min: 2, max: 10 }, "`3`, or `2` with `Local`", "UnhealthyThresholdCount", InPlace,
        "failed checks until a target is unhealthy"),
    // Our own on Services.
    row(keys::MANAGED_FIELDS, Kind::Bookkeeping, "none", "-", InPlace,
        "written by the registrar: which fields it has set in AWS. Not to be edited"),
    // On pods.
    on(row(QUIC_CONTAINERS, Kind::List(Item::Container), "none", "spec.containers[].env of the pod", NewPods,
        "containers that get the QUIC server id, separated by commas without blanks"), Object::Pod),
    on(row(keys::POD_DRAIN_OF_POD, Kind::Drain { auto: false }, "that of the pod's Services", "spec.containers[].lifecycle.preStop of the pod", NewPods,
        "how long this pod keeps serving after it is told to stop: `off` or seconds"), Object::Pod),
    // On bindings.
    on(row(keys::GATE_NOT_IN_USE, Kind::OneOf(&["block", "allow"]), "`block`", "-", InPlace,
        "whether gates wait (`block`) or open (`allow`) while no listener refers to the target group"), Object::TargetGroupBinding),
    on(row(keys::GATE_TIMEOUT, Kind::Duration, "none", "-", InPlace,
        "after how long a gate opens although its target is not healthy"), Object::TargetGroupBinding),
    on(row(keys::CHECKPOINT, Kind::Bookkeeping, "none", "-", InPlace,
        "written by the peer; read by nobody here"), Object::TargetGroupBinding),
    on(row(keys::CHECKPOINT_TIMESTAMP, Kind::Bookkeeping, "none", "-", InPlace,
        "written by the peer; read by nobody here"), Object::TargetGroupBinding),
];
