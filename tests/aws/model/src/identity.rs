//! Who calls: static keys, which are taken at their word, and sessions that STS issued, which are checked.

use std::time::Duration;

use crate::{
    Model, Request, Service,
    fault::{Code, Result},
};

/// A caller as STS names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

/// Temporary credentials.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) token: String,
    pub(crate) identity: Identity,
    /// Unix time.
    pub(crate) expires: Duration,
}

/// How far a signature's time may be from ours.
const SKEW: Duration = Duration::from_mins(15);

impl Model {
    /// Unix time, as replies show it.
    pub(crate) fn wall(&self) -> Duration {
        self.settings.epoch + self.real()
    }

    pub(crate) fn identify(&self, request: &Request) -> Result<Identity> {
        let ec2 = request.service == Service::Ec2;
        let Some(caller) = &request.caller else {
            return if request.action.as_deref() == Some("AssumeRoleWithWebIdentity") {
                Ok(Identity { arn: "anonymous".to_owned(), user_id: String::new() })
            } else {
                Code::MissingAuthenticationToken.refuse("Request is missing Authentication Token")
            };
        };
        if let Some(signed) = caller.signed_at
            && signed.abs_diff(self.wall()) > SKEW
        {
            return Code::RequestExpired.refuse(format!(
                "Request has expired. Timestamp is {}, now is {}",
                timestamp(signed),
                timestamp(self.wall())
            ));
        }
        if !caller.access_key.starts_with("ASIA") {
            let account = &self.world.account;
            return Ok(Identity {
                arn: format!("arn:aws:iam::{account}:user/{}", caller.access_key),
                user_id: format!("AIDA{}", caller.access_key),
            });
        }
        match self.sessions.get(&caller.access_key) {
            Some(session) if caller.session_token.as_deref() == Some(&session.token) => {
                if self.wall() >= session.expires {
                    return Code::ExpiredToken.refuse("The security token included in the request is expired");
                }
                Ok(session.identity.clone())
            }
            _ if ec2 => Code::AuthFailure.refuse("AWS was not able to validate the provided access credentials"),
            _ => Code::InvalidClientTokenId.refuse("The security token included in the request is invalid"),
        }
    }
}

/// A Unix time in the form that AWS's XML uses.
pub(crate) fn timestamp(unix: Duration) -> String {
    let millis = i64::try_from(unix.as_millis()).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_end_in_z() {
        assert_eq!(timestamp(Duration::from_millis(1_700_000_000_005)), "2023-11-14T22:13:20.005Z");
    }
}
