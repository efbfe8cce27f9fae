//! `webhook lint` as a process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

const BROKEN: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: team
  annotations:
    service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip
    service.beta.kubernetes.io/aws-load-balancer-scheme: public
    service.beta.kubernetes.io/aws-load-balancer-enable-tcp-udp-listener: true
spec:
  type: LoadBalancer
  loadBalancerClass: service.k8s.aws/nlb
  selector: {app: web}
  ports:
    - {name: http, port: 80}
    - name: sctp
      port: 81
      protocol: SCTP
";

const WARNED: &str = "\
{kind: List, apiVersion: v1, items: [{apiVersion: v1, kind: Service, metadata: {name: web, annotations:
  {service.beta.kubernetes.io/aws-load-balancer-schema: internal}},
  spec: {type: LoadBalancer, loadBalancerClass: service.k8s.aws/nlb, selector: {app: web}, ports: [{port: 80}]}}]}
";

fn lint(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_webhook"))
        .arg("lint")
        .args(arguments)
        .env_remove("AWS_REGION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended already, because it could not read another file.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn violations_are_shown_with_file_line_and_object() {
    let output = lint(&["-"], BROKEN);
    let shown = text(&output.stdout);
    for line in [
        "-:12: error: Service team/web: service.beta.kubernetes.io/aws-load-balancer-scheme: \"public\": ",
        "-:13: error: Service team/web: service.beta.kubernetes.io/aws-load-balancer-enable-tcp-udp-listener: \"true\": is not a text",
        "-:22: error: Service team/web: spec.ports[1].protocol: \"SCTP\": ",
        "1 objects checked: 3 errors, 0 warnings",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
    assert_eq!(output.status.code(), Some(1));
}

/// A Service and workloads behind it, of every kind: before and after it, and in a list.
const WORKLOADS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: early, namespace: team}
spec:
  template:
    metadata:
      labels: {app: web}
      annotations:
        elbv2.k8s.aws/pod-drain: soon
        service.beta.kubernetes.io/aws-load-balancer-quic-enabled-containers: other
    spec:
      containers:
        - name: server
          lifecycle: {preStop: {sleep: {seconds: 35}}}
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: team
  annotations: {service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip}
spec:
  type: LoadBalancer
  loadBalancerClass: service.k8s.aws/nlb
  selector: {app: web}
  ports: [{port: 80}]
---
kind: List
apiVersion: v1
items:
  - {kind: Pod, apiVersion: v1, metadata: {name: p, annotations: {elbv2.k8s.aws/pod-drain: 5}}, spec: {containers: []}}
  - {kind: PodTemplate, apiVersion: v1, metadata: {name: t}, template: {metadata: {annotations: {elbv2.k8s.aws/pod-drian: \"5\"}}}}
  - {kind: StatefulSet, apiVersion: apps/v1, metadata: {name: s}, spec: {template: {metadata: {annotations: {elbv2.k8s.aws/pod-drain: x}}}}}
  - {kind: Job, apiVersion: batch/v1, metadata: {name: j}, spec: {template: {metadata: {annotations: {elbv2.k8s.aws/pod-drain: x}}}}}
---
kind: DaemonSetList
apiVersion: apps/v1
items:
  - {metadata: {name: d}, spec: {template: {metadata: {annotations: {elbv2.k8s.aws/pod-drain: x}}}}}
---
kind: CronJob
apiVersion: batch/v1
metadata: {name: c, annotations: {a: 1}}
spec: {jobTemplate: {spec: {template: {metadata: {labels: [x]}}}}}
---
{kind: Deployment, apiVersion: apps/v1, metadata: {name: fine, namespace: team}, spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a}]}}}}
";

#[test]
fn templates_of_pods_are_judged_as_their_pods_would_be() {
    let output = lint(&["-"], WORKLOADS);
    let shown = text(&output.stdout);
    for line in [
        "-:9: warning: Deployment team/early: elbv2.k8s.aws/pod-drain: \"soon\": ",
        "-:12: warning: Deployment team/early: spec: container server: the preStop hook sleeps 35 s, ",
        "-:12: warning: Deployment team/early: spec: container server: terminationGracePeriodSeconds is 30, ",
        "-:12: warning: Deployment team/early: spec: service.beta.kubernetes.io/aws-load-balancer-quic-enabled-containers: \"other\"",
        "-:31: error: Pod p: elbv2.k8s.aws/pod-drain: \"5\": is not a text",
        "-:32: warning: PodTemplate t: elbv2.k8s.aws/pod-drian: ",
        "-:33: warning: StatefulSet s: elbv2.k8s.aws/pod-drain: \"x\": ",
        "-:34: warning: Job j: elbv2.k8s.aws/pod-drain: \"x\": ",
        "-:39: warning: DaemonSet d: elbv2.k8s.aws/pod-drain: \"x\": ",
        "error: CronJob c: kind: the API server cannot read the object: invalid type: sequence, expected a map; correct the field",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
    assert!(!shown.contains("fine"), "{shown}");
    assert!(shown.contains("\n9 objects checked: 2 errors, 8 warnings\n"), "{shown}");
}

#[test]
fn exit_codes_tell_what_was_found() {
    for (arguments, input, code) in [
        (&["-"][..], BROKEN, 1),
        (&["-"], WARNED, 0),
        (&["-", "--strict"], WARNED, 1),
        (&["-", "--strict"], "kind: ConfigMap\n", 0),
        (&["-"], "", 0),
        (&["-"], "a: [b\n", 2),
        (&["-", "/no/such/file"], BROKEN, 2),
        (&["--output", "yaml", "-"], "", 2),
        (&["--settings", "/no/such/file", "-"], "", 2),
    ] {
        let output = lint(arguments, input);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {input:.20}: {}", text(&output.stderr));
    }
}

#[test]
fn json_is_as_its_schema_says() {
    let output = lint(&["-o", "json", "-"], &format!("{BROKEN}---\n{WARNED}"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../manifests/schemas/lint.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    conforms(&report, &schema, "report");
    assert_eq!(report["version"], 1);
    assert_eq!(report["items"].as_array().unwrap().len(), 2);
    let first = &report["items"][0];
    assert_eq!((&first["source"], &first["line"], &first["namespace"]), (&"-".into(), &5.into(), &"team".into()));
    assert_eq!(report["items"][1]["violations"][0]["severity"], "Warn");
}

/// The part of JSON Schema that the schema uses.
fn conforms(value: &Value, schema: &Value, place: &str) {
    match schema["type"].as_str().unwrap() {
        "object" => {
            let properties = schema["properties"].as_object().unwrap();
            let object = value.as_object().unwrap_or_else(|| panic!("{place} is no object"));
            for key in object.keys() {
                assert!(properties.contains_key(key), "{place}.{key} is not in the schema");
            }
            for key in schema["required"].as_array().unwrap() {
                assert!(object.contains_key(key.as_str().unwrap()), "{place}.{key} is missing");
            }
            for (key, value) in object {
                conforms(value, &properties[key], &format!("{place}.{key}"));
            }
        }
        "array" => value.as_array().unwrap().iter().for_each(|item| conforms(item, &schema["items"], place)),
        "string" => assert!(value.is_string(), "{place}"),
        "integer" => assert!(value.is_u64(), "{place}"),
        other => panic!("{place}: type {other} is not checked here"),
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place}: {value}");
    }
}

#[test]
fn lists_and_bindings_are_taken_apart() {
    let binding = |name: &str| {
        format!(
            "{{metadata: {{name: {name}}}, spec: {{targetType: ip, serviceRef: {{name: web, port: 80}}, targetGroupARN: \
             'arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/a/0123456789abcdef'}}}}"
        )
    };
    let list = format!("kind: TargetGroupBindingList\nitems:\n- {}\n- {}\n", binding("one"), binding("two"));
    let output = lint(&["-"], &list);
    let shown = text(&output.stdout);
    assert!(shown.contains("-:4: error: TargetGroupBinding two: spec.targetGroupARN"), "{shown}");
    assert!(shown.contains("belongs to TargetGroupBinding /one already"), "{shown}");
    assert!(shown.contains("2 objects checked: 1 errors, 0 warnings"), "{shown}");
}

#[test]
fn every_vector_can_be_linted() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let mut files = Vec::new();
    for topic in fs::read_dir(root).unwrap() {
        let topic = topic.unwrap().path();
        if topic.is_dir() {
            files.extend(fs::read_dir(topic).unwrap().map(|file| file.unwrap().path().display().to_string()));
        }
    }
    files.sort();
    let mut arguments = vec!["-o", "json"];
    arguments.extend(files.iter().map(String::as_str));
    let output = lint(&arguments, "");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["items"].as_array().unwrap().len() > 150);
}
