use registrar_core::{
    aws::{Account, Arn, Bucket, Call, Reply},
    cluster::Kind,
    effect::Action,
    settings::Rates,
};

use super::{ADDRESS, GROUP, History, history::targets};
use crate::fact::Fact;

fn register() -> Call {
    Call::RegisterTargets { group: Arn::new(GROUP), targets: targets(&[ADDRESS]) }
}

fn prepared(kinds: &[Kind]) -> History {
    let mut history = History::unsynced();
    history.list(kinds);
    history.lead();
    history.binding(|_| {});
    history.pod("web-1", "u1", ADDRESS, |_| {});
    history
}

#[test]
fn nothing_is_written_before_everything_is_listed() {
    let most = [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Node];
    let mut history = prepared(&most);
    history.wants(Action::Aws { account: Account::Own, call: register() });
    assert_eq!(history.broken().into_iter().collect::<Vec<_>>(), ["S8 synced first"]);

    let mut history = prepared(&crate::cluster::etcd::KINDS);
    history.wants(Action::Aws { account: Account::Own, call: register() });
    assert!(history.broken().is_empty());
}

#[test]
fn writes_carry_the_present_leadership() {
    for fence in [None, Some(0), Some(2)] {
        let mut history = prepared(&crate::cluster::etcd::KINDS);
        history.wants_as(Action::Aws { account: Account::Own, call: register() }, fence);
        assert_eq!(history.broken().into_iter().collect::<Vec<_>>(), ["S9 one writer"], "{fence:?}");
    }
}

#[test]
fn a_write_that_arrives_after_the_lease_has_gone_is_one_too_many() {
    let mut history = prepared(&crate::cluster::etcd::KINDS);
    let effect = history.wants(Action::Aws { account: Account::Own, call: register() });
    history.tell(&Fact::Sent { replica: 0, effect: &effect });
    history.tell(&Fact::LeasedTo(Some(1)));
    history.tell(&Fact::Called { replica: 0, effect: &effect, call: &register(), outcome: &Ok(Reply::Done) });
    assert_eq!(history.broken().into_iter().collect::<Vec<_>>(), ["S9 one writer"]);
}

#[test]
fn calls_beyond_the_budget_are_seen() {
    let burst = Rates::default().of(Bucket::Describe).map_or(0, |rate| rate.burst);
    for (calls, expected) in [(burst, &[][..]), (burst + 20, &["S14 budget"])] {
        let mut history = prepared(&crate::cluster::etcd::KINDS);
        let call = Call::DescribeTargetHealth { group: Arn::new(GROUP) };
        let effect = history.wants(Action::Aws { account: Account::Own, call });
        for _ in 0..calls {
            history.tell(&Fact::Sent { replica: 0, effect: &effect });
        }
        assert_eq!(history.broken().into_iter().collect::<Vec<_>>(), expected);
    }
}
