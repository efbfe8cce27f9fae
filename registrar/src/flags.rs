//! Flags of the model under the names that the peer gave them.

use std::collections::BTreeMap;

use clap::Args;
use nlb::settings::{ModelSettings, Scheme, TargetType};
use registrar_core::balancers::Options;

/// Flags that win over the settings file. What is not given stays as the file says.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelFlags {
    /// Target type of Services that do not say
    #[arg(long, value_name = "instance|ip", value_parser = target_type)]
    pub default_target_type: Option<TargetType>,
    /// Scheme of new load balancers whose Service does not say
    #[arg(long, value_name = "internal|internet-facing", value_parser = scheme)]
    pub default_load_balancer_scheme: Option<Scheme>,
    /// SSL policy of Services that do not say
    #[arg(long, value_name = "POLICY")]
    pub default_ssl_policy: Option<String>,
    /// Tags on everything that is made
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = pair)]
    pub default_tags: Vec<(String, String)>,
    /// Keys of tags that others set; they are neither set nor removed
    #[arg(long, value_name = "KEY,...", value_delimiter = ',')]
    pub external_managed_tags: Vec<String>,
    /// Whether load balancers get the security group that their targets let in
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_backend_security_group: Option<bool>,
    /// A security group that takes the place of the one that is made for all load balancers
    #[arg(long, value_name = "ID", value_parser = security_group)]
    pub backend_security_group: Option<String>,
    /// Whether a Service with security groups of its own gets rules towards its targets, if it does not say
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_manage_backend_security_group_rules: Option<bool>,
    /// Whether rules at the targets name each port, instead of one range from the lowest to the highest
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub disable_restricted_sg_rules: Option<bool>,
    /// Tags that tell which of several security groups of a node gets the rules
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = pair)]
    pub service_target_eni_security_group_tags: Vec<(String, String)>,
    /// Switches
    #[arg(long, value_name = "GATE=BOOLEAN,...", value_delimiter = ',', value_parser = gate)]
    pub feature_gates: Vec<(Gate, bool)>,
}

impl ModelFlags {
    /// Puts the flags that are given over what the settings say.
    pub fn apply(&self, settings: &mut ModelSettings, options: &mut Options) {
        fn over<T: Clone>(setting: &mut T, flag: Option<&T>) {
            if let Some(value) = flag {
                setting.clone_from(value);
            }
        }
        over(&mut settings.default_target_type, self.default_target_type.as_ref());
        over(&mut settings.default_scheme, self.default_load_balancer_scheme.as_ref());
        over(&mut settings.default_ssl_policy, self.default_ssl_policy.as_ref());
        over(&mut settings.enable_backend_security_group, self.enable_backend_security_group.as_ref());
        let manage = self.enable_manage_backend_security_group_rules.as_ref();
        over(&mut settings.enable_manage_backend_security_group_rules, manage);
        if !self.default_tags.is_empty() {
            settings.default_tags = self.default_tags.iter().cloned().collect();
        }
        if !self.external_managed_tags.is_empty() {
            settings.external_managed_tags = self.external_managed_tags.iter().cloned().collect();
        }
        if self.backend_security_group.is_some() {
            options.backend_security_group.clone_from(&self.backend_security_group);
        }
        // What the peer calls restricted is one rule from the lowest port to the highest.
        over(&mut options.exact_endpoint_rules, self.disable_restricted_sg_rules.as_ref());
        if !self.service_target_eni_security_group_tags.is_empty() {
            let tags: BTreeMap<_, _> = self.service_target_eni_security_group_tags.iter().cloned().collect();
            options.endpoint_group_tags = tags;
        }
        for (gate, on) in &self.feature_gates {
            gate.set(*on, settings, options);
        }
    }
}

/// A switch by the peer's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate(&'static str);

/// The peer's switches. The second part says which have a meaning here; the others are taken and do nothing, so that the
/// peer's command lines stay valid.
const GATES: [(&str, bool); 15] = [
    ("ServiceTypeLoadBalancerOnly", true),
    ("EnableIPTargetType", true),
    ("EnableTCPUDPListener", true),
    ("NLBHealthCheckAdvancedConfig", true),
    ("NLBSecurityGroup", true),
    ("LBCapacityReservation", true),
    ("WeightedTargetGroups", true),
    ("EnhancedDefaultBehavior", true),
    ("EnableDefaultTagsLowPriority", true),
    ("SubnetsClusterTagCheck", true),
    ("SubnetDiscoveryByReachability", true),
    ("ListenerRulesTagging", false),
    ("EndpointsFailOpen", false),
    ("EnableServiceController", false),
    ("EnableRGTAPI", false),
];

impl Gate {
    fn set(self, on: bool, settings: &mut ModelSettings, options: &mut Options) {
        let features = &mut settings.features;
        match self.0 {
            "ServiceTypeLoadBalancerOnly" => features.service_type_load_balancer_only = on,
            "EnableIPTargetType" => features.ip_target_type = on,
            "EnableTCPUDPListener" => features.tcp_udp_listener = on,
            "NLBHealthCheckAdvancedConfig" => features.advanced_health_checks = on,
            "NLBSecurityGroup" => features.nlb_security_group = on,
            "LBCapacityReservation" => features.capacity_reservation = on,
            "WeightedTargetGroups" => features.weighted_target_groups = on,
            "EnhancedDefaultBehavior" => features.enhanced_default_behavior = on,
            "EnableDefaultTagsLowPriority" => features.default_tags_low_priority = on,
            "SubnetsClusterTagCheck" => options.subnets_cluster_tag_check = on,
            "SubnetDiscoveryByReachability" => options.subnet_discovery_by_reachability = on,
            _ => {}
        }
    }
}

fn gate(text: &str) -> Result<(Gate, bool), String> {
    let (name, value) = pair(text)?;
    let value = value.parse().map_err(|_| format!("`{value}` is not true or false"))?;
    match GATES.iter().find(|(known, _)| *known == name) {
        Some((known, _)) => Ok((Gate(known), value)),
        None => Err(format!("there is no gate `{name}`; those with a meaning are {}", {
            let known: Vec<_> = GATES.iter().filter(|(_, used)| *used).map(|(name, _)| *name).collect();
            known.join(", ")
        })),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`"))?;
    if key.is_empty() { Err(format!("`{text}` has no key")) } else { Ok((key.to_owned(), value.to_owned())) }
}

fn target_type(text: &str) -> Result<TargetType, String> {
    match text {
        "instance" => Ok(TargetType::Instance),
        "ip" => Ok(TargetType::Ip),
        _ => Err("write instance or ip".to_owned()),
    }
}

fn scheme(text: &str) -> Result<Scheme, String> {
    match text {
        "internal" => Ok(Scheme::Internal),
        "internet-facing" => Ok(Scheme::InternetFacing),
        _ => Err("write internal or internet-facing".to_owned()),
    }
}

fn security_group(text: &str) -> Result<String, String> {
    if text.starts_with("sg-") { Ok(text.to_owned()) } else { Err("an id begins with sg-".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: ModelFlags,
    }

    fn applied(arguments: &[&str]) -> (ModelSettings, Options) {
        let line = Line::try_parse_from(std::iter::once(&"x").chain(arguments)).unwrap();
        let (mut settings, mut options) = (ModelSettings::default(), Options::default());
        line.flags.apply(&mut settings, &mut options);
        (settings, options)
    }

    #[test]
    fn nothing_given_changes_nothing() {
        assert_eq!(applied(&[]), (ModelSettings::default(), Options::default()));
    }

    #[test]
    fn flags_of_the_peer_reach_the_settings_that_they_mean() {
        let (settings, options) = applied(&[
            "--default-target-type=ip",
            "--default-load-balancer-scheme",
            "internet-facing",
            "--default-ssl-policy=ELBSecurityPolicy-TLS13-1-2-2021-06",
            "--default-tags=team=a,env=",
            "--external-managed-tags=cost,owner",
            "--enable-backend-security-group=false",
            "--enable-manage-backend-security-group-rules",
            "--backend-security-group=sg-1",
            "--disable-restricted-sg-rules",
            "--service-target-eni-security-group-tags=a=b",
            "--feature-gates=NLBSecurityGroup=false,SubnetsClusterTagCheck=false,EnableRGTAPI=true",
        ]);
        let expected = ModelSettings {
            default_target_type: TargetType::Ip,
            default_scheme: Scheme::InternetFacing,
            default_ssl_policy: "ELBSecurityPolicy-TLS13-1-2-2021-06".to_owned(),
            default_tags: [("team", "a"), ("env", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            external_managed_tags: ["cost", "owner"].map(str::to_owned).into(),
            enable_backend_security_group: false,
            enable_manage_backend_security_group_rules: true,
            features: nlb::settings::Features { nlb_security_group: false, ..Default::default() },
            ..ModelSettings::default()
        };
        assert_eq!(settings, expected);
        assert_eq!(options.backend_security_group.as_deref(), Some("sg-1"));
        assert_eq!(options.endpoint_group_tags, [("a".to_owned(), "b".to_owned())].into());
        assert!(options.exact_endpoint_rules && !options.subnets_cluster_tag_check);
    }

    #[test]
    fn wrong_values_say_what_is_right() {
        for (argument, says) in [
            ("--default-target-type=pod", "instance or ip"),
            ("--default-load-balancer-scheme=public", "internet-facing"),
            ("--default-tags=team", "no `=`"),
            ("--backend-security-group=web", "sg-"),
            ("--feature-gates=NLBSecurityGroups=true", "NLBSecurityGroup"),
            ("--feature-gates=NLBSecurityGroup=yes", "true or false"),
        ] {
            let Err(error) = Line::try_parse_from(["x", argument]) else { panic!("{argument}") };
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
