//! Actions of listeners: forwarding to several target groups by weight.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value};

use super::{
    Context,
    listeners::find_listener,
    spec::{Forward, GroupRef, Listener, Weighted},
};
use crate::{
    annotations::{forms::Arn, keys},
    violation::{Violation, excerpt},
};

/// The largest weight of a target group.
const HEAVIEST: u64 = 999;
/// How many mistakes of one action are named.
const NAMED: usize = 10;
const ONE_OF_TWO: &str = "write the ARN of a target group in targetGroupARN, or a serviceName with its servicePort";
const EXAMPLE: &str = r#"write {"type":"forward","forwardConfig":{"baseServiceWeight":90,"targetGroups":[{"serviceName":"next","servicePort":80,"weight":10}]}}"#;

pub(super) fn read(context: &Context, listeners: &mut [Listener], found: &mut Vec<Violation>) {
    for (key, protocol, port, written) in context.annotations.of_listeners(keys::ACTIONS) {
        if !context.settings.features.weighted_target_groups {
            let problem = "has no effect: weighted target groups are switched off (features.weightedTargetGroups)";
            found.push(Violation::warn("no-effect", key, written, problem, "remove the annotation"));
            continue;
        }
        let mut problems = Vec::new();
        let action = parse(written, &mut problems);
        for (problem, remedy) in problems {
            found.push(Violation::deny("action", key, written, problem, remedy));
        }
        let Some(listener) = find_listener(listeners, key, keys::ACTIONS, protocol, port, written, found) else {
            continue;
        };
        let Some(action) = action else { continue };
        if let Some(base) = listener.default_actions.target_groups.first_mut() {
            base.weight = action.base_weight;
        }
        listener.default_actions.target_groups.extend(action.forward.target_groups);
        listener.default_actions.sticky = action.forward.sticky;
    }
}

struct Action {
    base_weight: Option<u16>,
    forward: Forward,
}

type Problems = Vec<(String, String)>;

/// Reads an action. Field names are matched in any case and unknown fields are left out, as the peer does.
fn parse(written: &str, problems: &mut Problems) -> Option<Action> {
    let mut problem = |text: String, remedy: &str| {
        if problems.len() < NAMED {
            problems.push((text, remedy.to_owned()));
        }
    };
    let action = match serde_json::from_str(written) {
        Ok(Value::Object(action)) => action,
        Ok(_) => {
            problem("is not a JSON object".to_owned(), EXAMPLE);
            return None;
        }
        Err(error) => {
            problem(format!("is not JSON: {error}"), EXAMPLE);
            return None;
        }
    };
    match field(&action, "type") {
        Some(Value::String(kind)) if kind == "forward" => {}
        Some(other) => {
            let text = format!("has the type {}, only \"forward\" is possible", excerpt(&other.to_string()));
            problem(text, "write \"type\": \"forward\"");
        }
        None => problem("has no type".to_owned(), "write \"type\": \"forward\""),
    }
    let Some(Value::Object(config)) = field(&action, "forwardConfig") else {
        problem("has no forwardConfig object".to_owned(), EXAMPLE);
        return None;
    };
    let base_weight = weight(config, "baseServiceWeight", &mut problem);
    let empty = Vec::new();
    let tuples = match field(config, "targetGroups") {
        None | Some(Value::Null) => &empty,
        Some(Value::Array(tuples)) => tuples,
        Some(_) => {
            problem("has targetGroups that are not a list".to_owned(), EXAMPLE);
            return None;
        }
    };
    let mut target_groups = Vec::new();
    for (index, tuple) in tuples.iter().enumerate() {
        let Value::Object(tuple) = tuple else {
            problem(format!("has targetGroups[{index}] that is not an object"), EXAMPLE);
            continue;
        };
        let place = format!("targetGroups[{index}]");
        let weight = weight(tuple, "weight", &mut |text, remedy| problem(format!("{text} in {place}"), remedy));
        if field(tuple, "weight").is_none_or(Value::is_null) && tuples.len() > 1 {
            problem(format!("has no weight in {place}"), "give each of several target groups a weight");
        }
        let decrypt = field(tuple, "decrypt").and_then(Value::as_bool);
        match group(tuple) {
            Ok(group) => target_groups.push(Weighted { group, weight, decrypt }),
            Err(text) => problem(format!("{text} in {place}"), ONE_OF_TWO),
        }
    }
    let sticky = match field(config, "targetGroupStickinessConfig") {
        Some(Value::Object(config)) => field(config, "enabled").and_then(Value::as_bool),
        _ => None,
    };
    Some(Action { base_weight, forward: Forward { target_groups, sticky } })
}

fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

fn weight(object: &Map<String, Value>, name: &str, problem: &mut dyn FnMut(String, &str)) -> Option<u16> {
    let value = field(object, name).filter(|value| !value.is_null())?;
    let number = value.as_u64().filter(|number| *number <= HEAVIEST).and_then(|number| u16::try_from(number).ok());
    if number.is_none() {
        let written = excerpt(&value.to_string());
        let text = format!("has a {name} of {written}, which is not a whole number from 0 to {HEAVIEST}");
        problem(text, "write a whole number, without quotes");
    }
    number
}

/// The target group of a tuple: exactly one of an ARN and a Service with a port.
fn group(tuple: &Map<String, Value>) -> Result<GroupRef, String> {
    let text = |name| field(tuple, name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (text("targetGroupARN"), text("serviceName")) {
        (Some(arn), None) if Arn::parse(arn).is_some_and(|arn| arn.is_target_group()) => {
            Ok(GroupRef::Arn(arn.to_owned()))
        }
        (Some(arn), None) => Err(format!("has \"{}\", which is not the ARN of a target group,", excerpt(arn))),
        (None, Some(name)) => {
            let port = match field(tuple, "servicePort") {
                Some(Value::String(port)) if !port.is_empty() => match port.parse() {
                    Ok(number) => IntOrString::Int(number),
                    Err(_) => IntOrString::String(port.clone()),
                },
                Some(Value::Number(number)) => match number.as_i64().and_then(|number| i32::try_from(number).ok()) {
                    Some(number) => IntOrString::Int(number),
                    None => return Err("has a servicePort that is not a port".to_owned()),
                },
                _ => return Err("has no servicePort".to_owned()),
            };
            Ok(GroupRef::Service { name: name.to_owned(), port })
        }
        (Some(_), Some(_)) => Err("has both targetGroupARN and serviceName".to_owned()),
        (None, None) => Err("has neither targetGroupARN nor serviceName".to_owned()),
    }
}
