//! Rules about processes: when they may write, and how often they may call.

use std::time::Duration;

use registrar_core::{aws::Bucket, cluster::Kind, effect::Action, settings::Rates};

use super::{books::Books, view::View};
use crate::fact::Fact;

/// Kinds that nothing may be written without.
const NEEDED: [Kind; 5] = [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Namespace];

/// S8: no write before every cache is complete in this process and it leads.
pub(super) fn synced_first(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    let Fact::Wants { replica, effect } = fact else { return None };
    if effect.action.is_read() {
        return None;
    }
    let view = &books.views[*replica];
    let missing: Vec<_> = NEEDED.iter().filter(|kind| !view.listed.contains(kind)).collect();
    if !missing.is_empty() {
        return Some(format!("{:?} before {missing:?} were listed", effect.action));
    }
    view.leading.is_none().then(|| format!("{:?} while it does not lead", effect.action))
}

/// S9: every write carries the present leadership, and reaches AWS only while its sender has the lease.
pub(super) fn one_writer(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    match fact {
        Fact::Wants { replica, effect } if !effect.action.is_read() => {
            let leading = books.views[*replica].leading;
            (effect.fence.is_none() || effect.fence != leading)
                .then(|| format!("{:?} with the fence {:?}, and it leads by {leading:?}", effect.action, effect.fence))
        }
        Fact::Called { replica, call, .. } if !call.is_read() => (books.leased_to != Some(*replica))
            .then(|| format!("registrar {replica} does {}, and {:?} has the lease", call.operation(), books.leased_to)),
        _ => None,
    }
}

/// What a bucket holds now; nothing if it has no limit. With its size and rate.
pub(super) fn refilled(view: &View, bucket: Bucket, now: Duration, clock_rate: f64) -> Option<(f64, f64, f64)> {
    let rate = Rates::default().of(bucket)?;
    let burst = f64::from(rate.burst);
    let (left, since) = view.tokens.get(&bucket).copied().unwrap_or((burst, now));
    let per_second = rate.per_second * clock_rate;
    let refilled = now.saturating_sub(since).as_secs_f64().mul_add(per_second, left).min(burst);
    Some((refilled, burst, per_second))
}

/// S14: calls stay within the budget that is configured. Two more are let pass, for what waits between decision and
/// sending.
pub(super) fn budget(books: &Books, now: Duration, fact: &Fact<'_>) -> Option<String> {
    let Fact::Sent { replica, effect } = fact else { return None };
    let Action::Aws { call, .. } = &effect.action else { return None };
    let rate = f64::from(books.rates[*replica]) / 100.0;
    let (left, burst, per_second) = refilled(&books.views[*replica], call.bucket(), now, rate)?;
    (left < -2.0).then(|| format!("{} exceeds {burst}/{per_second:.1} by {:.1}", call.operation(), -left))
}
