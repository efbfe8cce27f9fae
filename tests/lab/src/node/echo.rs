//! The built-in server that stands for every image that is not a program of this machine.

use std::{
    convert::Infallible,
    fmt::Write as _,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use daemon::socket::listen;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::{
    io::copy,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{behaviour::Conduct, logs::Log, proxy_protocol, status::Exit};
use crate::scale::Scale;

/// Request bodies are echoed up to this size and refused above.
const BODY_LIMIT: usize = 1 << 20;

/// One container of the echo server.
#[derive(Debug)]
pub struct Echo {
    /// The pod's name, which the answers begin with.
    pub pod: String,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// TCP ports to answer on, the same on each address.
    pub ports: Vec<u16>,
    /// How to behave.
    pub conduct: Conduct,
    /// Divides the times of `conduct`.
    pub scale: Scale,
    /// The container's log.
    pub log: Arc<Log>,
}

/// How a container is asked to end: first `terminate`, as by SIGTERM, then `kill`.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Stop accepting, finish what is in flight, exit.
    pub terminate: CancellationToken,
    /// Stop at once.
    pub kill: CancellationToken,
}

impl Echo {
    /// Serves until asked to stop. Everything it opened is closed when the future ends or is dropped.
    pub async fn run(self, stop: Stop) -> Exit {
        let echo = Arc::new(self);
        let mut connections = JoinSet::new();
        let served = tokio::select! {
            served = Arc::clone(&echo).serve(&stop, &mut connections) => served,
            () = stop.kill.cancelled() => return killed(),
        };
        if let Err(exit) = served {
            return exit;
        }
        loop {
            tokio::select! {
                () = stop.kill.cancelled() => return killed(),
                next = connections.join_next() => if next.is_none() { return Exit::with_code(0) },
            }
        }
    }

    /// Accepts until asked to terminate.
    async fn serve(self: Arc<Self>, stop: &Stop, connections: &mut JoinSet<()>) -> Result<(), Exit> {
        tokio::select! {
            // First, so that a container that is told to end right after its start has started.
            biased;
            () = self.wait(self.conduct.start_delay) => {}
            () = stop.terminate.cancelled() => return Ok(()),
        }
        let listeners = self.listen().map_err(|e| {
            self.log.write(Timestamp::now(), e.to_string());
            Exit { message: e.to_string(), ..Exit::with_code(1) }
        })?;
        let listeners = Arc::new(listeners);
        let mut exit_after = pin!(async {
            match self.conduct.exit_after {
                Some(time) => self.wait(time).await,
                None => std::future::pending().await,
            }
        });
        let mut stopping = pin!(async {
            stop.terminate.cancelled().await;
            self.wait(self.conduct.stop_delay).await;
        });
        loop {
            tokio::select! {
                () = &mut stopping => return Ok(()),
                () = &mut exit_after => {
                    self.log.write(Timestamp::now(), "exiting as LAB_EXIT_AFTER asks for".to_owned());
                    return Err(Exit::with_code(1));
                }
                (stream, client) = accept(&listeners) => {
                    connections.spawn(Arc::clone(&self).connection(stream, client, stop.terminate.clone()));
                }
                // Reaped here so that a long-lived server does not collect ended tasks.
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn wait(&self, time: Duration) {
        if !time.is_zero() {
            sleep(self.scale.real(time)).await;
        }
    }

    fn listen(&self) -> Result<Vec<TcpListener>, ListenError> {
        let addresses = self.ports.iter().flat_map(|port| self.addresses.iter().map(|ip| SocketAddr::new(*ip, *port)));
        addresses.map(|address| listen(address).map_err(|source| ListenError { address, source })).collect()
    }

    async fn connection(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr, terminate: CancellationToken) {
        let client = if self.conduct.proxy_protocol {
            match proxy_protocol::read(&mut stream).await {
                Ok(named) => named.unwrap_or(peer),
                Err(e) => return self.log.write(Timestamp::now(), format!("{peer}: {e}")),
            }
        } else {
            peer
        };
        if self.conduct.raw {
            let (mut reader, mut writer) = stream.split();
            // A client that goes away in the middle is its own affair.
            let _ = copy(&mut reader, &mut writer).await;
            return;
        }
        let service = service_fn(|request| self.answer(request, client));
        let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = &mut connection => return,
            () = terminate.cancelled() => {}
        }
        self.wait(self.conduct.stop_delay).await;
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await;
        self.wait(self.conduct.response_delay).await;
        let (status, text) = match body {
            Err(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is not readable or above {BODY_LIMIT} bytes\n"))
            }
            Ok(body) => {
                let failing = self.conduct.failing_paths.iter().any(|path| path == head.uri.path());
                let status = if failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                (status, self.report(&head, &body.to_bytes(), client))
            }
        };
        self.log.write(Timestamp::now(), format!("{client} {} {} {}", head.method, head.uri, status.as_u16()));
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        Ok(response)
    }

    /// The request as it arrived, in the sections and words that echoserver has.
    fn report(&self, head: &http::request::Parts, body: &[u8], client: SocketAddr) -> String {
        let uri = &head.uri;
        let mut text = format!(
            "Hostname: {}\n\nRequest Information:\n\tclient_address={}\n\tclient_port={}\n\tmethod={}\n\treal \
             path={}\n\tquery={}\n\trequest_version={:?}\n\trequest_uri={uri}\n\nRequest Headers:\n",
            self.pod,
            client.ip(),
            client.port(),
            head.method,
            uri.path(),
            uri.query().unwrap_or_default(),
            head.version,
        );
        for (name, value) in &head.headers {
            let _ = writeln!(text, "\t{name}={}", String::from_utf8_lossy(value.as_bytes()));
        }
        let body = if body.is_empty() { "-no body in request-".into() } else { String::from_utf8_lossy(body) };
        let _ = write!(text, "\nRequest Body:\n\t{body}\n");
        text
    }
}

#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {source}")]
struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

fn killed() -> Exit {
    Exit { code: 137, reason: "Error".to_owned(), message: "killed at the end of its grace period".to_owned() }
}

/// The next connection of any listener; never ends where there is none.
async fn accept(listeners: &[TcpListener]) -> (TcpStream, SocketAddr) {
    std::future::poll_fn(|context| {
        for listener in listeners {
            match listener.poll_accept(context) {
                Poll::Ready(Ok((stream, client))) => {
                    let _ = stream.set_nodelay(true);
                    return Poll::Ready((stream, client));
                }
                // One connection that failed while it waited, or no file descriptor left: another try.
                Poll::Ready(Err(_)) => context.waker().wake_by_ref(),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address").port()
    }

    fn echo(port: u16, conduct: Conduct) -> Echo {
        Echo {
            pod: "web-0".to_owned(),
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            ports: vec![port],
            conduct,
            scale: Scale::default(),
            log: Arc::default(),
        }
    }

    async fn start(conduct: Conduct) -> (SocketAddr, Stop, tokio::task::JoinHandle<Exit>) {
        let port = free_port().await;
        let (stop, echo) = (Stop::default(), echo(port, conduct));
        #[expect(clippy::disallowed_methods, reason = "the test joins it")]
        let task = tokio::spawn(echo.run(stop.clone()));
        (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), stop, task)
    }

    async fn connect(address: SocketAddr) -> TcpStream {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => return stream,
                Err(e) => assert!(tokio::time::Instant::now() < deadline, "{address}: {e}"),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn exchange(stream: &mut TcpStream, send: &str) -> String {
        stream.write_all(send.as_bytes()).await.expect("send");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("receive");
        text
    }

    #[tokio::test]
    async fn answer_names_the_pod_and_repeats_the_request() {
        let (address, stop, task) = start(Conduct::default()).await;
        let request =
            "POST /a/b?c=d HTTP/1.1\r\nHost: x\r\nX-Test: yes\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
        let mut stream = connect(address).await;
        let local = stream.local_addr().expect("address");
        let text = exchange(&mut stream, request).await;
        let body = text.split_once("\r\n\r\n").expect("a body").1;
        assert!(body.starts_with("Hostname: web-0\n"), "{body}");
        for line in [
            "method=POST",
            "real path=/a/b",
            "query=c=d",
            "x-test=yes",
            "\thi\n",
            &format!("client_port={}", local.port()),
        ] {
            assert!(body.contains(line), "{line}: {body}");
        }
        stop.terminate.cancel();
        assert_eq!(task.await.expect("no panic").code, 0);
    }

    #[tokio::test]
    async fn server_answers_on_each_address_of_the_pod_until_its_end() {
        let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into()];
        // On a machine with IPv6 it is the second address of a pod.
        addresses.extend(listen((Ipv6Addr::LOCALHOST, 0).into()).is_ok().then_some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        let (port, stop) = (free_port().await, Stop::default());
        let echo = Echo { addresses: addresses.clone(), ..echo(port, Conduct::default()) };
        #[expect(clippy::disallowed_methods, reason = "the test joins it")]
        let task = tokio::spawn(echo.run(stop.clone()));
        for ip in &addresses {
            let mut stream = connect(SocketAddr::new(*ip, port)).await;
            let text = exchange(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
            assert!(text.contains("Hostname: web-0\n"), "{ip}: {text}");
        }
        stop.terminate.cancel();
        assert_eq!(task.await.expect("no panic").code, 0);
        for ip in addresses {
            TcpStream::connect(SocketAddr::new(ip, port)).await.expect_err("nobody listens");
        }
    }

    #[tokio::test]
    async fn terminating_server_finishes_what_is_in_flight_and_accepts_no_more() {
        let (address, stop, task) = start(Conduct::default()).await;
        let mut stream = connect(address).await;
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("send");
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.expect("the request is being read");
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stop.terminate.cancel();
        let text = exchange(&mut stream, "hi").await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
        assert_eq!(task.await.expect("no panic").code, 0);
        TcpStream::connect(address).await.expect_err("nobody listens");
    }

    #[tokio::test]
    async fn killed_server_drops_connections_at_once() {
        let (address, stop, task) = start(Conduct { raw: true, ..Conduct::default() }).await;
        let mut stream = connect(address).await;
        stream.write_all(b"ping").await.expect("send");
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.expect("echoed");
        assert_eq!(&four, b"ping");
        stop.terminate.cancel();
        stop.kill.cancel();
        assert_eq!(task.await.expect("no panic").code, 137);
        assert_eq!(stream.read(&mut four).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn failing_path_answers_503_and_others_200() {
        let conduct = Conduct { failing_paths: vec!["/healthz".to_owned()], ..Conduct::default() };
        let (address, stop, task) = start(conduct).await;
        for (path, status) in [("/healthz", "503"), ("/", "200")] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let text = exchange(&mut connect(address).await, &request).await;
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {text}");
        }
        stop.kill.cancel();
        task.await.expect("no panic");
    }

    #[tokio::test]
    async fn port_that_is_taken_is_an_exit_that_says_so() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = taken.local_addr().expect("address").port();
        let exit = echo(port, Conduct::default()).run(Stop::default()).await;
        assert_eq!(exit.code, 1);
        assert!(exit.message.contains("listen on 127.0.0.1"), "{}", exit.message);
    }
}
