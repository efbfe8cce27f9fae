//! What the adapter is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_credential_types::provider::SharedCredentialsProvider;

/// Where AWS is and who we are to it. What is not said here comes from the environment and the profile, as for any client
/// of AWS: `AWS_REGION`, `AWS_ENDPOINT_URL[_<SERVICE>]`, `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_PROFILE`, `HTTPS_PROXY`, ...
#[derive(Debug, Clone)]
pub struct Settings {
    /// The region; nothing or an empty text for that of the environment or profile.
    pub region: Option<String>,
    /// Name of the cluster: it tells our sessions from others' in the logs of AWS.
    pub cluster: String,
    /// Whether the instance's metadata service may be asked, for a region and credentials that nothing else gives. Off,
    /// because a pod that may not reach it would wait for it, and one that may has more rights than it should.
    pub imds: bool,
    /// Roles in other accounts, by the names that bindings use.
    pub roles: BTreeMap<Arc<str>, Role>,
    /// Limit of each request: shorter than a lease, so that no write outlives the leadership it was decided under.
    pub request_timeout: Duration,
    /// One endpoint for all services, instead of AWS's own.
    pub endpoint_url: Option<String>,
    /// Credentials, instead of those that the environment leads to.
    pub credentials: Option<SharedCredentialsProvider>,
}

impl Settings {
    /// Everything from the environment.
    pub fn new(cluster: &str) -> Self {
        Self {
            region: None,
            cluster: cluster.to_owned(),
            imds: false,
            roles: BTreeMap::new(),
            request_timeout: Duration::from_secs(5),
            endpoint_url: None,
            credentials: None,
        }
    }

    /// Name of our sessions: `sluice-<cluster>`, in the characters and the length that STS takes.
    pub(super) fn session_name(&self) -> String {
        const LONGEST: usize = 64;
        let fits = |c: char| if c.is_ascii_alphanumeric() || "_+=,.@-".contains(c) { c } else { '-' };
        "sluice-".chars().chain(self.cluster.chars().map(fits)).take(LONGEST).collect()
    }
}

/// A role that is assumed for targets in another account.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Role {
    /// `arn:aws:iam::<account>:role/<name>`.
    pub role_arn: String,
    /// What the role's trust policy asks for in `sts:ExternalId`.
    #[serde(default)]
    pub external_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_name_fits_whatever_the_cluster_is_called() {
        assert_eq!(Settings::new("prod").session_name(), "sluice-prod");
        assert_eq!(Settings::new("prod eu/é").session_name(), "sluice-prod-eu--");
        let long = Settings::new(&"x".repeat(100)).session_name();
        assert_eq!(long.len(), 64);
    }
}
