//! What holds of the answer to any review: P1 the uid comes back, P2 the patch applies, P3 a second call changes nothing,
//! P4 nothing but the hook's own fields changes, P5 a pod is never refused, P6 nothing panics, P7 the same question has
//! the same answer.
//!
//! Each property runs `SLUICE_CASES` times (6,000 unless set; a case about a pod is 18 reviews). Patches are applied by the `json-patch` crate, which has
//! no part in deciding them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a property that cannot be asked has failed")]

mod cluster;
mod fields;

use k8s_openapi::ByteString;
use proptest::{prelude::*, test_runner::Config};
use serde_json::{Value, json};
use webhook::{
    admission::{self, Hook, Outcome},
    snapshot::Snapshot,
};

const POD_HOOKS: [Hook; 3] = [Hook::PodGates, Hook::PodDrain, Hook::PodServerId];

fn cases() -> Config {
    let cases = std::env::var("SLUICE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(6_000);
    Config { cases, failure_persistence: None, ..Config::default() }
}

fn review(uid: &str, operation: &str, object: &Value, old: Option<&Value>) -> Vec<u8> {
    let request = json!({
        "uid": uid, "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": cluster::NAMESPACE,
        "operation": operation, "dryRun": false, "object": object, "oldObject": old, "options": {"novel": [1]},
    });
    serde_json::to_vec(&json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}))
        .unwrap()
}

/// What the API server would read.
struct Response {
    uid: String,
    allowed: bool,
    patch: Option<json_patch::Patch>,
    outcome: Outcome,
    body: Vec<u8>,
}

fn ask(hook: Hook, body: &[u8], snapshot: &Snapshot) -> Response {
    let answer = admission::answer(hook, body, snapshot, 0x0123_4567_89ab_cdef).unwrap();
    let read: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(read["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(read["kind"], "AdmissionReview");
    let response = &read["response"];
    let patch = response.get("patch").map(|patch| {
        assert_eq!(response["patchType"], "JSONPatch");
        let ByteString(bytes) = serde_json::from_value(patch.clone()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    });
    Response {
        uid: response["uid"].as_str().unwrap().to_owned(),
        allowed: response["allowed"].as_bool().unwrap(),
        patch,
        outcome: answer.outcome,
        body: answer.body,
    }
}

fn patched(object: &Value, response: &Response) -> Value {
    let mut patched = object.clone();
    if let Some(patch) = &response.patch {
        json_patch::patch(&mut patched, patch).unwrap_or_else(|error| panic!("{error}\n{patch}\n{object:#}"));
    }
    patched
}

proptest! {
    #![proptest_config(cases())]

    /// P1, P2, P3, P4, P5, P7 on pods.
    #[test]
    fn a_pod_is_never_refused_and_gets_nothing_but_what_the_hook_is_for(
        cluster in cluster::arbitrary(), pod in cluster::pod(), uid in "[a-z0-9\\PC\"\\\\]{1,20}",
    ) {
        let snapshot = cluster.snapshot();
        for hook in POD_HOOKS {
            let question = review(&uid, "CREATE", &pod, None);
            let response = ask(hook, &question, &snapshot);
            prop_assert_eq!(&response.uid, &uid);
            prop_assert!(response.allowed);
            prop_assert_eq!(response.outcome == Outcome::Patched, response.patch.is_some());

            let changed = patched(&pod, &response);
            fields::check(hook, &pod, &changed)?;

            let second = ask(hook, &review(&uid, "CREATE", &changed, None), &snapshot);
            prop_assert!(second.patch.is_none(), "{:?} again: {:?}\n{:#}", hook, second.patch, changed);
            prop_assert_eq!(response.body, ask(hook, &question, &snapshot).body);

            for operation in ["UPDATE", "DELETE", "CONNECT"] {
                let other = ask(hook, &review(&uid, operation, &pod, Some(&pod)), &snapshot);
                prop_assert!(other.allowed && other.patch.is_none());
            }
        }
    }

    /// What is left out of a decision could not have made a difference.
    #[test]
    fn the_index_finds_whatever_concerns_a_pod(cluster in cluster::arbitrary(), pod in cluster::pod()) {
        let (few, all) = (cluster.snapshot(), cluster.everything());
        let pod: k8s_openapi::api::core::v1::Pod = match serde_json::from_value(pod) {
            Ok(pod) => pod,
            Err(_) => return Ok(()),
        };
        let facts = nlb::prediction::PodFacts::of(&pod);
        let relevant = few.relevant(cluster::NAMESPACE, &facts);
        let (services, bindings): (Vec<_>, Vec<_>) = (all.0.iter().collect(), all.1.iter().collect());
        prop_assert_eq!(
            nlb::prediction::gates(&facts, &relevant.services, &relevant.bindings),
            nlb::prediction::gates(&facts, &services, &bindings)
        );
        prop_assert_eq!(
            nlb::prediction::drain_seconds(&facts, 120, &relevant.services, &relevant.bindings),
            nlb::prediction::drain_seconds(&facts, 120, &services, &bindings)
        );
    }

    /// P1, P7 on Services; and what denies says so, once for all.
    #[test]
    fn a_service_is_refused_only_with_reasons(service in cluster::service(), old in cluster::service(), uid in "[a-z]{1,9}") {
        let snapshot = Snapshot::default();
        for (operation, old) in [("CREATE", None), ("UPDATE", Some(&old)), ("UPDATE", Some(&service))] {
            let question = review(&uid, operation, &service, old);
            let response = ask(Hook::Service, &question, &snapshot);
            prop_assert_eq!(&response.uid, &uid);
            prop_assert!(response.patch.is_none());
            let read: Value = serde_json::from_slice(&response.body).unwrap();
            let causes = read["response"]["status"]["details"]["causes"].as_array().map_or(0, Vec::len);
            prop_assert_eq!(response.allowed, causes == 0);
            // What is stored stays editable.
            prop_assert!(response.allowed || old != Some(&service), "{}", read);
            prop_assert_eq!(&response.body, &ask(Hook::Service, &question, &snapshot).body);
        }
    }

    /// P2, P3, P4 on Services.
    #[test]
    fn the_class_of_a_service_is_set_once(service in cluster::service()) {
        let snapshot = Snapshot::default();
        let response = ask(Hook::ServiceClass, &review("u", "CREATE", &service, None), &snapshot);
        prop_assert!(response.allowed);
        let changed = patched(&service, &response);
        let mut expected = service.clone();
        let wants = service["spec"]["type"] == "LoadBalancer" && service["spec"]["loadBalancerClass"].is_null();
        if wants {
            expected["spec"]["loadBalancerClass"] = json!("service.k8s.aws/nlb");
        }
        prop_assert_eq!(&changed, &expected);
        prop_assert!(ask(Hook::ServiceClass, &review("u", "CREATE", &changed, None), &snapshot).patch.is_none());
    }

    /// P6: whatever comes, there is an answer or an error in words.
    #[test]
    fn arbitrary_bytes_are_an_error_in_words(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let snapshot = Snapshot::default();
        for hook in Hook::ALL {
            let error = admission::answer(hook, &bytes, &snapshot, 0).unwrap_err();
            prop_assert!(!error.to_string().is_empty());
        }
    }

    /// P6: a review that is cut off, or has a byte changed, does no harm.
    #[test]
    fn damaged_reviews_do_no_harm(cluster in cluster::arbitrary(), pod in cluster::pod(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let snapshot = cluster.snapshot();
        let mut damaged = review("u", "CREATE", &pod, None);
        let at = at.index(damaged.len());
        for hook in Hook::ALL {
            prop_assert!(admission::answer(hook, &damaged[..at], &snapshot, 0).is_err());
        }
        damaged[at] = byte;
        for hook in POD_HOOKS {
            // Either it is no review any more, or it is answered like any other.
            if let Ok(answer) = admission::answer(hook, &damaged, &snapshot, 0) {
                prop_assert!(answer.outcome != Outcome::Denied);
            }
        }
    }
}
