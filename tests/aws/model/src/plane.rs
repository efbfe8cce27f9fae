//! What the model asks of the data plane, and what it tells it about connections.
//!
//! The data plane owns sockets and nothing else: which target a connection goes to, when a listener opens, when a flow is
//! reset and when a target is probed are decided by the model.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Names one health check from its [`Command::Probe`] to its [`crate::Model::probed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// Names one connection from [`Answer::Forward`] to its [`crate::Model::closed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

/// Something for the data plane to do. All durations are in model time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Accept TCP connections at a zone address of a load balancer. Connections that arrive are asked about with
    /// [`crate::Model::connect`]. Opening twice what is open already is harmless.
    Listen {
        /// The zone's address and the listener's port.
        at: SocketAddr,
    },
    /// Stop accepting; connections that were accepted live on.
    Unlisten {
        /// An address of an earlier [`Command::Listen`].
        at: SocketAddr,
    },
    /// Run one health check and report it with [`crate::Model::probed`].
    Probe(Probe),
    /// End a connection with RST on both sides, then report it with [`crate::Model::closed`] as [`How::Commanded`].
    /// A flow that has ended meanwhile is no error.
    Reset {
        /// Which connection.
        flow: FlowId,
    },
}

/// One health check of one target by the nodes of one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Identity for the report.
    pub id: ProbeId,
    /// Source address to bind: the load balancer's address in the checking zone.
    pub from: IpAddr,
    /// Where to connect.
    pub to: SocketAddr,
    /// What to do there.
    pub check: Check,
    /// Time for the whole check, connect included.
    pub timeout: Duration,
    /// PROXY protocol v2 header (a LOCAL command) to send before anything else, when the group has it switched on.
    pub proxy_header: Option<Vec<u8>>,
}

/// What a health check does once connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Nothing: an established connection passes.
    Tcp,
    /// `GET path` with `Host: host`, over TLS without verification when `tls` is set.
    Http {
        /// Path, beginning with `/`.
        path: String,
        /// Value of the `Host` header: the node's address and the listener's port, as NLB nodes send it.
        host: String,
        /// Whether the check protocol is HTTPS.
        tls: bool,
    },
}

/// How a health check came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The TCP connection was established (for [`Check::Tcp`]).
    Connected,
    /// An HTTP status line arrived (for [`Check::Http`]); the model compares it with the matcher.
    Status(u16),
    /// The connection was refused or reset.
    Refused,
    /// Nothing, or not all of it, within the timeout.
    TimedOut,
    /// Something else: no route, not HTTP, a failed TLS handshake.
    Failed(String),
}

/// What to do with a client that has connected to a zone address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Reset it: nothing can be chosen.
    Refuse,
    /// Hold it without a byte and without an end of our own until the client gives up, as a network does with a
    /// black hole behind it. Not a flow: nothing is reported.
    Silent,
    /// Connect to the target and relay.
    Forward(Route),
}

/// One flow's way, fixed for its whole life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Identity for [`crate::Model::closed`] and [`Command::Reset`].
    pub flow: FlowId,
    /// The target to dial before any byte is read from the client.
    pub target: SocketAddr,
    /// The source address that the target shall see.
    pub source: Source,
    /// Silence in both directions after which the flow is forgotten; the next data meets RST.
    pub idle_timeout: Duration,
    /// PROXY protocol v2 header to send to the target first.
    pub proxy_header: Option<Vec<u8>>,
}

/// Source address of the connection to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The load balancer's address in the zone, any port.
    LoadBalancer(IpAddr),
    /// Client IP preservation: the client's own address. Where the system does not allow binding it the data plane falls
    /// back to its default source and says so in its own log.
    Client(SocketAddr),
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Both sides closed in good order.
    Closed,
    /// The target refused the connection; the client was reset.
    TargetRefused,
    /// The target did not answer the connect; the client was held silent until it gave up.
    TargetSilent,
    /// The client reset or vanished.
    ClientReset,
    /// The target reset an established flow; the client was reset.
    TargetReset,
    /// The idle timeout passed.
    Idle,
    /// The model commanded it ([`Command::Reset`]).
    Commanded,
    /// The data plane itself was stopped.
    Shutdown,
}

/// The end of a flow, with the payload bytes that were relayed (a PROXY header is none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowEnd {
    /// How it ended.
    pub how: How,
    /// Bytes from the client to the target.
    pub to_target: u64,
    /// Bytes from the target to the client.
    pub to_client: u64,
}

/// What DNS says about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// A and AAAA records, in a fixed order (the DNS server may rotate them).
    Addresses {
        /// One address per zone that is to be answered, and of a dualstack load balancer one of each family. Never empty.
        addresses: Vec<IpAddr>,
        /// Time to live. In model time: a shell that scales time divides it, and answers at least one second.
        ttl: Duration,
    },
    /// Inside `elb.<region>.amazonaws.com`, but no load balancer has this name: NXDOMAIN.
    NoSuchName,
    /// Not a name under `elb.<region>.amazonaws.com`: another server's business.
    NotOurs,
}

/// A PROXY protocol v2 header for a flow from `client` to `destination` (the address that the client connected to).
pub(crate) fn proxy_header(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut header = PROXY_SIGNATURE.to_vec();
    match (client.ip(), destination.ip()) {
        (IpAddr::V4(client), IpAddr::V4(destination)) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend([client.octets(), destination.octets()].concat());
        }
        // Both ends of a connection are of one family.
        (client, destination) => {
            header.extend([0x21, 0x21, 0, 36]);
            header.extend([client, destination].map(of_ipv6).concat());
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

fn of_ipv6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The PROXY protocol v2 header of a connection that the load balancer makes for itself: command LOCAL, no addresses.
pub(crate) fn proxy_header_local() -> Vec<u8> {
    let mut header = PROXY_SIGNATURE.to_vec();
    header.extend([0x20, 0x00, 0, 0]);
    header
}

/// Section 2.2 of the PROXY protocol specification.
const PROXY_SIGNATURE: [u8; 12] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_header_names_both_ends_in_network_order() {
        let client = SocketAddr::from(([203, 0, 113, 7], 0x1234));
        let destination = SocketAddr::from(([192, 168, 11, 129], 80));
        let header = proxy_header(client, destination);
        assert_eq!(header[12..16], [0x21, 0x11, 0, 12], "version 2 PROXY, TCP over IPv4, twelve bytes of addresses");
        assert_eq!(header[16..], [203, 0, 113, 7, 192, 168, 11, 129, 0x12, 0x34, 0, 80]);
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let header = proxy_header(address("[2001:db8::7]:4660"), address("[2001:db8::81]:80"));
        assert_eq!(header[12..16], [0x21, 0x21, 0, 36], "the same over IPv6");
        assert_eq!(header[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(header[44..], [0, 0, 0, 0x81, 0x12, 0x34, 0, 80]);
        assert_eq!(proxy_header_local().len(), 16);
    }
}
