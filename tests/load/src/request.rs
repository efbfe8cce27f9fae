//! One request: a connection of its own, a question, and an answer that is checked.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use aws_emulator::dataplane::dial::dial;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{
    answer::{self, Answer},
    failure::{Failure, Kind},
};

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Who answered.
    pub pod: String,
    /// From the connect to the first byte.
    pub first_byte: Duration,
}

/// Sends one request and waits for its answer, for at most `patience` altogether.
pub async fn send(
    from: Option<Ipv4Addr>,
    to: SocketAddrV4,
    host: &str,
    patience: Duration,
) -> Result<Answered, Failure> {
    let began = Instant::now();
    let deadline = began + patience;
    let mut stream = match timeout_at(deadline, dial(from.map(Into::into), to.into())).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Failure::of_connect(&error)),
        Err(_) => return Err(Failure::new(Kind::Timeout, format!("no connection within {patience:?}"))),
    };
    let question = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut first_byte = None;
    let answered = timeout_at(
        deadline,
        exchange(&mut stream, question.as_bytes(), || {
            first_byte.get_or_insert_with(|| began.elapsed());
        }),
    )
    .await;
    match (answered, first_byte) {
        (Ok(Ok(pod)), Some(first_byte)) => Ok(Answered { pod, first_byte }),
        (Ok(Ok(_)), None) => Err(Failure::new(Kind::NoFirstByte, "an empty answer")),
        (Ok(Err(failure)), _) => Err(failure),
        (Err(_), None) => Err(Failure::new(Kind::NoFirstByte, format!("silent for {patience:?}"))),
        (Err(_), Some(_)) => Err(Failure::new(Kind::Cut, format!("not complete within {patience:?}"))),
    }
}

/// Calls `heard` with every piece of the answer.
async fn exchange(stream: &mut TcpStream, question: &[u8], mut heard: impl FnMut()) -> Result<String, Failure> {
    let mut bytes = Vec::with_capacity(1024);
    // Whatever is wrong with the connection shows when it is read, with what had arrived before.
    let _ = stream.write_all(question).await;
    loop {
        let before = bytes.len();
        let broken = if before == 0 { Kind::NoFirstByte } else { Kind::Reset };
        let count = stream.read_buf(&mut bytes).await.map_err(|e| Failure::new(broken, e.to_string()))?;
        if count == 0 {
            let kind = if before == 0 { Kind::NoFirstByte } else { Kind::Cut };
            return Err(Failure::new(kind, format!("closed after {before} bytes")));
        }
        heard();
        if let Answer::From(pod) = answer::read(&bytes)? {
            return Ok(pod);
        }
    }
}
