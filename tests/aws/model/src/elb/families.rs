//! Address families: which a load balancer serves, and what that asks of its listeners and their groups.

use super::{listener::Listener, lookup::Noun};
use crate::{
    Model,
    fault::{Code, Result},
    schema::Input,
    store::BalancerKey,
};

/// What a load balancer serves beside IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Families {
    /// `IpAddressType: dualstack`.
    pub(crate) dualstack: bool,
    /// `EnablePrefixForIpv6SourceNat: on`.
    pub(crate) source_nat: bool,
}

impl Families {
    /// What a call asks for; what it does not say stays as it is.
    pub(super) fn read(self, input: &Input) -> Result<Self> {
        let dualstack = match input.text("IpAddressType") {
            None => self.dualstack,
            Some("dualstack-without-public-ipv4") => {
                return Code::InvalidConfigurationRequest.refuse(
                    "Network Load Balancers do not support the IP address type 'dualstack-without-public-ipv4'",
                );
            }
            Some(kind) => kind == "dualstack",
        };
        let source_nat = input.text("EnablePrefixForIpv6SourceNat").map_or(self.source_nat, |word| word == "on");
        if source_nat && !dualstack {
            return Code::InvalidConfigurationRequest
                .refuse("EnablePrefixForIpv6SourceNat can be 'on' only with the IP address type 'dualstack'");
        }
        Ok(Self { dualstack, source_nat })
    }

    pub(super) const fn ip_address_type(self) -> &'static str {
        if self.dualstack { "dualstack" } else { "ipv4" }
    }

    pub(super) const fn prefix_for_source_nat(self) -> &'static str {
        if self.source_nat { "on" } else { "off" }
    }
}

impl Model {
    /// Whether a load balancer can serve these families, with the listeners that it has.
    pub(super) fn check_families(&self, key: BalancerKey, families: Families) -> Result<()> {
        self.listeners
            .iter()
            .filter(|(_, listener)| listener.balancer == key)
            .try_for_each(|(_, listener)| self.check_family(listener, families))
    }

    /// Whether a listener can be on its load balancer.
    pub(super) fn check_listener_family(&self, listener: &Listener) -> Result<()> {
        let Some(balancer) = self.balancers.get(listener.balancer) else { return Err(Noun::Balancer.missing()) };
        self.check_family(listener, balancer.families)
    }

    fn check_family(&self, listener: &Listener, families: Families) -> Result<()> {
        let has_udp = matches!(listener.protocol.as_str(), "UDP" | "TCP_UDP" | "QUIC" | "TCP_QUIC");
        if has_udp && families.dualstack && !families.source_nat {
            return Code::InvalidConfigurationRequest.refuse(format!(
                "A {} listener on a load balancer with the IP address type 'dualstack' needs \
                 EnablePrefixForIpv6SourceNat 'on'",
                listener.protocol
            ));
        }
        let groups = listener.forward.groups.iter().filter_map(|(key, _)| self.groups.get(*key));
        match groups.into_iter().find(|group| group.ip_address_type == "ipv6").filter(|_| !families.dualstack) {
            Some(group) => Code::InvalidConfigurationRequest.refuse(format!(
                "The target group '{}' with the IP address type 'ipv6' cannot be used by a load balancer with the IP \
                 address type 'ipv4'",
                group.arn
            )),
            None => Ok(()),
        }
    }
}
