//! What the AWS and the API server of the stage answer.

use std::{sync::Arc, time::Duration};

use registrar_core::{
    aws::{Arn, Call, Fault, HealthCheck, HealthState, Reply, Target, TargetGroup, TargetGroupQuery, TargetHealth},
    cluster::Kind,
    effect::Request,
    event::{Answer, Denial, Watched},
};

use super::{Group, Place, Stage, refused};

impl Stage {
    pub(super) fn call(&mut self, call: &Call) -> Result<Reply, Fault> {
        let now = self.now;
        let delay = self.health_delay;
        let missing = || refused("TargetGroupNotFound", "One or more target groups not found");
        match call {
            Call::DescribeTargetGroups(query) => {
                let arns: Vec<String> = match query {
                    TargetGroupQuery::Arns(arns) => arns.iter().map(ToString::to_string).collect(),
                    TargetGroupQuery::Name(name) => {
                        self.groups.keys().filter(|arn| arn.contains(&format!("/{name}/"))).cloned().collect()
                    }
                    _ => Vec::new(),
                };
                let groups: Option<Vec<TargetGroup>> =
                    arns.iter().map(|arn| self.groups.get(arn).map(|group| described(arn, group))).collect();
                let target_groups = groups.filter(|groups| !groups.is_empty()).ok_or_else(missing)?;
                Ok(Reply::TargetGroups { target_groups, next_marker: None })
            }
            Call::DescribeTags { resources } => {
                let tags = resources.iter().map(|arn| {
                    let group = self.groups.get(arn.as_str()).ok_or_else(missing)?;
                    Ok((arn.clone(), group.tags.clone()))
                });
                Ok(Reply::Tags(tags.collect::<Result<_, Fault>>()?))
            }
            Call::DescribeTargetHealth { group } => {
                let group = self.groups.get(group.as_str()).ok_or_else(missing)?;
                Ok(Reply::TargetHealth(
                    group.targets.iter().map(|(key, place)| health(group, key, place, now, delay)).collect(),
                ))
            }
            Call::RegisterTargets { group, targets } => {
                let group = self.groups.get_mut(group.as_str()).ok_or_else(missing)?;
                for target in targets {
                    let key = (target.id.clone(), target.port);
                    let zone = target.availability_zone.clone();
                    match group.targets.get_mut(&key) {
                        Some(place) if !place.draining => {}
                        _ => {
                            group.targets.insert(key, Place { since: now, draining: false, zone });
                        }
                    }
                }
                Ok(Reply::Done)
            }
            Call::DeregisterTargets { group, targets } => {
                let group = self.groups.get_mut(group.as_str()).ok_or_else(missing)?;
                for target in targets {
                    if let Some(place) = group.targets.get_mut(&(target.id.clone(), target.port)) {
                        place.draining = true;
                    }
                }
                Ok(Reply::Done)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn request(&mut self, request: &Request) -> Result<Answer, Denial> {
        match request {
            Request::GetBinding { binding } => self.bindings.get(binding).map(|_| Answer::Done).ok_or(Denial::NotFound),
            Request::ListEndpoints { .. } => {
                let mut slices = vec![self.slice()];
                if let Some(shown) = &self.endpoints_shown {
                    slices[0].endpoints.clone_from(shown);
                }
                Ok(Answer::Endpoints { slices, pods: self.pods.values().cloned().collect() })
            }
            Request::PatchGate { pod, uid, condition_type, condition, .. } => {
                let mut record = self.pods.get(pod).cloned().ok_or(Denial::NotFound)?;
                if record.meta.uid != *uid {
                    return Err(Denial::Replaced);
                }
                let name = condition_type.strip_prefix("target-health.elbv2.k8s.aws/").unwrap();
                let gate = record.gates.iter_mut().find(|gate| &*gate.binding == name).unwrap();
                gate.condition = Some(condition.clone());
                self.put_pod(record);
                Ok(Answer::Done)
            }
            Request::PatchBindingStatus { binding, status, .. } => {
                let mut record = self.bindings.get(binding).cloned().ok_or(Denial::NotFound)?;
                record.status = Some(Arc::new((**status).clone()));
                self.put_binding(record);
                Ok(Answer::Done)
            }
            Request::ResolveBinding { binding, spec, .. } => {
                let mut record = self.bindings.get(binding).cloned().ok_or(Denial::NotFound)?;
                record.spec = Arc::new((**spec).clone());
                self.put_binding(record);
                Ok(Answer::Done)
            }
            Request::SetBindingFinalizer { binding, present, .. } => {
                let mut record = self.bindings.get(binding).cloned().ok_or(Denial::NotFound)?;
                record.has_finalizer = *present;
                if record.meta.deleting && !present {
                    self.bindings.remove(binding);
                    self.tell(Watched::Deleted(Kind::Binding, binding.clone(), record.meta.uid));
                } else {
                    self.put_binding(record);
                }
                Ok(Answer::Done)
            }
            Request::GetLedger { binding } => Ok(Answer::Ledger(self.ledgers.get(binding).cloned())),
            Request::PutLedger { binding, targets } => {
                match targets {
                    Some(targets) => self.ledgers.insert(binding.clone(), targets.clone()),
                    None => self.ledgers.remove(binding),
                };
                Ok(Answer::Done)
            }
            Request::Publish(_) => Ok(Answer::Done),
            other => panic!("{other:?}"),
        }
    }
}

fn described(arn: &str, group: &Group) -> TargetGroup {
    TargetGroup {
        arn: Arn::new(arn),
        name: arn.split('/').nth(1).unwrap_or_default().to_owned(),
        protocol: "TCP".to_owned(),
        port: Some(8080),
        vpc_id: Some("vpc-1".to_owned()),
        target_type: group.target_type.to_owned(),
        ip_address_type: Some("ipv4".to_owned()),
        health_check: HealthCheck {
            interval_seconds: Some(10),
            healthy_threshold: Some(3),
            unhealthy_threshold: Some(3),
            ..HealthCheck::default()
        },
        load_balancers: vec![Arn::new("arn:lb")],
    }
}

fn health(group: &Group, key: &(String, u16), place: &Place, now: Duration, delay: Duration) -> TargetHealth {
    let told = group.state.get(&key.0).cloned();
    let (state, reason) = match told {
        Some(told) => told,
        None if place.draining => (HealthState::Draining, Some("Target.DeregistrationInProgress")),
        None if now < place.since + delay => (HealthState::Initial, Some("Elb.InitialHealthChecking")),
        None if group.unhealthy.contains(&key.0) => (HealthState::Unhealthy, Some("Target.FailedHealthChecks")),
        None => (HealthState::Healthy, None),
    };
    let target = Target { id: key.0.clone(), port: key.1, availability_zone: place.zone.clone(), quic_server_id: None };
    TargetHealth { target, state, reason: reason.map(str::to_owned), description: None }
}
