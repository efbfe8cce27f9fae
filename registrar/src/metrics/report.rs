//! How things are, as the core says it from time to time: gauges for each binding and for the budget.
//!
//! They are encoded from one report at a time, so that a binding that is gone is gone from here as well.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};
use registrar_core::{
    Report,
    aws::{Account, Bucket},
};

/// The last report.
#[derive(Debug, Clone, Default)]
pub(super) struct Last(Arc<Mutex<Arc<Report>>>);

impl Last {
    /// Replaces it.
    pub(super) fn put(&self, report: Report) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(report);
    }

    fn get(&self) -> Arc<Report> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type Label<'a> = (&'static str, &'a str);

impl Collector for Last {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let report = self.get();
        // Only the leader knows how targets are.
        let bindings = if report.leading { report.bindings.as_slice() } else { &[] };
        let counted = bindings.iter().flat_map(|binding| {
            let counts = binding.counts;
            [("desired", counts.desired), ("registered", counts.registered), ("healthy", counts.healthy)]
                .map(|(state, count)| (of(&binding.binding, Some(("state", state))), count))
        });
        gauges(&mut encoder, "targets", "Targets that there should be, that AWS has, that are healthy", counted)?;
        let pending = bindings.iter().map(|binding| (of(&binding.binding, None), binding.pending_gates));
        gauges(&mut encoder, "pending_gates", "Gates that are not open", pending)?;
        let ungated = bindings.iter().flat_map(|binding| {
            binding.ungated.iter().map(|(reason, pods)| (of(&binding.binding, Some(("reason", reason))), *pods))
        });
        gauges(&mut encoder, "ungated_pods", "Pods without the gate that they should have", ungated)?;
        let left_out = bindings.iter().flat_map(|binding| {
            binding.left_out.iter().map(|(reason, count)| (of(&binding.binding, Some(("reason", reason))), *count))
        });
        gauges(&mut encoder, "left_out_endpoints", "Endpoints that are no targets", left_out)?;
        let waiting = report.queued.iter().filter_map(|(lane, length)| {
            let (account, bucket) = lane.as_ref()?;
            Some((of_budget(account, *bucket), *length))
        });
        gauges(&mut encoder, "aws_calls_waiting", "Calls to AWS that wait for its request rate", waiting)?;
        let tokens = report.budgets.iter().map(|(account, bucket, left, _)| {
            (of_budget(account, *bucket), usize::try_from(*left).unwrap_or_default())
        });
        gauges(&mut encoder, "aws_tokens", "Calls to AWS that may be made at once", tokens)
    }
}

fn of<'a>(binding: &'a registrar_core::cluster::Key, more: Option<Label<'a>>) -> Vec<Label<'a>> {
    let own = [("namespace", &*binding.namespace), ("name", &*binding.name)];
    own.into_iter().chain(more).collect()
}

fn of_budget(account: &Account, bucket: Bucket) -> Vec<Label<'_>> {
    let account = match account {
        Account::Own => "",
        Account::Role(name) => name,
    };
    let bucket = match bucket {
        Bucket::Describe => "describe",
        Bucket::Targets => "targets",
        Bucket::Modify => "modify",
        Bucket::Other => "other",
        Bucket::Ec2Describe => "ec2_describe",
        Bucket::Ec2Write => "ec2_write",
    };
    vec![("account", account), ("bucket", bucket)]
}

fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Vec<Label<'a>>, usize)>,
) -> Result<(), fmt::Error>
where
    Vec<Label<'a>>: EncodeLabelSet,
{
    let name = format!("sluice_registrar_{name}");
    let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        value.encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
