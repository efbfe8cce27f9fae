//! `AdmissionReview` of `admission.k8s.io/v1`, as far as it is read and written here.
//!
//! The object is decoded into whatever type the hook asks for, so that a hook that needs five fields of a pod does not
//! pay for the others, and is not stopped by a field that it does not know.

use std::borrow::Cow;

use json_patch::Patch;
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};

/// The only version that is registered, and the only one that is answered.
const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A body that is no review.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is no JSON, or a field that is read has another type than the API gives it.
    #[error("the body is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// Another kind or version.
    #[error("the body is {api_version} {kind}, not {API_VERSION} {KIND}")]
    Kind {
        /// `apiVersion` of the body.
        api_version: String,
        /// `kind` of the body.
        kind: String,
    },
    /// There is nothing to answer.
    #[error("the review has no {0}")]
    Missing(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a, T> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Request<'a, T>>,
}

/// What the API server asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a, T> {
    /// Identifies the request; the answer repeats it.
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
    /// Name of the object; empty if the server is going to make one up.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// Namespace of the object, which the object itself may leave out.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// What is done to the object.
    #[serde(default)]
    pub operation: Operation,
    /// A part of the object that is written instead of the object.
    #[serde(borrow, default)]
    pub sub_resource: Cow<'a, str>,
    /// Whether nothing is going to be stored.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// The object as it is going to be stored.
    pub object: Option<T>,
    /// The object as it is stored, on an update.
    pub old_object: Option<T>,
}

impl<'a, T> Request<'a, T> {
    /// As if something was made in a namespace.
    pub fn create(namespace: &'a str) -> Self {
        Self {
            uid: Cow::default(),
            name: Cow::default(),
            namespace: namespace.into(),
            operation: Operation::Create,
            sub_resource: Cow::default(),
            dry_run: None,
            object: None,
            old_object: None,
        }
    }
}

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// Anything else, for which no hook is registered.
    #[default]
    #[serde(other)]
    Other,
}

impl Operation {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Other => "OTHER",
        }
    }
}

/// Reads a review whose objects are of type `T`.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<Request<'a, T>, Malformed> {
    let review: Review<T> = serde_json::from_slice(body)?;
    if review.api_version != API_VERSION || review.kind != KIND {
        let excerpt = nlb::violation::excerpt;
        return Err(Malformed::Kind { api_version: excerpt(&review.api_version), kind: excerpt(&review.kind) });
    }
    let request = review.request.ok_or(Malformed::Missing("request"))?;
    if request.uid.is_empty() { Err(Malformed::Missing("request.uid")) } else { Ok(request) }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

/// What the API server is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

/// A denial, in the form of `metav1.Status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// HTTP status that the client gets.
    pub code: u16,
    /// The API's word for it.
    pub reason: &'static str,
    /// The sentence that kubectl shows.
    pub message: String,
    /// The same for machines.
    pub details: Details,
}

/// `metav1.StatusDetails`, as far as it is written.
#[derive(Debug, Serialize)]
pub struct Details {
    /// One for each violation.
    pub causes: Vec<Cause>,
}

/// `metav1.StatusCause`.
#[derive(Debug, Serialize)]
pub struct Cause {
    /// The API's word for it.
    pub reason: &'static str,
    /// Annotation key or field path.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl<'a> Response<'a> {
    /// Allows, unless there is a denial; kubectl shows the warnings in both cases.
    pub fn new(uid: &'a str, denial: Option<Status>, warnings: &'a [String]) -> Self {
        Self { uid, allowed: denial.is_none(), status: denial, patch_type: None, patch: None, warnings }
    }

    /// Adds a patch, unless it changes nothing.
    pub fn with_patch(mut self, patch: &Patch) -> Result<Self, serde_json::Error> {
        if !patch.0.is_empty() {
            self.patch_type = Some("JSONPatch");
            self.patch = Some(ByteString(serde_json::to_vec(patch)?));
        }
        Ok(self)
    }

    /// The body of the answer.
    pub fn body(self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Answered { api_version: API_VERSION, kind: KIND, response: self })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_no_review_is_refused_in_words() {
        let cases = [
            ("", "EOF"),
            ("[]", "invalid length"),
            ("{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\"}", "has no request"),
            (r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}"#, "has no request.uid"),
            (r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"a"}}"#, "v1beta1"),
            (r#"{"apiVersion":"v1","kind":"Pod","request":{"uid":"a"}}"#, "v1 Pod"),
            (r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":7}}"#, "integer"),
        ];
        for (body, says) in cases {
            let error = read::<Value>(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{body}: {error}");
        }
    }

    #[test]
    fn escaped_text_is_read_as_what_it_means() {
        let body = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview",
            "request":{"uid":"\u0061-\"","operation":"CONNECT","object":null,"novel":{"x":[]}}}"#;
        let request = read::<Value>(body.as_bytes()).unwrap();
        assert_eq!((request.uid.as_ref(), request.operation, request.object), ("a-\"", Operation::Other, None));
    }
}
