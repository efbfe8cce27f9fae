//! The lease, by client-go's algorithm: changes of it are timed on one's own clock, and no wall clock is compared.

use std::time::Duration;

use registrar_core::Event;

use crate::{
    fact::{Fact, Number},
    replica::Leadership,
    world::{Happening, World},
};

/// For how long others stay away after a change of the lease that they have seen.
pub(crate) const LEASE: Duration = Duration::from_secs(20);
/// For how long a renewal carries its holder.
pub(crate) const RENEW_DEADLINE: Duration = Duration::from_secs(8);
/// How often it is looked at.
const RETRY: Duration = Duration::from_secs(2);

impl World {
    /// A registrar looks at the lease: renews its own, waits for another's, takes one that is not renewed.
    pub(crate) fn lease(&mut self, number: Number) {
        let now = self.now;
        let retry = self.replicas[number].clock.stretch(RETRY) + self.choices.millis(0, 200);
        let incarnation = self.replicas[number].incarnation;
        self.after(retry, Happening::Lease(number, incarnation));
        let local = self.replicas[number].clock.local(now);
        self.expire_leadership(number);
        if self.weather.api_down > now || self.replicas[number].stopping {
            return;
        }
        let lease = self.etcd.lease;
        let replica = &mut self.replicas[number];
        if replica.observed.0 != lease.version {
            replica.observed = (lease.version, local);
        }
        let mine = lease.holder == Some(number) && replica.leading.is_some();
        let over = lease.holder.is_none() || local.saturating_sub(replica.observed.1) >= LEASE;
        if !mine && !over {
            return;
        }
        self.etcd.lease.holder = Some(number);
        self.etcd.lease.version += 1;
        let version = self.etcd.lease.version;
        let replica = &mut self.replicas[number];
        replica.observed = (version, local);
        let until = local + RENEW_DEADLINE;
        let begins = replica.leading.is_none();
        if begins {
            replica.fences += 1;
        }
        let fence = replica.fences;
        replica.leading = Some(Leadership { fence, until });
        if begins {
            self.tell(&Fact::LeasedTo(Some(number)));
        }
        self.step(number, Event::Leading { fence, until });
        let over_at = self.replicas[number].clock.world(until);
        self.at(over_at, Happening::LeadershipEnds(number, incarnation));
    }

    /// A leadership that was not renewed is over.
    pub(crate) fn expire_leadership(&mut self, number: Number) {
        let now = self.now;
        let replica = &mut self.replicas[number];
        let local = replica.clock.local(now);
        if replica.leading.is_some_and(|leading| leading.until <= local) {
            replica.leading = None;
            self.step(number, Event::Following);
        }
    }

    /// A registrar is told to end: it begins nothing, gives the lease back, and goes.
    pub(crate) fn terminate(&mut self, number: Number) {
        if self.replicas[number].state.is_none() || self.replicas[number].stopping {
            return;
        }
        self.replicas[number].stopping = true;
        self.step(number, Event::Stopping);
        let incarnation = self.replicas[number].incarnation;
        self.after(Duration::from_millis(5500), Happening::Release(number, incarnation));
    }

    /// What was sent has ended or been given up: the lease is given back.
    pub(crate) fn release(&mut self, number: Number) {
        self.replicas[number].leading = None;
        if self.etcd.lease.holder == Some(number) {
            self.etcd.lease.holder = None;
            self.etcd.lease.version += 1;
            self.tell(&Fact::LeasedTo(None));
        }
        self.kill(number);
        let after = self.choices.millis(200, 3000);
        self.after(after, Happening::Boot(number));
    }
}
