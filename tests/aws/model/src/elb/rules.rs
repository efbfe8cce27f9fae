//! Rules: a Network Load Balancer's listener has its default one and no other.

use super::listing::{MARKER, PAGE_SIZE, listing, page};
use crate::{
    Value,
    fault::Code,
    limits::Bucket,
    operations::Operation,
    schema::{TEXT, TEXTS, optional},
    value::record,
};

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeRules",
    bucket: Bucket::Describe,
    accepts: &[optional("ListenerArn", TEXT), optional("RuleArns", TEXTS), MARKER, PAGE_SIZE],
    refuses: &[Code::ListenerNotFound, Code::RuleNotFound, Code::UnsupportedProtocol],
    run: |model, input| {
        let (listener, rules) = (input.text("ListenerArn"), input.texts("RuleArns"));
        if listener.is_some() != rules.is_empty() {
            return Code::ValidationError.refuse("You must specify either listener ARN or rule ARNs");
        }
        let mut keys = Vec::new();
        if let Some(arn) = listener {
            keys.push(model.listener_key(arn)?);
        }
        for arn in rules {
            keys.push(model.rule_key(arn)?);
        }
        keys.sort_unstable();
        let (page, next) = page(input, keys)?;
        let shown = page.into_iter().filter_map(|key| model.listeners.get(key)).map(|listener| {
            record! {
                "RuleArn": listener.rule_arn.as_str(),
                "Priority": "default",
                "Conditions": Value::List(Vec::new()),
                "Actions": model.show_actions(listener),
                "IsDefault": true,
            }
        });
        Ok(listing("Rules", shown, next))
    },
};
