//! Inbound rules of security groups.

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{
    Model, Value,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Fields, Input, Kind, TEXT, TEXTS, optional},
    value::record,
};

/// One rule: a protocol, a range of ports and one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) id: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    protocol: String,
    /// Ports, or type and code of ICMP; none for all protocols.
    ports: Option<(i32, i32)>,
    pub(crate) source: Source,
    description: Option<String>,
}

/// Where traffic may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Range(Ipv4Net),
    Range6(Ipv6Net),
    Group(String),
    PrefixList(String),
}

/// The quota of rules is one per family. What is no range may hold addresses of both, so it counts in both.
impl Source {
    fn has_ipv4(&self) -> bool {
        !matches!(self, Self::Range6(_))
    }

    fn has_ipv6(&self) -> bool {
        !matches!(self, Self::Range(_))
    }
}

impl Rule {
    /// Two rules are one if they differ in id and description only.
    fn same(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.ports == other.ports && self.source == other.source
    }

    pub(super) fn names_group(&self, id: &str) -> bool {
        self.group() == Some(id)
    }

    /// The group that it lets in.
    pub(super) fn group(&self) -> Option<&str> {
        if let Source::Group(group) = &self.source { Some(group) } else { None }
    }

    pub(super) fn covers_tcp(&self, port: u16) -> bool {
        self.protocol == "-1"
            || self.protocol == "tcp" && self.ports.is_none_or(|(from, to)| (from..=to).contains(&i32::from(port)))
    }
}

const DESCRIPTION: crate::schema::Field = optional("Description", TEXT);
const PERMISSIONS: Kind = Kind::list(&Kind::Record(&[
    optional("IpProtocol", TEXT),
    optional("FromPort", Kind::int(-1, 65535)),
    optional("ToPort", Kind::int(-1, 65535)),
    optional("IpRanges", Kind::list(&Kind::Record(&[optional("CidrIp", TEXT), DESCRIPTION]))),
    optional("Ipv6Ranges", Kind::list(&Kind::Record(&[optional("CidrIpv6", TEXT), DESCRIPTION]))),
    optional(
        "Groups",
        Kind::list(&Kind::Record(&[
            optional("GroupId", TEXT),
            optional("GroupName", TEXT),
            optional("UserId", TEXT),
            DESCRIPTION,
        ])),
    ),
    optional("PrefixListIds", Kind::list(&Kind::Record(&[optional("PrefixListId", TEXT), DESCRIPTION]))),
]));

pub(super) const AUTHORIZE: Operation = Operation {
    name: "AuthorizeSecurityGroupIngress",
    bucket: Bucket::Ec2,
    accepts: &[
        optional("GroupId", TEXT),
        optional("GroupName", TEXT),
        optional("IpPermissions", PERMISSIONS),
        optional("IpProtocol", TEXT),
        optional("FromPort", Kind::int(-1, 65535)),
        optional("ToPort", Kind::int(-1, 65535)),
        optional("CidrIp", TEXT),
        super::tags::SPECIFICATION,
    ],
    refuses: &[Code::GroupNotFound, Code::PermissionDuplicate, Code::PermissionMalformed, Code::RulesLimitExceeded],
    run: |model, input| {
        let id = model.named_group(input)?;
        let mut rules = model.read_rules(input)?;
        let quota = model.settings.quota_rules as usize;
        let present = model.security_groups.get(&id).map(|g| g.rules.clone()).unwrap_or_default();
        for (n, rule) in rules.iter_mut().enumerate() {
            rule.id = format!("sgr-{}{n:x}", model.random.hex(16));
        }
        if let Some(rule) = rules.iter().find(|rule| present.iter().any(|p| p.same(rule))) {
            return Code::PermissionDuplicate.refuse(format!(
                "the specified rule \"peer: {}, {}, ALLOW\" already exists",
                peer(rule),
                rule.protocol
            ));
        }
        let all = || present.iter().chain(&rules);
        if all().filter(|rule| rule.source.has_ipv4()).count() > quota
            || all().filter(|rule| rule.source.has_ipv6()).count() > quota
        {
            return Code::RulesLimitExceeded.refuse("The maximum number of rules per security group has been reached.");
        }
        let shown: Value = rules.iter().map(|rule| show_rule(rule, &id, &model.world.account)).collect();
        if let Some(group) = model.security_groups.get_mut(&id) {
            group.rules.extend(rules);
        }
        Ok(record! { "return": true, "securityGroupRuleSet": shown })
    },
};

pub(super) const REVOKE: Operation = Operation {
    name: "RevokeSecurityGroupIngress",
    bucket: Bucket::Ec2,
    accepts: &[
        optional("GroupId", TEXT),
        optional("GroupName", TEXT),
        optional("IpPermissions", PERMISSIONS),
        optional("SecurityGroupRuleId", TEXTS),
        optional("IpProtocol", TEXT),
        optional("FromPort", Kind::int(-1, 65535)),
        optional("ToPort", Kind::int(-1, 65535)),
        optional("CidrIp", TEXT),
    ],
    refuses: &[Code::GroupNotFound, Code::PermissionNotFound, Code::PermissionMalformed],
    run: |model, input| {
        let id = model.named_group(input)?;
        let ids = input.texts("SecurityGroupRuleId");
        let rules = if ids.is_empty() { model.read_rules(input)? } else { Vec::new() };
        let Some(group) = model.security_groups.get_mut(&id) else { return Ok(record! { "return": true }) };
        let known = |rule: &Rule| group.rules.iter().any(|present| present.same(rule));
        if !rules.iter().all(known) || !ids.iter().all(|id| group.rules.iter().any(|r| r.id == *id)) {
            return Code::PermissionNotFound.refuse("The specified rule does not exist in this security group.");
        }
        group
            .rules
            .retain(|present| !rules.iter().any(|rule| rule.same(present)) && !ids.contains(&present.id.as_str()));
        Ok(record! { "return": true })
    },
};

impl Model {
    /// The rules of a call, one for each source.
    fn read_rules(&self, input: &Input) -> Result<Vec<Rule>> {
        let mut rules: Vec<Rule> = Vec::new();
        for permission in input.records("IpPermissions") {
            let (protocol, ports) = protocol_and_ports(permission)?;
            let mut sources = Vec::new();
            for range in permission.records("IpRanges") {
                sources.push((Source::Range(cidr(range.text("CidrIp").unwrap_or_default())?), range));
            }
            for range in permission.records("Ipv6Ranges") {
                let text = range.text("CidrIpv6").unwrap_or_default();
                let Ok(range6) = text.parse::<Ipv6Net>() else { return bad_cidr(text) };
                sources.push((Source::Range6(range6), range));
            }
            for pair in permission.records("Groups") {
                let id = pair.text("GroupId").unwrap_or_default();
                if !self.security_groups.contains_key(id) {
                    return Code::GroupNotFound.refuse(format!("The security group '{id}' does not exist"));
                }
                sources.push((Source::Group(id.to_owned()), pair));
            }
            for list in permission.records("PrefixListIds") {
                let id = list.text("PrefixListId").unwrap_or_default();
                sources.push((Source::PrefixList(id.to_owned()), list));
            }
            for (source, fields) in sources {
                let description = fields.text("Description").map(str::to_owned);
                rules.push(Rule { id: String::new(), protocol: protocol.clone(), ports, source, description });
            }
        }
        if let Some(text) = input.text("CidrIp") {
            let (protocol, ports) = protocol_and_ports(input)?;
            let source = Source::Range(cidr(text)?);
            rules.push(Rule { id: String::new(), protocol, ports, source, description: None });
        }
        if rules.is_empty() {
            return Code::MissingParameter.refuse("The request must contain the parameter ipPermissions");
        }
        for (n, rule) in rules.iter().enumerate() {
            if rules[..n].iter().any(|other| other.same(rule)) {
                return Code::InvalidParameterValue.refuse("The same permission must not appear multiple times");
            }
        }
        Ok(rules)
    }
}

fn protocol_and_ports(fields: &Fields) -> Result<(String, Option<(i32, i32)>)> {
    let protocol = match fields.text("IpProtocol").unwrap_or_default() {
        "6" => "tcp",
        "17" => "udp",
        "1" => "icmp",
        "58" => "icmpv6",
        "" => return Code::MissingParameter.refuse("The request must contain the parameter IpProtocol"),
        other => other,
    };
    let known = matches!(protocol, "tcp" | "udp" | "icmp" | "icmpv6" | "-1") || protocol.parse::<u8>().is_ok();
    if !known {
        return Code::InvalidParameterValue.refuse(format!("Invalid value '{protocol}' for IP protocol."));
    }
    if protocol == "-1" {
        return Ok((protocol.to_owned(), None));
    }
    let (from, to) = (fields.number::<i32>("FromPort"), fields.number::<i32>("ToPort"));
    match (protocol, from, to) {
        ("tcp" | "udp", Some(from), Some(to)) if from < 0 || from > to => {
            Code::InvalidParameterValue.refuse(format!("Invalid TCP/UDP port range ({from}:{to})"))
        }
        ("tcp" | "udp", Some(from), Some(to)) => Ok((protocol.to_owned(), Some((from, to)))),
        ("tcp" | "udp", ..) => Code::InvalidParameterValue
            .refuse(format!("Must specify both from and to ports with TCP/UDP. Protocol is '{protocol}'")),
        (_, from, to) => Ok((protocol.to_owned(), from.zip(to))),
    }
}

fn cidr(text: &str) -> Result<Ipv4Net> {
    match text.parse::<Ipv4Net>() {
        Ok(range) => Ok(range.trunc()),
        Err(_) => bad_cidr(text),
    }
}

fn bad_cidr<T>(text: &str) -> Result<T> {
    Code::InvalidParameterValue.refuse(format!("CIDR block {text} is malformed"))
}

fn peer(rule: &Rule) -> String {
    match &rule.source {
        Source::Range(range) => range.to_string(),
        Source::Range6(range) => range.to_string(),
        Source::Group(id) | Source::PrefixList(id) => id.clone(),
    }
}

fn port_fields(ports: Option<(i32, i32)>) -> (Option<String>, Option<String>) {
    ports.map(|(from, to)| (from.to_string(), to.to_string())).unzip()
}

fn show_rule(rule: &Rule, group: &str, account: &str) -> Value {
    let (from, to) = port_fields(rule.ports);
    let of = |wanted: fn(&Source) -> bool| wanted(&rule.source).then(|| peer(rule));
    record! {
        "securityGroupRuleId": rule.id.as_str(),
        "groupId": group,
        "groupOwnerId": account,
        "isEgress": false,
        "ipProtocol": rule.protocol.as_str(),
        ? "fromPort": from,
        ? "toPort": to,
        ? "cidrIpv4": of(|s| matches!(s, Source::Range(_))),
        ? "cidrIpv6": of(|s| matches!(s, Source::Range6(_))),
        ? "prefixListId": of(|s| matches!(s, Source::PrefixList(_))),
        ? "description": rule.description.as_deref(),
    }
}

/// Rules as `DescribeSecurityGroups` shows them: one permission for each protocol and range of ports.
pub(super) fn show_permissions(rules: &[Rule], account: &str) -> Value {
    let mut heads: Vec<(&str, Option<(i32, i32)>)> = rules.iter().map(|r| (r.protocol.as_str(), r.ports)).collect();
    heads.sort_unstable();
    heads.dedup();
    let permission = |(protocol, ports): (&str, Option<(i32, i32)>)| {
        let own = || rules.iter().filter(|r| r.protocol == protocol && r.ports == ports);
        let list = |show: &dyn Fn(&Rule) -> Option<Value>| own().filter_map(show).collect::<Value>();
        let (from, to) = port_fields(ports);
        record! {
            "ipProtocol": protocol,
            ? "fromPort": from,
            ? "toPort": to,
            "groups": list(&|r| {
                let Source::Group(id) = &r.source else { return None };
                Some(record! { "userId": account, "groupId": id.as_str(), ? "description": r.description.as_deref() })
            }),
            "ipRanges": list(&|r| {
                let Source::Range(range) = &r.source else { return None };
                Some(record! { "cidrIp": range.to_string(), ? "description": r.description.as_deref() })
            }),
            "ipv6Ranges": list(&|r| {
                let Source::Range6(range) = &r.source else { return None };
                Some(record! { "cidrIpv6": range.to_string(), ? "description": r.description.as_deref() })
            }),
            "prefixListIds": list(&|r| {
                let Source::PrefixList(id) = &r.source else { return None };
                Some(record! { "prefixListId": id.as_str(), ? "description": r.description.as_deref() })
            }),
        }
    };
    heads.into_iter().map(permission).collect()
}
