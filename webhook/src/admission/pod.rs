//! What the hooks on pods read of a pod: a few fields, so that nothing else can be misread or lost.

use std::{borrow::Cow, collections::BTreeMap};

use nlb::{
    drain::{ContainerFacts, PreStop},
    prediction::PodFacts,
};
use serde::Deserialize;

/// More containers, or more gates, than any pod has that runs.
const MOST: usize = 1000;

/// A pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod<'a> {
    metadata: Option<Metadata<'a>>,
    /// Nothing if the pod has none, which the API server is going to refuse anyway.
    #[serde(borrow)]
    pub spec: Option<Spec<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<'a> {
    #[serde(borrow)]
    generate_name: Option<Cow<'a, str>>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Its spec.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec<'a> {
    host_network: Option<bool>,
    /// Its readiness gates, if it has a list of them.
    pub readiness_gates: Option<Vec<Gate>>,
    /// Its containers.
    #[serde(borrow)]
    pub containers: Option<Vec<Container<'a>>>,
    /// Its init containers, among which are sidecars.
    #[serde(borrow)]
    pub init_containers: Option<Vec<Container<'a>>>,
    /// How long it has to stop, in seconds.
    pub termination_grace_period_seconds: Option<i64>,
}

/// A readiness gate.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct Gate {
    /// The condition that has to be true.
    pub condition_type: String,
}

/// A container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow)]
    restart_policy: Option<Cow<'a, str>>,
    /// What it does when it starts and stops.
    pub lifecycle: Option<Lifecycle>,
    /// Its environment, if it has a list of variables.
    #[serde(borrow)]
    pub env: Option<Vec<Variable<'a>>>,
}

/// What a container does when it starts and stops.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    pre_stop: Option<Hook>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hook {
    sleep: Option<Sleep>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sleep {
    seconds: i64,
}

/// A variable of the environment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Variable<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
}

impl Pod<'_> {
    /// What decides about gates and delays.
    pub fn facts(&self) -> PodFacts<'_> {
        let metadata = self.metadata.as_ref();
        PodFacts {
            labels: metadata.and_then(|metadata| metadata.labels.as_ref()),
            annotations: self.annotations(),
            host_network: self.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)),
        }
    }

    /// Its annotations.
    pub fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata.as_ref()?.annotations.as_ref()
    }

    /// What it has too much of to be changed, in words.
    pub fn excess(&self) -> Option<String> {
        let spec = self.spec.as_ref()?;
        let count = |containers: &Option<Vec<Container>>| containers.as_ref().map_or(0, Vec::len);
        let containers = count(&spec.containers) + count(&spec.init_containers);
        let gates = spec.readiness_gates.as_ref().map_or(0, Vec::len);
        let (count, what) = if containers > MOST { (containers, "containers") } else { (gates, "readiness gates") };
        (count > MOST).then(|| format!("this pod has {count} {what}; one with more than {MOST} is left as it is"))
    }

    /// What its name is going to begin with, if it has none yet.
    pub fn generate_name(&self) -> Option<&str> {
        self.metadata.as_ref()?.generate_name.as_deref()
    }
}

impl Container<'_> {
    /// What decides about its delay.
    pub fn facts(&self) -> ContainerFacts<'_> {
        let hook = self.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let pre_stop = match hook.map(|hook| hook.sleep.as_ref()) {
            None => PreStop::None,
            Some(Some(sleep)) => PreStop::Sleeps(sleep.seconds),
            Some(None) => PreStop::Other,
        };
        ContainerFacts { name: &self.name, restarts_always: self.restart_policy.as_deref() == Some("Always"), pre_stop }
    }
}
