//! Requests of the core as requests to the API server, and its answers as the core's.
//!
//! Nothing is repeated here: what to do about a conflict is the core's to say; only a list of finalizers is read and written
//! again if somebody has touched the object in between. Every write to an object that may have been replaced by another of
//! its name is bound to the UID.

mod bindings;
mod denial;
mod ledger;
mod notices;
mod pods;
mod services;

use std::fmt::Debug;

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Service};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
};
use nlb::{
    tags::{BINDING_FINALIZER, SERVICE_FINALIZER},
    targetgroupbinding::TargetGroupBinding,
};
use registrar_core::{
    Settings,
    cluster::{Key, Uid},
    effect::Request,
    event::{Answer, Denial},
};
use serde::de::DeserializeOwned;
use serde_json::json;

pub use self::denial::{denial, words};
use crate::metrics::Metrics;

/// Who we are in `metadata.managedFields`, and in the Events we publish.
pub const MANAGER: &str = "sluice-registrar";

/// How often an object is read again because somebody has touched it before it was written.
const MOST_CONFLICTS: u32 = 3;

/// The API server, as it is asked and written to.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Name of this process in Events.
    instance: String,
    /// What records depend on.
    settings: Settings,
    metrics: Metrics,
}

impl Cluster {
    /// Requests go through this client, which must repeat nothing by itself.
    pub fn new(client: Client, instance: String, settings: Settings, metrics: Metrics) -> Self {
        Self { client, instance, settings, metrics }
    }

    /// Asks for one thing, once.
    pub async fn ask(&self, request: &Request) -> Result<Answer, Denial> {
        match request {
            Request::GetBinding { binding } => self.get_binding(binding).await,
            Request::ListEndpoints { service } => self.list_endpoints(service).await,
            Request::PatchGate { pod, uid, condition_type, condition, moves } => {
                self.patch_gate(pod, uid, condition_type, condition, *moves).await
            }
            Request::PatchBindingStatus { binding, uid, status } => {
                self.patch_binding_status(binding, uid, status).await
            }
            Request::ResolveBinding { binding, uid, spec } => self.resolve_binding(binding, uid, spec).await,
            Request::SetBindingFinalizer { binding, uid, present } => {
                self.set_finalizer::<TargetGroupBinding>(binding, uid, BINDING_FINALIZER, *present).await
            }
            Request::ApplyBinding { binding, labels, spec } => self.apply_binding(binding, labels, spec).await,
            Request::DeleteBinding { binding, uid } => self.delete_binding(binding, uid).await,
            Request::SetServiceFinalizer { service, uid, present } => {
                self.set_finalizer::<Service>(service, uid, SERVICE_FINALIZER, *present).await
            }
            Request::PatchServiceStatus { service, uid, hostname, conditions } => {
                self.patch_service_status(service, uid, hostname.as_deref(), conditions).await
            }
            Request::SetManagedFields { service, uid, fields } => self.set_managed_fields(service, uid, fields).await,
            Request::GetLedger { binding } => self.get_ledger(binding).await,
            Request::PutLedger { binding, targets } => self.put_ledger(binding, targets.as_deref()).await,
            Request::Publish(notice) => self.publish(notice).await,
        }
    }

    fn api<K>(&self, key: &Key) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// Puts a finalizer on an object or takes it off, and leaves those of others as they are.
    async fn set_finalizer<K>(&self, key: &Key, uid: &Uid, finalizer: &str, present: bool) -> Result<Answer, Denial>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        through_conflicts(move || self.try_finalizer::<K>(key, uid, finalizer, present)).await
    }

    /// The same, once: read, and written only if nobody has written in between.
    async fn try_finalizer<K>(&self, key: &Key, uid: &Uid, finalizer: &str, present: bool) -> Result<Answer, Denial>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>(key);
        let object = api.get(&key.name).await.map_err(denial)?;
        if object.uid().as_deref() != Some(&*uid.0) {
            return Err(Denial::Replaced);
        }
        let before = object.finalizers();
        if before.iter().any(|name| name == finalizer) == present {
            return Ok(Answer::Done);
        }
        if present && object.meta().deletion_timestamp.is_some() {
            return Err(Denial::Refused(format!("it is being deleted, and takes no finalizer {finalizer} any more")));
        }
        let mut after: Vec<_> = before.iter().filter(|name| *name != finalizer).map(String::as_str).collect();
        if present {
            after.push(finalizer);
        }
        let patch = json!({"metadata": {
            "uid": &*uid.0,
            "resourceVersion": object.resource_version(),
            "finalizers": after,
        }});
        self.merge::<K>(key, &patch).await
    }

    async fn merge<K>(&self, key: &Key, patch: &serde_json::Value) -> Result<Answer, Denial>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.api::<K>(key).patch(&key.name, &parameters, &Patch::Merge(patch)).await.map_err(denial)?;
        Ok(Answer::Done)
    }
}

/// Reads and writes anew when somebody else has written in between.
async fn through_conflicts<F>(attempt: impl Fn() -> F) -> Result<Answer, Denial>
where
    F: Future<Output = Result<Answer, Denial>>,
{
    for _ in 0..MOST_CONFLICTS {
        match attempt().await {
            Err(Denial::Conflict) => {}
            ended => return ended,
        }
    }
    attempt().await
}

/// A request by one word, for logs and metrics.
pub fn name(request: &Request) -> &'static str {
    match request {
        Request::GetBinding { .. } => "GetBinding",
        Request::ListEndpoints { .. } => "ListEndpoints",
        Request::PatchGate { .. } => "PatchGate",
        Request::PatchBindingStatus { .. } => "PatchBindingStatus",
        Request::ResolveBinding { .. } => "ResolveBinding",
        Request::SetBindingFinalizer { .. } => "SetBindingFinalizer",
        Request::ApplyBinding { .. } => "ApplyBinding",
        Request::DeleteBinding { .. } => "DeleteBinding",
        Request::SetServiceFinalizer { .. } => "SetServiceFinalizer",
        Request::PatchServiceStatus { .. } => "PatchServiceStatus",
        Request::SetManagedFields { .. } => "SetManagedFields",
        Request::GetLedger { .. } => "GetLedger",
        Request::PutLedger { .. } => "PutLedger",
        Request::Publish(_) => "Publish",
    }
}
