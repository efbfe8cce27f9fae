//! Rate limits: token buckets per account and region, shared by all callers.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Model, Service,
    fault::{Code, Result},
    settings::{Rate, Settings},
};

/// Which limit a call counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bucket {
    /// ELBv2 `Describe*`.
    Describe,
    /// `RegisterTargets` and `DeregisterTargets`.
    Targets,
    /// ELBv2 `Modify*`.
    Modify,
    /// The rest of ELBv2.
    Other,
    /// All of EC2.
    Ec2,
    /// All of STS.
    Sts,
}

impl Bucket {
    const fn rate(self, settings: &Settings) -> Rate {
        match self {
            Self::Describe => settings.describe,
            Self::Targets => settings.targets,
            Self::Modify => settings.modify,
            Self::Other => settings.other,
            Self::Ec2 => settings.ec2,
            Self::Sts => settings.sts,
        }
    }
}

/// What is left in the buckets, and since when (real time).
#[derive(Debug, Clone, Default)]
pub(crate) struct Buckets(BTreeMap<Bucket, (f64, Duration)>);

impl Buckets {
    fn take(&mut self, bucket: Bucket, rate: Rate, now: Duration) -> bool {
        if rate.burst == 0 {
            return true;
        }
        let burst = f64::from(rate.burst);
        let (left, since) = self.0.entry(bucket).or_insert((burst, now));
        let refilled = now.saturating_sub(*since).as_secs_f64().mul_add(rate.per_second, *left);
        *left = refilled.min(burst);
        *since = now;
        let enough = *left >= 1.0;
        if enough {
            *left -= 1.0;
        }
        enough
    }
}

impl Model {
    /// Real time since the start: what rate limits and credentials are measured in.
    pub(crate) fn real(&self) -> Duration {
        self.now.div_f64(self.settings.time_scale)
    }

    pub(crate) fn take_token(&mut self, bucket: Bucket, service: Service) -> Result<()> {
        let now = self.real();
        if self.buckets.take(bucket, bucket.rate(&self.settings), now) {
            return Ok(());
        }
        match service {
            Service::Ec2 => Code::RequestLimitExceeded.refuse("Request limit exceeded."),
            Service::Elb if self.settings.throttling_exception => Code::ThrottlingException.refuse("Rate exceeded"),
            Service::Elb | Service::Sts => Code::Throttling.refuse("Rate exceeded"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_gives_its_burst_then_refills_at_its_rate_and_never_beyond() {
        let mut buckets = Buckets::default();
        let rate = Rate { burst: 20, per_second: 4.0 };
        let mut taken = |at: u64, tries: u32| {
            (0..tries).filter(|_| buckets.take(Bucket::Targets, rate, Duration::from_secs(at))).count()
        };
        assert_eq!(taken(0, 30), 20);
        assert_eq!(taken(1, 30), 4);
        assert_eq!(taken(1000, 30), 20);
    }
}
