//! A server that answers every request with the same bytes, whatever it asks for, and remembers what was asked.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What it does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers with these bytes, and closes.
    Say(String),
    /// Answers request after request with these bodies, the last of them again and again.
    Bodies(Vec<String>),
    /// Never answers.
    Wait,
    /// Closes without an answer.
    Cut,
}

impl Act {
    /// An answer with a status line and a body.
    pub(crate) fn answer(status: &str, body: &str) -> Self {
        Self::Say(response(status, body))
    }
}

fn response(status: &str, body: &str) -> String {
    // The header in between is what the metadata service of an instance gives with a token.
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/xml\r\nx-aws-ec2-metadata-token-ttl-seconds: 600\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The server. Ends when it is dropped.
pub(crate) struct Stub {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Stub {
    pub(crate) async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, act.clone(), Arc::clone(&seen)));
            }
        });
        Self { url, requests, _tasks: tasks }
    }

    /// Heads and bodies of what was asked so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("unpoisoned").clone()
    }
}

async fn serve(mut stream: TcpStream, act: Act, seen: Arc<Mutex<Vec<String>>>) {
    let Some(request) = read(&mut stream).await else { return };
    let nth = {
        let mut seen = seen.lock().expect("unpoisoned");
        seen.push(request);
        seen.len() - 1
    };
    let answer = match act {
        Act::Cut => return,
        Act::Wait => return tokio::time::sleep(Duration::from_mins(1)).await,
        Act::Say(answer) => answer,
        Act::Bodies(bodies) => response("200 OK", bodies.get(nth).or(bodies.last()).expect("a body")),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// One request: the head, and as much body as it announces.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 4096];
        let n = stream.read(&mut some).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&some[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let announced =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= announced.unwrap_or(0) {
            return Some(text);
        }
    }
}
