//! What is counted of AWS.

use std::time::Duration;

use prometheus_client::{encoding::text, registry::Registry};
use registrar::metrics::Metrics;
use registrar_core::{
    aws::{Account, Arn, Call, Fault, Refusal},
    effect::Action,
    event::Outcome,
};

#[test]
fn each_refusal_of_aws_is_counted_as_what_it_is() {
    let refused = |code: &str| Fault::Refused(Refusal { code: code.to_owned(), message: String::new() });
    let cases = [
        ("permission", "AccessDenied", refused("AccessDenied")),
        ("service_limit_exceeded", "TooManyTargets", refused("TooManyTargets")),
        ("validation", "ValidationError", refused("ValidationError")),
        ("throttled", "Throttling", Fault::Throttled { code: "Throttling".to_owned() }),
    ];
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let group = Arn::new("arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/a/1");
    let action = Action::Aws { account: Account::Own, call: Call::DescribeTargetHealth { group } };
    for (_, _, fault) in &cases {
        metrics.ended(&action, &Outcome::Aws(Err(fault.clone())), Duration::from_millis(1));
    }
    let mut shown = String::new();
    text::encode(&mut shown, &registry).unwrap();
    for (name, code, _) in cases {
        let line = format!(
            "aws_api_call_{name}_errors_total{{service=\"Elastic Load Balancing v2\",operation=\"DescribeTargetHealth\",status_code=\"400\",error_code=\"{code}\"}} 1"
        );
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}
