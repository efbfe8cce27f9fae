//! What the API server's refusals mean to the core.

use kube::core::Status;
use registrar_core::event::Denial;

/// Reads an error of the client. Whatever may have been done is [`Denial::Unknown`].
pub fn denial(error: kube::Error) -> Denial {
    match error {
        kube::Error::Api(status) => of_status(&status),
        error @ (kube::Error::BuildRequest(_) | kube::Error::HttpError(_) | kube::Error::Auth(_)) => {
            Denial::NotSent(chain(&error))
        }
        error => Denial::Unknown(chain(&error)),
    }
}

fn of_status(status: &Status) -> Denial {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    match status.code {
        404 => Denial::NotFound,
        // Patches with another UID are refused as changes of a field that cannot change; deletions have it as a
        // precondition, which storage words in one way and the check before it in another.
        409 if ["UID in precondition", "UID in the precondition"]
            .iter()
            .any(|words| status.message.contains(words)) =>
        {
            Denial::Replaced
        }
        422 if causes.clone().any(|cause| cause.field == "metadata.uid") => Denial::Replaced,
        409 => Denial::Conflict,
        403 | 401 => Denial::Forbidden(status.message.clone()),
        // Too many requests, or a server that cannot say whether it was done.
        429 | 500.. => Denial::Unknown(format!("{} {}", status.code, status.message)),
        _ => Denial::Refused(status.message.clone()),
    }
}

/// What the API server said, or why it said nothing, in one line.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.message),
        error => chain(error),
    }
}

/// An error with its causes: of a failed connection the first line says only that it failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str, field: &str) -> Status {
        let body = serde_json::json!({
            "status": "Failure", "message": message, "reason": "Reason", "code": code,
            "details": {"causes": [{"field": field}]},
        });
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn refusals_are_told_apart_by_what_they_say_of_the_object() {
        let uid = "Precondition failed: UID in precondition: a, UID in object meta: b";
        let earlier =
            "the UID in the precondition (a) does not match the UID in record (b). The object might have been deleted";
        let cases = [
            (status(404, "", ""), Denial::NotFound),
            (status(409, "the object has been modified", ""), Denial::Conflict),
            (status(409, uid, ""), Denial::Replaced),
            (status(409, earlier, ""), Denial::Replaced),
            (status(422, "field is immutable", "metadata.uid"), Denial::Replaced),
            (status(422, "bad", "status.conditions"), Denial::Refused("bad".to_owned())),
            (status(403, "no", ""), Denial::Forbidden("no".to_owned())),
            (status(504, "late", ""), Denial::Unknown("504 late".to_owned())),
        ];
        for (status, expected) in cases {
            assert_eq!(denial(kube::Error::Api(Box::new(status))), expected);
        }
    }
}
