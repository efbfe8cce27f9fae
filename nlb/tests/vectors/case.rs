//! One case: the documents of a file, and what comes out of the object in it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use nlb::{
    annotations::{self, Object},
    drain,
    prediction::{self, BindingFacts, PodFacts, ServiceFacts},
    service,
    settings::ModelSettings,
    targetgroupbinding::{self, TargetGroupBinding},
    violation::Violation,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::expect::{self, Expect};

pub(crate) struct Case {
    settings: ModelSettings,
    given: Vec<Value>,
    old: Option<Value>,
    object: Value,
    expect: Expect,
}

fn typed<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("{what}: {error}"))
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

impl Case {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let documents: Vec<Map<String, Value>> =
            serde_saphyr::from_multiple(text).map_err(|error| format!("not YAML: {error}"))?;
        let (mut settings, mut given, mut old, mut object, mut expect) = (None, None, None, None, None);
        for document in documents {
            let slot = match (document.contains_key("kind"), document.keys().next().map(String::as_str), document.len())
            {
                (true, ..) => &mut object,
                (_, Some("settings"), 1) => &mut settings,
                (_, Some("given"), 1) => &mut given,
                (_, Some("old"), 1) => &mut old,
                (_, Some("expect"), 1) => &mut expect,
                (_, key, _) => {
                    return Err(format!("a document with {key:?} is neither a manifest nor one that is known"));
                }
            };
            let is_object = document.contains_key("kind");
            let content =
                if is_object { Value::Object(document) } else { document.into_values().next().unwrap_or_default() };
            if slot.replace(content).is_some() {
                return Err("two documents of one kind".to_owned());
            }
        }
        let expect: Expect = typed(&expect.ok_or("no expect document")?, "expect")?;
        if expect.is_empty() {
            return Err("expects nothing".to_owned());
        }
        Ok(Self {
            settings: settings.map_or(Ok(ModelSettings::default()), |settings| typed(&settings, "settings"))?,
            given: given.map_or(Ok(Vec::new()), |given| typed(&given, "given"))?,
            old,
            object: object.ok_or("no manifest")?,
            expect,
        })
    }

    /// Everything that is not as expected.
    pub(crate) fn run(&self) -> Vec<String> {
        let result = match kind(&self.object) {
            "Service" => self.service(),
            "TargetGroupBinding" => self.binding(),
            "Pod" => self.pod(),
            other => Err(format!("no vectors are written for {other}")),
        };
        result.unwrap_or_else(|problem| vec![problem])
    }

    fn only(&self, allowed: &[&str]) -> Vec<String> {
        let foreign = self.expect.keys().into_iter().filter(|key| !allowed.contains(key));
        foreign.map(|key| format!("{key} is not for a {}", kind(&self.object))).collect()
    }

    fn service(&self) -> Result<Vec<String>, String> {
        let mut problems = self.only(&["violations", "ownership", "accepted", "spec"]);
        let new: Service = typed(&self.object, "the Service")?;
        let old: Option<Service> = self.old.as_ref().map(|old| typed(old, "old")).transpose()?;
        let reading = service::read(&new, &self.settings);
        if let Some(expected) = &self.expect.violations {
            problems.extend(expect::violations(expected, &service::review(old.as_ref(), &new, &self.settings)));
        }
        if let Some(expected) = &self.expect.ownership {
            let found = format!("{:?}", reading.ownership);
            problems.extend((found != *expected).then(|| format!("ownership is {found}, not {expected}")));
        }
        if let Some(expected) = self.expect.accepted {
            let found = reading.accepted().is_ok();
            problems.extend((found != expected).then(|| format!("accepted is {found}")));
        }
        if let Some(expected) = &self.expect.spec {
            let found = serde_json::to_value(&reading.spec).map_err(|error| error.to_string())?;
            expect::part(expected, &found, "spec", &mut problems);
        }
        Ok(problems)
    }

    fn binding(&self) -> Result<Vec<String>, String> {
        let mut problems = self.only(&["violations"]);
        let new: TargetGroupBinding = typed(&self.object, "the TargetGroupBinding")?;
        let old: Option<TargetGroupBinding> = self.old.as_ref().map(|old| typed(old, "old")).transpose()?;
        let others: Vec<TargetGroupBinding> =
            self.given.iter().map(|given| typed(given, "given")).collect::<Result<_, _>>()?;
        let mut found: Vec<Violation> = targetgroupbinding::review(old.as_ref(), &new, &self.settings);
        found.extend(targetgroupbinding::duplicates(&new, &others));
        problems.extend(expect::violations(self.expect.violations.as_deref().unwrap_or_default(), &found));
        Ok(problems)
    }

    fn pod(&self) -> Result<Vec<String>, String> {
        let mut problems = self.only(&["violations", "gates", "removed", "ungated", "drain", "warnings"]);
        let pod: Pod = typed(&self.object, "the Pod")?;
        let settings = Arc::new(self.settings.clone());
        let (mut services, mut bindings) = (Vec::new(), Vec::new());
        for given in &self.given {
            match kind(given) {
                "Service" => services.push(ServiceFacts::of(&Arc::new(typed(given, "given Service")?), &settings)),
                "TargetGroupBinding" => {
                    bindings.push(BindingFacts::of(&typed::<TargetGroupBinding>(given, "given TargetGroupBinding")?));
                }
                other => return Err(format!("given has a {other}")),
            }
        }
        let (services, bindings): (Vec<_>, Vec<_>) = (services.iter().collect(), bindings.iter().collect());
        let facts = PodFacts::of(&pod);
        let spec = pod.spec.clone().unwrap_or_default();

        if let Some(expected) = &self.expect.violations {
            let found = annotations::check(Object::Pod, pod.metadata.annotations.iter().flatten());
            problems.extend(expect::violations(expected, &found));
        }
        let gates = prediction::gates(&facts, &services, &bindings);
        let present: Vec<String> =
            spec.readiness_gates.iter().flatten().map(|gate| gate.condition_type.clone()).collect();
        let added: Vec<String> = gates.missing(&present).map(ToString::to_string).collect();
        let removed: Vec<String> = gates.surplus(&present).map(|index| present[index].clone()).collect();
        problems
            .extend(expect::texts("gates", self.expect.gates.as_deref(), &added, |expected, found| expected == found));
        problems.extend(expect::texts("removed", self.expect.removed.as_deref(), &removed, |expected, found| {
            expected == found
        }));
        problems.extend(expect::texts("ungated", self.expect.ungated.as_deref(), &gates.ungated, |part, found| {
            found.contains(part)
        }));

        let floor = self.settings.drain_floor_seconds;
        let seconds = prediction::drain_seconds(&facts, floor, &services, &bindings);
        let plan = drain::plan(&spec, seconds);
        if let Some(expected) = &self.expect.drain {
            let found = plan.grace.map_or(Value::Null, |grace| {
                json!({"sleep": plan.sleep, "containers": plan.containers, "initContainers": plan.init_containers, "grace": grace})
            });
            expect::part(expected, &found, "drain", &mut problems);
        }
        let warnings = drain::warnings(&plan, spec.termination_grace_period_seconds, floor);
        problems.extend(expect::texts("warnings", self.expect.warnings.as_deref(), &warnings, |part, found| {
            found.contains(part)
        }));
        Ok(problems)
    }
}
