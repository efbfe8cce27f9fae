//! What vectors name of AWS, made in the lab's AWS first: security groups, Elastic IP addresses, subnets by name, a target group.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use nlb::settings::{ModelSettings, Scheme, TargetType};
use scenarios::target_group::aws;
use vectors::{SECURITY_GROUP, is};

use super::registrar::VPC;

/// A name that vectors have for several subnets; their own are given back in the end.
const SHARED_NAME: &str = "public";
const RENAMED: [(&str, &str); 2] =
    [("subnet-0a00000000000aaa2", "lab-private-a"), ("subnet-0b00000000000bbb2", "lab-private-b")];
/// A target group of another account and region, which nobody has.
const TARGET_GROUP: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/other/0123456789abcdef";

/// What was made.
pub(crate) struct World {
    /// A security group that nobody else has.
    pub(crate) edge: String,
    /// One that is named `edge`.
    named: String,
    /// Addresses and target groups that are in use by one load balancer each.
    made: Mutex<Vec<Made>>,
    next: AtomicUsize,
}

enum Made {
    Address(String),
    TargetGroup(String),
}

impl World {
    pub(crate) async fn begin() -> Result<Self> {
        let edge = security_group("edge").await?;
        let named = security_group("named-edge").await?;
        name(&named, "edge").await?;
        for (subnet, _) in RENAMED {
            name(subnet, SHARED_NAME).await?;
        }
        Ok(Self { edge, named, made: Mutex::default(), next: AtomicUsize::new(0) })
    }

    /// Gives everything back.
    pub(crate) async fn end(self) -> Result<()> {
        for (subnet, own) in RENAMED {
            name(subnet, own).await?;
        }
        for made in self.made.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match made {
                Made::Address(id) => aws(&["ec2", "release-address", "--allocation-id", &id]).await?,
                Made::TargetGroup(arn) => aws(&["elbv2", "delete-target-group", "--target-group-arn", &arn]).await?,
            };
        }
        for id in [self.edge, self.named] {
            aws(&["ec2", "delete-security-group", "--group-id", &id]).await?;
        }
        Ok(())
    }

    /// A vector's Service as one of this cluster: named `web`, with ports and addresses that the API server allocates, a name
    /// of its own for the load balancer, and what the lab's AWS has in the place of what it has not.
    pub(crate) async fn settle(&self, service: &Service, settings: &ModelSettings, namespace: &str) -> Result<Service> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let mut service = service.clone();
        service.metadata = ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: service.metadata.labels,
            annotations: service.metadata.annotations,
            ..ObjectMeta::default()
        };
        service.status = None;
        let spec = nlb::service::read(&service, settings).spec;
        let of_nodes = spec.target_groups.iter().any(|group| group.target_type == TargetType::Instance);
        let names_subnets = spec.subnets.is_some();
        for (key, value) in service.metadata.annotations.iter_mut().flatten() {
            *value = value.replace("acm:eu-west-1:", "acm:ap-northeast-2:");
            if is(key, "security-groups") {
                *value = value.replace(SECURITY_GROUP, &self.edge);
            } else if is(key, "name") {
                let kept: String = value.chars().take(28).collect();
                *value = format!("{}-{n}", kept.trim_end_matches('-'));
            } else if is(key, "subnets") {
                *value = subnets(value, spec.scheme);
            } else if is(key, "eip-allocations") {
                let count = if names_subnets { spec.eip_allocations.len() } else { 3 };
                *value = self.addresses(count).await?.join(",");
            } else if is(key, "private-ipv4-addresses") {
                let address = |zone: usize| format!("192.168.{}.{}", 11 + zone, 254 - n % 8);
                *value = (0..spec.private_ipv4_addresses.len()).map(address).collect::<Vec<_>>().join(",");
            } else if is(key, "ipv6-addresses") {
                let first = if spec.scheme == Scheme::Internal { 11 } else { 1 };
                let address = |zone: usize| format!("2001:db8:0:1a{:02}::{n:x}:1", first + zone);
                *value = (0..spec.ipv6_addresses.len()).map(address).collect::<Vec<_>>().join(",");
            } else if is(key, "minimum-load-balancer-capacity") {
                // In three zones; the vectors have one.
                *value = value.replace("=2750", "=8250");
            } else if value.contains(TARGET_GROUP) {
                *value = value.replace(TARGET_GROUP, &self.target_group(n).await?);
            }
        }
        if let Some(spec) = &mut service.spec {
            let allocates = spec.allocate_load_balancer_node_ports != Some(false);
            spec.cluster_ip = None;
            spec.cluster_ips = None;
            spec.health_check_node_port = None;
            if spec.ip_families.as_ref().is_some_and(|families| families.len() > 1) {
                spec.ip_family_policy = Some("RequireDualStack".to_owned());
            }
            for port in spec.ports.iter_mut().flatten().filter(|_| allocates || !of_nodes) {
                port.node_port = None;
            }
        }
        Ok(service)
    }

    async fn addresses(&self, count: usize) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let allocate = ["ec2", "allocate-address", "--domain", "vpc", "--query", "AllocationId"];
            ids.push(aws(&allocate).await.context("an Elastic IP address")?);
        }
        self.keep(ids.iter().cloned().map(Made::Address));
        Ok(ids)
    }

    async fn target_group(&self, n: usize) -> Result<String> {
        let name = format!("other-{}-{n}", std::process::id());
        let create = ["elbv2", "create-target-group", "--protocol", "TCP", "--port", "80", "--target-type", "ip"];
        let more = ["--vpc-id", VPC, "--name", &name, "--query", "TargetGroups[0].TargetGroupArn"];
        let arn = aws(&[&create[..], &more].concat()).await?;
        self.keep([Made::TargetGroup(arn.clone())]);
        Ok(arn)
    }

    fn keep(&self, made: impl IntoIterator<Item = Made>) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
    }
}

/// Subnets of the world in the place of those that vectors make up.
fn subnets(value: &str, scheme: Scheme) -> String {
    let (public, kind) = match scheme {
        Scheme::Internal => ('2', "private"),
        Scheme::InternetFacing => ('1', "public"),
    };
    value
        .replace("subnet-0123abcd", &format!("subnet-0a00000000000aaa{public}"))
        .replace("subnet-89abcdef", &format!("subnet-0b00000000000bbb{public}"))
        .replace("public-b", &format!("lab-{kind}-c"))
}

/// Makes a security group and says its id.
async fn security_group(name: &str) -> Result<String> {
    let name = format!("{name}-{}", std::process::id());
    let create = ["ec2", "create-security-group", "--group-name", &name, "--description", "of a test"];
    aws(&[&create[..], &["--vpc-id", VPC, "--query", "GroupId"]].concat()).await
}

async fn name(resource: &str, name: &str) -> Result<()> {
    let tag = format!("Key=Name,Value={name}");
    aws(&["ec2", "create-tags", "--resources", resource, "--tags", &tag]).await.map(drop)
}
