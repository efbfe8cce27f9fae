//! The body of a review, within limits of size, time and memory.

use std::{pin::pin, time::Duration};

use axum::body::{Body, Bytes, HttpBody as _};
use daemon::http::Seat;
use http::StatusCode;
use http_body_util::BodyExt as _;
use memmap2::MmapMut;
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
    /// The system has no memory for it.
    #[error("no memory for the body: {0}")]
    NoMemory(#[source] std::io::Error),
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
            Self::Busy | Self::NoMemory(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
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
        let mut rest = Kept::None;
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
            if matches!(rest, Kept::None) || (size > SMALL && matches!(rest, Kept::Small(_))) {
                rest = self.keep(&rest, &first, size, expected, seat)?;
            }
            rest.extend(&data);
            if rest.len() > breath {
                breath = rest.len() + BREATH;
                yield_now().await;
            }
        }
        Ok(match rest {
            Kept::None => Received { bytes: first, _memory: None },
            Kept::Small(bytes) => Received { bytes: bytes.into(), _memory: None },
            Kept::Large { map, used, memory } => {
                Received { bytes: Bytes::from_owner(map).slice(..used), _memory: Some(memory) }
            }
        })
    }

    /// Makes room for a body that has at least `size` bytes, for which there was none or not enough.
    fn keep<'a>(
        &'a self,
        rest: &Kept<'a>,
        first: &[u8],
        size: usize,
        expected: Option<usize>,
        seat: Option<&Seat>,
    ) -> Result<Kept<'a>, Error> {
        // A client may promise more than it sends, but nothing is kept for one that has sent nothing.
        let most = if size > SMALL { LARGEST } else { SMALL };
        let room = expected.unwrap_or(most).clamp(size, most);
        let mut kept = if size > SMALL {
            let permits = u32::try_from(room).map_err(|_| Error::TooLarge)?;
            let memory = self.bytes.try_acquire_many(permits).map_err(|_| Error::Busy)?;
            Kept::Large { map: MmapMut::map_anon(room).map_err(Error::NoMemory)?, used: 0, memory }
        } else {
            if let Some(seat) = seat {
                seat.holds(room);
            }
            Kept::Small(Vec::with_capacity(room))
        };
        kept.extend(if rest.len() > 0 { rest.bytes() } else { first });
        Ok(kept)
    }
}

/// The body so far, if it came in more than one piece.
enum Kept<'a> {
    None,
    Small(Vec<u8>),
    /// In pages of its own, which go back to the system when it is done: between other things it would leave a hole.
    Large {
        map: MmapMut,
        used: usize,
        memory: SemaphorePermit<'a>,
    },
}

impl Kept<'_> {
    fn len(&self) -> usize {
        self.bytes().len()
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Small(bytes) => bytes,
            Self::Large { map, used, .. } => map.get(..*used).unwrap_or_default(),
        }
    }

    /// Adds bytes for which there is room.
    fn extend(&mut self, data: &[u8]) {
        match self {
            Self::None => {}
            Self::Small(bytes) => bytes.extend_from_slice(data),
            Self::Large { map, used, .. } => {
                if let Some(free) = map.get_mut(*used..*used + data.len()) {
                    free.copy_from_slice(data);
                    *used += data.len();
                }
            }
        }
    }
}
