//! Creation, change, taking over and removal of a load balancer.

use registrar_core::{
    aws::Call,
    balancers::{Intent, Step},
};

use crate::bench::Bench;

/// The Service of the story.
pub(crate) const STORY: &str = r"
apiVersion: v1
kind: Service
metadata:
  name: echoserver
  annotations:
    service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip
    service.beta.kubernetes.io/aws-load-balancer-scheme: internet-facing
    service.beta.kubernetes.io/aws-load-balancer-healthcheck-port: '8080'
    service.beta.kubernetes.io/aws-load-balancer-cross-zone-load-balancing-enabled: 'true'
spec:
  type: LoadBalancer
  loadBalancerClass: service.k8s.aws/nlb
  ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP}]
  selector: {app: echoserver}
";

/// First lines of steps, names without their hashes.
fn shown(steps: &[Step]) -> Vec<String> {
    let line = |step: &Step| step.to_string().lines().next().unwrap_or_default().to_owned();
    let short = |line: String| match line.split_once("k8s-default-") {
        Some((before, name)) => format!("{before}{}{}", &name[..8], name.get(19..).unwrap_or_default()),
        None => line,
    };
    steps.iter().map(line).map(short).collect()
}

#[test]
fn a_service_gets_a_load_balancer_by_steps_that_are_known_before_the_first_call() {
    let mut bench = Bench::new(STORY);
    let plan = bench.plan();
    assert_eq!(plan.problems, []);
    assert_eq!(
        shown(&plan.steps),
        [
            "change Service default/echoserver",
            "create security group echoserv",
            "change security group echoserv",
            "create target group echoserv",
            "create load balancer echoserv",
            "change load balancer echoserv",
            "create listener 80",
            "create binding echoserv",
        ]
    );
    bench.log.clear();
    let rest = bench.done();
    assert!(rest.is_empty(), "{rest:?}");
    assert!(bench.log.len() <= 20, "{:?}", bench.log);
    let again = bench.audit();
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn a_service_that_goes_leaves_nothing_behind() {
    let mut bench = Bench::new(STORY);
    let before = bench.counts();
    bench.done();
    bench.intent = Intent::Remove;
    bench.stop();
    let rest = bench.done();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(bench.counts(), before);
    assert!(bench.bindings.is_empty());
}

#[test]
fn a_target_group_that_cannot_be_changed_is_replaced_without_a_gap() {
    let mut bench = Bench::new(&STORY.replace("targetPort: 8080", "targetPort: 8080, nodePort: 30080"));
    bench.done();
    let before = bench.counts();
    bench.annotate("nlb-target-type", "instance");
    let plan = bench.audit();
    assert_eq!(
        shown(&plan.steps),
        [
            "change Service default/echoserver",
            "replace target group echoserv",
            "create binding echoserv",
            "change listener 80",
            "wait until target group default/echoserver:80 has healthy targets",
            "change listener 80",
            "wait until new connections no longer reach target group echoserv",
            "delete binding echoserv",
            "wait until binding default/echoserv is gone",
            "wait until no target of echoserv is draining",
            "delete target group echoserv",
        ]
    );
    let rest = bench.done();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(bench.counts().target_groups, before.target_groups);
    assert_eq!(bench.bindings.len(), 1);
    assert!(bench.audit().is_empty());
}

#[test]
fn a_setting_that_is_taken_away_goes_back_to_its_default() {
    let mut bench = Bench::new(STORY);
    bench.done();
    bench.annotate("target-group-attributes", "deregistration_delay.timeout_seconds=30");
    bench.annotate("listener-attributes.TCP-80", "tcp.idle_timeout.seconds=400");
    bench.annotate("additional-resource-tags", "team=edge");
    bench.done();
    for key in ["target-group-attributes", "listener-attributes.TCP-80", "additional-resource-tags"] {
        bench.unannotate(key);
    }
    bench.unannotate("cross-zone-load-balancing-enabled");
    bench.stop();
    let plan = bench.plan();
    let text = plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for expected in [
        "Attributes[load_balancing.cross_zone.enabled]: true -> false",
        "Attributes[deregistration_delay.timeout_seconds]: 30 -> 300",
        "Attributes[tcp.idle_timeout.seconds]: 400 -> 350",
        "Tags[team]: edge -> (none)",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    bench.done();
    assert!(bench.audit().is_empty());
    let record = bench.annotation.clone().unwrap_or_default();
    assert!(!record.contains("cross_zone") && !record.contains("team"), "{record}");
}

#[test]
fn the_end_of_a_drain_goes_back_to_what_it_is_for_the_protocol() {
    let key = "deregistration_delay.connection_termination.enabled";
    let tcp = "{name: http, port: 80, targetPort: 8080, protocol: TCP}";
    let udp = "{name: dns, port: 80, targetPort: 8080, protocol: UDP}";
    for (ports, other, default) in [
        (tcp.to_owned(), "true", "false"),
        (udp.to_owned(), "false", "true"),
        (format!("{tcp}, {udp}"), "false", "true"),
    ] {
        let mut bench = Bench::new(&STORY.replace(tcp, &ports));
        bench.annotate("enable-tcp-udp-listener", "true");
        bench.annotate("target-group-attributes", &format!("{key}={other}"));
        bench.done();
        bench.unannotate("target-group-attributes");
        let plan = bench.audit();
        let text = plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(text.contains(&format!("Attributes[{key}]: {other} -> {default}")), "{ports}: {text}");
        bench.done();
        assert!(bench.audit().is_empty(), "{ports}");
    }
}

#[test]
fn another_scheme_waits_until_the_load_balancer_that_it_costs_is_named() {
    let mut bench = Bench::new(STORY);
    bench.done();
    let old = bench.hostname.clone().unwrap();
    bench.annotate("scheme", "internal");
    let plan = bench.audit();
    assert_eq!(shown(&plan.steps), Vec::<String>::new());
    let name = bench.observed.load_balancers.values().flatten().next().unwrap().name.clone();
    assert_eq!(
        plan.waiting[0].to_string(),
        format!(
            "load balancer {name} is internet-facing and is to be internal, which needs a new load balancer with another DNS \
             name; set service.beta.kubernetes.io/aws-load-balancer-allow-replacement: \"{name}\" to give it up"
        )
    );
    bench.annotate("allow-replacement", &name);
    let plan = bench.audit();
    assert_eq!(
        shown(&plan.steps),
        [
            "change Service default/echoserver",
            "replace load balancer echoserv",
            "change load balancer echoserv",
            "wait until load balancer echoserv is active",
            "delete load balancer echoserv",
            "create listener 80",
        ]
    );
    let rest = bench.done();
    assert!(rest.is_empty(), "{rest:?}");
    assert_ne!(bench.hostname.clone().unwrap(), old);
    assert_eq!(bench.counts().load_balancers, 1);
    assert!(bench.audit().is_empty());
}

#[test]
fn deletion_protection_is_respected_whoever_set_it_and_can_be_undone() {
    let mut bench = Bench::new(STORY);
    let before = bench.counts();
    bench.done();
    let arn = bench.observed.load_balancers.values().flatten().next().unwrap().arn.clone();
    let attributes = [("deletion_protection.enabled".to_owned(), "true".to_owned())].into();
    bench.call(&Call::ModifyLoadBalancerAttributes { load_balancer: arn, attributes }).unwrap();
    bench.intent = Intent::Remove;
    bench.stop();
    let rest = bench.done();
    assert_eq!(bench.counts().load_balancers, 1);
    assert_eq!(bench.bindings.len(), 1, "what serves it stays");
    let said = rest.waiting[0].to_string();
    assert!(said.contains("is protected against deletion; set service.beta"), "{said}");
    bench.annotate("attributes", "deletion_protection.enabled=false");
    let rest = bench.done();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(bench.counts(), before);
}

#[test]
fn a_name_that_belongs_to_somebody_else_is_left_alone() {
    let mut bench = Bench::new(STORY);
    bench.annotate("name", "theirs");
    let mut theirs = Bench::new(STORY);
    theirs.annotate("name", "theirs");
    theirs.service.metadata.name = Some("another".to_owned());
    theirs.done();
    bench.model = theirs.model;
    let plan = bench.plan();
    assert_eq!(plan.steps, []);
    let said = plan.problems[0].to_string();
    assert!(said.starts_with("load balancer theirs (arn:aws:"), "{said}");
    assert!(said.contains("do not say that it belongs to Service default/echoserver of cluster lab"), "{said}");
}
