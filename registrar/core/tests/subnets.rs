//! Which subnets a load balancer gets, and what is said when none fits.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::doc_markdown,
    reason = "a test may fail, and speaks of AWS"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service;
use nlb::settings::ModelSettings;
use registrar_core::{
    aws::{Call, Fault, Refusal, Reply, RouteTable, Subnet},
    balancers::{self, Desired, Environment, Inputs, Intent, ManagedFields, Observed},
    cluster::{Key, Uid},
};

const VPC: &str = "vpc-1";

fn subnet(id: &str, zone: &str, tags: &[(&str, &str)]) -> Subnet {
    Subnet {
        id: id.to_owned(),
        vpc_id: VPC.to_owned(),
        zone: zone.to_owned(),
        zone_id: format!("id-{zone}"),
        cidr: "10.0.1.0/24".to_owned(),
        ipv6_cidrs: Vec::new(),
        free_addresses: 100,
        outpost: None,
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

const ROLE: (&str, &str) = ("kubernetes.io/role/internal-elb", "1");
const PUBLIC: (&str, &str) = ("kubernetes.io/role/elb", "");
const OWN: (&str, &str) = ("kubernetes.io/cluster/prod", "shared");
const FOREIGN: (&str, &str) = ("kubernetes.io/cluster/test", "owned");

/// A VPC, and what it answers.
struct Vpc {
    subnets: Vec<Subnet>,
    /// Subnets with a route table of their own that leads to an internet gateway.
    public: Vec<&'static str>,
    zone_types: BTreeMap<String, String>,
}

impl Vpc {
    fn of(subnets: Vec<Subnet>) -> Self {
        Self { subnets, public: Vec::new(), zone_types: BTreeMap::new() }
    }

    fn answer(&self, call: &Call) -> Result<Reply, Fault> {
        let refuse = |code: &str, message: String| Err(Fault::Refused(Refusal { code: code.to_owned(), message }));
        match call {
            Call::DescribeSubnets { ids, .. } if !ids.is_empty() => {
                if let Some(missing) = ids.iter().find(|id| !self.subnets.iter().any(|subnet| subnet.id == **id)) {
                    let message = format!("The subnet ID '{missing}' does not exist");
                    return refuse("InvalidSubnetID.NotFound", message);
                }
                let found = self.subnets.iter().filter(|subnet| ids.contains(&subnet.id));
                Ok(Reply::Subnets(found.cloned().collect()))
            }
            Call::DescribeSubnets { filters, .. } => {
                let passes = |subnet: &&Subnet| {
                    filters.iter().all(|filter| match filter.name.strip_prefix("tag:") {
                        Some(key) => subnet.tags.get(key).is_some_and(|value| filter.values.contains(value)),
                        None => filter.name == "vpc-id" && filter.values.contains(&subnet.vpc_id),
                    })
                };
                Ok(Reply::Subnets(self.subnets.iter().filter(passes).cloned().collect()))
            }
            Call::DescribeRouteTables { .. } => {
                let table = |main, subnets: Vec<String>, gateway: &str| RouteTable {
                    main,
                    subnets,
                    gateways: vec!["local".to_owned(), gateway.to_owned()],
                };
                let public = self.public.iter().map(|id| (*id).to_owned()).collect();
                Ok(Reply::RouteTables(vec![table(true, Vec::new(), "nat-1"), table(false, public, "igw-1")]))
            }
            Call::DescribeAvailabilityZones { .. } => Ok(Reply::ZoneTypes(self.zone_types.clone())),
            Call::DescribeLoadBalancers(_) => refuse("LoadBalancerNotFound", String::new()),
            Call::DescribeTargetGroups(_) => refuse("TargetGroupNotFound", String::new()),
            Call::DescribeSecurityGroups { .. } => Ok(Reply::SecurityGroups(Vec::new())),
            other => panic!("{other:?}"),
        }
    }

    /// The subnets that are chosen, or what is said.
    fn chosen(&self, annotations: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let annotations: BTreeMap<String, String> = annotations
            .iter()
            .map(|(key, value)| (format!("service.beta.kubernetes.io/aws-load-balancer-{key}"), (*value).to_owned()))
            .collect();
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "annotations": annotations},
            "spec": {
                "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "selector": {"app": "web"},
                "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
            },
        }))
        .unwrap();
        let settings = Arc::new(ModelSettings { cluster_name: "prod".to_owned(), ..ModelSettings::default() });
        let reading = nlb::service::read(&service, &settings);
        assert!(reading.accepted().is_ok(), "{:?}", reading.violations);
        let inputs = Inputs {
            environment: Arc::new(Environment { settings, vpc_id: VPC.to_owned(), ..Environment::default() }),
            service: Key::new("shop", "web"),
            uid: Uid("u".into()),
            intent: Intent::Keep,
            spec: Arc::new(reading.spec),
            fresh: true,
            hostname: None,
            backend_group: Some("sg-shared".to_owned()),
            bindings: Vec::new(),
            backends: Vec::new(),
            recorded: ManagedFields::default(),
            remembered: ManagedFields::default(),
            settled: BTreeSet::new(),
            kept_groups: None,
        };
        let mut observed = Observed::default();
        for _ in 0..20 {
            let Some(read) = balancers::next_reads(&inputs, &observed).into_iter().next() else { break };
            balancers::fold(&mut observed, &read, &self.answer(&read));
        }
        assert_eq!(balancers::next_reads(&inputs, &observed), [], "reads end");
        let desired = Desired::of(&inputs, &observed);
        match desired.load_balancer.subnet_mappings {
            Some(mappings) => Ok(mappings.into_iter().map(|mapping| mapping.subnet_id).collect()),
            None => Err(desired.problems.first().map(ToString::to_string).unwrap_or_default()),
        }
    }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn of_several_subnets_in_a_zone_the_clusters_own_is_taken_and_else_the_first() {
    let vpc = Vpc::of(vec![
        subnet("subnet-000000a1", "a", &[ROLE]),
        subnet("subnet-000000a2", "a", &[ROLE, OWN]),
        subnet("subnet-000000b2", "b", &[ROLE]),
        subnet("subnet-000000b1", "b", &[ROLE]),
        subnet("subnet-000000c1", "c", &[PUBLIC]),
    ]);
    assert_eq!(vpc.chosen(&[]), Ok(ids(&["subnet-000000a2", "subnet-000000b1"])));
    assert_eq!(vpc.chosen(&[("scheme", "internet-facing")]), Ok(ids(&["subnet-000000c1"])));
}

#[test]
fn without_tags_routes_decide() {
    let mut vpc = Vpc::of(vec![
        subnet("subnet-000000a1", "a", &[]),
        subnet("subnet-000000a2", "a", &[]),
        subnet("subnet-000000b1", "b", &[]),
    ]);
    vpc.public = vec!["subnet-000000a2"];
    assert_eq!(vpc.chosen(&[]), Ok(ids(&["subnet-000000a1", "subnet-000000b1"])));
    assert_eq!(vpc.chosen(&[("scheme", "internet-facing")]), Ok(ids(&["subnet-000000a2"])));
}

#[test]
fn each_subnet_that_does_not_fit_is_named_with_the_rule() {
    let mut full = subnet("subnet-000000a1", "a", &[ROLE]);
    full.free_addresses = 7;
    let vpc =
        Vpc::of(vec![full, subnet("subnet-000000b1", "b", &[ROLE, FOREIGN]), subnet("subnet-000000c1", "c", &[])]);
    assert_eq!(
        vpc.chosen(&[]).unwrap_err(),
        "no subnet of vpc-1 fits an internal load balancer
  subnet-000000a1 (a): 7 free addresses, 8 are needed
  subnet-000000b1 (b): belongs to other clusters (test), and has no tag kubernetes.io/cluster/prod
  subnet-000000c1 (c): no tag kubernetes.io/role/internal-elb: 1; tag one subnet per zone with kubernetes.io/role/internal-elb: 1, \
         or name them in service.beta.kubernetes.io/aws-load-balancer-subnets"
    );
}

#[test]
fn a_dualstack_load_balancer_needs_subnets_with_ipv6() {
    let mut dual = subnet("subnet-000000a1", "a", &[ROLE]);
    dual.ipv6_cidrs = vec!["2001:db8::/64".to_owned()];
    let vpc = Vpc::of(vec![dual, subnet("subnet-000000b1", "b", &[ROLE])]);
    assert_eq!(vpc.chosen(&[("ip-address-type", "dualstack")]), Ok(ids(&["subnet-000000a1"])));
    let said = vpc.chosen(&[("ip-address-type", "dualstack"), ("subnets", "subnet-000000b1")]).unwrap_err();
    assert!(said.contains("subnet-000000b1 has no IPv6 range, but the load balancer is dualstack"), "{said}");
}

#[test]
fn zones_of_another_kind_are_left_out_where_there_are_ordinary_ones() {
    let mut vpc = Vpc::of(vec![subnet("subnet-000000a1", "a", &[ROLE]), subnet("subnet-000000e1", "l", &[ROLE])]);
    vpc.zone_types = [("id-a", "availability-zone"), ("id-l", "local-zone")]
        .map(|(zone, kind)| (zone.to_owned(), kind.to_owned()))
        .into();
    assert_eq!(vpc.chosen(&[]), Ok(ids(&["subnet-000000a1"])));
    assert_eq!(vpc.chosen(&[("subnets", "subnet-000000e1")]), Ok(ids(&["subnet-000000e1"])));
    let said = vpc.chosen(&[("subnets", "subnet-000000a1,subnet-000000e1")]).unwrap_err();
    assert!(said.contains("subnet-000000a1 (availability-zone), subnet-000000e1 (local-zone)"), "{said}");
}

#[test]
fn named_subnets_are_taken_as_they_are_named_or_refused_by_name() {
    let mut elsewhere = subnet("subnet-000000f1", "x", &[]);
    elsewhere.vpc_id = "vpc-2".to_owned();
    let named = |id: &str, zone: &str| subnet(id, zone, &[("Name", "edge")]);
    let vpc = Vpc::of(vec![
        named("subnet-000000b1", "b"),
        named("subnet-000000a1", "a"),
        subnet("subnet-000000a9", "a", &[]),
        elsewhere,
    ]);
    assert_eq!(
        vpc.chosen(&[("subnets", "subnet-000000b1,subnet-000000a9")]),
        Ok(ids(&["subnet-000000b1", "subnet-000000a9"]))
    );
    assert_eq!(vpc.chosen(&[("subnets", "edge,edge")]), Ok(ids(&["subnet-000000a1", "subnet-000000b1"])));
    for (subnets, expected) in [
        ("subnet-0123abcd", "The subnet ID 'subnet-0123abcd' does not exist"),
        ("edge,edge,edge", "there are fewer subnets with the Name tag \"edge\" in vpc-1 than are asked for"),
        ("subnet-000000a1,subnet-000000a9", "subnet-000000a1 and subnet-000000a9 are both in zone a"),
        ("subnet-000000f1", "subnet subnet-000000f1 is in vpc-2, the cluster in vpc-1"),
    ] {
        let said = vpc.chosen(&[("subnets", subnets)]).unwrap_err();
        assert!(said.contains(expected), "{said}");
        assert!(said.starts_with("service.beta.kubernetes.io/aws-load-balancer-subnets: "), "{said}");
    }
}
