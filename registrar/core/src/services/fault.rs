//! What a refusal means to a person, and what would help.

use crate::{
    aws::{Call, Fault},
    balancers::Problem,
    effect::Request,
    event::Denial,
};

const ALLOW: &str = "allow the action in the IAM policy of the registrar's role";
const ALLOW_RULES: &str = "allow the action in the IAM policy of the registrar's role; the one that comes with it allows it \
    for security groups with the tag kubernetes.io/cluster/<name of the cluster>";

/// A failure that stands in the way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    /// The operation that failed.
    pub(super) operation: &'static str,
    pub(super) problem: Problem,
    /// It may be over by itself in a moment: what AWS says of something lags behind.
    transient: bool,
}

impl Failure {
    /// Whether it has lasted long enough to be spoken of.
    pub(super) fn is_said(&self, attempt: u32) -> bool {
        attempt >= if self.transient { 5 } else { 1 }
    }

    /// Whether another failure is the same again.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.operation == other.operation && self.problem.reason == other.problem.reason
    }

    pub(super) fn kubernetes(request: &Request, denial: &Denial) -> Self {
        let (operation, what) = match request {
            Request::ApplyBinding { binding, .. } => ("ApplyBinding", format!("writing binding {binding}")),
            Request::DeleteBinding { binding, .. } => ("DeleteBinding", format!("deleting binding {binding}")),
            Request::SetServiceFinalizer { .. } => {
                ("SetServiceFinalizer", "changing the Service's finalizer".to_owned())
            }
            Request::SetManagedFields { .. } => ("SetManagedFields", "writing the Service's annotation".to_owned()),
            _ => ("PatchServiceStatus", "writing the Service's status".to_owned()),
        };
        let remedy = match denial {
            Denial::Forbidden(_) => "allow it in the registrar's ClusterRole",
            _ => "",
        };
        let transient = !matches!(denial, Denial::Forbidden(_) | Denial::Refused(_));
        Self { operation, problem: Problem::new("KubernetesRefused", format!("{what}: {denial}"), remedy), transient }
    }
}

/// Whether a problem may be over by itself in a moment, so that nothing has failed yet.
pub(super) fn may_pass(problem: &Problem) -> bool {
    matches!(problem.reason, "NoReply" | "NotSettled" | "InUse")
}

/// A fault of a call, with the object that it is about.
pub(super) fn explain(call: &Call, fault: &Fault) -> Failure {
    let code = fault.code().unwrap_or_default();
    let of_rules = matches!(call, Call::AuthorizeSecurityGroupIngress { .. } | Call::RevokeSecurityGroupIngress { .. });
    let (reason, remedy) = match code {
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            ("AccessDenied", if of_rules { ALLOW_RULES } else { ALLOW })
        }
        "TooManyLoadBalancers"
        | "TooManyTargetGroups"
        | "TooManyListeners"
        | "TooManyTargets"
        | "TooManyCertificates"
        | "TooManyUniqueTargetGroupsPerLoadBalancer"
        | "SecurityGroupLimitExceeded"
        | "RulesPerSecurityGroupLimitExceeded" => {
            ("QuotaReached", "remove what nobody needs, or ask AWS for a larger quota")
        }
        "ResourceInUse" | "DependencyViolation" => ("InUse", "it goes when nothing refers to it any more"),
        "OperationNotPermitted" => {
            ("NotPermitted", "see whether it is protected against deletion, or used by another service")
        }
        "CertificateNotFound" => ("CertificateNotFound", "name a certificate that ACM has in this region"),
        "InvalidSubnet" | "SubnetNotFound" | "AvailabilityZoneNotSupported" => {
            ("Subnets", "name other subnets in service.beta.kubernetes.io/aws-load-balancer-subnets")
        }
        "DuplicateLoadBalancerName" | "DuplicateTargetGroupName" => {
            ("NameTaken", "choose another name, or delete what has it if nobody needs it")
        }
        "TargetGroupAssociationLimit" => ("TargetGroupTaken", "a target group serves one load balancer only"),
        "" => ("NoReply", ""),
        _ => ("AwsRefused", ""),
    };
    let transient = matches!(fault, Fault::Unknown(_))
        || code.ends_with("NotFound") && code != "CertificateNotFound"
        || matches!(code, "ResourceInUse" | "DependencyViolation" | "InvalidGroup.Duplicate" | "DuplicateListener");
    let reason = if transient && reason == "AwsRefused" { "NotSettled" } else { reason };
    let message = format!("{} of {}: {fault}", call.operation(), object(call));
    Failure { operation: call.operation(), problem: Problem::new(reason, message, remedy), transient }
}

/// The object that a call is about, as AWS names it.
fn object(call: &Call) -> String {
    match call {
        Call::CreateLoadBalancer(create) => format!("load balancer {}", create.name),
        Call::CreateTargetGroup(create) => format!("target group {}", create.name),
        Call::CreateListener(create) => format!("listener {} of {}", create.port, create.load_balancer),
        Call::ModifyListener(change) => format!("listener {}", change.listener),
        Call::CreateSecurityGroup { name, .. } => format!("security group {name}"),
        Call::SetSubnets(set) => set.load_balancer.to_string(),
        Call::DeleteLoadBalancer { load_balancer: arn }
        | Call::ModifyLoadBalancerAttributes { load_balancer: arn, .. }
        | Call::DescribeLoadBalancerAttributes { load_balancer: arn }
        | Call::SetSecurityGroups { load_balancer: arn, .. }
        | Call::SetIpAddressType { load_balancer: arn, .. }
        | Call::ModifyCapacityReservation { load_balancer: arn, .. }
        | Call::DescribeCapacityReservation { load_balancer: arn }
        | Call::ModifyTargetGroup { group: arn, .. }
        | Call::DeleteTargetGroup { group: arn }
        | Call::DescribeTargetGroupAttributes { group: arn }
        | Call::ModifyTargetGroupAttributes { group: arn, .. }
        | Call::DescribeTargetHealth { group: arn }
        | Call::DeleteListener { listener: arn }
        | Call::DescribeListenerAttributes { listener: arn }
        | Call::ModifyListenerAttributes { listener: arn, .. }
        | Call::DescribeListenerCertificates { listener: arn }
        | Call::AddListenerCertificates { listener: arn, .. }
        | Call::RemoveListenerCertificates { listener: arn, .. }
        | Call::AddTags { resource: arn, .. }
        | Call::RemoveTags { resource: arn, .. } => arn.to_string(),
        Call::DeleteSecurityGroup { group_id: id }
        | Call::AuthorizeSecurityGroupIngress { group_id: id, .. }
        | Call::RevokeSecurityGroupIngress { group_id: id, .. }
        | Call::CreateEc2Tags { resource: id, .. }
        | Call::DeleteEc2Tags { resource: id, .. } => id.clone(),
        _ => "the Service's resources".to_owned(),
    }
}
