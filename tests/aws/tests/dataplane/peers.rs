//! What is on either side of a load balancer: pods that answer, and clients that count.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::lab::within;

/// Port of a pod's traffic.
pub(crate) const TRAFFIC: u16 = 8080;
/// Port of its HTTP health check.
const HEALTH: u16 = 8081;

/// A server that greets each connection with its own address and the client's, returns what it is sent, and closes
/// when its client has.
pub(crate) struct Pod {
    pub(crate) at: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    healthy: Arc<AtomicBool>,
}

impl Pod {
    pub(crate) fn start(address: Ipv4Addr) -> Self {
        let (at, health) = (SocketAddr::from((address, TRAFFIC)), SocketAddr::from((address, HEALTH)));
        let (traffic, health) = (listen(at), listen(health));
        let (stop, healthy) = (CancellationToken::new(), Arc::new(AtomicBool::new(true)));
        let (stopped, is_healthy) = (stop.clone(), Arc::clone(&healthy));
        #[expect(clippy::disallowed_methods, reason = "awaited by `end`, and of no consequence otherwise")]
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => break,
                    Ok((stream, from)) = traffic.accept() => { connections.spawn(echo(stream, at, from)); }
                    Ok((stream, _)) = health.accept() => { connections.spawn(status(stream, is_healthy.load(Ordering::SeqCst))); }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { at, stop, serving, healthy }
    }

    /// What its HTTP health check answers from now on: 200 or 500.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::SeqCst);
    }

    /// Closes its listeners and its connections.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        within("a pod ends", self.serving).await.expect("no panic");
    }
}

pub(crate) fn listen(at: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket");
    socket.bind(at).unwrap_or_else(|e| panic!("{at}: {e}"));
    socket.listen(4096).expect("bound")
}

async fn echo(mut stream: TcpStream, at: SocketAddr, from: SocketAddr) {
    let _gone = async {
        stream.write_all(format!("{at} {from}\n").as_bytes()).await?;
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await?;
        stream.shutdown().await
    }
    .await;
}

async fn status(mut stream: TcpStream, healthy: bool) {
    let _gone: io::Result<()> = async {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await? > 0 {}
        let line = if healthy { "200 OK" } else { "500 Internal Server Error" };
        stream.write_all(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await
    }
    .await;
}

/// A client's connection that was greeted.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
    /// The pod that answered.
    pub(crate) pod: SocketAddr,
    /// Where the pod saw the connection come from.
    pub(crate) seen_as: SocketAddr,
}

impl Client {
    /// Connects and waits for the greeting. A connection that ends without one is an error.
    pub(crate) async fn connect(at: SocketAddr) -> io::Result<Self> {
        Self::greeted(TcpStream::connect(at).await?).await
    }

    /// The same from an address of one's own.
    pub(crate) async fn connect_from(address: Ipv4Addr, at: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(address.into(), 0))?;
        Self::greeted(socket.connect(at).await?).await
    }

    async fn greeted(stream: TcpStream) -> io::Result<Self> {
        let (mut stream, mut greeting) = (BufReader::new(stream), String::new());
        within("a greeting or an end", stream.read_line(&mut greeting)).await?;
        let (pod, seen_as) = greeting.trim_end().split_once(' ').ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Self { stream, pod: pod.parse().expect("an address"), seen_as: seen_as.parse().expect("an address") })
    }

    /// Whether the connection still carries bytes both ways.
    pub(crate) async fn is_alive(&mut self) -> bool {
        let mut answer = [0; 4];
        let exchange = async {
            self.stream.write_all(b"ping").await?;
            self.stream.read_exact(&mut answer).await
        };
        within("an answer or an end", exchange).await.is_ok() && answer == *b"ping"
    }

    /// Waits for the end of the connection and tells whether it was a RST.
    pub(crate) async fn until_reset(&mut self) -> bool {
        let end = within("the connection ends", self.stream.read_to_end(&mut Vec::new())).await;
        end.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
    }

    /// Closes in good order.
    pub(crate) async fn close(mut self) {
        self.stream.shutdown().await.expect("open");
        within("the pod closes too", self.stream.read_to_end(&mut Vec::new())).await.expect("no reset");
    }
}

/// Which pod answered how many of `count` connections, a few at a time.
pub(crate) async fn tally(at: SocketAddr, count: usize) -> BTreeMap<SocketAddr, usize> {
    const AT_ONCE: usize = 32;
    let mut asking = JoinSet::new();
    let mut tally = BTreeMap::new();
    for n in 0..count + AT_ONCE {
        if n < count {
            asking.spawn(async move {
                let client = Client::connect(at).await.expect("an answer");
                let pod = client.pod;
                client.close().await;
                pod
            });
        }
        if n >= AT_ONCE
            && let Some(pod) = asking.join_next().await
        {
            *tally.entry(pod.expect("no panic")).or_default() += 1;
        }
    }
    assert!(asking.is_empty());
    tally
}

/// The upper 0.1 % bounds of chi-square for 1 to 6 degrees of freedom.
const CHI_SQUARE: [f64; 6] = [10.828, 13.816, 16.266, 18.467, 20.515, 22.458];

/// Checks that connections to `at` are spread over exactly `pods`, each as likely as the others, by the chi-square test
/// at 99.9 %. Chance fails it once in a thousand times, so a failure has a second sample: two in a row are no chance.
pub(crate) async fn assert_spread_evenly(at: SocketAddr, pods: &[SocketAddr]) {
    const SAMPLE: u32 = 1200;
    let bound = CHI_SQUARE[pods.len() - 2];
    let mut seen = Vec::new();
    for _ in 0..2 {
        let tally = tally(at, SAMPLE as usize).await;
        let mut strangers = tally.keys().filter(|pod| !pods.contains(pod));
        assert_eq!(strangers.next(), None, "connections to {at} reached others than {pods:?}");
        let expected = f64::from(SAMPLE) / f64::from(u32::try_from(pods.len()).expect("few"));
        let square =
            |pod| (f64::from(u32::try_from(tally.get(pod).copied().unwrap_or(0)).expect("few")) - expected).powi(2);
        let chi_square: f64 = pods.iter().map(|pod| square(pod) / expected).sum();
        if chi_square <= bound {
            return;
        }
        seen.push((chi_square, tally));
    }
    panic!("connections to {at} are not spread evenly: chi-square over {bound} twice: {seen:?}");
}
