//! The PROXY protocol, version 2: the header that tells a target who its client is.
//!
//! Source: the specification published with `HAProxy`, `proxy-protocol.txt`, section 2.2.

use std::net::SocketAddrV4;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command LOCAL: the connection is the proxy's own, a health check say.
const LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// Address family unspecified.
const UNSPEC: u8 = 0x00;
/// TCP over IPv4.
const TCP4: u8 = 0x11;

/// The header of a client's flow. `destination` is the address that the client connected to.
pub fn proxied(source: SocketAddrV4, destination: SocketAddrV4) -> [u8; 28] {
    let mut header = [0; 28];
    header[..12].copy_from_slice(&SIGNATURE);
    header[12..16].copy_from_slice(&[PROXY, TCP4, 0, 12]);
    header[16..20].copy_from_slice(&source.ip().octets());
    header[20..24].copy_from_slice(&destination.ip().octets());
    header[24..26].copy_from_slice(&source.port().to_be_bytes());
    header[26..28].copy_from_slice(&destination.port().to_be_bytes());
    header
}

/// The header of a health check, which has no client.
pub fn local() -> [u8; 16] {
    let mut header = [0; 16];
    header[..12].copy_from_slice(&SIGNATURE);
    header[12..14].copy_from_slice(&[LOCAL, UNSPEC]);
    header
}

#[cfg(test)]
mod tests {
    use ppp::v2;

    use super::*;

    #[test]
    fn header_of_a_flow_reads_back_with_both_addresses() {
        let header =
            proxied("203.0.113.7:51234".parse().expect("literal"), "192.168.1.9:443".parse().expect("literal"));
        let parsed = v2::Header::try_from(header.as_slice()).expect("another implementation reads it");
        let addresses = v2::IPv4::new([203, 0, 113, 7], [192, 168, 1, 9], 51234, 443);
        assert_eq!(parsed.addresses, v2::Addresses::IPv4(addresses));
        assert_eq!((parsed.command, parsed.protocol), (v2::Command::Proxy, v2::Protocol::Stream));
        assert_eq!(parsed.len(), header.len());
    }

    #[test]
    fn header_of_a_health_check_is_local_and_names_nobody() {
        let header = local();
        let parsed = v2::Header::try_from(header.as_slice()).expect("another implementation reads it");
        assert_eq!(parsed.command, v2::Command::Local);
        assert_eq!(parsed.addresses, v2::Addresses::Unspecified);
        assert_eq!(parsed.len(), header.len());
    }
}
