//! P4: which fields a hook may change, told without the code that changes them.

use proptest::{prelude::*, test_runner::TestCaseError};
use serde_json::{Map, Value};
use webhook::admission::Hook;

const VARIABLE: &str = "AWS_LBC_QUIC_SERVER_ID";

/// Fails unless `after` differs from `before` in the hook's own fields only.
pub(crate) fn check(hook: Hook, before: &Value, after: &Value) -> Result<(), TestCaseError> {
    match hook {
        Hook::PodGates => {
            let (old, new) = (gates(before), gates(after));
            let kept: Vec<_> = new.iter().filter(|gate| old.contains(gate)).cloned().collect();
            let wanted: Vec<_> = old
                .iter()
                .filter(|gate| new.contains(gate) || !gate.starts_with("target-health.alb.ingress.k8s.aws/"))
                .cloned()
                .collect();
            prop_assert_eq!(kept, wanted, "existing gates keep their order, and only legacy ones go");
        }
        Hook::PodDrain => {
            for (old, new) in containers(before).zip(containers(after)) {
                if !old["lifecycle"]["preStop"].is_null() {
                    prop_assert_eq!(old, new);
                }
            }
        }
        Hook::PodServerId => {
            for (old, new) in containers(before).zip(containers(after)) {
                let (old, new) = (list(&old["env"]), list(&new["env"]));
                prop_assert!(new.starts_with(&old), "{:?} begins with {:?}", new, old);
                prop_assert!(new.len() <= old.len() + 1);
            }
        }
        _ => {}
    }
    prop_assert_eq!(without(hook, before), without(hook, after));
    Ok(())
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn gates(pod: &Value) -> Vec<String> {
    let gates = list(&pod["spec"]["readinessGates"]);
    gates.iter().map(|gate| gate["conditionType"].as_str().unwrap_or_default().to_owned()).collect()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"].into_iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

/// The pod without the hook's own fields, and without what is empty only for want of them.
fn without(hook: Hook, pod: &Value) -> Value {
    let mut pod = pod.clone();
    let Some(object) = pod.as_object_mut() else { return pod };
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        match hook {
            Hook::PodGates => drop(spec.remove("readinessGates")),
            Hook::PodDrain => {
                spec.remove("terminationGracePeriodSeconds");
                each_container(spec, |container| {
                    if let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut) {
                        lifecycle.remove("preStop");
                    }
                    remove_if_empty(container, "lifecycle");
                });
            }
            _ => each_container(spec, |container| {
                if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
                    env.retain(|variable| variable["name"] != VARIABLE);
                }
                remove_if_empty(container, "env");
            }),
        }
    }
    remove_if_empty(object, "spec");
    pod
}

fn each_container(spec: &mut Map<String, Value>, change: impl Fn(&mut Map<String, Value>)) {
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            change(container);
        }
    }
}

fn remove_if_empty(object: &mut Map<String, Value>, field: &str) {
    let empty = match object.get(field) {
        Some(Value::Object(inner)) => inner.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Null) => true,
        _ => false,
    };
    if empty {
        object.remove(field);
    }
}
