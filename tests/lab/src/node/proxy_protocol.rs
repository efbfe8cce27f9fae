//! Reading a PROXY protocol v2 header.
//!
//! Format: <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection ended or failed inside the header.
    #[error("the connection ended inside the PROXY protocol header: {0}")]
    Read(#[from] std::io::Error),
    /// Something else was sent.
    #[error("the connection does not begin with a PROXY protocol v2 header")]
    NotAHeader,
}

/// Reads a header off a connection. `None` where it names no client: health checks of the proxy itself (LOCAL).
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, Error> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    let [version_command, family, high, low] = [head[12], head[13], head[14], head[15]];
    if head[..12] != SIGNATURE || version_command >> 4 != 2 {
        return Err(Error::NotAHeader);
    }
    let mut rest = vec![0; usize::from(u16::from_be_bytes([high, low]))];
    stream.read_exact(&mut rest).await?;
    match version_command & 0x0f {
        0 => Ok(None),
        1 => client(family, &rest).map(Some),
        _ => Err(Error::NotAHeader),
    }
}

/// The source of a TCP connection: addresses first, then ports, the source before the destination.
fn client(family: u8, rest: &[u8]) -> Result<SocketAddr, Error> {
    let (address, size): (IpAddr, usize) = match family {
        0x11 => (Ipv4Addr::from(*rest.first_chunk::<4>().ok_or(Error::NotAHeader)?).into(), 4),
        0x21 => (Ipv6Addr::from(*rest.first_chunk::<16>().ok_or(Error::NotAHeader)?).into(), 16),
        _ => return Err(Error::NotAHeader),
    };
    let port = rest.get(2 * size..2 * size + 2).ok_or(Error::NotAHeader)?;
    Ok(SocketAddr::new(address, u16::from_be_bytes([port[0], port[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[version_command, family], &length, rest].concat()
    }

    async fn parse(bytes: &[u8]) -> Result<Option<SocketAddr>, Error> {
        read(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn client_is_the_source_of_the_header() {
        let v4 = [203, 0, 113, 7, 192, 168, 1, 9, 0x30, 0x39, 0, 80];
        let found = parse(&header(0x21, 0x11, &v4)).await.expect("a header");
        assert_eq!(found, Some("203.0.113.7:12345".parse().expect("an address")));
        assert_eq!(parse(&header(0x20, 0, &[])).await.expect("a header"), None);
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 9);
        let found = parse(&header(0x21, 0x21, &v6)).await.expect("a header");
        assert_eq!(found, Some("[::1]:9".parse().expect("an address")));
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let truncated = header(0x21, 0x11, &[1, 2, 3, 4]);
        let cases: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 ",
            &truncated,
            &header(0x11, 0x11, &[0; 12]),
            &header(0x22, 0x11, &[]),
        ];
        for bytes in cases {
            parse(bytes).await.expect_err("not a header");
        }
    }
}
