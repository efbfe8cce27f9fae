//! How a group's targets are checked.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    Value,
    fault::{Code, Result},
    schema::{Field, Fields, Kind, TEXT, optional},
    value::record,
};

/// A group's health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) protocol: String,
    /// A number or `traffic-port`.
    port: String,
    /// Of HTTP and HTTPS checks.
    pub(crate) path: Option<String>,
    interval: u32,
    timeout: u32,
    pub(crate) healthy_threshold: u32,
    pub(crate) unhealthy_threshold: u32,
    matcher: Option<String>,
}

pub(super) const PROTOCOL: Kind =
    Kind::OneOf(&["HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP", "GENEVE", "QUIC", "TCP_QUIC"]);
const MATCHER: Kind = Kind::Record(&[optional("HttpCode", TEXT), optional("GrpcCode", TEXT)]);
/// The fields that `CreateTargetGroup` and `ModifyTargetGroup` share.
pub(super) const FIELDS: [Field; 9] = [
    optional("HealthCheckProtocol", PROTOCOL),
    optional("HealthCheckPort", TEXT),
    optional("HealthCheckPath", Kind::Text { min: 1, max: 1024 }),
    optional("HealthCheckEnabled", Kind::Bool),
    optional("HealthCheckIntervalSeconds", Kind::int(5, 300)),
    optional("HealthCheckTimeoutSeconds", Kind::int(2, 120)),
    optional("HealthyThresholdCount", Kind::int(2, 10)),
    optional("UnhealthyThresholdCount", Kind::int(2, 10)),
    optional("Matcher", MATCHER),
];
const TRAFFIC_PORT: &str = "traffic-port";

fn over_http(protocol: &str) -> bool {
    matches!(protocol, "HTTP" | "HTTPS")
}

impl HealthCheck {
    /// The check of a new group. `for_http` groups are those of application load balancers.
    pub(super) fn create(fields: &Fields, for_http: bool) -> Result<Self> {
        let protocol = fields.text("HealthCheckProtocol").unwrap_or(if for_http { "HTTP" } else { "TCP" });
        let default = match (for_http, protocol) {
            (true, _) => 5,
            (false, "HTTP") => 6,
            (false, _) => 10,
        };
        // The default timeout gives way to a shorter interval; one that was asked for is refused.
        let timeout = fields.number("HealthCheckIntervalSeconds").map_or(default, |interval| default.min(interval));
        let check = Self {
            protocol: protocol.to_owned(),
            port: TRAFFIC_PORT.to_owned(),
            path: None,
            interval: 30,
            timeout,
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: None,
        };
        let mut check = check.with(fields)?;
        if for_http && !fields.has("Matcher") {
            check.matcher = Some("200".to_owned());
        }
        Ok(check)
    }

    /// This check with the fields of a call put over it.
    pub(super) fn with(&self, fields: &Fields) -> Result<Self> {
        let mut check = self.clone();
        if let Some(protocol) = fields.text("HealthCheckProtocol") {
            if !matches!(protocol, "TCP" | "HTTP" | "HTTPS") {
                return Code::ValidationError
                    .refuse(format!("Health check protocol '{protocol}' is not supported; use TCP, HTTP or HTTPS"));
            }
            protocol.clone_into(&mut check.protocol);
        }
        if fields.flag("HealthCheckEnabled") == Some(false) {
            return Code::InvalidConfigurationRequest
                .refuse("Health checks must be enabled for target groups with target type 'instance', 'ip' or 'alb'");
        }
        if let Some(port) = fields.text("HealthCheckPort") {
            if port != TRAFFIC_PORT && !port.parse::<u16>().is_ok_and(|p| p > 0) {
                return Code::ValidationError.refuse(format!(
                    "Health check port '{port}' must be '{TRAFFIC_PORT}' or a number between 1 and 65535"
                ));
            }
            port.clone_into(&mut check.port);
        }
        for (name, value) in [
            ("HealthCheckIntervalSeconds", &mut check.interval),
            ("HealthCheckTimeoutSeconds", &mut check.timeout),
            ("HealthyThresholdCount", &mut check.healthy_threshold),
            ("UnhealthyThresholdCount", &mut check.unhealthy_threshold),
        ] {
            if let Some(number) = fields.number(name) {
                *value = number;
            }
        }
        if check.timeout > check.interval {
            return Code::ValidationError.refuse(format!(
                "Health check timeout '{}' must be smaller than or equal to the interval '{}'",
                check.timeout, check.interval
            ));
        }
        check.read_http(fields)?;
        Ok(check)
    }

    fn read_http(&mut self, fields: &Fields) -> Result<()> {
        let matcher = fields.record("Matcher").and_then(|m| m.text("HttpCode"));
        if !over_http(&self.protocol) {
            if fields.has("HealthCheckPath") || matcher.is_some() {
                return Code::InvalidConfigurationRequest.refuse(format!(
                    "You cannot specify a health check path or matcher with the health check protocol '{}'",
                    self.protocol
                ));
            }
            (self.path, self.matcher) = (None, None);
            return Ok(());
        }
        if let Some(path) = fields.text("HealthCheckPath") {
            if !path.starts_with('/') {
                return Code::ValidationError
                    .refuse(format!("Health check path '{path}' must begin with a '/' character"));
            }
            self.path = Some(path.to_owned());
        }
        if let Some(matcher) = matcher {
            if ranges(matcher).is_none() {
                return Code::ValidationError
                    .refuse(format!("Health check matcher HTTP code '{matcher}' must be within '200-599' inclusive"));
            }
            self.matcher = Some(matcher.to_owned());
        }
        self.path.get_or_insert_with(|| "/".to_owned());
        self.matcher.get_or_insert_with(|| "200-399".to_owned());
        Ok(())
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(self.interval.into())
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }

    /// The port that is checked of a target that listens on `traffic`.
    pub(crate) fn port_for(&self, traffic: u16) -> u16 {
        self.port.parse().unwrap_or(traffic)
    }

    pub(crate) fn matches(&self, status: u16) -> bool {
        let matcher = self.matcher.as_deref().and_then(ranges).unwrap_or_default();
        matcher.iter().any(|range| range.contains(&status))
    }

    /// The part of a group's description that is about its check.
    pub(super) fn show(&self) -> Vec<(&'static str, Value)> {
        let mut fields: Vec<(&'static str, Value)> = vec![
            ("HealthCheckProtocol", self.protocol.as_str().into()),
            ("HealthCheckPort", self.port.as_str().into()),
            ("HealthCheckEnabled", true.into()),
            ("HealthCheckIntervalSeconds", self.interval.into()),
            ("HealthCheckTimeoutSeconds", self.timeout.into()),
            ("HealthyThresholdCount", self.healthy_threshold.into()),
            ("UnhealthyThresholdCount", self.unhealthy_threshold.into()),
        ];
        fields.extend(self.path.as_deref().map(|path| ("HealthCheckPath", path.into())));
        fields.extend(self.matcher.as_deref().map(|codes| ("Matcher", record! { "HttpCode": codes })));
        fields
    }
}

/// `200`, `200-399`, `200,302`, all within 200-599.
fn ranges(matcher: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (200 <= from && from <= to && to <= 599).then_some(from..=to)
    };
    matcher.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_codes_ranges_and_lists_within_200_to_599() {
        for good in ["200", "200-399", "200,302", "200-204, 500-599"] {
            assert!(ranges(good).is_some(), "{good}");
        }
        for bad in ["", "199", "600", "399-200", "200-", "abc", "200,,300"] {
            assert!(ranges(bad).is_none(), "{bad}");
        }
    }
}
