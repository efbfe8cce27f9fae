//! The adapter of the one AWS port: carries a [`Call`] out against ELBv2 and EC2 and says what came of it, as a [`Reply`]
//! or a [`Fault`].
//!
//! Nothing here decides: there is no retry, no rate limit and no cache of answers, for those belong to the core, which has
//! one budget and one backoff for all calls. Two repetitions are the adapter's own, because what they cure is not the
//! call's affair: a call refused for expired credentials is sent once more with new ones, and one refused for its
//! signature's time once more with the time that the refusal showed. Both were refused, so nothing was done twice.

#![allow(clippy::doc_markdown, reason = "ELBv2 is a name")]

mod ec2;
mod elb;
mod exchange;
mod fault;
mod permissions;
mod reader;
mod session;
mod settings;
mod standing;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use async_trait::async_trait;
use registrar_core::aws::{Account, Call, Fault, Reply};

use self::{exchange::Exchange, session::Session, standing::Standing};
pub use self::{
    exchange::{Observed, Observer},
    permissions::{Feature, Missing},
    reader::Reader,
    settings::{Role, Settings},
    standing::Problem,
};

/// Where calls go.
#[async_trait]
pub trait Port: Send + Sync {
    /// Carries a call out in an account, within `deadline`.
    async fn call(&self, account: &Account, call: &Call, deadline: Instant) -> Result<Reply, Fault>;
}

/// AWS itself, or what `AWS_ENDPOINT_URL` points to.
///
/// It always comes to be: what is missing (a region, credentials) is said by [`Aws::problem`] and by the faults of calls,
/// and may come later.
#[derive(Debug)]
pub struct Aws {
    settings: Settings,
    observer: Arc<dyn Observer>,
    standing: Standing,
    /// Nothing until a region is known. The lock is held to read or replace a pointer, never across an await.
    sessions: RwLock<BTreeMap<Account, Arc<Session>>>,
}

impl Aws {
    /// Reads region, endpoints and identity from settings, environment and profile. Calls nothing, except the instance's
    /// metadata if the settings allow that and nothing else names the region.
    pub async fn connect(settings: Settings, observer: Arc<dyn Observer>) -> Self {
        let aws = Self { settings, observer, standing: Standing::default(), sessions: RwLock::default() };
        aws.open().await;
        aws
    }

    /// Whether the last call was answered by an AWS that knows us.
    pub fn ready(&self) -> bool {
        self.problem().is_none()
    }

    /// What stands between us and AWS, in words for a person, with the remedy. Of the own account: faults of calls tell
    /// about roles in others.
    pub fn problem(&self) -> Option<Problem> {
        self.standing.problem()
    }

    /// The region, once it is known.
    pub fn region(&self) -> Option<String> {
        let session = self.session(&Account::Own).ok()?;
        session.region().map(ToOwned::to_owned)
    }

    /// Asks STS who we are, and so finds out whether calls can be made. To be repeated while there is a
    /// [problem](Aws::problem): a region that was not found is looked for again.
    pub async fn check(&self, deadline: Instant) -> Result<Identity, Fault> {
        if self.session(&Account::Own).is_err() {
            self.open().await;
        }
        self.identity(&Account::Own, deadline).await
    }

    /// Which of the permissions that `features` take are missing, in the own account and in each role's. Only reads are
    /// tried, none of which can change anything: ELBv2 has no dry run, so a missing write shows only when it is made.
    pub async fn permissions(&self, features: &[Feature], deadline: Instant) -> Result<Vec<Missing>, Fault> {
        permissions::probe(self, features, deadline).await
    }

    /// Resolves region and sessions. A region that cannot be found is left for the next time.
    async fn open(&self) {
        match session::open(&self.settings).await {
            Ok(sessions) => *self.sessions.write().unwrap_or_else(PoisonError::into_inner) = sessions,
            Err(problem) => self.standing.broken(problem),
        }
    }

    fn session(&self, account: &Account) -> Result<Arc<Session>, Fault> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        if sessions.is_empty() {
            return Err(Fault::NotSent(Problem::NoRegion.to_string()));
        }
        sessions.get(account).cloned().ok_or_else(|| match account {
            Account::Own => Fault::NotSent(Problem::NoRegion.to_string()),
            Account::Role(name) => Fault::NotSent(format!(
                "the configuration has no role named `{name}`; add it with its roleArn to the roles of the registrar"
            )),
        })
    }

    /// A session with new credentials in place of `old`, unless another call has replaced that already.
    fn renew(&self, account: &Account, old: &Arc<Session>) -> Arc<Session> {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        match sessions.get(account) {
            Some(current) if !Arc::ptr_eq(current, old) => Arc::clone(current),
            _ => {
                let renewed = Arc::new(old.renewed());
                sessions.insert(account.clone(), Arc::clone(&renewed));
                renewed
            }
        }
    }

    async fn identity(&self, account: &Account, deadline: Instant) -> Result<Identity, Fault> {
        let exchange = self.exchange(account, ("STS", "GetCallerIdentity"), deadline);
        let session = self.session(account)?;
        let first = session.identity(&exchange).await;
        match self.second_chance(account, &session, &first) {
            Some(session) => session.identity(&exchange).await,
            None => first,
        }
    }

    /// What to try once more with, if the first attempt has failed for want of newer credentials or of the right time.
    fn second_chance<T>(
        &self,
        account: &Account,
        session: &Arc<Session>,
        first: &Result<T, Fault>,
    ) -> Option<Arc<Session>> {
        match first {
            Err(Fault::Refused(refusal)) if fault::is_of_credentials(refusal) => Some(self.renew(account, session)),
            Err(Fault::Refused(refusal)) if fault::is_of_clock(refusal) => Some(Arc::clone(session)),
            _ => None,
        }
    }

    fn exchange(
        &self,
        account: &Account,
        (service, operation): (&'static str, &'static str),
        deadline: Instant,
    ) -> Exchange<'_> {
        Exchange {
            service,
            operation,
            deadline,
            patience: self.settings.request_timeout,
            observer: self.observer.as_ref(),
            standing: (*account == Account::Own).then_some(&self.standing),
        }
    }
}

/// Who we are to AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `arn:aws:sts::111122223333:assumed-role/sluice-registrar/...`.
    pub arn: String,
    /// Number of the account.
    pub account: String,
}

#[async_trait]
impl Port for Aws {
    async fn call(&self, account: &Account, call: &Call, deadline: Instant) -> Result<Reply, Fault> {
        let service = if ec2::is_of_ec2(call) { "EC2" } else { "Elastic Load Balancing v2" };
        let exchange = self.exchange(account, (service, call.operation()), deadline);
        let session = self.session(account)?;
        let first = session.carry_out(&exchange, call).await;
        match self.second_chance(account, &session, &first) {
            Some(session) => session.carry_out(&exchange, call).await,
            None => first,
        }
    }
}
