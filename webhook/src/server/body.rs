//! The body of a review, within limits of size, time and memory.

use std::{pin::pin, time::Duration};

use axum::body::{Body, Bytes, HttpBody as _};
use daemon::http::Seat;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
    time::timeout,
};

/// Updates of large objects come near 6 MiB; this is what the peer's framework takes too.
pub const LARGEST: usize = 7 * 1024 * 1024;
/// Bodies up to this size are always taken, and others may have to go for them: a review of an ordinary pod has a tenth of it.
const SMALL: usize = 64 * 1024;
/// What all larger bodies may take together.
const ALL: usize = 16 * 1024 * 1024;
/// After so many bytes the others have their turn.
const BREATH: usize = 128 * 1024;
/// How long a client may take to send one.
const DEADLINE: Duration = Duration::from_secs(3);

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is larger than [`LARGEST`].
    #[error("the body has more than {LARGEST} bytes")]
    TooLarge,
    /// It took longer than [`DEADLINE`].
    #[error("the body was not complete after {DEADLINE:?}")]
    Late,
    /// Others have taken the memory that there is for large bodies.
    #[error("there are too many large bodies at once")]
    Busy,
    /// The connection broke.
    #[error("reading the body: {0}")]
    Broken(#[source] axum::Error),
}

impl Error {
    /// The HTTP status for it, and the word for it in metrics.
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Late => (StatusCode::REQUEST_TIMEOUT, "late"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Broken(_) => (StatusCode::BAD_REQUEST, "broken"),
        }
    }
}

/// The memory that large bodies share.
#[derive(Debug)]
pub struct Memory {
    bytes: Semaphore,
}

impl Default for Memory {
    fn default() -> Self {
        Self { bytes: Semaphore::new(ALL) }
    }
}

/// A body and the memory that it holds.
pub struct Received<'a> {
    bytes: Bytes,
    _memory: Option<SemaphorePermit<'a>>,
}

impl AsRef<[u8]> for Received<'_> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Received<'_> {
    /// The body itself; cheap.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl Memory {
    /// Reads a body. The seat of its connection, if it has one, is told what is kept.
    pub async fn receive(&self, body: Body, seat: Option<&Seat>) -> Result<Received<'_>, Error> {
        timeout(DEADLINE, self.collect(body, seat)).await.unwrap_or(Err(Error::Late))
    }

    async fn collect(&self, body: Body, seat: Option<&Seat>) -> Result<Received<'_>, Error> {
        let expected = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        if expected.is_some_and(|bytes| bytes > LARGEST) {
            return Err(Error::TooLarge);
        }
        let mut body = pin!(body);
        let mut first = Bytes::new();
        let mut rest = Vec::new();
        let mut memory: Option<SemaphorePermit> = None;
        let mut breath = BREATH;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(Error::Broken)?.into_data() else { continue };
            if first.is_empty() {
                first = data;
                continue;
            }
            let size = rest.len().max(first.len()) + data.len();
            if size > LARGEST {
                return Err(Error::TooLarge);
            }
            if size > rest.capacity() {
                // Once for a small body and once more for a large one, because each time leaves a hole in memory. A client
                // may promise more than it sends, but not before it has sent something.
                let most = if size > SMALL { LARGEST } else { SMALL };
                let room = expected.unwrap_or(most).clamp(size, most);
                if room > SMALL {
                    let permits = u32::try_from(room).map_err(|_| Error::TooLarge)?;
                    memory = Some(self.bytes.try_acquire_many(permits).map_err(|_| Error::Busy)?);
                } else if let Some(seat) = seat {
                    seat.holds(room);
                }
                rest.reserve_exact(room - rest.len());
            }
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
            if rest.len() > breath {
                breath = rest.len() + BREATH;
                yield_now().await;
            }
        }
        let bytes = if rest.is_empty() { first } else { Bytes::from(rest) };
        Ok(Received { bytes, _memory: memory })
    }
}
