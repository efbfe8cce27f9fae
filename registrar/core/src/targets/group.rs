//! Which target group a binding is about, and what has to be known of it before anything is done.

use std::{fmt, time::Duration};

use nlb::{
    service::spec::AddressFamily,
    settings::TargetType,
    targetgroupbinding::{TargetGroupBindingSpec, TargetGroupProtocol},
};

use crate::{
    aws::{Account, Arn, TargetGroup, TargetGroupQuery},
    cluster::BindingRecord,
    settings::Settings,
};

/// What is known of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// ARN.
    pub arn: Arn,
    /// In which account.
    pub account: Account,
    /// What targets are.
    pub target_type: TargetType,
    /// Address family.
    pub family: AddressFamily,
    /// Protocol, if it is known.
    pub protocol: Option<TargetGroupProtocol>,
    /// VPC, if it is known.
    pub vpc: Option<String>,
    /// Whether other clusters register targets too.
    pub shared: bool,
    /// How long checks take to turn a verdict: interval times the larger threshold. Nothing until AWS has been asked.
    pub takeover: Option<Duration>,
    /// Whether a listener refers to it, when AWS was last asked.
    pub in_use: Option<bool>,
}

/// Why a binding cannot be worked on, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// One word.
    pub reason: &'static str,
    /// A sentence with the remedy.
    pub message: String,
}

impl Problem {
    /// Of these.
    pub fn new(reason: &'static str, message: impl fmt::Display) -> Self {
        Self { reason, message: message.to_string() }
    }
}

/// What a binding says of its group.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// AWS has to be asked first.
    Ask,
    /// It is known.
    Known(Box<Facts>),
    /// It cannot be worked on.
    Problem(Problem),
}

fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// How AWS is asked for the group of a binding.
pub fn query(spec: &TargetGroupBindingSpec) -> Option<TargetGroupQuery> {
    match (given(spec.target_group_arn.as_ref()), given(spec.target_group_name.as_ref())) {
        (Some(arn), _) => Some(TargetGroupQuery::Arns(vec![Arn::new(arn)])),
        (None, Some(name)) => Some(TargetGroupQuery::Name(name.to_owned())),
        (None, None) => None,
    }
}

/// In whose account the group of a binding is. A role that the operator's configuration does not name is not assumed.
pub fn account(spec: &TargetGroupBindingSpec, settings: &Settings) -> Result<Account, Problem> {
    let Some(arn) = given(spec.iam_role_arn_to_assume.as_ref()) else { return Ok(Account::Own) };
    let found = settings.roles.iter().find(|(_, role)| role.arn == arn);
    let Some((name, role)) = found else {
        let message = format!(
            "spec.iamRoleArnToAssume {arn} is not one of the roles that the configuration names; ask the operator to add it"
        );
        return Err(Problem::new("RoleNotConfigured", message));
    };
    let external_id = given(spec.assume_role_external_id.as_ref());
    if external_id.is_some() && external_id != role.external_id.as_deref() {
        let message = format!("spec.assumeRoleExternalId is not the one that is configured for the role {name}");
        return Err(Problem::new("RoleNotConfigured", message));
    }
    Ok(Account::Role(name.clone()))
}

/// What is known of the group of a binding, from its spec and from what AWS has said.
pub fn resolve(record: &BindingRecord, settings: &Settings, group: Option<&TargetGroup>) -> Resolution {
    match known(record, settings, group) {
        Ok(Some(facts)) => Resolution::Known(Box::new(facts)),
        Ok(None) => Resolution::Ask,
        Err(problem) => Resolution::Problem(problem),
    }
}

fn known(record: &BindingRecord, settings: &Settings, group: Option<&TargetGroup>) -> Result<Option<Facts>, Problem> {
    let spec = &record.spec;
    let account = account(spec, settings)?;
    if query(spec).is_none() {
        let message = "one of spec.targetGroupARN and spec.targetGroupName is needed";
        return Err(Problem::new("NoTargetGroup", message));
    }
    let target_type = match group.map(|group| group.target_type.as_str()) {
        None => None,
        Some("ip") => Some(TargetType::Ip),
        Some("instance") => Some(TargetType::Instance),
        Some(other) => {
            let message = format!("targets of the group are of type {other}; only ip and instance can be bound");
            return Err(Problem::new("TargetGroupMismatch", message));
        }
    };
    let family = group.map(|group| match group.ip_address_type.as_deref() {
        Some("ipv6") => AddressFamily::Ipv6,
        _ => AddressFamily::Ipv4,
    });
    let protocol = group.and_then(|group| protocol(&group.protocol));
    let vpc = group.and_then(|group| group.vpc_id.clone());
    agree("targetType", spec.target_type.map(TargetType::as_str), target_type.map(TargetType::as_str))?;
    agree("ipAddressType", spec.ip_address_type.map(AddressFamily::as_str), family.map(AddressFamily::as_str))?;
    agree("vpcID", given(spec.vpc_id.as_ref()), vpc.as_deref())?;
    let arn = given(spec.target_group_arn.as_ref()).map(Arn::new).or_else(|| group.map(|group| group.arn.clone()));
    let (Some(arn), Some(target_type), Some(family)) =
        (arn, spec.target_type.or(target_type), spec.ip_address_type.or(family))
    else {
        return Ok(None);
    };
    let shared = spec.multi_cluster_target_group == Some(true);
    let off = |what: &str| {
        Err(Problem::new("FeatureOff", format!("{what} are switched off in the configuration; ask the operator")))
    };
    if target_type == TargetType::Instance && !settings.features.instance_targets {
        return off("instance targets");
    }
    if shared && !settings.features.shared_groups {
        return off("target groups that several clusters share");
    }
    if target_type == TargetType::Instance && account != Account::Own {
        return Err(Problem::new("RoleNotConfigured", "spec.iamRoleArnToAssume is for targetType ip only"));
    }
    Ok(Some(Facts {
        arn,
        account,
        target_type,
        family,
        protocol: spec.target_group_protocol.or(protocol),
        vpc: given(spec.vpc_id.as_ref()).map(str::to_owned).or(vpc),
        shared,
        takeover: group.and_then(takeover),
        in_use: group.map(|group| !group.load_balancers.is_empty()),
    }))
}

fn agree(field: &str, spec: Option<&str>, group: Option<&str>) -> Result<(), Problem> {
    match (spec, group) {
        (Some(spec), Some(group)) if spec != group => {
            let message =
                format!("spec.{field} is {spec}, but that of the target group is {group}; make a new binding");
            Err(Problem::new("TargetGroupMismatch", message))
        }
        _ => Ok(()),
    }
}

fn protocol(text: &str) -> Option<TargetGroupProtocol> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

fn takeover(group: &TargetGroup) -> Option<Duration> {
    let check = &group.health_check;
    let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
    let interval = number(check.interval_seconds)?;
    let checks = number(check.healthy_threshold)?.max(number(check.unhealthy_threshold)?);
    Some(Duration::from_secs(u64::from(interval) * u64::from(checks)))
}

/// The spec with what was absent filled in, if something was.
pub fn filled(spec: &TargetGroupBindingSpec, facts: &Facts) -> Option<TargetGroupBindingSpec> {
    let mut filled = spec.clone();
    if given(spec.target_group_arn.as_ref()).is_none() {
        filled.target_group_arn = Some(facts.arn.to_string());
    }
    filled.target_type.get_or_insert(facts.target_type);
    filled.ip_address_type.get_or_insert(facts.family);
    if given(spec.vpc_id.as_ref()).is_none() {
        filled.vpc_id.clone_from(&facts.vpc);
    }
    if filled.target_group_protocol.is_none() {
        filled.target_group_protocol = facts.protocol;
    }
    (filled != *spec).then_some(filled)
}
