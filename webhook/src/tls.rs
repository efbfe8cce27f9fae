//! TLS for reviews: handshakes that take their turn, so that a flood of them does not hold up those who are inside.

use std::{io, sync::Arc};

use daemon::http::Transport;
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::aside::aside;

/// TLS with whatever certificate is current when a connection comes.
#[derive(Clone)]
pub struct Tls {
    current: watch::Receiver<Arc<ServerConfig>>,
    /// For the part of a handshake that computes. It is done beside the threads that answer reviews, by one at a time, and
    /// no client can hold it: whoever has it waits for nobody.
    turn: Arc<Semaphore>,
}

impl Tls {
    /// TLS as it is configured by the latest value.
    pub fn new(current: watch::Receiver<Arc<ServerConfig>>) -> Self {
        Self { current, turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Transport for Tls {
    type Stream = Box<TlsStream<TcpStream>>;

    async fn accept(&self, stream: TcpStream) -> io::Result<Self::Stream> {
        // Nothing is set up for clients that say nothing.
        stream.readable().await?;
        Box::pin(self.shake_hands(stream)).await
    }
}

impl Tls {
    async fn shake_hands(&self, stream: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let config = Arc::clone(&self.current.borrow());
        let turn = self.turn.acquire().await.map_err(io::Error::other)?;
        let accepted = aside(move || hello.into_stream(config)).await.map_err(io::Error::other)?;
        drop(turn);
        Ok(Box::new(accepted.await?))
    }
}
