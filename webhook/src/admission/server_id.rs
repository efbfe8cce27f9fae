//! `/mutate-v1-pod-server-id`: containers that are named in an annotation get an id by which QUIC finds them.
//!
//! The id is eight random bytes, in base64, in a variable of the environment, where the peer puts it too. The highest
//! bit stays 0, as in ids that the peer makes.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use nlb::{
    annotations::{Annotations, keys},
    violation::{Severity, Violation},
};
use serde_json::json;

use super::{
    Decision,
    patch::{Builder, Step},
    pod::Pod,
};

/// The variable that the peer uses unless it is told otherwise.
const VARIABLE: &str = "AWS_LBC_QUIC_SERVER_ID";

/// `entropy` is new for every review. Each container gets an id of its own, because each is a target of its own.
pub(super) fn decide(pod: &Pod, entropy: u64) -> Decision {
    let Some(wanted) = Annotations::new(pod.annotations()).text(keys::QUIC_CONTAINERS) else {
        return Decision::default();
    };
    // Each with whether there is a container of that name.
    let mut wanted: BTreeMap<&str, bool> =
        wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).map(|name| (name, false)).collect();
    let mut patch = Builder::default();
    let mut id = entropy;
    let lists =
        pod.spec.as_ref().map(|spec| [("containers", &spec.containers), ("initContainers", &spec.init_containers)]);
    for (list, containers) in lists.into_iter().flatten() {
        for (position, container) in containers.iter().flatten().enumerate() {
            let Some(found) = wanted.get_mut(container.name.as_ref()) else { continue };
            *found = true;
            if container.env.iter().flatten().any(|variable| variable.name == VARIABLE) {
                continue;
            }
            let value = ByteString((id & (u64::MAX >> 1)).to_be_bytes().to_vec());
            id = id.wrapping_add(1);
            let place = [Step::Field("spec"), Step::Field(list), Step::Entry(position), Step::Field("env")];
            patch.append(&place, container.env.is_some(), vec![json!({"name": VARIABLE, "value": value})]);
        }
    }
    let missing: Vec<&str> = wanted.into_iter().filter(|(_, found)| !found).map(|(name, _)| name).collect();
    let problem = "is no container of this pod, so nothing gets a QUIC server id for it";
    let warning = Violation::of_items(Severity::Warn, "container", keys::QUIC_CONTAINERS, &missing, problem, "");
    let warnings = warning.iter().map(ToString::to_string).collect();
    Decision { patch: patch.build(), warnings, ..Decision::default() }
}
