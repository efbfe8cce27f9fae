//! Settings from files and flags: those of the model, which the webhook has too, and those of the registrar alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use daemon::settings as file;
use nlb::settings::ModelSettings;
use registrar_core::{
    balancers::Options,
    settings::{FeatureSets, Isolation, Rate, Rates, Role, Settings},
};
use serde::Deserialize;

use crate::{
    cli::{Leadership, Model},
    leadership::{Timing, election::UnsafeTiming},
};

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not there, or does not hold settings.
    #[error(transparent)]
    File(#[from] file::Error),
    /// A rate that nothing could be done at.
    #[error("rates.{bucket}: burst must be at least 1 and perSecond above 0, not {burst} and {per_second}")]
    Rate {
        /// Which.
        bucket: &'static str,
        /// As given.
        burst: u32,
        /// As given.
        per_second: f64,
    },
    /// Times of the lease.
    #[error("leader election: {0}")]
    Timing(#[from] UnsafeTiming),
    /// Nothing can be named without it.
    #[error("the cluster has no name; set --cluster-name, or clusterName in the settings")]
    NoCluster,
}

/// Settings of the registrar alone, as they are written in YAML.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Operator {
    /// Feature sets, each with permissions of its own.
    pub features: Features,
    /// What is asked of a target group before targets are put into it.
    pub isolation: IsolationMode,
    /// Roles in other accounts, by the names that bindings use.
    pub roles: BTreeMap<String, crate::aws::Role>,
    /// How load balancers are built.
    pub load_balancers: LoadBalancers,
    /// At most so many targets in one group; 0 for no limit but that of AWS.
    pub max_targets_per_target_group: usize,
    /// How often targets of an unchanged group are compared with AWS.
    pub audit_period_seconds: Option<u64>,
    /// How long healthy pods that a Service's new selector leaves out stay, at most, until those that it selects are.
    pub swap_patience_seconds: Option<u64>,
    /// Whether only nodes with ready endpoints are targets of Services with `externalTrafficPolicy: Local`; otherwise all
    /// are, and the load balancer's checks tell them apart.
    pub local_nodes_only: bool,
    /// The environment variable of a container that holds its QUIC server id.
    pub quic_environment_variable_name: Option<String>,
    /// Request rates; those that are not said are what AWS is known to allow.
    pub rates: RateLimits,
}

/// Feature sets.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Features {
    /// Nodes as targets.
    pub instance_targets: bool,
    /// Target groups that several clusters share.
    pub shared_groups: bool,
    /// Load balancers for Services.
    pub load_balancers: bool,
}

impl Default for Features {
    fn default() -> Self {
        let FeatureSets { instance_targets, shared_groups, load_balancers } = FeatureSets::default();
        Self { instance_targets, shared_groups, load_balancers }
    }
}

/// How load balancers are built. What is not said is as [`Options`] has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancers {
    /// Id of a security group that takes the place of the one that is made for all load balancers.
    backend_security_group: Option<String>,
    /// Rules at the targets name each port, instead of one range from the lowest to the highest.
    exact_endpoint_rules: Option<bool>,
    /// Tags that tell which of several security groups of a node gets the rules.
    endpoint_group_tags: Option<BTreeMap<String, String>>,
    /// Subnets that carry the tag of other clusters only are left out.
    subnets_cluster_tag_check: Option<bool>,
    /// Where no subnet has the tag of the role, routes decide.
    subnet_discovery_by_reachability: Option<bool>,
}

impl LoadBalancers {
    fn over(self, known: Options) -> Options {
        Options {
            backend_security_group: self.backend_security_group.or(known.backend_security_group),
            exact_endpoint_rules: self.exact_endpoint_rules.unwrap_or(known.exact_endpoint_rules),
            endpoint_group_tags: self.endpoint_group_tags.unwrap_or(known.endpoint_group_tags),
            subnets_cluster_tag_check: self.subnets_cluster_tag_check.unwrap_or(known.subnets_cluster_tag_check),
            subnet_discovery_by_reachability: self
                .subnet_discovery_by_reachability
                .unwrap_or(known.subnet_discovery_by_reachability),
            ..known
        }
    }
}

/// What is asked of a target group before targets are put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IsolationMode {
    /// Nothing.
    Off,
    /// Tags that allow the namespace; their lack is said.
    #[default]
    Warn,
    /// Tags that allow the namespace; without them nothing is registered.
    Enforce,
}

/// Request rates.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateLimits {
    describe: Option<RateLimit>,
    targets: Option<RateLimit>,
    modify: Option<RateLimit>,
    other: Option<RateLimit>,
    ec2_describe: Option<RateLimit>,
    ec2_write: Option<RateLimit>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RateLimit {
    burst: u32,
    per_second: f64,
}

impl RateLimits {
    fn over(self, known: Rates) -> Result<Rates, Error> {
        let over = |bucket, limit: Option<RateLimit>, known| match limit {
            None => Ok(known),
            Some(RateLimit { burst, per_second }) if burst >= 1 && per_second > 0.0 => {
                Ok(Some(Rate { burst, per_second }))
            }
            Some(RateLimit { burst, per_second }) => Err(Error::Rate { bucket, burst, per_second }),
        };
        Ok(Rates {
            describe: over("describe", self.describe, known.describe)?,
            targets: over("targets", self.targets, known.targets)?,
            modify: over("modify", self.modify, known.modify)?,
            other: over("other", self.other, known.other)?,
            ec2_describe: over("ec2Describe", self.ec2_describe, known.ec2_describe)?,
            ec2_write: over("ec2Write", self.ec2_write, known.ec2_write)?,
        })
    }
}

/// All settings.
#[derive(Debug, Clone)]
pub struct Read {
    /// Of the core.
    pub core: Settings,
    /// Roles in other accounts, as the adapter of AWS wants them.
    pub roles: BTreeMap<Arc<str>, crate::aws::Role>,
}

/// Reads both files, if they are there, and puts the flags over them.
pub fn read(flags: &Model, region: Option<&str>) -> Result<Read, Error> {
    let mut model: ModelSettings = file::read(flags.settings.as_deref())?;
    let operator: Operator = file::read(flags.registrar_settings.as_deref())?;
    if let Some(name) = file::said(flags.cluster_name.as_deref()) {
        name.clone_into(&mut model.cluster_name);
    }
    if let Some(region) = region {
        model.region = Some(region.to_owned());
    }
    if let Some(class) = file::said(flags.load_balancer_class.as_deref()) {
        class.clone_into(&mut model.load_balancer_class);
    }
    if model.cluster_name.is_empty() {
        return Err(Error::NoCluster);
    }
    let roles: BTreeMap<Arc<str>, _> =
        operator.roles.iter().map(|(name, role)| (name.as_str().into(), role.clone())).collect();
    let known = Settings::default();
    let mut load_balancers = operator.load_balancers.over(known.load_balancers);
    flags.flags.apply(&mut model, &mut load_balancers);
    let most = flags.max_targets_per_target_group.unwrap_or(operator.max_targets_per_target_group);
    let core = Settings {
        model: Arc::new(model),
        rates: operator.rates.over(known.rates)?,
        audit_period: operator.audit_period_seconds.map_or(known.audit_period, Duration::from_secs),
        most_targets: (most > 0).then_some(most),
        swap_patience: operator.swap_patience_seconds.map_or(known.swap_patience, Duration::from_secs),
        local_nodes_only: operator.local_nodes_only,
        isolation: match operator.isolation {
            IsolationMode::Off => Isolation::Off,
            IsolationMode::Warn => Isolation::Warn,
            IsolationMode::Enforce => Isolation::Enforce,
        },
        features: FeatureSets {
            instance_targets: operator.features.instance_targets,
            shared_groups: operator.features.shared_groups,
            load_balancers: operator.features.load_balancers,
        },
        roles: roles.iter().map(|(name, role)| (Arc::clone(name), core_role(role))).collect(),
        load_balancers,
        quic_variable: operator.quic_environment_variable_name.unwrap_or(known.quic_variable),
        ..Settings::default()
    };
    Ok(Read { core, roles })
}

fn core_role(role: &crate::aws::Role) -> Role {
    Role { arn: role.role_arn.clone(), external_id: role.external_id.clone() }
}

/// The times of the lease.
pub fn timing(flags: &Leadership) -> Result<Timing, Error> {
    let timing = Timing {
        duration: Duration::from_secs(flags.leader_election_lease_seconds),
        renew_deadline: Duration::from_secs(flags.leader_election_renew_deadline_seconds),
        retry: Duration::from_secs(flags.leader_election_retry_seconds),
    };
    Ok(timing.check()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_not_known_are_refused_by_name() {
        for wrong in ["featurs: {}", "features: {nodes: true}", "isolation: strict", "roles: {a: {arn: x}}"] {
            assert!(serde_saphyr::from_str::<Operator>(wrong).is_err(), "{wrong}");
        }
        let text = "isolation: enforce\nfeatures: {instanceTargets: false}\nroles:\n  payments: {roleArn: 'arn:x', externalId: y}\n\
                    rates: {describe: {burst: 5, perSecond: 1.5}}\n";
        let operator: Operator = serde_saphyr::from_str(text).unwrap();
        assert_eq!(operator.isolation, IsolationMode::Enforce);
        assert!(!operator.features.instance_targets && operator.features.load_balancers);
        let rates = operator.rates.over(Rates::default()).unwrap();
        assert_eq!(rates.describe, Some(Rate { burst: 5, per_second: 1.5 }));
        assert_eq!(rates.targets, Rates::default().targets);
    }

    #[test]
    fn what_is_not_said_of_load_balancers_stays_as_it_is() {
        let operator = |text: &str| serde_saphyr::from_str::<Operator>(text).unwrap().load_balancers;
        assert_eq!(operator("loadBalancers: {}").over(Options::default()), Options::default());
        let text = "loadBalancers:\n  exactEndpointRules: true\n  backendSecurityGroup: sg-1\n  endpointGroupTags: {a: b}\n  \
                    subnetDiscoveryByReachability: false\n";
        let expected = Options {
            exact_endpoint_rules: true,
            backend_security_group: Some("sg-1".to_owned()),
            endpoint_group_tags: [("a".to_owned(), "b".to_owned())].into(),
            subnet_discovery_by_reachability: false,
            ..Options::default()
        };
        assert_eq!(operator(text).over(Options::default()), expected);
    }

    #[test]
    fn rate_that_lets_nothing_through_is_refused() {
        let operator: Operator = serde_saphyr::from_str("rates: {targets: {burst: 0, perSecond: 1}}").unwrap();
        let error = operator.rates.over(Rates::default()).unwrap_err().to_string();
        assert!(error.contains("rates.targets"), "{error}");
    }
}
