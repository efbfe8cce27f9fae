//! The life of one accepted connection: ask the model, dial the target, relay, report.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_model::{Answer, FlowEnd, FlowId, How, Route, Source};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::TcpStream,
    sync::oneshot,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    dial::dial,
    relay::{Ended, expire, relay, reset},
};
use crate::Engine;

/// How long a target may take to answer before its client is watched for giving up. Most answer within a millisecond.
const PATIENCE: Duration = Duration::from_millis(100);

/// All open flows.
#[derive(Debug)]
pub(super) struct Flows {
    engine: Arc<Engine>,
    stop: CancellationToken,
    open: Mutex<Open>,
}

/// The flows that can be told to end.
#[derive(Debug, Default)]
struct Open {
    tell: HashMap<FlowId, oneshot::Sender<How>>,
    /// Set when all were told: one that comes later is told at once.
    over: Option<How>,
}

type Told = oneshot::Receiver<How>;

impl Flows {
    pub(super) fn new(engine: Arc<Engine>, stop: CancellationToken) -> Self {
        Self { engine, stop, open: Mutex::default() }
    }

    /// Resets a flow on both sides. One that has ended is no error.
    pub(super) fn end(&self, flow: FlowId, how: How) {
        if let Some(tell) = self.open().tell.remove(&flow) {
            // Its task may be past listening.
            let _ended = tell.send(how);
        }
    }

    /// Resets all flows, those to come included.
    pub(super) fn end_all(&self, how: How) {
        let mut open = self.open();
        open.over = Some(how);
        for (_, tell) in open.tell.drain() {
            let _ended = tell.send(how);
        }
    }

    /// Does with a connection from `from`, accepted at `at`, what the model says.
    pub(super) async fn carry(&self, client: TcpStream, from: SocketAddr, at: SocketAddr) {
        let (tell, told) = oneshot::channel();
        // A command to reset the flow can only follow the answer, so the flow is made known before the model is free.
        let answer = self.engine.with(|model, now| {
            let answer = model.connect(at, from, now);
            if let Answer::Forward(route) = &answer {
                self.add(route.flow, tell);
            }
            answer
        });
        match answer {
            Answer::Refuse => reset(client),
            Answer::Silent => {
                tokio::select! {
                    () = gave_up(&client) => {}
                    () = self.stop.cancelled() => {}
                }
            }
            Answer::Forward(route) => self.forward(client, &route, told).await,
        }
    }

    async fn forward(&self, client: TcpStream, route: &Route, mut told: Told) {
        let target = match self.reach(&client, route, &mut told).await {
            Ok(target) => target,
            Err(how) => {
                self.close(route.flow, FlowEnd { how, to_target: 0, to_client: 0 });
                return reset(client);
            }
        };
        let mut told_how = How::Commanded;
        let idle = self.engine.real(route.idle_timeout);
        let told = async { told_how = told.await.unwrap_or(How::Shutdown) };
        let outcome = relay(&client, &target, idle, told).await;
        let how = match outcome.ended {
            Ended::Closed => How::Closed,
            Ended::ClientReset => How::ClientReset,
            Ended::TargetReset => How::TargetReset,
            Ended::Idle => How::Idle,
            Ended::Told => told_how,
        };
        // Reported first, so that whoever sees the connection end finds the end in the log.
        self.close(route.flow, FlowEnd { how, to_target: outcome.to_target, to_client: outcome.to_client });
        match outcome.ended {
            Ended::Closed => {}
            Ended::Idle => {
                tokio::select! {
                    _ = async { tokio::join!(expire(client), expire(target)) } => {}
                    () = self.stop.cancelled() => {}
                }
            }
            Ended::ClientReset | Ended::TargetReset | Ended::Told => {
                reset(client);
                reset(target);
            }
        }
    }

    /// Connects to the target while not a byte of the client is read, and sends the PROXY header if there is one.
    async fn reach(&self, client: &TcpStream, route: &Route, told: &mut Told) -> Result<TcpStream, How> {
        let impatient = async {
            sleep(PATIENCE).await;
            gave_up(client).await;
        };
        let mut target = tokio::select! {
            biased;
            dialled = dial_from(route.source, route.target) => match dialled {
                Ok(target) => target,
                Err(error) => return Err(self.unreachable(client, route, told, &error).await),
            },
            how = &mut *told => return Err(how.unwrap_or(How::Shutdown)),
            () = impatient => return Err(How::TargetSilent),
        };
        match &route.proxy_header {
            Some(header) => target.write_all(header).await.map(|()| target).map_err(|_| How::TargetReset),
            None => Ok(target),
        }
    }

    /// How a flow ends whose target could not be connected to.
    async fn unreachable(&self, client: &TcpStream, route: &Route, told: &mut Told, error: &io::Error) -> How {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => How::TargetRefused,
            // It had accepted.
            io::ErrorKind::ConnectionReset => How::TargetReset,
            // No packet came back, so the client gets none either.
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                tokio::select! {
                    () = gave_up(client) => How::TargetSilent,
                    how = told => how.unwrap_or(How::Shutdown),
                }
            }
            _ => {
                tracing::error!(target = %route.target, %error, "a connection was refused, for a fault of this machine");
                How::TargetRefused
            }
        }
    }

    fn add(&self, flow: FlowId, tell: oneshot::Sender<How>) {
        let mut open = self.open();
        match open.over {
            Some(how) => {
                // Its receiver is still with the caller.
                let _sent = tell.send(how);
            }
            None => {
                open.tell.insert(flow, tell);
            }
        }
    }

    fn close(&self, flow: FlowId, end: FlowEnd) {
        self.open().tell.remove(&flow);
        self.engine.with(|model, now| model.closed(flow, end, now));
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials with the source address of a route.
async fn dial_from(source: Source, target: SocketAddr) -> io::Result<TcpStream> {
    let client = match source {
        Source::LoadBalancer(address) => return dial(Some(address), target).await,
        Source::Client(client) => client.ip(),
    };
    match dial(Some(client), target).await {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            tracing::warn!(%client, %target, %error, "the client's address is not kept: it cannot be bound here");
            dial(None, target).await
        }
        result => result,
    }
}

/// Waits until the client has closed or reset its connection, without reading from it.
async fn gave_up(client: &TcpStream) {
    // A second descriptor, because waiting for what comes after unread bytes means to declare them seen.
    let watched = client.as_fd().try_clone_to_owned().map(std::net::TcpStream::from).and_then(TcpStream::from_std);
    let watched = match watched {
        Ok(watched) => watched,
        Err(error) => {
            tracing::error!(%error, "a client's end will not be noticed");
            return std::future::pending().await;
        }
    };
    while let Ok(ready) = watched.ready(Interest::READABLE | Interest::ERROR).await {
        if ready.is_read_closed() || ready.is_error() {
            break;
        }
        let _seen = watched.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn client_that_sends_and_waits_has_not_given_up_and_its_bytes_are_still_there() {
        let (mut client, accepted) = pair().await;
        for word in [b"one ", b"two "] {
            client.write_all(word).await.expect("open");
            assert!(timeout(Duration::from_millis(50), gave_up(&accepted)).await.is_err(), "bytes are no end");
        }
        drop(client);
        timeout(DEADLINE, gave_up(&accepted)).await.expect("the client has closed");
        let mut bytes = [0; 16];
        let n = accepted.try_read(&mut bytes).expect("unread bytes");
        assert_eq!(&bytes[..n], b"one two ");
    }

    #[tokio::test]
    async fn client_that_resets_has_given_up() {
        let (client, accepted) = pair().await;
        let (resetting, watching) = (async { reset(client) }, timeout(DEADLINE, gave_up(&accepted)));
        tokio::join!(watching, resetting).0.expect("the client is gone");
    }
}
