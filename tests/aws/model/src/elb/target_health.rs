//! `DescribeTargetHealth`: what the API says, which is not always what the nodes do.

use super::{
    group::TargetGroup,
    lookup::Noun,
    registration::TARGETS,
    target::{NOT_REGISTERED, Target, TargetId},
};
use crate::{
    Model, Value,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Input, Kind, TEXT, optional, required},
    value::record,
};

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeTargetHealth",
    bucket: Bucket::Describe,
    accepts: &[
        required("TargetGroupArn", TEXT),
        optional("Targets", TARGETS),
        optional("Include", Kind::list(&Kind::OneOf(&["AnomalyDetection", "All"]))),
    ],
    refuses: &[Code::InvalidTarget, Code::TargetGroupNotFound, Code::HealthUnavailable],
    run: |model, input| model.describe_health(input),
};

impl Model {
    fn describe_health(&mut self, input: &Input) -> Result<Value> {
        let key = self.group_key(input.need("TargetGroupArn"))?;
        if self.random.chance(self.settings.health_unavailable.0) {
            return Code::HealthUnavailable
                .refuse("The health of the specified targets could not be retrieved due to an internal error.");
        }
        let Some(group) = self.groups.get(key) else { return Err(Noun::Group.missing()) };
        let unseen: Vec<TargetId> =
            group.targets.iter().filter(|(_, t)| self.now < t.listed_at).map(|(id, _)| id.clone()).collect();
        let miss = self.settings.consistency_miss.0;
        let unseen: Vec<TargetId> = unseen.into_iter().filter(|_| self.random.chance(miss)).collect();
        let Some(group) = self.groups.get(key) else { return Err(Noun::Group.missing()) };
        let listed =
            |id: &TargetId, target: &Target| !unseen.contains(id) && !matches!(target.life, super::target::Life::Gone);
        let mut descriptions = Vec::new();
        if input.records("Targets").is_empty() {
            for (id, target) in &group.targets {
                if listed(id, target) {
                    descriptions.push(show(group, id, Some(target), None));
                }
            }
        }
        for asked in input.records("Targets") {
            let id = TargetId::new(asked.need("Id"), asked.number("Port").unwrap_or(group.port));
            let zone = asked.text("AvailabilityZone");
            let is_there = |target: &&Target| {
                listed(&id, target) && zone.is_none_or(|zone| zone == target.zone.as_deref().unwrap_or("all"))
            };
            descriptions.push(show(group, &id, group.targets.get(&id).filter(is_there), zone));
        }
        Ok(record! { "TargetHealthDescriptions": Value::List(descriptions) })
    }
}

fn show(group: &TargetGroup, id: &TargetId, target: Option<&Target>, asked_zone: Option<&str>) -> Value {
    let (state, reason, description) = target.map_or(NOT_REGISTERED, |t| t.life.words());
    let own_zone = target.filter(|_| group.target_type == "ip").map(|t| t.zone.as_deref().unwrap_or("all"));
    record! {
        "Target": record! {
            "Id": id.id.as_str(),
            "Port": id.port,
            ? "AvailabilityZone": own_zone.or(asked_zone),
            ? "QuicServerId": target.and_then(|t| t.quic_server_id.as_deref()),
        },
        "HealthCheckPort": group.check.port_for(id.port),
        "TargetHealth": record! { "State": state, ? "Reason": reason, ? "Description": description },
    }
}
