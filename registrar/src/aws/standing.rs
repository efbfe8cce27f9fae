//! How we stand with AWS: whether it can be reached and knows us. For readiness, and for a person who asks why nothing
//! happens.

use std::sync::{Mutex, PoisonError};

use registrar_core::aws::{Fault, Refusal};

use super::fault;

/// Why AWS cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing was asked of it yet.
    #[error("AWS has not been called yet")]
    Untried,
    /// No region.
    #[error(
        "no AWS region is known; set --aws-region, or AWS_REGION in the environment, or a region in the profile, or let \
         --aws-imds ask the instance"
    )]
    NoRegion,
    /// No source of credentials.
    #[error(
        "no AWS credentials were found ({0}); give the service account a role (annotation eks.amazonaws.com/role-arn for \
         IRSA, or an EKS Pod Identity association), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, \
         or let --aws-imds use the instance's role"
    )]
    NoCredentials(String),
    /// A source of credentials that does not give any.
    #[error(
        "AWS credentials could not be obtained: {0}; check the role's trust policy, the token file and the way to STS"
    )]
    CredentialsUnavailable(String),
    /// Credentials that AWS does not accept, new ones included.
    #[error("AWS does not accept our credentials: {0}")]
    CredentialsRefused(Refusal),
    /// Signatures of another time.
    #[error("the clock of this machine is wrong for AWS: {0}; set it by NTP")]
    Clock(Refusal),
    /// No connection.
    #[error("AWS cannot be reached: {0}; check name resolution, routes, proxy and VPC endpoints")]
    Unreachable(String),
}

/// The last that is known.
#[derive(Debug)]
pub(super) struct Standing(Mutex<Option<Problem>>);

impl Default for Standing {
    fn default() -> Self {
        Self(Mutex::new(Some(Problem::Untried)))
    }
}

impl Standing {
    pub(super) fn problem(&self) -> Option<Problem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn broken(&self, problem: Problem) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(&problem) {
            tracing::warn!(%problem, "AWS");
            *last = Some(problem);
        }
    }

    /// Learns from a fault. Throttles and 5xx come from an AWS that may or may not know us, so they change nothing.
    pub(super) fn learn(&self, fault: &Fault) {
        match fault {
            Fault::Refused(refusal) if fault::is_of_credentials(refusal) => {
                self.broken(Problem::CredentialsRefused(refusal.clone()));
            }
            Fault::Refused(refusal) if fault::is_of_clock(refusal) => self.broken(Problem::Clock(refusal.clone())),
            Fault::Refused(_) => self.accepted(),
            Fault::Throttled { .. } | Fault::Unknown(_) | Fault::NotSent(_) => {}
        }
    }

    /// AWS has answered somebody that it knows.
    pub(super) fn accepted(&self) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = last.take()
            && problem != Problem::Untried
        {
            tracing::info!(%problem, "AWS: this is over");
        }
    }
}
