//! Every lag, probability, quota and bucket: one table, with the value that each profile gives it.

use std::{fmt, str::FromStr, time::Duration};

/// A named set of values for all settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// No lag, no limits on the rate of calls.
    Instant,
    /// Short lags in the right order, and AWS's rate limits: for scenarios.
    #[default]
    Fast,
    /// What users measured in 2019-2023 (reference values, not promises of AWS).
    Real2023,
}

impl Profile {
    /// All profiles in the order of the table's columns.
    pub const ALL: [Self; 3] = [Self::Instant, Self::Fast, Self::Real2023];

    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Instant => "instant",
            Self::Fast => "fast",
            Self::Real2023 => "real-2023",
        }
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| Error::Profile { value: text.to_owned() })
    }
}

/// Why a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No setting has this name.
    #[error("there is no setting `{key}`; did you mean `{nearest}`?")]
    Unknown {
        /// The name as given.
        key: String,
        /// The name that shares most with it.
        nearest: &'static str,
    },
    /// The value does not fit.
    #[error("setting {key}: `{value}` is not {expected}")]
    Value {
        /// The setting.
        key: &'static str,
        /// The value as given.
        value: String,
        /// What it takes, with an example.
        expected: &'static str,
    },
    /// No profile has this name.
    #[error("there is no profile `{value}`; use instant, fast or real-2023")]
    Profile {
        /// The name as given.
        value: String,
    },
}

/// A token bucket: how many calls at once, and how many more per second of real time. A burst of 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Size of the bucket.
    pub burst: u32,
    /// Tokens added per second.
    pub per_second: f64,
}

/// A chance between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probability(pub f64);

/// A value of a setting: how it is read and written.
trait Scalar: Sized {
    const EXPECTED: &'static str;
    fn read(text: &str) -> Option<Self>;
    fn write(&self) -> String;
}

/// Reads `250ms`, `30s`, `2m`, `1h` or a plain number of seconds, below 2^32 seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(text[..digits].parse::<f64>().ok()? * unit).ok().filter(|d| d.as_secs() < 1 << 32)
}

impl Scalar for Duration {
    const EXPECTED: &'static str = "a duration (2s, 500ms, 2m or a number of seconds)";

    fn read(text: &str) -> Option<Self> {
        duration(text)
    }

    fn write(&self) -> String {
        if self.subsec_nanos() == 0 { format!("{}s", self.as_secs()) } else { format!("{}s", self.as_secs_f64()) }
    }
}

impl Scalar for u32 {
    const EXPECTED: &'static str = "a whole number";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Scalar for Probability {
    const EXPECTED: &'static str = "a probability between 0 and 1";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|p| (0.0..=1.0).contains(p)).map(Self)
    }

    fn write(&self) -> String {
        self.0.to_string()
    }
}

impl Scalar for Rate {
    const EXPECTED: &'static str = "a rate as burst/per-second (40/10), or `unlimited`";

    fn read(text: &str) -> Option<Self> {
        if text == "unlimited" {
            return Some(Self { burst: 0, per_second: 0.0 });
        }
        let (burst, per_second) = text.split_once('/')?;
        let per_second = per_second.parse::<f64>().ok().filter(|r| r.is_finite() && *r >= 0.0)?;
        Some(Self { burst: burst.parse().ok().filter(|b| *b > 0)?, per_second })
    }

    fn write(&self) -> String {
        if self.burst == 0 { "unlimited".to_owned() } else { format!("{}/{}", self.burst, self.per_second) }
    }
}

/// One row of the table, as documentation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The setting's name.
    pub key: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Its value in each of [`Profile::ALL`].
    pub profiles: [&'static str; 3],
}

macro_rules! settings {
    ($($field:ident: $kind:ty, $key:literal, [$instant:literal, $fast:literal, $real:literal], $help:literal;)*) => {
        /// The values of all settings; [`TABLE`] describes them.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            /// Unix time of the model's start, for timestamps in replies.
            pub epoch: Duration,
            /// How much faster model time runs than real time. Rate limits and the life of credentials are in real time,
            /// because the clients that they concern live in it.
            pub time_scale: f64,
            $(#[doc = $help] pub $field: $kind,)*
        }

        /// Every setting: name, meaning, and value in each profile.
        pub const TABLE: &[Row] = &[$(Row { key: $key, help: $help, profiles: [$instant, $fast, $real] },)*];

        impl Settings {
            /// Sets one value by its name in [`TABLE`].
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
                match key {
                    $($key => {
                        self.$field = <$kind as Scalar>::read(value).ok_or_else(|| Error::Value {
                            key: $key, value: value.to_owned(), expected: <$kind as Scalar>::EXPECTED,
                        })?;
                    })*
                    _ => return Err(Error::Unknown { key: key.to_owned(), nearest: nearest(key) }),
                }
                Ok(())
            }

            /// Names and present values, in the order of [`TABLE`].
            pub fn entries(&self) -> Vec<(&'static str, String)> {
                vec![$(($key, Scalar::write(&self.$field)),)*]
            }

            /// All values of a profile, starting now, in real time.
            pub fn profile(profile: Profile) -> Self {
                let column = profile as usize;
                Self {
                    epoch: Duration::ZERO,
                    time_scale: 1.0,
                    $($field: constant(&[$instant, $fast, $real], column),)*
                }
            }
        }
    };
}

settings! {
    load_balancer_active: Duration, "lag.load-balancer-active", ["0s", "1s", "120s"],
        "from CreateLoadBalancer to `active`; none of its addresses accepts before";
    registration: Duration, "lag.registration", ["0s", "2s", "120s"],
        "from RegisterTargets (or the group's first listener) to the first health check: initial, Elb.RegistrationInProgress";
    deregistration: Duration, "lag.deregistration", ["0s", "4s", "120s"],
        "from DeregisterTargets until the target gets no new flows, whatever the deregistration delay";
    unhealthy: Duration, "lag.unhealthy", ["0s", "1s", "35s"],
        "from `unhealthy` until the target gets no new flows";
    listener_change: Duration, "lag.listener-change", ["0s", "1s", "75s"],
        "from ModifyListener until the groups named before get no new flows";
    dns_ttl: Duration, "dns.ttl", ["60s", "60s", "60s"],
        "time to live of a load balancer's DNS answers";
    check_jitter: Probability, "health.jitter", ["0", "0.1", "0.1"],
        "share of the interval by which each health check comes early or late";
    traffic_to_initial: bool, "health.traffic-to-initial", ["false", "false", "false"],
        "a target whose first checks are under way gets new flows, as users have reported";
    empty_group_silent: bool, "flow.empty-group-silent", ["false", "false", "false"],
        "a connection that finds no target hangs instead of being reset";
    enforce_security_groups: bool, "flow.enforce-security-groups", ["false", "false", "false"],
        "a client whom no inbound rule of the load balancer's security groups admits is met with silence";
    consistency_create: Duration, "consistency.create", ["0s", "0s", "2s"],
        "longest time after Create* in which other calls may answer NotFound";
    consistency_create_slow: Duration, "consistency.create-slow", ["0s", "0s", "20s"],
        "the same for the unlucky share `consistency.slow-share`";
    consistency_slow_share: Probability, "consistency.slow-share", ["0", "0", "0.02"],
        "share of created resources with the long delay";
    consistency_miss: Probability, "consistency.miss", ["0.5", "0.5", "0.5"],
        "how likely a call misses a resource (or a new target) that is not yet visible everywhere";
    consistency_register: Duration, "consistency.register", ["0s", "0s", "2s"],
        "longest time after RegisterTargets in which DescribeTargetHealth may not know the target";
    consistency_release: Duration, "consistency.release", ["0s", "0s", "20s"],
        "longest time after DeleteListener or DeleteLoadBalancer in which DeleteTargetGroup answers ResourceInUse";
    network_interface_release: Duration, "lag.network-interface-release", ["0s", "1s", "40s"],
        "from DeleteLoadBalancer until its network interfaces are gone and its security groups can be deleted";
    describe: Rate, "bucket.describe", ["unlimited", "40/10", "40/10"],
        "ELBv2 Describe* (the documentation has said 40/10, later 200/50)";
    targets: Rate, "bucket.targets", ["unlimited", "20/4", "20/4"],
        "RegisterTargets and DeregisterTargets together";
    modify: Rate, "bucket.modify", ["unlimited", "20/3", "20/3"],
        "ELBv2 Modify*";
    other: Rate, "bucket.other", ["unlimited", "20/3", "20/3"],
        "ELBv2 Create*, Delete*, Set*, AddTags, RemoveTags (not published; assumed)";
    ec2: Rate, "bucket.ec2", ["unlimited", "100/20", "100/20"],
        "all EC2 calls together";
    sts: Rate, "bucket.sts", ["unlimited", "100/20", "100/20"],
        "all STS calls together";
    throttling_exception: bool, "bucket.throttling-exception", ["false", "false", "false"],
        "throttled ELBv2 calls answer ThrottlingException instead of Throttling; both have been seen";
    lose_replies: Probability, "fault.lose-replies", ["0", "0", "0"],
        "chance that a call takes effect and its connection closes without an answer";
    fail_after: Probability, "fault.fail-after", ["0", "0", "0"],
        "chance that a call takes effect and answers 500 or 503";
    fail_before: Probability, "fault.fail-before", ["0", "0", "0"],
        "chance that a call answers 500 or 503 without effect";
    health_unavailable: Probability, "fault.health-unavailable", ["0", "0", "0"],
        "chance that DescribeTargetHealth answers HealthUnavailable (500)";
    latency: Duration, "latency.max", ["0s", "0s", "0s"],
        "each reply is delayed by a random time up to this";
    latency_slow: Duration, "latency.slow", ["0s", "0s", "0s"],
        "the delay of the slow share `latency.slow-share`";
    latency_slow_share: Probability, "latency.slow-share", ["0", "0", "0"],
        "share of replies that are slow";
    quota_load_balancers: u32, "quota.network-load-balancers", ["50", "50", "50"], "load balancers per region";
    quota_listeners: u32, "quota.listeners-per-network-load-balancer", ["50", "50", "50"], "listeners per load balancer";
    quota_targets_zone: u32, "quota.targets-per-availability-zone-per-network-load-balancer", ["500", "500", "500"],
        "targets per zone of a load balancer; one target in two groups counts twice";
    quota_targets: u32, "quota.targets-per-network-load-balancer", ["3000", "3000", "3000"],
        "targets per load balancer (with cross-zone balancing on, the limit per zone holds for all of them)";
    quota_targets_group: u32, "quota.targets-per-target-group", ["1000", "1000", "1000"], "targets per target group";
    quota_groups: u32, "quota.target-groups", ["3000", "3000", "3000"], "target groups per region";
    quota_groups_action: u32, "quota.target-groups-per-action-on-network-load-balancer", ["5", "5", "5"],
        "target groups in one forward action";
    quota_interfaces: u32, "quota.network-load-balancer-enis-per-vpc", ["1200", "1200", "1200"],
        "network interfaces of load balancers per VPC, one per zone";
    quota_certificates: u32, "quota.certificates-per-network-load-balancer", ["25", "25", "25"],
        "certificates per load balancer";
    quota_tags: u32, "quota.tags-per-resource", ["50", "50", "50"], "tags per resource";
    quota_batch: u32, "quota.targets-per-call", ["1000", "1000", "1000"],
        "targets in one RegisterTargets or DeregisterTargets (AWS publishes none)";
    quota_rules: u32, "quota.rules-per-security-group", ["60", "60", "60"],
        "inbound rules per security group, of IPv4 and of IPv6 each; a group or prefix list counts as one in both";
    quota_security_groups: u32, "quota.security-groups-per-vpc", ["2500", "2500", "2500"], "security groups per VPC";
    create_compares_tags: bool, "idempotency.compare-tags", ["false", "false", "false"],
        "a repeated Create* with other tags answers Duplicate* instead of the existing resource";
    register_atomic: bool, "register.atomic", ["true", "true", "true"],
        "RegisterTargets with one invalid target registers none (false: those before it)";
}

/// The value of a profile: the table's text is right, or a test says so.
fn constant<T: Scalar>(columns: &[&'static str; 3], column: usize) -> T {
    columns.get(column).and_then(|text| T::read(text)).unwrap_or_else(|| unreachable!("the table holds valid values"))
}

impl Default for Settings {
    fn default() -> Self {
        Self::profile(Profile::default())
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn nearest(key: &str) -> &'static str {
    let common = |candidate: &str| {
        let prefix = candidate.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
        let suffix = candidate.bytes().rev().zip(key.bytes().rev()).take_while(|(a, b)| a == b).count();
        prefix + suffix
    };
    TABLE.iter().map(|row| row.key).max_by_key(|candidate| common(candidate)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bad_ones_are_none() {
        for (text, millis) in [("250ms", 250), ("30s", 30_000), ("2m", 120_000), ("1.5", 1500), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "one", "1e300h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn every_value_of_the_table_is_valid_and_is_what_its_profile_holds() {
        for (column, profile) in Profile::ALL.into_iter().enumerate() {
            let mut settings = Settings::profile(profile);
            for (row, (key, value)) in TABLE.iter().zip(settings.clone().entries()) {
                assert_eq!(row.key, key);
                settings.set(key, row.profiles[column]).expect("a valid value");
                assert_eq!(settings.entries().iter().find(|(k, _)| *k == key), Some(&(key, value)));
            }
        }
    }

    #[test]
    fn mistakes_name_the_setting_the_value_and_a_remedy() {
        let mut settings = Settings::default();
        let cases = [
            ("lag.registraton", "1s", "did you mean `lag.registration`"),
            ("lag.registration", "1 fortnight", "a duration"),
            ("lag.registration", "-1", "a duration"),
            ("fault.lose-replies", "1.5", "between 0 and 1"),
            ("bucket.describe", "40", "burst/per-second"),
            ("quota.tags-per-resource", "many", "a whole number"),
        ];
        for (key, value, says) in cases {
            let error = settings.set(key, value).expect_err(key).to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(settings, Settings::default());
    }
}
