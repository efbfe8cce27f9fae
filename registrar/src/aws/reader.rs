//! Reads on behalf of a person at a terminal: at a fraction of the rate that AWS allows, so that the registrar that shares
//! the account is not held up, and again where nothing was said. It cannot write.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use registrar_core::{
    aws::{Account, Call, Fault, Reply},
    outbox::TokenBucket,
    settings::Rate,
};

use super::Port;

/// A few at once, then four a second: AWS allows ten to all who share the account.
const RATE: Rate = Rate { burst: 15, per_second: 4.0 };
/// How long a read may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a read that came to nothing is tried.
const ATTEMPTS: u32 = 4;

/// Asks, and never writes.
pub struct Reader<'a> {
    port: &'a dyn Port,
    begun: Instant,
    bucket: Mutex<TokenBucket>,
}

impl<'a> Reader<'a> {
    /// Through this port.
    pub fn new(port: &'a dyn Port) -> Self {
        Self { port, begun: Instant::now(), bucket: Mutex::new(TokenBucket::new(RATE)) }
    }

    /// Asks until there is an answer or a refusal, or it has been in vain too often. A throttle only makes it wait.
    pub async fn ask(&self, account: &Account, call: &Call) -> Result<Reply, Fault> {
        if !call.is_read() {
            return Err(Fault::NotSent(format!("{} is no read", call.operation())));
        }
        let mut attempt = 0;
        loop {
            tokio::time::sleep(self.turn()).await;
            match self.port.call(account, call, Instant::now() + PATIENCE).await {
                Err(Fault::Throttled { .. }) => {
                    self.bucket.lock().unwrap_or_else(PoisonError::into_inner).throttled(self.begun.elapsed());
                }
                Err(Fault::Unknown(why)) if attempt + 1 < ATTEMPTS => {
                    tracing::debug!(operation = call.operation(), why, "asked again");
                    tokio::time::sleep(Fault::backoff(attempt)).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// Takes a token, and says how long to wait for it.
    fn turn(&self) -> Duration {
        let now = self.begun.elapsed();
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let at = bucket.ready_at(0).max(now);
        bucket.spend(at);
        at.saturating_sub(now)
    }
}
