//! Listeners on the addresses of the lab.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

const BACKLOG: u32 = 4096;

/// A listener with a backlog that a burst of connections fits into.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
