//! What a request's headers say of its sender. Signatures are not verified: any key will do, except that temporary
//! credentials must be ones that this emulator's STS has given out.

use std::time::Duration;

use aws_model::Caller;
use http::HeaderMap;

/// The credential scope of a SigV4 signature, and the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) service: String,
    pub(super) caller: Caller,
}

/// Reads `Authorization: AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/<service>/aws4_request, ...`. Nothing if the
/// header is absent or is not of this form: such a request is unsigned.
pub(super) fn scope(headers: &HeaderMap) -> Option<Scope> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let fields = text("authorization")?.strip_prefix("AWS4-HMAC-SHA256")?;
    let credential = fields.split([',', ' ']).find_map(|field| field.strip_prefix("Credential="))?;
    let mut parts = credential.rsplitn(5, '/');
    let (end, service, _region, _date, key) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if end != "aws4_request" || key.is_empty() {
        return None;
    }
    Some(Scope {
        service: service.to_owned(),
        caller: Caller {
            access_key: key.to_owned(),
            session_token: text("x-amz-security-token").map(str::to_owned),
            signed_at: text("x-amz-date").and_then(unix),
            agent: text("user-agent").and_then(|agent| agent.split(' ').next()).unwrap_or_default().to_owned(),
        },
    })
}

/// `20260131T235959Z` as time since the Unix epoch.
fn unix(date: &str) -> Option<Duration> {
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
    let timestamp = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    u64::try_from(timestamp.as_second()).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", authorization.parse().expect("a header"));
        headers.insert("x-amz-date", "20231114T221320Z".parse().expect("a header"));
        headers
    }

    #[test]
    fn service_key_and_time_are_read_from_a_signature() {
        let signed = "AWS4-HMAC-SHA256 Credential=AKID/20231114/eu-west-1/elasticloadbalancing/aws4_request, \
                      SignedHeaders=host, Signature=00";
        let scope = scope(&headers(signed)).expect("signed");
        assert_eq!((scope.service.as_str(), scope.caller.access_key.as_str()), ("elasticloadbalancing", "AKID"));
        assert_eq!(scope.caller.signed_at, Some(Duration::from_secs(1_700_000_000)));
    }

    #[test]
    fn other_forms_are_unsigned() {
        for other in ["", "Basic dXNlcg==", "AWS4-HMAC-SHA256 Credential=a/b", "AWS4-HMAC-SHA256 Credential=////x"] {
            assert_eq!(scope(&headers(other)), None, "{other}");
        }
    }
}
