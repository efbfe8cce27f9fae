//! `registrar plan --offline`: the model of files, without AWS and without a cluster.

use std::{path::PathBuf, sync::Arc};

use nlb::settings::ModelSettings;
use registrar::plan::{self, manifest, report::Report};
use registrar_core::balancers::Environment;
use serde_json::Value;

use crate::{
    cluster::{Printed, registrar},
    schema,
};

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  uid: 5ac0a5c2-29e3-4f4c-9a2b-0d5b6a1a1a11
  annotations:
    service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip
    service.beta.kubernetes.io/aws-load-balancer-scheme: internet-facing
    service.beta.kubernetes.io/aws-load-balancer-attributes: load_balancing.cross_zone.enabled=true
spec:
  type: LoadBalancer
  loadBalancerClass: service.k8s.aws/nlb
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

/// A file of this test, gone at its end.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-offline-{name}-{}.yaml", std::process::id()));
        std::fs::write(&path, text).expect("written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn planned(file: &File, more: &[&str]) -> Printed {
    let arguments = [&["plan", "--offline", "-f", file.path(), "--cluster-name", "lab"], more].concat();
    registrar(&arguments, &[]).await
}

#[tokio::test]
async fn model_of_a_file_has_names_tags_rules_and_bindings() {
    let file = File::new("model", SERVICE);
    let printed = planned(&file, &["-o", "json"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let report = printed.json();
    schema::check(&report, "plan");
    assert_eq!((&report["version"], &report["offline"]), (&1.into(), &true.into()));
    let service = &report["services"][0];
    let balancer = &service["loadBalancer"];
    assert_eq!(balancer["LoadBalancerName"], "k8s-shop-web-862076a20e");
    assert_eq!(balancer["Scheme"], "internet-facing");
    assert_eq!(balancer["SubnetDiscovery"], "kubernetes.io/role/elb");
    assert_eq!(balancer["Tags"]["service.k8s.aws/stack"], "shop/web");
    assert_eq!(balancer["Attributes"]["load_balancing.cross_zone.enabled"], "true");
    assert_eq!(service["listeners"][0]["Port"], 80);
    assert_eq!(service["targetGroups"][0]["Name"], service["bindings"][0]["name"]);
    assert_eq!(service["securityGroups"][0]["IpPermissions"][0]["CidrIp"], "0.0.0.0/0");
    assert_eq!(service["steps"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn model_is_readable() {
    let file = File::new("text", SERVICE);
    let printed = planned(&file, &[]).await;
    let lines = [
        "Service shop/web",
        "  load balancer k8s-shop-web-862076a20e",
        "    SecurityGroups: $ManagedLBSecurityGroup, $backend-sg",
        "  listener 80",
        "      service.k8s.aws/stack: shop/web",
        "1 Service; AWS was not asked.",
    ];
    for line in lines {
        assert!(printed.out.lines().any(|printed| printed == line), "{line}\n{}", printed.out);
    }
    assert!(!printed.out.contains('\x1b'), "no colours in a pipe");
}

#[tokio::test]
async fn flags_of_the_peer_change_the_model_as_they_change_the_peers() {
    let file = File::new(
        "flags",
        &SERVICE.replace("    service.beta.kubernetes.io/aws-load-balancer-scheme: internet-facing\n", ""),
    );
    let flags = [
        "-o=json",
        "--default-load-balancer-scheme=internal",
        "--default-tags=team=payments",
        "--feature-gates=NLBSecurityGroup=false",
        "--load-balancer-class=service.k8s.aws/nlb",
    ];
    let service = &planned(&file, &flags).await.json()["services"][0];
    assert_eq!(service["loadBalancer"]["Scheme"], "internal");
    assert_eq!(service["targetGroups"][0]["Tags"]["team"], "payments");
    assert_eq!(service["securityGroups"], Value::Array(Vec::new()));
    let other = planned(&file, &["-o=json", "--load-balancer-class=another.example/nlb"]).await;
    assert_eq!(other.json()["services"], Value::Array(Vec::new()), "the Service is another's then");
}

#[tokio::test]
async fn a_service_that_is_refused_has_no_model_and_says_why() {
    let file = File::new("refused", &SERVICE.replace("internet-facing", "public"));
    let printed = planned(&file, &["-o", "json"]).await;
    assert_eq!(printed.code, Some(1));
    let report = printed.json();
    schema::check(&report, "plan");
    assert_eq!(report["services"][0]["loadBalancer"], Value::Null);
    assert_eq!(report["services"][0]["violations"][0]["severity"], "Deny");
    let text = planned(&file, &[]).await.out;
    assert!(text.contains("  error: service.beta.kubernetes.io/aws-load-balancer-scheme: \"public\": "), "{text}");
    assert!(text.ends_with("1 Service: 1 refused. Nothing was changed.\n"), "{text}");
}

#[tokio::test]
async fn names_that_cannot_be_known_yet_are_said_to_be_so() {
    let file = File::new("uid", &SERVICE.replace("  uid: 5ac0a5c2-29e3-4f4c-9a2b-0d5b6a1a1a11\n", ""));
    let printed = planned(&file, &[]).await;
    assert!(printed.out.contains("note: the Service has no UID before it is created"), "{}", printed.out);
    assert_eq!(printed.code, Some(0));
}

#[tokio::test]
async fn what_cannot_run_ends_with_two() {
    let (file, bad) = (File::new("twice", SERVICE), File::new("bad", "a: ["));
    let cases: [(&[&str], &str); 6] = [
        (&["plan", "--offline", "--cluster-name=lab"], "--filename"),
        (&["plan", "--offline", "-f", "/no/such/file", "--cluster-name=lab"], "/no/such/file"),
        (&["plan", "--offline", "-f", bad.path(), "--cluster-name=lab"], "sluice-offline-bad"),
        (&["plan", "--offline", "-f", file.path()], "--cluster-name"),
        (
            &["plan", "--offline", "-f", file.path(), "-f", file.path(), "--cluster-name=lab"],
            "shop/web stands in the files twice",
        ),
        (&["plan", "-f", file.path(), "--all", "--cluster-name=lab"], "cannot be used with"),
    ];
    for (arguments, says) in cases {
        let printed = registrar(arguments, &[]).await;
        assert_eq!(printed.code, Some(2), "{arguments:?}: {printed:?}");
        assert!(printed.err.contains(says), "{says} in {}", printed.err);
        assert_eq!(printed.out, "", "{arguments:?}");
    }
}

#[test]
fn every_vector_has_a_model_as_its_schema_says() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let topics = std::fs::read_dir(root).expect("vectors").map(|topic| topic.expect("a topic").path());
    let files = topics
        .filter(|topic| topic.is_dir())
        .flat_map(|topic| std::fs::read_dir(topic).expect("a topic").map(|file| file.expect("a file").path()));
    let settings = ModelSettings { cluster_name: "lab".to_owned(), ..ModelSettings::default() };
    let environment = Environment { settings: Arc::new(settings), ..Environment::default() };
    let mut planned = 0;
    for path in files {
        let services = manifest::read(&path, "default").unwrap_or_else(|error| panic!("{error}"));
        let report = Report::new(plan::offline(services, environment.clone()), true);
        schema::check(&serde_json::to_value(&report).expect("JSON"), "plan");
        planned += 1;
    }
    assert!(planned > 100, "{planned}");
}
