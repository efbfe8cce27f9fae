//! What the operator has configured.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ipnet::IpNet;
use nlb::settings::ModelSettings;

use crate::{aws::Bucket, balancers};

/// Whether a defect is switched on; never without the feature `planted-bugs`.
macro_rules! planted {
    ($settings:expr, $bug:ident) => {{
        #[cfg(feature = "planted-bugs")]
        let planted = $settings.planted == Some($crate::planted::Bug::$bug);
        #[cfg(not(feature = "planted-bugs"))]
        let planted = {
            let _ = &$settings;
            false
        };
        planted
    }};
}
pub(crate) use planted;

/// Settings of the core. They do not change while a process runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the model depends on; the names of cluster and region are in it.
    pub model: Arc<ModelSettings>,
    /// The VPC of the cluster, if it is known. Without it AWS is asked first and its refusal says which addresses are
    /// outside.
    pub vpc: Option<Vpc>,
    /// Request rates.
    pub rates: Rates,
    /// How often targets of an unchanged group are compared with AWS.
    pub audit_period: Duration,
    /// How long a call or request may take. It has to be well inside the lease.
    pub call_timeout: Duration,
    /// At most so many targets in one group; nothing for no limit but that of AWS.
    pub most_targets: Option<usize>,
    /// How long pods that serve and are no longer selected stay, at most, for those that are selected now to become
    /// healthy.
    pub swap_patience: Duration,
    /// Whether only nodes with ready endpoints are targets of Services with `externalTrafficPolicy: Local`; otherwise
    /// the load balancer's checks tell them apart.
    pub local_nodes_only: bool,
    /// What is asked of a target group before targets are put into it.
    pub isolation: Isolation,
    /// Feature sets, each with permissions of its own.
    pub features: FeatureSets,
    /// Roles that bindings may name by their ARN, by the name that the operator gave them.
    pub roles: BTreeMap<Arc<str>, Role>,
    /// The environment variable of a container that holds its QUIC server id.
    pub quic_variable: String,
    /// How load balancers are built.
    pub load_balancers: balancers::Options,
    /// The defect that is switched on.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::planted::Bug>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: Arc::default(),
            vpc: None,
            rates: Rates::default(),
            audit_period: Duration::from_mins(5),
            call_timeout: Duration::from_secs(5),
            most_targets: None,
            swap_patience: Duration::from_mins(3),
            local_nodes_only: false,
            isolation: Isolation::default(),
            features: FeatureSets::default(),
            roles: BTreeMap::new(),
            quic_variable: "AWS_LBC_QUIC_SERVER_ID".to_owned(),
            load_balancers: balancers::Options::default(),
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

/// A VPC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vpc {
    /// Its id.
    pub id: String,
    /// Ranges of its subnets. "Within the VPC" means, to the load balancer, within one of these.
    pub subnets: Vec<IpNet>,
}

/// A role in another account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// ARN of the role.
    pub arn: String,
    /// External id that is given when it is assumed.
    pub external_id: Option<String>,
}

/// What is asked of a target group before targets are put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Nothing: whoever may create a binding may name any group.
    Off,
    /// Tags that allow the binding's namespace; their lack is said and changes nothing.
    #[default]
    Warn,
    /// Tags that allow the binding's namespace; without them nothing is registered.
    Enforce,
}

/// Feature sets that are switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureSets {
    /// Nodes as targets. Nodes are watched.
    pub instance_targets: bool,
    /// Target groups that several clusters share, with a ledger of each cluster's own targets.
    pub shared_groups: bool,
    /// Load balancers for Services. Without it only bindings that exist are served.
    pub load_balancers: bool,
}

impl Default for FeatureSets {
    fn default() -> Self {
        Self { instance_targets: true, shared_groups: true, load_balancers: true }
    }
}

/// A token bucket: how many at once, and how many per second after that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// At once. At least 1.
    pub burst: u32,
    /// Per second. Above 0.
    pub per_second: f64,
}

/// Request rates per account and bucket; nothing lifts the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// `Describe*` of ELBv2.
    pub describe: Option<Rate>,
    /// `RegisterTargets` and `DeregisterTargets`.
    pub targets: Option<Rate>,
    /// `Modify*` of ELBv2.
    pub modify: Option<Rate>,
    /// Other writes of ELBv2.
    pub other: Option<Rate>,
    /// Reads of EC2.
    pub ec2_describe: Option<Rate>,
    /// Writes of EC2.
    pub ec2_write: Option<Rate>,
}

impl Default for Rates {
    /// A tenth less at once than what AWS is known to allow, which is 40 reads and 10 per second, 20 changes of targets
    /// and 4, 20 of settings and 3. AWS counts calls when they arrive: where the first of a burst takes longer than those
    /// that follow, AWS has less to give than is counted here. EC2 allows more; what is set here leaves most of it to
    /// others.
    fn default() -> Self {
        let rate = |burst, per_second| Some(Rate { burst, per_second });
        Self {
            describe: rate(36, 10.0),
            targets: rate(18, 4.0),
            modify: rate(18, 3.0),
            other: rate(18, 3.0),
            ec2_describe: rate(50, 10.0),
            ec2_write: rate(20, 3.0),
        }
    }
}

impl Rates {
    /// No limits.
    pub const LIFTED: Self =
        Self { describe: None, targets: None, modify: None, other: None, ec2_describe: None, ec2_write: None };

    /// That of a bucket.
    pub fn of(&self, bucket: Bucket) -> Option<Rate> {
        match bucket {
            Bucket::Describe => self.describe,
            Bucket::Targets => self.targets,
            Bucket::Modify => self.modify,
            Bucket::Other => self.other,
            Bucket::Ec2Describe => self.ec2_describe,
            Bucket::Ec2Write => self.ec2_write,
        }
    }
}
