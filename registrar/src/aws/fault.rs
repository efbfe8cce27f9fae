//! What an error of the wire means: whether the call may have been done.
//!
//! Codes decide, not the SDK's types: many that arrive are in no model (`Throttling`, `ValidationError`, `AccessDenied`).

use std::{error::Error, iter::successors};

use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::retries::classifiers::THROTTLING_ERRORS;
use aws_sdk_sts::operation::{
    assume_role::AssumeRoleError, assume_role_with_web_identity::AssumeRoleWithWebIdentityError,
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use registrar_core::aws::{Fault, Refusal};

use super::standing::Problem;

/// Codes of credentials that were valid once, or that the service does not know (yet). EC2 says `AuthFailure`.
const CREDENTIALS: &[&str] =
    &["AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"];

/// Codes of a signature's time that is too far from AWS's.
const CLOCK: &[&str] = &["RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"];

/// Whether a refusal is of the credentials, not of the call.
pub(super) fn is_of_credentials(refusal: &Refusal) -> bool {
    CREDENTIALS.contains(&refusal.code.as_str()) && !is_of_clock(refusal)
}

/// Whether a refusal is of the signature's time, not of the call. `SignatureDoesNotMatch` says which in its message:
/// "Signature expired: 20260131T000000Z is now earlier than ..." or "Signature not yet current: ...".
pub(super) fn is_of_clock(refusal: &Refusal) -> bool {
    let of_signature = ["SignatureDoesNotMatch", "InvalidSignatureException"].contains(&refusal.code.as_str());
    CLOCK.contains(&refusal.code.as_str())
        || of_signature
            && ["Signature expired", "Signature not yet current"].iter().any(|s| refusal.message.contains(s))
}

/// The fault of an error that is no [`problem`]. `sent` tells whether the request was on its way.
pub(super) fn of<E>(operation: &str, error: &SdkError<E, HttpResponse>, sent: bool) -> Fault
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let Some(response) = error.raw_response() else {
        let why = format!("{operation}: {}", chain(error));
        return if sent { Fault::Unknown(why) } else { Fault::NotSent(why) };
    };
    let status = response.status().as_u16();
    match error.code() {
        Some(code) if THROTTLING_ERRORS.contains(&code) => Fault::Throttled { code: code.to_owned() },
        _ if status == 429 => Fault::Throttled { code: "TooManyRequests".to_owned() },
        Some(code) if (400..500).contains(&status) => {
            Fault::Refused(Refusal { code: code.to_owned(), message: error.message().unwrap_or_default().to_owned() })
        }
        Some(code) => {
            let message = error.message().unwrap_or_default();
            Fault::Unknown(format!("{operation}: HTTP {status} {code}: {message}"))
        }
        None => Fault::Unknown(format!("{operation}: HTTP {status} with a body that cannot be read: {}", chain(error))),
    }
}

/// Why AWS was not even asked, if that is what an error says: credentials could not be had, or no connection came to be.
pub(super) fn problem<E>(error: &SdkError<E, HttpResponse>, sent: bool) -> Option<Problem>
where
    E: Error + Send + Sync + 'static,
{
    if let Some(of_credentials) = find::<CredentialsError>(error) {
        return Some(match of_credentials {
            CredentialsError::CredentialsNotLoaded(_) => Problem::NoCredentials(last(of_credentials)),
            _ => Problem::CredentialsUnavailable(said_by_sts(of_credentials).unwrap_or_else(|| chain(of_credentials))),
        });
    }
    let connecting = if sent { failed_to_connect(error) } else { None };
    connecting.map(|why| Problem::Unreachable(chain(why)))
}

/// The error of a connection that did not come to be, if it is one: name resolution, TCP and TLS.
fn failed_to_connect<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let of_client = find::<hyper_util::client::legacy::Error>(error)?;
    of_client.is_connect().then_some(of_client)
}

/// Why STS gave no credentials, in its own words: the SDK's are "service error".
fn said_by_sts(error: &(dyn Error + 'static)) -> Option<String> {
    let of_role = find::<AssumeRoleError>(error).map(ProvideErrorMetadata::meta);
    let meta = find::<AssumeRoleWithWebIdentityError>(error).map(ProvideErrorMetadata::meta).or(of_role)?;
    Some(format!("STS: {}: {}", meta.code()?, meta.message().unwrap_or_default()))
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    sources(error).find_map(|error| error.downcast_ref())
}

fn last(error: &(dyn Error + 'static)) -> String {
    sources(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The messages of an error and its sources. The SDK's own way to show an error would show the raw answer with it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    for message in sources(error).map(ToString::to_string) {
        if said.last() != Some(&message) {
            said.push(message);
        }
    }
    said.join(": ")
}
