//! `/validate-elbv2-k8s-aws-v1beta1-targetgroupbinding`.

use nlb::{
    targetgroupbinding::{self, TargetGroupBinding},
    violation::ratchet,
};

use super::{Decision, Operation, Request, service::complete};
use crate::snapshot::Snapshot;

pub(super) fn validate(
    request: &Request<TargetGroupBinding>,
    binding: &TargetGroupBinding,
    snapshot: &Snapshot,
) -> Decision {
    let mut binding = binding.clone();
    complete(&mut binding.metadata, &request.namespace);
    let old = request.old_object.as_ref().filter(|_| request.operation == Operation::Update);
    let mut violations = targetgroupbinding::review(old, &binding, &snapshot.settings);
    let mut duplicates = rivals(&binding, snapshot);
    if let Some(old) = old {
        // Two bindings that were stored both, because nobody was asked then, must stay editable.
        ratchet(&rivals(old, snapshot), &mut duplicates);
    }
    violations.extend(duplicates);
    Decision::judged("TargetGroupBinding", request, violations)
}

fn rivals(binding: &TargetGroupBinding, snapshot: &Snapshot) -> Vec<nlb::violation::Violation> {
    let arn = binding.spec.target_group_arn.as_deref().unwrap_or_default();
    targetgroupbinding::duplicates(binding, snapshot.bindings.of_target_group(arn))
}
