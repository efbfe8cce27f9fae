//! Sockets on the addresses of the lab.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

const BACKLOG: u32 = 4096;

/// A listener with a backlog that a burst of connections fits into.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connects from an address of the lab, so that the other end sees who it is.
pub async fn connect(from: Ipv4Addr, to: IpAddr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.set_nodelay(true)?;
    socket.connect(SocketAddr::new(to, port)).await
}
