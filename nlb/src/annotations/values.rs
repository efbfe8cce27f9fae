//! Whether a value has the form that its row of the table asks for.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Annotation, Item, Kind, Pairs, attributes, forms, keys, parse};
use crate::{
    drain::Delay,
    violation::{Severity, Violation, excerpt},
};

/// Of how many unknown attributes of one map the nearest known one is looked up.
const LOOKED_UP: usize = 20;

/// Everything that is wrong with a value as such.
pub(super) fn check(row: &Annotation, key: &str, value: &str) -> Vec<Violation> {
    let deny = |problem: String, suggestion: String| vec![Violation::deny("value", key, value, problem, suggestion)];
    match row.kind {
        Kind::Text | Kind::Action | Kind::Bookkeeping => Vec::new(),
        Kind::Boolean => match parse::boolean(value) {
            Ok(_) => Vec::new(),
            Err(error) => deny(error.to_string(), boolean_remedy(key, value)),
        },
        Kind::Integer { min, max } => {
            let range = || format!("write a whole number from {min} to {max}, without a unit");
            match parse::integer(value) {
                Ok(number) if (min..=max).contains(&number) => Vec::new(),
                Ok(_) => deny(format!("is outside {min} to {max}"), range()),
                Err(error) => deny(error.to_string(), range()),
            }
        }
        Kind::OneOf(words) if words.contains(&value) => Vec::new(),
        Kind::OneOfAnyCase(words) if words.iter().any(|word| word.eq_ignore_ascii_case(value)) => Vec::new(),
        Kind::OneOf(words) | Kind::OneOfAnyCase(words) => {
            deny(format!("is not one of {}", words.join(", ")), word_remedy(words, value))
        }
        Kind::List(item) => list(item, key, value),
        Kind::Map(pairs) => map(pairs, key, value),
        Kind::LoadBalancerName => {
            let problem = forms::aws_name_problem(value).or_else(|| {
                value.starts_with("internal-").then_some("begins with \"internal-\", which AWS keeps for itself")
            });
            let remedy =
                "write up to 32 letters, digits and inner hyphens, or remove the annotation for a generated name";
            problem.map_or(Vec::new(), |problem| deny(problem.into(), remedy.into()))
        }
        Kind::SslPolicy if value.starts_with("ELBSecurityPolicy-") && !value.contains(char::is_whitespace) => {
            Vec::new()
        }
        Kind::SslPolicy => {
            deny("is not the name of a policy".into(), "write one such as ELBSecurityPolicy-TLS13-1-2-2021-06".into())
        }
        Kind::HealthCheckPort => match value.parse::<i64>() {
            Ok(number) if !(1..=65535).contains(&number) => deny(
                "is outside 1 to 65535".into(),
                "write a port number, traffic-port, or the name of a Service port".into(),
            ),
            _ => Vec::new(),
        },
        Kind::HealthCheckPath if value.starts_with('/') && value.len() <= 1024 => Vec::new(),
        Kind::HealthCheckPath if value.len() > 1024 => {
            deny("is longer than 1024 characters".into(), "write a shorter path".into())
        }
        Kind::HealthCheckPath => deny("does not begin with \"/\"".into(), format!("write \"/{}\"", excerpt(value))),
        Kind::StatusCodes if forms::are_status_codes(value) => Vec::new(),
        Kind::StatusCodes => deny(
            "is not a list of status codes from 200 to 599".into(),
            "write codes and ranges without blanks, for example 200-399 or 200,204".into(),
        ),
        Kind::Drain { auto } => match value.parse::<Delay>() {
            Ok(Delay::Auto) if !auto => {
                deny("cannot be chosen for one pod".into(), "write off or a number of seconds".into())
            }
            Ok(_) => Vec::new(),
            Err(error) => {
                deny(error.to_string(), format!("write {}off or 1 to 3600 seconds", if auto { "auto, " } else { "" }))
            }
        },
        Kind::Duration => match parse::duration(value) {
            Ok(_) => Vec::new(),
            Err(error) => {
                deny(error.to_string(), "write hours, minutes and seconds, for example 90s, 5m or 1h30m".into())
            }
        },
    }
}

fn boolean_remedy(key: &str, value: &str) -> String {
    if key == keys::INTERNAL {
        return format!("write {}: internal", keys::SCHEME);
    }
    let guess = match value.trim().to_ascii_lowercase().as_str() {
        "yes" | "on" | "true" | "enabled" => "\"true\"",
        "no" | "off" | "false" | "disabled" => "\"false\"",
        _ => "\"true\" or \"false\", in quotes,",
    };
    format!("write {guess} or remove the annotation")
}

/// The word that was meant, if one is near, else all of them.
fn word_remedy(words: &[&str], value: &str) -> String {
    let written = value.trim().to_ascii_lowercase();
    let near = words.iter().filter(|_| written.len() <= 40).find(|word| {
        let distance = strsim::osa_distance(&written, &word.to_ascii_lowercase());
        distance == 0 || (word.len() > 3 && distance <= 2)
    });
    let meant = match (near, written.as_str()) {
        (Some(word), _) => Some(*word),
        (None, "true" | "yes" | "enabled" | "1") if words.contains(&"on") => Some("on"),
        (None, "false" | "no" | "disabled" | "0") if words.contains(&"off") => Some("off"),
        (None, "pod" | "pods") if words.contains(&"ip") => Some("ip"),
        (None, "node" | "nodes") if words.contains(&"instance") => Some("instance"),
        (None, "public" | "external") if words.contains(&"internet-facing") => Some("internet-facing"),
        (None, "private") if words.contains(&"internal") => Some("internal"),
        _ => None,
    };
    match meant {
        Some(word) => format!("write {word}"),
        None => format!("write {}", words.join(" or ")),
    }
}

fn wrong(rule: &'static str, key: &str, items: &[&str], problem: &str, remedy: &str) -> Option<Violation> {
    Violation::of_items(Severity::Deny, rule, key, items, problem, remedy)
}

fn list(item: Item, key: &str, value: &str) -> Vec<Violation> {
    let items = parse::list(value);
    let mut violations = Vec::new();
    if items.is_empty() {
        violations.push(empty_list(item, key, value));
    }
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|number| number > 0);
    let (fine, problem, remedy): (fn(&str) -> bool, &str, &str) = match item {
        Item::CertificateArn => (
            |text| forms::Arn::parse(text).is_some_and(|arn| arn.is_certificate()),
            "is not the ARN of a certificate",
            "write arn:aws:acm:<region>:<account>:certificate/<id>",
        ),
        Item::Subnet => (
            |text| !text.starts_with("subnet-") || forms::is_ec2_id("subnet-", text),
            "is not a subnet id",
            "write subnet- and 8 or 17 hexadecimal digits, or the value of a Name tag",
        ),
        Item::SecurityGroup => (
            |text| !text.starts_with("sg-") || forms::is_ec2_id("sg-", text),
            "is not a security group id",
            "write sg- and 8 or 17 hexadecimal digits, or the value of a Name tag",
        ),
        Item::EipAllocation => (
            |text| forms::is_ec2_id("eipalloc-", text),
            "is not the allocation id of an Elastic IP address",
            "write eipalloc- and 8 or 17 hexadecimal digits",
        ),
        Item::Ipv4 => (
            |text| matches!(text.parse(), Ok(IpAddr::V4(_))),
            "is not an IPv4 address",
            "write addresses such as 10.0.1.15",
        ),
        Item::Ipv6 => (
            |text| matches!(text.parse(), Ok(IpAddr::V6(_))),
            "is not an IPv6 address",
            "write addresses such as 2001:db8::15",
        ),
        Item::SourceNatPrefix => (
            |text| text == "auto_assigned" || forms::is_ipv6_80(text),
            "is neither auto_assigned nor an IPv6 prefix of 80 bits",
            "write auto_assigned or a prefix such as 2001:db8:0:1:1::/80",
        ),
        Item::Cidr => (
            |text| forms::cidr(text).is_some(),
            "is not an address range",
            "write ranges such as 10.0.0.0/8 or 2001:db8::/32",
        ),
        Item::PrefixList => (
            |text| forms::is_ec2_id("pl-", text),
            "is not the id of a prefix list",
            "write pl- and 8 or 17 hexadecimal digits",
        ),
        Item::PortNumber => {
            let wrong_ports: Vec<_> = items.iter().copied().filter(|text| !is_port(text)).collect();
            let remedy = "write the numbers of Service ports, names are not read here";
            violations.extend(wrong("value", key, &wrong_ports, "is not a port number", remedy));
            return violations;
        }
        Item::Container => {
            // The peer does not trim here: a blank becomes part of the name, and no container has that name.
            let blanks: Vec<_> = value.split(',').filter(|name| name.trim() != *name).collect();
            let remedy = "separate names by commas alone";
            violations.extend(wrong("value", key, &blanks, "has blanks, which become part of the name", remedy));
            return violations;
        }
        Item::Port => return violations,
    };
    let wrong_items: Vec<_> = items.iter().copied().filter(|text| !fine(text)).collect();
    violations.extend(wrong("value", key, &wrong_items, problem, remedy));
    if matches!(item, Item::Subnet | Item::EipAllocation | Item::Ipv4 | Item::Ipv6 | Item::SourceNatPrefix) {
        // Two subnets may share a `Name`, so a repeated name is no mistake; and every subnet may have its prefix assigned.
        let names_itself =
            |text: &&str| *text != "auto_assigned" && (item != Item::Subnet || text.starts_with("subnet-"));
        let twice: Vec<_> = repeated(&items).into_iter().filter(names_itself).collect();
        violations.extend(wrong("repeated", key, &twice, "is there twice", "write each once"));
    }
    if item == Item::Cidr {
        violations.extend(host_bits(key, &items));
    }
    violations
}

fn repeated<'a>(items: &[&'a str]) -> Vec<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    items.iter().copied().filter(|item| !seen.insert(*item)).collect()
}

fn host_bits(key: &str, items: &[&str]) -> Option<Violation> {
    let (item, _) = items.iter().filter_map(|item| Some((*item, forms::cidr(item)?.1))).find(|(_, set)| *set)?;
    let network = item.parse::<ipnet::IpNet>().map(|net| net.trunc().to_string()).unwrap_or_default();
    Some(Violation::warn("host-bits", key, item, "has bits set beyond its length", format!("write {network}")))
}

fn empty_list(item: Item, key: &str, value: &str) -> Violation {
    match item {
        Item::Subnet => Violation::deny(
            "value",
            key,
            value,
            "names no subnet",
            "name one subnet per zone, or remove the annotation to have them discovered",
        ),
        _ => Violation::warn("no-effect", key, value, "is empty and has no effect", "remove the annotation"),
    }
}

fn map(pairs: Pairs, key: &str, value: &str) -> Vec<Violation> {
    let map = match parse::map(value) {
        Ok(map) => map,
        Err(error) => {
            let remedy = "write key=value pairs separated by commas, and \\, for a comma within a value";
            return vec![Violation::deny("value", key, value, error.to_string(), remedy)];
        }
    };
    match pairs {
        Pairs::Attributes(scope) => attribute_pairs(scope, key, &map),
        Pairs::Capacity => capacity(key, value, &map),
        Pairs::Tags => crate::tags::check(key, &map),
        Pairs::Labels => labels(key, &map),
    }
}

fn attribute_pairs(scope: attributes::Scope, key: &str, map: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut unknown = Vec::new();
    for (name, value) in map {
        let Some(attribute) = attributes::find(scope, name) else {
            unknown.push(name.as_str());
            continue;
        };
        // An empty value does not override anything.
        if value.is_empty() && scope == attributes::Scope::TargetGroup {
            continue;
        }
        if let Some((problem, remedy)) = attributes::check(attribute, value) {
            violations.push(Violation::deny("attribute", key, &format!("{name}={value}"), problem, remedy));
        }
    }
    for name in unknown.iter().take(LOOKED_UP) {
        let remedy = attributes::nearest(scope, name).map_or(String::new(), |known| format!("did you mean {known}?"));
        let problem = "is not an attribute that is known here";
        violations.push(Violation::warn("unknown-attribute", key, name, problem, remedy));
    }
    let more = unknown.get(LOOKED_UP..).unwrap_or_default();
    let problem = "are not attributes that are known here";
    violations.extend(Violation::of_items(Severity::Warn, "unknown-attribute", key, more, problem, ""));
    violations
}

fn capacity(key: &str, value: &str, map: &BTreeMap<String, String>) -> Vec<Violation> {
    let remedy = "write CapacityUnits=<n>, or CapacityUnits=0 to give the reservation back";
    let mut violations = Vec::new();
    for (name, units) in map {
        if name != "CapacityUnits" {
            violations.push(Violation::deny("value", key, value, format!("has the key \"{}\"", excerpt(name)), remedy));
        } else if !parse::integer(units).is_ok_and(|number| number >= 0) {
            violations.push(Violation::deny(
                "value",
                key,
                value,
                "has units that are not a whole number from 0",
                remedy,
            ));
        }
    }
    violations
}

fn labels(key: &str, map: &BTreeMap<String, String>) -> Vec<Violation> {
    let remedy = "write label=value pairs as they stand on nodes";
    map.iter()
        .filter(|(name, value)| !forms::is_qualified_name(name) || !forms::is_label_value(value))
        .map(|(name, value)| Violation::deny("value", key, &format!("{name}={value}"), "is not a label", remedy))
        .collect()
}
