//! Reads of AWS until a plan can be made.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use registrar_core::{
    aws::{Call, Fault, Filter, Reply},
    balancers::{Environment, Inputs, Network, Observed, Problem, endpoint_rules, fold, next_reads},
};

use super::OWN;
use crate::aws::Reader;

/// More rounds of reads than any Service takes.
const ROUNDS: usize = 100;

/// Why AWS could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error("Service {service}: {operation}: {fault}")]
    Call {
        /// For which Service.
        service: String,
        /// The operation.
        operation: &'static str,
        /// How it failed.
        fault: Fault,
    },
    /// A call that is not about one Service failed.
    #[error("{operation}: {fault}")]
    General {
        /// The operation.
        operation: &'static str,
        /// How it failed.
        fault: Fault,
    },
    /// Every round wants more.
    #[error("Service {service}: there is no end to what must be read; AWS has changed meanwhile, or it is a defect")]
    Endless {
        /// For which Service.
        service: String,
    },
    /// Nothing tells which VPC.
    #[error(
        "the VPC of cluster {cluster} is not known: {found} VPCs have subnets with the tag \
         kubernetes.io/cluster/{cluster}; set --aws-vpc-id"
    )]
    Vpc {
        /// The cluster.
        cluster: String,
        /// How many there are.
        found: usize,
    },
}

/// The reason of the problem that a Service could not be read.
pub const UNREADABLE: &str = "Unreadable";

impl Error {
    /// Whether it would befall every other Service too: nothing could even be sent.
    pub fn is_of_everything(&self) -> bool {
        matches!(self, Self::Call { fault: Fault::NotSent(_), .. } | Self::General { .. } | Self::Vpc { .. })
    }

    /// As what stands in the way of a Service.
    pub fn problem(&self) -> Problem {
        let message = match self {
            Self::Call { operation, fault, .. } => format!("{operation}: {fault}"),
            other => other.to_string(),
        };
        Problem { reason: UNREADABLE, message, remedy: "check the permissions, and plan again".to_owned() }
    }
}

/// Everything that a plan for a Service needs. What all Services share is taken from `network`, and added to it. The inputs
/// follow the load balancer that is found, where the Service leaves that open.
pub async fn all(
    reader: &Reader<'_>,
    service: &Service,
    inputs: &mut Inputs,
    network: &mut Network,
) -> Result<Observed, Error> {
    let mut observed = Observed { network: network.clone(), ..Observed::default() };
    let mut failed: Option<(Call, Fault)> = None;
    for _ in 0..ROUNDS {
        inputs.follow_existing(service, &observed);
        let reads = next_reads(inputs, &observed);
        if reads.is_empty() {
            network.clone_from(&observed.network);
            return Ok(observed);
        }
        // Asked for again although it was answered: the answer was of no use.
        if let Some((call, fault)) = failed.take_if(|(call, _)| reads.contains(call)) {
            return Err(Error::Call { service: inputs.stack(), operation: call.operation(), fault });
        }
        for call in reads {
            let result = reader.ask(&OWN, &call).await;
            fold(&mut observed, &call, &result);
            if let Err(fault) = result {
                failed = Some((call, fault));
            }
        }
    }
    Err(Error::Endless { service: inputs.stack() })
}

/// The VPC whose subnets carry the tag of the cluster.
pub async fn vpc(reader: &Reader<'_>, cluster: &str) -> Result<String, Error> {
    let tagged = Filter { name: "tag-key".to_owned(), values: vec![format!("kubernetes.io/cluster/{cluster}")] };
    let call = Call::DescribeSubnets { ids: Vec::new(), filters: vec![tagged] };
    let found: BTreeSet<String> = match ask(reader, &call).await? {
        Reply::Subnets(subnets) => subnets.into_iter().map(|subnet| subnet.vpc_id).collect(),
        _ => BTreeSet::new(),
    };
    match found.len() {
        1 => Ok(found.into_iter().next().unwrap_or_default()),
        found => Err(Error::Vpc { cluster: cluster.to_owned(), found }),
    }
}

/// The security group that all load balancers of the cluster share, if it has been made.
pub async fn shared_group(reader: &Reader<'_>, environment: &Environment) -> Result<Option<String>, Error> {
    if !environment.settings.enable_backend_security_group {
        return Ok(None);
    }
    let call = endpoint_rules::shared_group(environment);
    Ok(match ask(reader, &call).await? {
        Reply::SecurityGroups(groups) => groups.into_iter().map(|group| group.id).min(),
        _ => None,
    })
}

async fn ask(reader: &Reader<'_>, call: &Call) -> Result<Reply, Error> {
    reader.ask(&OWN, call).await.map_err(|fault| Error::General { operation: call.operation(), fault })
}
