//! `registrar plan` and `registrar status` with AWS and a cluster.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_emulator::{Config, LOOPBACK_WORLD, Running, serve};
use aws_model::{Event, faults::Order, settings::Profile};
use nlb::settings::ModelSettings;
use registrar::{
    aws::{Aws, Port as _, Settings},
    plan::inputs::{Objects, Task, task},
};
use registrar_core::{
    aws::{Account, Call, Reply, Target},
    balancers::{Desired, Environment, Inputs, Observed, Operation, endpoint_rules, fold, hostname, next_reads, plan},
    effect::Request,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_util::sync::CancellationToken;
use world::World;

use crate::{cluster::Cluster, schema};

const VPC: &str = "vpc-0a1b2c3d4e5f60718";

struct Lab {
    cluster: Cluster,
    emulator: Running,
    aws: Aws,
    _stop: CancellationToken,
}

impl Lab {
    async fn start(name: &str) -> Self {
        let world = World::parse(LOOPBACK_WORLD).expect("the shipped world");
        let stop = CancellationToken::new();
        let settings = aws_model::Settings::profile(Profile::Instant);
        let config = Config { settings, data_plane: false, ..Config::new(world) };
        let emulator = serve(config, stop.clone()).await.expect("loopback");
        let settings = Settings {
            region: Some("ap-northeast-2".to_owned()),
            endpoint_url: Some(format!("http://{}", emulator.api)),
            credentials: Some(SharedCredentialsProvider::new(Credentials::from_keys("AKIABUILDER", "a-key", None))),
            ..Settings::new("lab")
        };
        let aws = Aws::connect(settings, Arc::new(())).await;
        Self { cluster: Cluster::start(name).await, emulator, aws, _stop: stop }
    }

    fn url(&self) -> String {
        format!("http://{}", self.emulator.api)
    }

    fn order(&self, json: &str) {
        let order: Order = serde_json::from_str(json).expect("an order");
        self.emulator.engine.with(|model, now| model.order(order, now)).expect("valid");
    }

    async fn call(&self, call: &Call) -> Reply {
        let deadline = Instant::now() + Duration::from_secs(20);
        self.aws.call(&Account::Own, call, deadline).await.unwrap_or_else(|fault| panic!("{call:?}: {fault}"))
    }

    /// What others than the builder have called.
    fn looked_at(&self) -> BTreeSet<String> {
        let (entries, _) = self.emulator.engine.journal().after(0, usize::MAX, |_| true);
        let action = |event: &Event| match event {
            Event::Api { who, action, .. } if !who.ends_with("AKIABUILDER") => Some(action.clone()),
            _ => None,
        };
        entries.iter().filter_map(|entry| action(&entry.event)).collect()
    }

    fn health_reads(&self) -> usize {
        let is_one = |entry: &aws_model::Entry| matches!(&entry.event, Event::Api { action, .. } if action == "DescribeTargetHealth");
        self.emulator.engine.journal().after(0, usize::MAX, is_one).0.len()
    }

    fn add(&self, service: &Value) {
        let mut objects = self.cluster.objects.lock().expect("unpoisoned");
        objects.services.retain(|known| known["metadata"]["name"] != service["metadata"]["name"]);
        objects.services.push(service.clone());
    }

    /// The shared security group, then step by step what is planned for a Service, as the registrar would do it.
    async fn build(&self, service: &Value) -> Value {
        let create = endpoint_rules::create_shared_group(&environment());
        let Reply::SecurityGroupId(shared) = self.call(&create).await else { panic!("an id") };
        let mut service = service.clone();
        service["metadata"]["finalizers"] = json!(["service.k8s.aws/resources"]);
        let mut observed = Observed::default();
        for _ in 0..100 {
            let inputs = self.inputs(&service, &shared);
            let reads = next_reads(&inputs, &observed);
            for call in &reads {
                let deadline = Instant::now() + Duration::from_secs(20);
                let result = self.aws.call(&Account::Own, call, deadline).await;
                fold(&mut observed, call, &result);
            }
            if !reads.is_empty() {
                continue;
            }
            let plan = plan(&Desired::of(&inputs, &observed), &inputs, &observed);
            let step = plan.steps.into_iter().find(|step| step.ready && !matches!(step.operation, Operation::Wait(_)));
            match step.map(|step| step.operation) {
                None => {
                    let hostname = hostname(&inputs, &observed).expect("a hostname");
                    service["status"] = json!({"loadBalancer": {"ingress": [{"hostname": hostname}]}});
                    self.add(&service);
                    return service;
                }
                Some(Operation::Aws(call)) => fold(&mut observed, &call, &Ok(self.call(&call).await)),
                Some(Operation::Kubernetes(request)) => self.apply(&mut service, request),
                Some(Operation::Wait(_)) => {}
            }
        }
        panic!("it does not come to an end");
    }

    fn inputs(&self, service: &Value, shared: &str) -> Inputs {
        let of = |value: &Value| serde_json::from_value(value.clone()).expect("a Service");
        let bindings = self.cluster.objects.lock().expect("unpoisoned").bindings.clone();
        let bindings = bindings.into_iter().map(|value| serde_json::from_value(value).expect("a binding")).collect();
        let objects = Objects { services: vec![of(service)], bindings };
        match task(&of(service), &objects, &Arc::new(environment()), Some(shared)) {
            Some(Task::Plan(inputs, _)) => *inputs,
            other => panic!("{other:?}"),
        }
    }

    fn apply(&self, service: &mut Value, request: Request) {
        match request {
            Request::SetManagedFields { fields, .. } => {
                service["metadata"]["annotations"]["elbv2.k8s.aws/managed-fields"] = fields.into();
            }
            Request::ApplyBinding { binding, labels, spec } => {
                let bindings = &mut self.cluster.objects.lock().expect("unpoisoned").bindings;
                bindings.retain(|known| known["metadata"]["name"] != *binding.name);
                bindings.push(json!({
                    "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding", "spec": spec,
                    "metadata": {"namespace": *binding.namespace, "name": *binding.name, "labels": labels, "uid": "b"},
                }));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn environment() -> Environment {
    let settings = ModelSettings { cluster_name: "lab".to_owned(), ..ModelSettings::default() };
    Environment { settings: Arc::new(settings), vpc_id: VPC.to_owned(), ..Environment::default() }
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": "shop", "name": "web", "uid": "5ac0a5c2-29e3-4f4c-9a2b-0d5b6a1a1a11",
            "annotations": {
                "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip",
                "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal",
            },
        },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        },
    })
}

fn actions(report: &Value) -> Vec<String> {
    let steps = report["services"][0]["steps"].as_array().expect("steps");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    steps.iter().map(|step| format!("{} {}", text(&step["action"]), text(&step["kind"]))).collect()
}

#[tokio::test]
async fn plan_of_a_new_service_creates_everything_and_writes_nothing() {
    let lab = Lab::start("new").await;
    lab.add(&service());
    let printed = lab.cluster.run(&["plan", "--all", "-o", "json"], &lab.url()).await;
    assert_eq!(printed.code, Some(1), "{printed:?}");
    let report = printed.json();
    schema::check(&report, "plan");
    let steps = actions(&report);
    for wanted in
        ["create security group", "create target group", "create binding", "create load balancer", "create listener"]
    {
        assert!(steps.iter().any(|step| step == wanted), "{wanted} in {steps:?}");
    }
    let mappings = report["services"][0]["loadBalancer"]["SubnetMappings"].as_array().expect("subnets");
    assert_eq!(mappings.len(), 3, "one in each zone");
    let text = lab.cluster.run(&["plan"], &lab.url()).await.out;
    assert!(text.contains("  + create load balancer k8s-shop-web-"), "{text}");
    assert!(text.contains(" to create") && text.trim_end().ends_with("Nothing was changed."), "{text}");
    let writes: Vec<_> = lab.looked_at().into_iter().filter(|action| !action.starts_with("Describe")).collect();
    assert_eq!(writes, Vec::<String>::new());
    assert_eq!(lab.cluster.objects.lock().expect("unpoisoned").strange, Vec::<String>::new());
}

#[tokio::test]
async fn plan_is_empty_when_it_was_carried_out_and_names_each_field_that_changes_after_that() {
    let lab = Lab::start("built").await;
    let built = lab.build(&service()).await;
    let printed = lab.cluster.run(&["plan", "--namespace", "shop"], &lab.url()).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(printed.out, "Service shop/web: nothing to change\n\n1 Service: nothing to change.\n");

    let mut changed = built.clone();
    let annotations = &mut changed["metadata"]["annotations"];
    annotations["service.beta.kubernetes.io/aws-load-balancer-attributes"] =
        "load_balancing.cross_zone.enabled=true".into();
    lab.add(&changed);
    let printed = lab.cluster.run(&["plan", "-A"], &lab.url()).await;
    assert_eq!(printed.code, Some(1));
    assert!(printed.out.contains("  ~ change load balancer k8s-shop-web-"), "{}", printed.out);
    assert!(printed.out.contains("Attributes[load_balancing.cross_zone.enabled]: false -> true"), "{}", printed.out);

    let mut gone = built;
    gone["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z".into();
    lab.add(&gone);
    let report = lab.cluster.run(&["plan", "-A", "-o", "json"], &lab.url()).await.json();
    schema::check(&report, "plan");
    let steps = actions(&report);
    for wanted in ["delete load balancer", "delete target group", "delete binding"] {
        assert!(steps.iter().any(|step| step == wanted), "{wanted} in {steps:?}");
    }
    assert_eq!(report["services"][0]["loadBalancer"], Value::Null);
}

#[tokio::test]
async fn a_file_is_planned_as_if_it_had_been_applied() {
    let lab = Lab::start("file").await;
    lab.build(&service()).await;
    let mut written = service();
    written["metadata"].as_object_mut().expect("metadata").remove("uid");
    let path = std::env::temp_dir().join(format!("sluice-applied-{}.json", std::process::id()));
    let plan = async |written: &Value| {
        std::fs::write(&path, written.to_string()).expect("written");
        lab.cluster.run(&["plan", "-f", path.to_str().expect("a path")], &lab.url()).await
    };
    let same = plan(&written).await;
    assert_eq!(same.code, Some(0), "{same:?}");
    assert_eq!(same.out, "Service shop/web: nothing to change\n\n1 Service: nothing to change.\n", "its UID is known");
    written["spec"]["ports"] = json!([{"name": "http", "port": 81, "targetPort": 8080}]);
    let moved = plan(&written).await;
    let _ = std::fs::remove_file(&path);
    assert_eq!(moved.code, Some(1));
    assert!(moved.out.contains("+ create listener 81") && moved.out.contains("- delete listener 80"), "{}", moved.out);
}

#[tokio::test]
async fn what_keeps_a_plan_from_being_made_is_said_with_the_operation() {
    let lab = Lab::start("hindered").await;
    lab.add(&service());
    let printed = lab.cluster.run(&["plan", "--all"], "http://127.0.0.1:1").await;
    assert_eq!((printed.code, printed.out.as_str()), (Some(2), ""), "{printed:?}");
    assert!(
        printed.err.contains("DescribeSubnets") && printed.err.contains("AWS cannot be reached"),
        "{}",
        printed.err
    );
    let mut other = service();
    other["metadata"]["name"] = "api".into();
    lab.add(&other);
    lab.order(r#"{"action":"DescribeLoadBalancers","effect":{"refuse":{"code":"AccessDenied"}}}"#);
    let printed = lab.cluster.run(&["plan", "--all", "--aws-vpc-id", VPC], &lab.url()).await;
    assert_eq!(printed.code, Some(2), "{printed:?}");
    assert!(printed.out.contains("problem: DescribeLoadBalancers: AccessDenied: "), "{}", printed.out);
    assert!(
        printed.out.contains("  + create load balancer k8s-shop-api-"),
        "the other Service has its plan: {}",
        printed.out
    );
}

#[tokio::test]
async fn a_throttle_and_a_5xx_only_make_it_wait() {
    let lab = Lab::start("throttled").await;
    lab.build(&service()).await;
    lab.order(r#"{"action":"DescribeLoadBalancers","effect":{"refuse":{"code":"Throttling"}}}"#);
    lab.order(r#"{"action":"DescribeListeners","effect":"unavailable"}"#);
    let printed = lab.cluster.run(&["plan", "--all"], &lab.url()).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
}

#[tokio::test]
async fn status_that_is_watched_says_in_a_pipe_only_what_is_new() {
    let lab = Lab::start("watch").await;
    lab.build(&service()).await;
    let mut watched = lab.cluster.spawn(&["status", "-w", "--interval", "1", "-o", "json"], &lab.url());
    let mut lines = BufReader::new(watched.stdout.take().expect("piped")).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_mins(1), lines.next_line()).await.expect("in time");
        serde_json::from_str::<Value>(&line.expect("readable").expect("a line")).expect("JSON")
    };
    let targets = |report: &Value| report["services"][0]["targetGroups"][0]["targets"].as_array().map(Vec::len);
    assert_eq!(targets(&next().await), Some(0));
    let binding = lab.cluster.objects.lock().expect("unpoisoned").bindings[0].clone();
    let group = registrar_core::aws::Arn::new(binding["spec"]["targetGroupARN"].as_str().expect("an ARN"));
    let target = Target { id: "127.10.11.21".to_owned(), port: 8080, availability_zone: None, quic_server_id: None };
    // Some rounds with nothing new go by; the next line is of the target.
    let rounds = lab.health_reads() + 2;
    let rounds_go_by = async {
        while lab.health_reads() < rounds {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), rounds_go_by).await.expect("it looks again");
    lab.call(&Call::RegisterTargets { group, targets: vec![target] }).await;
    assert_eq!(targets(&next().await), Some(1));
    watched.kill().await.expect("it runs");
}

#[tokio::test]
async fn status_shows_targets_with_their_pods_and_gates() {
    let lab = Lab::start("status").await;
    lab.build(&service()).await;
    let binding = lab.cluster.objects.lock().expect("unpoisoned").bindings[0].clone();
    let group = registrar_core::aws::Arn::new(binding["spec"]["targetGroupARN"].as_str().expect("an ARN"));
    let target = Target { id: "127.10.11.21".to_owned(), port: 8080, availability_zone: None, quic_server_id: None };
    lab.call(&Call::RegisterTargets { group, targets: vec![target] }).await;
    let gate = format!("target-health.elbv2.k8s.aws/{}", binding["metadata"]["name"].as_str().expect("a name"));
    lab.cluster.objects.lock().expect("unpoisoned").pods.push(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "web-1"},
        "spec": {"containers": [], "readinessGates": [{"conditionType": gate}]},
        "status": {"podIPs": [{"ip": "127.10.11.21"}]},
    }));
    let printed = lab.cluster.run(&["status", "shop/web", "-o", "json"], &lab.url()).await;
    // Without a data plane no target becomes healthy.
    assert_eq!(printed.code, Some(1), "{printed:?}");
    let report = printed.json();
    schema::check(&report, "status");
    let service = &report["services"][0];
    assert_eq!(
        (&service["loadBalancer"]["state"], &service["loadBalancer"]["scheme"]),
        (&"active".into(), &"internal".into())
    );
    assert_eq!(service["loadBalancer"]["listeners"][0]["targetGroups"][0], binding["metadata"]["name"]);
    let shown = &service["targetGroups"][0]["targets"][0];
    assert_eq!(
        (&shown["object"], &shown["state"], &shown["gate"]),
        (&"web-1".into(), &"initial".into(), &"False".into())
    );
    let text = lab.cluster.run(&["status"], &lab.url()).await.out;
    assert!(text.contains("127.10.11.21:8080  web-1        initial"), "{text}");
    let other = lab.cluster.run(&["status", "-n", "elsewhere"], &lab.url()).await;
    assert_eq!((other.code, other.out.lines().count()), (Some(0), 1), "{other:?}");
    let writes: Vec<_> = lab.looked_at().into_iter().filter(|action| !action.starts_with("Describe")).collect();
    assert_eq!(writes, Vec::<String>::new());
}
