//! Reads what is shown from the API server and from AWS.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Node, Pod, Service},
};
use kube::{Api, Client, Resource, api::ListParams};
use nlb::{
    service::{Ownership, ownership},
    settings::TargetType,
    targetgroupbinding::TargetGroupBinding,
};
use registrar_core::{
    Settings,
    aws::{Account, Call, ListenerQuery, LoadBalancerQuery, Reply},
};
use serde::de::DeserializeOwned;

use super::view::{self, Found};
use crate::aws::Reader;

/// Load balancers and listeners change seldom: they are read anew each so many rounds.
const SELDOM: u32 = 12;

/// What to look at.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// All if nothing is said.
    pub(super) namespace: Option<String>,
    /// One Service of it.
    pub(super) service: Option<String>,
}

/// Where it is read.
pub(super) struct Source<'a> {
    client: Client,
    aws: &'a Reader<'a>,
    settings: &'a Settings,
    scope: Scope,
    /// What was read last.
    found: Found,
    round: u32,
}

impl<'a> Source<'a> {
    pub(super) fn new(client: Client, aws: &'a Reader<'a>, settings: &'a Settings, scope: Scope) -> Self {
        Self { client, aws, settings, scope, found: Found::default(), round: 0 }
    }

    /// Everything, as it is now.
    pub(super) async fn read(&mut self) -> Result<Found> {
        self.cluster().await?;
        if self.round.is_multiple_of(SELDOM) {
            self.found.load_balancers.clear();
            self.found.listeners.clear();
        }
        self.round += 1;
        self.load_balancers().await;
        self.health().await;
        Ok(self.found.clone())
    }

    async fn cluster(&mut self) -> Result<()> {
        let wanted = |name: Option<&String>| self.scope.service.is_none() || self.scope.service.as_ref() == name;
        let mut services: Vec<Service> = self.list("Services").await?;
        services.retain(|service| {
            let ours = ownership::of(service, &self.settings.model) == Ownership::Ours || view::has_finalizer(service);
            ours && wanted(service.metadata.name.as_ref())
        });
        let mut bindings: Vec<TargetGroupBinding> = self.list("TargetGroupBindings").await?;
        bindings.retain(|binding| wanted(Some(&view::service_of(binding).1)));
        let pods: Vec<Pod> = if bindings.is_empty() { Vec::new() } else { self.list("Pods").await? };
        let by_node = bindings.iter().any(|binding| binding.spec.target_type == Some(TargetType::Instance));
        // Without the permission targets are shown by their ids alone.
        let nodes = if by_node { Api::<Node>::all(self.client.clone()).list(&whole()).await.ok() } else { None };
        self.found.services = services;
        self.found.bindings = bindings;
        self.found.pods = pods;
        self.found.nodes = nodes.map(|list| list.items).unwrap_or_default();
        Ok(())
    }

    async fn list<K>(&self, what: &str) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api: Api<K> = match &self.scope.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let list = api.list(&whole()).await.with_context(|| format!("listing {what}"))?;
        Ok(list.items)
    }

    async fn load_balancers(&mut self) {
        let names: BTreeSet<String> = self
            .found
            .services
            .iter()
            .filter_map(|service| view::balancer_name(view::hostname(service)?).map(ToOwned::to_owned))
            .collect();
        for name in names {
            if self.found.load_balancers.contains_key(&name) {
                continue;
            }
            let call = Call::DescribeLoadBalancers(LoadBalancerQuery::Name(name.clone()));
            let answer = match self.aws.ask(&Account::Own, &call).await {
                Ok(Reply::LoadBalancers { load_balancers, .. }) => Ok(load_balancers.into_iter().next()),
                Ok(_) => Ok(None),
                Err(fault) if fault.is("LoadBalancerNotFound") => Ok(None),
                Err(fault) => Err(fault.to_string()),
            };
            if let Ok(Some(balancer)) = &answer {
                let call = Call::DescribeListeners(ListenerQuery::LoadBalancer(balancer.arn.clone()));
                let listeners = match self.aws.ask(&Account::Own, &call).await {
                    Ok(Reply::Listeners(listeners)) => Ok(listeners),
                    Ok(_) => Ok(Vec::new()),
                    Err(fault) => Err(fault.to_string()),
                };
                self.found.listeners.insert(balancer.arn.clone(), listeners);
            }
            // One that is not active yet is looked at each time.
            if !matches!(&answer, Ok(Some(balancer)) if balancer.state == "active") {
                self.round = 0;
            }
            self.found.load_balancers.insert(name, answer);
        }
    }

    async fn health(&mut self) {
        self.found.health.clear();
        for binding in &self.found.bindings {
            let Some(group) = view::group_of(binding) else { continue };
            if self.found.health.contains_key(&group) {
                continue;
            }
            let health = match self.account(binding) {
                Err(why) => Err(why),
                Ok(account) => match self.aws.ask(&account, &Call::DescribeTargetHealth { group: group.clone() }).await
                {
                    Ok(Reply::TargetHealth(health)) => Ok(health),
                    Ok(_) => Ok(Vec::new()),
                    Err(fault) => Err(fault.to_string()),
                },
            };
            self.found.health.insert(group, health);
        }
    }

    /// The account of a binding's group.
    fn account(&self, binding: &TargetGroupBinding) -> Result<Account, String> {
        let Some(arn) = binding.spec.iam_role_arn_to_assume.as_ref().filter(|arn| !arn.is_empty()) else {
            return Ok(Account::Own);
        };
        let known = self.settings.roles.iter().find(|(_, role)| role.arn == *arn);
        known
            .map(|(name, _)| Account::Role(name.clone()))
            .ok_or_else(|| format!("the settings have no role {arn}; pass them with --registrar-settings"))
    }
}

/// A list without pages.
fn whole() -> ListParams {
    ListParams::default()
}
