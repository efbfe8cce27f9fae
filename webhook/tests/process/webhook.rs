//! The webhook as a process of its own.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    time::Duration,
};

use http::StatusCode;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    task::JoinSet,
    time::{Instant, interval},
};

use crate::{
    api::Api,
    client::Connection,
    kubelet::{Authority, Volume},
};

/// A process, killed with this value.
pub struct Webhook {
    /// Where reviews go.
    pub reviews: SocketAddr,
    /// Where it is administered.
    pub admin: SocketAddr,
    /// Whom its clients trust.
    pub authority: Authority,
    /// The process.
    pub child: Child,
    _volume: Volume,
    /// Whom it asks.
    pub api: Api,
}

/// An address that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

impl Webhook {
    /// Starts one that knows what an API has.
    pub fn start(name: &str, api: Api, arguments: &[&str]) -> Self {
        let authority = Authority::new();
        let volume = Volume::new(name, &authority.issue(2020..2040));
        let kubeconfig = volume.path.join("kubeconfig");
        fs::write(&kubeconfig, api.kubeconfig()).expect("a kubeconfig");
        let (reviews, admin) = (free(), free());
        let child = Command::new(env!("CARGO_BIN_EXE_webhook"))
            // As the chart has it.
            .env("MALLOC_ARENA_MAX", "1")
            .arg(format!("--listen={reviews}"))
            .arg(format!("--admin-listen={admin}"))
            .arg(format!("--certificate-directory={}", volume.path.display()))
            .args(arguments)
            .env("KUBECONFIG", &kubeconfig)
            .stdout(Stdio::null())
            .stderr(fs::File::create(volume.path.join("log")).expect("a log"))
            .kill_on_drop(true)
            .spawn()
            .expect("the webhook starts");
        Self { reviews, admin, authority, child, _volume: volume, api }
    }

    /// One answer of the admin port.
    pub async fn ask(&self, path: &str) -> std::io::Result<(StatusCode, String)> {
        let stream = TcpStream::connect(self.admin).await?;
        let error = std::io::Error::other::<hyper::Error>;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(error)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = http::Request::get(path).header("host", "x").body(Empty::<Bytes>::new());
        let response = sender.send_request(request.map_err(std::io::Error::other)?).await.map_err(error)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(error)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Waits until it says so itself; returns how long that took.
    pub async fn ready(&self, wanted: bool) -> Duration {
        let start = Instant::now();
        let mut ticks = interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            let answer = self.ask("/readyz").await;
            if answer.as_ref().is_ok_and(|(status, _)| (*status == StatusCode::OK) == wanted) {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "ready is not {wanted}: {answer:?}");
        }
    }

    /// A connection for reviews.
    pub async fn connect(&self) -> std::io::Result<Connection> {
        Connection::open(self.reviews, self.authority.roots()).await
    }
}
