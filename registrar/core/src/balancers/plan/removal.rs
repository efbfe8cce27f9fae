//! The end of a Service: everything that is its own goes. Nothing of what the Service says is needed but its word on
//! deletion protection.

use super::Planner;

impl Planner<'_> {
    pub(super) fn remove(&mut self) {
        // All of them or none: while one is protected, what serves it stays.
        let mut goes = true;
        for balancer in self.survey.balancers() {
            goes &= self.delete_balancer(balancer);
        }
        if !goes {
            self.draft.plan.steps.clear();
            return;
        }
        for binding in &self.inputs.bindings {
            self.remove_binding(binding);
        }
        for found in &self.survey.groups {
            self.delete_group(found.group);
        }
        for group in self.observed.security_groups.iter().flatten() {
            self.delete_security_group(&group.name, &group.id);
        }
        self.record_removal();
    }
}
