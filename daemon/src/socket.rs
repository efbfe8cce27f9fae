//! Listening sockets.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted. The system caps it at `net.core.somaxconn`.
///
/// The libraries' own 128 are few beside a burst: who comes when they are taken is not refused but dropped, and tries again
/// after a second.
const BACKLOG: u32 = 4096;

/// Listens at an address. Port 0 takes any that is free.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use tokio::{net::TcpStream, time::timeout};

    use super::*;

    #[tokio::test]
    async fn a_burst_of_connections_waits_for_the_first_to_be_accepted() {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).expect("a port of the loopback device");
        let address = listener.local_addr().expect("bound");
        let mut waiting = Vec::new();
        for number in 0..600 {
            // A dropped one would be tried again until it is accepted, which nobody does.
            let connected = timeout(Duration::from_secs(20), TcpStream::connect(address)).await;
            waiting.push(connected.unwrap_or_else(|_| panic!("connection {number} was dropped")).expect("listening"));
        }
        assert_eq!(waiting.len(), 600);
    }
}
