//! One address and port of a load balancer: connections are accepted and given a task each.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{Error, check, flow::Flows};

/// Connections that may wait to be accepted. The system caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 16_384;
/// Pause after an error that another accept would meet at once, such as no file descriptor being left.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens at `at`.
pub(super) fn open(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it.
    socket.set_nodelay(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// Accepts until `close`, then waits for the connections that are still open.
pub(super) async fn accept(
    listener: TcpListener,
    at: SocketAddr,
    flows: Arc<Flows>,
    close: CancellationToken,
) -> Result<(), Error> {
    let mut carrying = JoinSet::new();
    loop {
        tokio::select! {
            () = close.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((client, from)) => {
                    let flows = Arc::clone(&flows);
                    carrying.spawn(async move {
                        flows.carry(client, from, at).await;
                        Ok(())
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!(%at, %error, "connections wait: accepting one failed");
                    sleep(PAUSE).await;
                }
            },
            Some(ended) = carrying.join_next() => check(ended, "a connection")?,
        }
    }
    drop(listener);
    while let Some(ended) = carrying.join_next().await {
        check(ended, "a connection")?;
    }
    Ok(())
}
