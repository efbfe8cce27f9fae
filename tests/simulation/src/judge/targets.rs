//! Rules about targets.

use std::{collections::BTreeSet, time::Duration};

use registrar_core::{
    aws::{Call, HealthState},
    cluster::{BindingRecord, Key, PodRecord, Uid},
    effect::{Action, Request},
};

use super::{
    books::Books,
    view::{Look, View, proofs},
};
use crate::{
    fact::{Allowed, Fact, TargetKey},
    plane::key_of,
};

/// How old the knowledge may be that a registration is based on.
const PROOF_AGE: Duration = Duration::from_secs(30);
/// How long a withdrawn tag may still count.
const TAG_AGE: Duration = Duration::from_mins(1);
/// How old a second look may be when it is acted upon.
const SECOND_LOOK_AGE: Duration = Duration::from_secs(15);
/// For how long AWS may not show what it has acknowledged.
const UNSEEN: Duration = Duration::from_mins(1);
/// Two answers that a group does not exist must lie so far apart to be believed.
const APART: Duration = Duration::from_secs(5);

fn says(verb: &str, keys: &BTreeSet<TargetKey>) -> String {
    let list: Vec<_> = keys.iter().map(|key| format!("{}:{}", key.address, key.port)).collect();
    format!("{verb} {}", list.join(" "))
}

fn registers<'a>(books: &'a Books, fact: &'a Fact<'_>) -> Option<(&'a View, String, BTreeSet<TargetKey>)> {
    let Fact::Wants { replica, effect } = fact else { return None };
    let Action::Aws { call: Call::RegisterTargets { group, targets }, .. } = &effect.action else { return None };
    let keys = targets.iter().map(|target| key_of(group, target)).collect();
    Some((&books.views[*replica], group.as_str().to_owned(), keys))
}

fn deregisters<'a>(books: &'a Books, fact: &'a Fact<'_>) -> Option<(&'a View, String, BTreeSet<TargetKey>)> {
    let Fact::Wants { replica, effect } = fact else { return None };
    let Action::Aws { call: Call::DeregisterTargets { group, targets }, .. } = &effect.action else { return None };
    let keys = targets.iter().map(|target| key_of(group, target)).collect();
    Some((&books.views[*replica], group.as_str().to_owned(), keys))
}

/// S3: register only proven endpoints, known as such at most 30 s ago.
pub(super) fn proven_endpoint(books: &Books, now: Duration, fact: &Fact<'_>) -> Option<String> {
    let (view, group, keys) = registers(books, fact)?;
    let fresh: BTreeSet<TargetKey> = view
        .read_endpoints
        .values()
        .filter(|fresh| fresh.at + PROOF_AGE >= now)
        .flat_map(|fresh| {
            let pods: Vec<&PodRecord> = fresh.pods.iter().collect();
            fresh.slices.iter().flat_map(|slice| proofs(slice, &pods)).collect::<Vec<_>>()
        })
        .map(|(address, port)| TargetKey { group: group.clone(), address, port })
        .collect();
    let current = view.proofs();
    let proven = |key: &TargetKey| {
        let lately = view.proven.get(key).is_some_and(|at| *at + PROOF_AGE >= now);
        lately || current.contains(key) || fresh.contains(key)
    };
    let unproven: BTreeSet<TargetKey> = keys.into_iter().filter(|key| !proven(key)).collect();
    (!unproven.is_empty()).then(|| format!("{}: no proven endpoints", says("register", &unproven)))
}

/// S4: where tags decide, register only in groups whose tags allow the binding's namespace; a withdrawn tag counts for a
/// minute, by the registrar's clock.
pub(super) fn authorised(books: &Books, now: Duration, fact: &Fact<'_>) -> Option<String> {
    let (view, group, keys) = registers(books, fact).filter(|_| books.enforced)?;
    let Fact::Wants { replica, .. } = fact else { return None };
    let age = TAG_AGE * 100 / books.rates[*replica].min(100);
    let allowed = |binding: &BindingRecord| {
        let history = books.tags.get(&group).map(Vec::as_slice).unwrap_or_default();
        history.iter().enumerate().any(|(n, (_, allowed))| {
            let until = history.get(n + 1).map_or(Duration::MAX, |(at, _)| *at);
            let namespace = &*binding.meta.key.namespace;
            let says = |list: &[String]| list.iter().any(|name| name == "*" || name == namespace);
            until.saturating_add(age) >= now && matches!(allowed, Allowed::Namespaces(list) if says(list))
        })
    };
    let any = view.bindings_of(&group).any(allowed);
    (!any).then(|| format!("{} in a group whose tags do not allow it", says("register", &keys)))
}

/// S5: of a group that others share, deregister only what a registrar of this cluster has registered.
pub(super) fn own_removals(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    let (view, group, keys) = deregisters(books, fact)?;
    let shared = view.bindings_of(&group).any(|b| b.spec.multi_cluster_target_group == Some(true));
    let foreign: BTreeSet<TargetKey> = keys.into_iter().filter(|key| shared && !books.ours.contains(key)).collect();
    (!foreign.is_empty()).then(|| format!("{}: foreign targets of a shared group", says("deregister", &foreign)))
}

/// Whether nothing takes all targets of a binding away. A tag that was withdrawn does, from when the registrar has read it
/// until it may have to read it again: what the tag says at this moment it cannot know.
fn binding_lives(books: &Books, view: &View, now: Duration, group: &str, binding: &BindingRecord) -> bool {
    let names = |names: &BTreeSet<String>| names.contains("*") || names.contains(&*binding.meta.key.namespace);
    let withdrawn =
        books.enforced && view.tags.get(group).is_some_and(|(at, allowed)| *at + TAG_AGE >= now && !names(allowed));
    !binding.meta.deleting && !withdrawn
}

/// S6: deregister nothing whose owner is ready and not terminating in the newest state that the registrar was told.
pub(super) fn premature_removal(books: &Books, now: Duration, fact: &Fact<'_>) -> Option<String> {
    let (view, group, keys) = deregisters(books, fact)?;
    for binding in view.bindings_of(&group).filter(|binding| binding_lives(books, view, now, &group, binding)) {
        let of_service = |service: &str| *service == *binding.spec.service_ref.name;
        for slice in view.slices().filter(|slice| {
            of_service(&slice.service) && slice.meta.key.namespace == binding.meta.key.namespace && slice.by_controller
        }) {
            for endpoint in slice.endpoints.iter().filter(|e| e.ready && !e.terminating) {
                let Some((name, uid)) = &endpoint.pod else { continue };
                let key = Key { namespace: slice.meta.key.namespace.clone(), name: name.clone() };
                let Some(pod) = view.pod(&key).filter(|pod| pod.meta.uid == *uid) else { continue };
                let address = endpoint.address.to_string();
                let alone = view.owners(&address).len() == 1;
                let fit = !pod.meta.deleting
                    && pod.containers_ready
                    && pod.ready
                    && pod.addresses.contains(&endpoint.address)
                    && alone;
                let ports = slice.ports.iter().map(|(_, port, _)| *port);
                let mut wanted = ports.map(|port| TargetKey { group: group.clone(), address: address.clone(), port });
                if fit && wanted.any(|target| keys.contains(&target)) {
                    return Some(format!("deregister {address}: pod {name} ({}) is ready", uid.0));
                }
            }
        }
    }
    None
}

/// S7: besides pods that are terminating or proven gone, one pass takes at most a quarter of the healthy targets (one at
/// least), and never the last target, unless a fresh read of the endpoints agrees.
pub(super) fn brake(books: &Books, now: Duration, fact: &Fact<'_>) -> Option<String> {
    let (view, group, keys) = deregisters(books, fact)?;
    let mut passing = keys;
    if let Some((at, before)) = view.removing.get(&group)
        && *at == now
    {
        passing.extend(before.iter().cloned());
    }
    let bindings: Vec<&BindingRecord> = view.bindings_of(&group).collect();
    if bindings.iter().all(|binding| !binding_lives(books, view, now, &group, binding)) {
        return None;
    }
    let is_proven =
        |key: &TargetKey| bindings.iter().any(|binding| proven_gone(books, view, &binding.meta.key.namespace, key));
    let look = view.last_look(&group)?;
    let registered = |key: &TargetKey| look.states.get(key).is_some_and(|(state, _)| *state != HealthState::Draining);
    let unproven: BTreeSet<TargetKey> =
        passing.iter().filter(|key| registered(key) && !is_proven(key)).cloned().collect();
    if unproven.is_empty() || bindings.iter().any(|binding| agrees(view, now, binding, &unproven)) {
        return None;
    }
    let healthy = look.states.values().filter(|(state, _)| *state == HealthState::Healthy).count();
    let left =
        look.states.iter().filter(|(key, (state, _))| *state != HealthState::Draining && !passing.contains(*key));
    // What was acknowledged a moment ago is there too, whether or not looks show it yet.
    let new = books.acknowledged.iter().filter(|(key, acknowledged)| {
        let since = acknowledged.iter().any(|acknowledged| acknowledged.at + UNSEEN >= now);
        key.group == group && since && !passing.contains(*key) && !look.states.contains_key(*key)
    });
    let left = left.count() + new.count();
    let taken =
        unproven.iter().filter(|key| look.states.get(*key).is_some_and(|(state, _)| *state == HealthState::Healthy));
    let taken = taken.count();
    let too_many = taken > (healthy / 4).max(1);
    (left == 0 || too_many).then(|| {
        let what = says("deregister", &unproven);
        format!("{what}: {taken} of {healthy} healthy targets with {left} left, and no second look agrees")
    })
}

/// Whether the pods that a target was registered for are terminating or gone. Where that is not known, whether no pod of
/// the namespace that is known to live has the address, and whoever had it last is terminating or gone.
fn proven_gone(books: &Books, view: &View, namespace: &str, key: &TargetKey) -> bool {
    let in_namespace = |pod: &&PodRecord| *pod.meta.key.namespace == *namespace;
    // The slice controller sets this from the pod's deletion.
    let slices = view.slices().filter(|slice| *slice.meta.key.namespace == *namespace);
    let mut endpoints = slices.flat_map(|slice| &slice.endpoints);
    if endpoints.any(|endpoint| endpoint.terminating && endpoint.address.to_string() == key.address) {
        return true;
    }
    let leaves = |pod: &PodRecord| pod.meta.deleting || pod.finished;
    let is_gone = |uid: &Uid| view.gone.contains(uid) || view.pods().any(|pod| pod.meta.uid == *uid && leaves(pod));
    let registered_for = books.acknowledged.get(key).and_then(|all| all.last()).map(|last| &last.owners);
    if registered_for.is_some_and(|owners| !owners.is_empty() && owners.iter().all(is_gone)) {
        return true;
    }
    let has = |pod: &&PodRecord| pod.addresses.iter().any(|address| address.to_string() == key.address);
    let mut owners = view.pods().filter(in_namespace).filter(has).peekable();
    if owners.peek().is_some() {
        return owners.any(leaves);
    }
    match view.last_owner.get(&(namespace.to_owned(), key.address.clone())) {
        // No pod of the namespace has ever had it: it is a stranger's.
        None => true,
        Some((_, uid)) => is_gone(uid),
    }
}

/// Whether a fresh read of a binding's endpoints does not show these targets as ones that should be.
fn agrees(view: &View, now: Duration, binding: &BindingRecord, keys: &BTreeSet<TargetKey>) -> bool {
    let service = crate::cluster::key(&binding.meta.key.namespace, &binding.spec.service_ref.name);
    let Some(fresh) = view.read_endpoints.get(&service).filter(|fresh| fresh.at + SECOND_LOOK_AGE >= now) else {
        return false;
    };
    let shown = |key: &TargetKey| {
        fresh.slices.iter().flat_map(|slice| &slice.endpoints).any(|endpoint| {
            let pod = endpoint.pod.as_ref().and_then(|(name, uid)| {
                fresh.pods.iter().find(|pod| pod.meta.key.name == *name && pod.meta.uid == *uid)
            });
            endpoint.address.to_string() == key.address
                && !endpoint.terminating
                && pod.is_some_and(|pod| !pod.meta.deleting && pod.containers_ready)
        })
    };
    !keys.iter().any(shown)
}

/// S11: the finalizer leaves only after a look, later than the last removal, shows none of our targets but draining ones,
/// or after AWS has said twice, 5 s apart, that the group does not exist.
pub(super) fn finalizer(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    let Fact::Wants { replica, effect } = fact else { return None };
    let Action::Kubernetes(Request::SetBindingFinalizer { binding, present: false, .. }) = &effect.action else {
        return None;
    };
    let view = &books.views[*replica];
    let record = view.binding(&binding.namespace, &binding.name)?;
    let group = record.spec.target_group_arn.as_deref()?;
    let shared = record.spec.multi_cluster_target_group == Some(true);
    let missing = view.not_found.get(group).map(Vec::as_slice).unwrap_or_default();
    let apart = APART * 100 / books.rates[*replica].max(100);
    if let (Some(first), Some(last)) = (missing.first(), missing.last())
        && *last >= *first + apart
    {
        return None;
    }
    let Some(look) = view.last_look(group) else {
        return Some(format!("finalizer off {} without a look at its group", binding.name));
    };
    // A stranger's targets are not the binding's where others share the group, or where its tags do not allow it.
    let allows = |tags: &BTreeSet<String>| tags.contains("*") || tags.contains(&*binding.namespace);
    let barred = books.enforced && view.tags.get(group).is_none_or(|(_, tags)| !allows(tags));
    let of_group = |key: &&TargetKey| key.group == group && (!(shared || barred) || books.ours.contains(*key));
    let removed = books.deregistered_at.iter().filter(|(key, _)| of_group(key)).map(|(_, at)| *at).max();
    if removed.is_some_and(|at| at > look.sent_at) {
        return Some(format!("finalizer off {} without a look since the last removal", binding.name));
    }
    // In a shared group a target is ours until it was seen to have left, whatever looks say of it later.
    let has_left = |key: &TargetKey| {
        let shows = |look: &Look| look.states.get(key).is_none_or(|(state, _)| *state == HealthState::Draining);
        let removed = books.deregistered_at.get(key).filter(|_| shared && !books.acknowledged.contains_key(key));
        removed.is_some_and(|at| {
            books.views.iter().flat_map(|view| view.answered(group)).any(|look| look.sent_at > *at && shows(look))
        })
    };
    let left: BTreeSet<TargetKey> = look
        .states
        .iter()
        .filter(|(key, (state, _))| of_group(key) && *state != HealthState::Draining && !has_left(key))
        .map(|(key, _)| key.clone())
        .collect();
    (!left.is_empty())
        .then(|| format!("finalizer off {}, but the look shows {}", binding.name, says("as registered", &left)))
}
