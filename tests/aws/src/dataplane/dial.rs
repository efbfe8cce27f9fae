//! Outgoing connections: a target is dialled from the address that it is meant to see.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use tokio::net::{TcpSocket, TcpStream};

/// Connects to `target` from the address `source`, and from no particular one when `source` is `None`.
///
/// The port is chosen while connecting and not while binding, so that two flows share a source port as long as they go
/// to different targets. Binding a port of its own for each would end at some 28,000 flows for each source address,
/// with those counted that closed in the last minute.
///
/// Errors are those of the connect itself: refused, unreachable, or the system's own connect timeout of some two minutes.
pub async fn dial(source: Option<IpAddr>, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    if let Some(source) = source {
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(target).await
}
