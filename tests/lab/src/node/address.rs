//! Which addresses a new pod gets: per subnet, with a cool-down for addresses that were just freed. Only IPv4 addresses
//! are given out; the IPv6 address follows from each.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::Ipv4Net;
use world::World;

use crate::cli::IpReuse;

/// The addresses of a pod or a node, one of each family that its subnet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The first one, which is meant wherever there is room for one only.
    pub v4: Ipv4Addr,
    /// The second one.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Those of who has this IPv4 address in the world.
    pub fn in_world(world: &World, v4: Ipv4Addr) -> Self {
        Self { v4, v6: world.ipv6_of(v4) }
    }

    /// All of them, IPv4 first.
    pub fn all(self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(self.v4)].into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// No address is left.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("subnet {subnet} has no free address: {used} are in use and {cooling} wait before they may be used again")]
pub struct Exhausted {
    subnet: Ipv4Net,
    used: usize,
    cooling: usize,
}

/// The addresses of one subnet that pods may have.
///
/// Pods get the lower half of the subnet. As in AWS its first four addresses are reserved, and the upper half is left
/// to load balancers.
#[derive(Debug)]
pub struct Pool {
    subnet: Ipv4Net,
    reuse: IpReuse,
    used: BTreeSet<Ipv4Addr>,
    /// Freed addresses with the time of their release, the oldest first.
    freed: VecDeque<(Duration, Ipv4Addr)>,
}

impl Pool {
    /// A pool without the addresses in `taken`, which belong to nodes.
    pub fn new(subnet: Ipv4Net, reuse: IpReuse, taken: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        Self { subnet, reuse, used: taken.into_iter().collect(), freed: VecDeque::new() }
    }

    /// An address for a new pod. `now` is any monotonic time.
    pub fn take(&mut self, now: Duration) -> Result<Ipv4Addr, Exhausted> {
        let recycled = match self.reuse {
            IpReuse::Immediate => self.freed.pop_back(),
            IpReuse::After(_) => None,
        };
        let address = recycled
            .map(|(_, address)| address)
            .or_else(|| self.fresh())
            .or_else(|| self.cooled(now))
            .ok_or(Exhausted { subnet: self.subnet, used: self.used.len(), cooling: self.freed.len() })?;
        self.used.insert(address);
        Ok(address)
    }

    /// Gives an address back. One that was not taken is ignored.
    pub fn release(&mut self, address: Ipv4Addr, now: Duration) {
        if self.used.remove(&address) {
            self.freed.push_back((now, address));
        }
    }

    /// The lowest address that nobody has had.
    fn fresh(&self) -> Option<Ipv4Addr> {
        let cooling: BTreeSet<_> = self.freed.iter().map(|(_, address)| *address).collect();
        let size = 1_u32.checked_shl(32 - u32::from(self.subnet.prefix_len())).unwrap_or(u32::MAX);
        let first = u32::from(self.subnet.network());
        (first + 4..first + size / 2)
            .map(Ipv4Addr::from)
            .find(|address| !self.used.contains(address) && !cooling.contains(address))
    }

    /// The address that was freed first, once its cool-down is over.
    fn cooled(&mut self, now: Duration) -> Option<Ipv4Addr> {
        let IpReuse::After(cool_down) = self.reuse else { return None };
        let (freed, _) = *self.freed.front()?;
        (now.saturating_sub(freed) >= cool_down).then(|| self.freed.pop_front().map(|(_, address)| address))?
    }
}

/// One pool per subnet.
pub type Pools = BTreeMap<String, Pool>;

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 11, 5);

    fn pool(reuse: IpReuse) -> Pool {
        Pool::new("192.168.11.0/28".parse().expect("a subnet"), reuse, [NODE])
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pods_get_the_lower_half_without_reserved_and_node_addresses() {
        let mut pool = pool(IpReuse::Immediate);
        let taken: Vec<_> = std::iter::from_fn(|| pool.take(at(0)).ok()).map(|a| a.octets()[3]).collect();
        assert_eq!(taken, [4, 6, 7]);
        let error = pool.take(at(0)).expect_err("exhausted").to_string();
        assert!(error.contains("192.168.11.0/28") && error.contains("4 are in use"), "{error}");
    }

    #[test]
    fn immediate_reuse_gives_the_address_freed_last() {
        let mut pool = pool(IpReuse::Immediate);
        let (a, b) = (pool.take(at(0)).expect("a"), pool.take(at(0)).expect("b"));
        pool.release(a, at(1));
        pool.release(b, at(1));
        assert_eq!(pool.take(at(1)), Ok(b));
    }

    #[test]
    fn address_that_cools_down_is_given_only_afterwards_and_only_if_none_is_fresh() {
        let mut pool = pool(IpReuse::After(at(30)));
        let all: Vec<_> = (0..3).map(|_| pool.take(at(0)).expect("free")).collect();
        pool.release(all[1], at(10));
        pool.release(all[0], at(11));
        pool.take(at(39)).expect_err("both are cooling");
        assert_eq!(pool.take(at(40)), Ok(all[1]));
        pool.take(at(40)).expect_err("the second is cooling still");
    }

    #[test]
    fn releasing_twice_frees_once() {
        let mut pool = pool(IpReuse::Immediate);
        let a = pool.take(at(0)).expect("a");
        pool.release(a, at(1));
        pool.release(a, at(2));
        assert_eq!(pool.take(at(3)), Ok(a));
        assert_ne!(pool.take(at(3)), Ok(a));
    }
}
