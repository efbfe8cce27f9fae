//! What is no longer wanted goes, from what refers to what is referred to: bindings, target groups, security groups.

use std::collections::BTreeSet;

use nlb::service::spec::SecurityGroups;

use super::{Change, Planner, Resource, Verb, Wait};
use crate::{
    aws::{Arn, Call, HealthState, TargetGroup},
    balancers::{KnownBinding, survey::managed_security_group},
};

impl Planner<'_> {
    pub(super) fn retire(&mut self) {
        let wanted: BTreeSet<&Arn> = self.desired.target_groups.iter().map(|group| &group.target_group_arn).collect();
        let in_use = self.still_in_use();
        for found in &self.survey.groups {
            if wanted.contains(&found.group.arn) {
                continue;
            }
            // Its targets answer for as long as anybody is sent to them.
            if let Some(port) = in_use.get(&found.group.arn) {
                if self.draft.plan.waiting.is_empty() && self.draft.plan.problems.is_empty() {
                    let name = &found.group.name;
                    let message =
                        format!("target group {name} is not wanted, but the listener of port {port} forwards to it");
                    self.waiting("InUse", message, "let that listener forward to something else, or delete it");
                }
                continue;
            }
            let succeeded = self.desired.target_groups.iter().any(|group| group.spec.resource == found.resource);
            self.retire_group(found.group, succeeded);
        }
        let known: BTreeSet<Arn> = self.survey.groups.iter().map(|found| found.group.arn.clone()).collect();
        let names: BTreeSet<&str> = self.desired.bindings.iter().map(|binding| binding.name.as_str()).collect();
        for binding in &self.inputs.bindings {
            let bound = binding.group().is_some_and(|group| known.contains(&group));
            // One whose name is wanted for another group has been dealt with.
            if !bound && !names.contains(&*binding.key.name) {
                self.remove_binding(binding);
            }
        }
        if !matches!(self.desired.mode, SecurityGroups::Managed { .. })
            && let Some(group) = managed_security_group(self.observed)
        {
            self.delete_security_group(&group.name, &group.id);
        }
    }

    /// A target group that nothing refers to any more. Its targets stay until no new connection reaches them and the
    /// connections that they have are over.
    fn retire_group(&mut self, group: &TargetGroup, succeeded: bool) {
        let resource = Resource::new("target group", &group.name);
        let bound = |binding: &&KnownBinding| binding.group().as_ref() == Some(&group.arn);
        let binding = self.inputs.bindings.iter().find(bound);
        let settled = self.inputs.settled.contains(&group.arn);
        if let Some(binding) = binding {
            if succeeded && !settled && !binding.deleting {
                self.wait(resource.clone(), Wait::Settled(group.arn.clone()));
            }
            self.remove_binding(binding);
        }
        match self.observed.health.get(&group.arn) {
            Some(targets) if binding.is_none() => {
                if targets.iter().any(|target| target.state == HealthState::Draining) {
                    self.wait(resource.clone(), Wait::Drained(group.arn.clone()));
                }
            }
            None if binding.is_none() => {
                self.draft.reads.push(Call::DescribeTargetHealth { group: group.arn.clone() });
            }
            _ => self.wait(resource.clone(), Wait::Drained(group.arn.clone())),
        }
        self.delete_group(group);
    }

    pub(super) fn delete_group(&mut self, group: &TargetGroup) {
        let changes = vec![Change::new("TargetGroupArn", Some(group.arn.to_string()), None)];
        let call = Call::DeleteTargetGroup { group: group.arn.clone() };
        self.aws(Verb::Delete, Resource::new("target group", &group.name), changes, call);
    }

    pub(super) fn delete_security_group(&mut self, name: &str, id: &str) {
        let changes = vec![Change::new("GroupId", Some(id.to_owned()), None)];
        let call = Call::DeleteSecurityGroup { group_id: id.to_owned() };
        self.aws(Verb::Delete, Resource::new("security group", name), changes, call);
    }
}
