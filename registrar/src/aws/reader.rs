//! Reads on behalf of a person at a terminal: at a fraction of the rate that AWS allows, so that the registrar that shares
//! the account is not held up, and again where nothing was said. It cannot write.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use registrar_core::{
    aws::{Account, Bucket, Call, Fault, Reply},
    outbox::TokenBucket,
    settings::Rate,
};

use super::Port;

/// Half of what AWS allows to all who share the account, for each of its buckets.
const RATE: Rate = Rate { burst: 20, per_second: 5.0 };
/// How long a read may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a read that came to nothing is tried.
const ATTEMPTS: u32 = 4;

/// Asks, and never writes.
pub struct Reader<'a> {
    port: &'a dyn Port,
    begun: Instant,
    buckets: Mutex<BTreeMap<Bucket, TokenBucket>>,
}

impl<'a> Reader<'a> {
    /// Through this port.
    pub fn new(port: &'a dyn Port) -> Self {
        Self { port, begun: Instant::now(), buckets: Mutex::default() }
    }

    /// Asks until there is an answer or a refusal, or it has been in vain too often. A throttle only makes it wait.
    pub async fn ask(&self, account: &Account, call: &Call) -> Result<Reply, Fault> {
        if !call.is_read() {
            return Err(Fault::NotSent(format!("{} is no read", call.operation())));
        }
        let mut attempt = 0;
        loop {
            tokio::time::sleep(self.turn(call.bucket())).await;
            match self.port.call(account, call, Instant::now() + PATIENCE).await {
                Err(Fault::Throttled { .. }) => {
                    bucket(&mut self.lock(), call.bucket()).throttled(self.begun.elapsed());
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
    fn turn(&self, of: Bucket) -> Duration {
        let now = self.begun.elapsed();
        let mut buckets = self.lock();
        let bucket = bucket(&mut buckets, of);
        let at = bucket.ready_at(0).max(now);
        bucket.spend(at);
        at.saturating_sub(now)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Bucket, TokenBucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bucket(buckets: &mut BTreeMap<Bucket, TokenBucket>, of: Bucket) -> &mut TokenBucket {
    buckets.entry(of).or_insert_with(|| TokenBucket::new(RATE))
}
