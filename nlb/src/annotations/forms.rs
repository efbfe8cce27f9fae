//! The forms of identifiers: AWS names, ids and ARNs, label keys and values, HTTP status codes.

use std::net::{IpAddr, Ipv6Addr};

/// Whether `text` is `<prefix>` and 8 or 17 hexadecimal digits, as the ids of EC2 are.
pub fn is_ec2_id(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|id| {
        (id.len() == 8 || id.len() == 17)
            && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// Whether `text` has the form of a VPC id: `vpc-` and 8, 17 or 32 hexadecimal digits, as the peer has it.
pub fn is_vpc_id(text: &str) -> bool {
    text.strip_prefix("vpc-").is_some_and(|id| {
        [8, 17, 32].contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// What is wrong with the name of a load balancer or a target group, as AWS wants them.
pub fn aws_name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > 32 {
        Some("is longer than 32 characters")
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        Some("has characters other than letters, digits and hyphens")
    } else if name.starts_with('-') || name.ends_with('-') {
        Some("begins or ends with a hyphen")
    } else {
        None
    }
}

/// An ARN taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    /// For example `aws` or `aws-cn`.
    pub partition: &'a str,
    /// For example `acm`.
    pub service: &'a str,
    /// For example `eu-central-1`; empty for global services.
    pub region: &'a str,
    /// Twelve digits.
    pub account: &'a str,
    /// What follows the account.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Takes an ARN apart; nothing if it is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (head, partition, service, region, account, resource) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let word =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let fine = head == "arn"
            && partition.starts_with("aws")
            && word(partition)
            && !service.is_empty()
            && word(service)
            && word(region)
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && !resource.is_empty()
            && !resource.contains(char::is_whitespace);
        fine.then_some(Self { partition, service, region, account, resource })
    }

    /// Whether it names a certificate, in ACM or in IAM.
    pub fn is_certificate(&self) -> bool {
        (self.service == "acm" && !self.region.is_empty() && self.resource.starts_with("certificate/"))
            || (self.service == "iam" && self.resource.starts_with("server-certificate/"))
    }

    /// Whether it names a target group.
    pub fn is_target_group(&self) -> bool {
        self.service == "elasticloadbalancing"
            && !self.region.is_empty()
            && self.resource.strip_prefix("targetgroup/").is_some_and(|rest| rest.contains('/'))
    }

    /// Whether it names a role.
    pub fn is_role(&self) -> bool {
        self.service == "iam" && self.region.is_empty() && self.resource.starts_with("role/")
    }
}

/// Whether `text` is an IPv6 network of 80 bits.
pub fn is_ipv6_80(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| address.parse::<Ipv6Addr>().is_ok() && length == "80")
}

/// An address range: its address, its length, and whether bits beyond the length are set.
pub fn cidr(text: &str) -> Option<(IpAddr, bool)> {
    let net: ipnet::IpNet = text.parse().ok()?;
    Some((net.addr(), net.trunc() != net))
}

/// Whether `text` is codes such as `200`, `200,204` or `200-299`, within `200` to `599`.
pub fn are_status_codes(text: &str) -> bool {
    let code = |text: &str| {
        let number: u16 = (text.len() == 3).then(|| text.parse().ok()).flatten()?;
        (200..=599).contains(&number).then_some(number)
    };
    let one = |text: &str| match text.split_once('-') {
        Some((from, to)) => code(from).zip(code(to)).is_some_and(|(from, to)| from <= to),
        None => code(text).is_some(),
    };
    text.split(',').all(one)
}

/// Whether `text` is a label value, or the name part of a label key if it is not empty.
pub fn is_label_value(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= 63
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Whether `text` is a DNS subdomain: labels of lower-case letters, digits and hyphens.
pub fn is_dns_subdomain(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label =
        |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner);
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether `text` is a label key, or the type of a condition: a name, with or without a DNS subdomain before it.
pub fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_dns_subdomain)
}

/// Whether AWS takes `text` in the key or value of a tag.
pub fn is_tag_text(text: &str) -> bool {
    text.chars().all(|character| {
        character.is_alphanumeric()
            || (character.is_whitespace() && !character.is_control())
            || matches!(character, '+' | '-' | '=' | '.' | '_' | ':' | '/' | '@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_prefix_and_8_or_17_hexadecimal_digits() {
        for (text, fine) in [
            ("subnet-0123abcd", true),
            ("subnet-0123456789abcdef0", true),
            ("subnet-0123abc", false),
            ("subnet-0123ABCD", false),
            ("subnet-0123abcg", false),
            ("sg-0123abcd", false),
        ] {
            assert_eq!(is_ec2_id("subnet-", text), fine, "{text}");
        }
        assert!(is_vpc_id("vpc-0123456789abcdef0123456789abcdef"));
        assert!(!is_vpc_id("vpc-1"));
    }

    #[test]
    fn arns_are_taken_apart_and_told_apart() {
        let certificate = Arn::parse("arn:aws:acm:eu-west-1:123456789012:certificate/1234").unwrap();
        assert_eq!((certificate.region, certificate.account), ("eu-west-1", "123456789012"));
        assert!(certificate.is_certificate() && !certificate.is_target_group() && !certificate.is_role());
        assert!(Arn::parse("arn:aws-cn:iam::123456789012:server-certificate/a/b").unwrap().is_certificate());
        let group = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/name/0123456789abcdef";
        assert!(Arn::parse(group).unwrap().is_target_group());
        assert!(Arn::parse("arn:aws:iam::123456789012:role/x").unwrap().is_role());
        for text in [
            "",
            "arn",
            "arn:aws:acm:eu-west-1:12345:certificate/1",
            "arn:gcp:acm:e:123456789012:certificate/1",
            "arn:aws:acm:e:123456789012:",
        ] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
    }

    #[test]
    fn status_codes_are_numbers_lists_and_ranges() {
        for text in ["200", "200,204", "200-399", "200-299,301"] {
            assert!(are_status_codes(text), "{text}");
        }
        for text in ["", "199", "600", "2xx", "399-200", "200, 204", "200-", "+20"] {
            assert!(!are_status_codes(text), "{text}");
        }
    }

    #[test]
    fn qualified_names_have_at_most_63_characters_after_the_slash() {
        assert!(is_qualified_name("target-health.elbv2.k8s.aws/k8s-a-b-0123456789"));
        assert!(is_qualified_name(&format!("a.b/{}", "x".repeat(63))));
        for text in ["", "/", "a/", "A/b", "a/-b", "a/b/c", "a b"] {
            assert!(!is_qualified_name(text), "{text}");
        }
        assert!(!is_qualified_name(&format!("a.b/{}", "x".repeat(64))));
    }
}
