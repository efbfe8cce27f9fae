//! A second, independent AWS: the registrar against moto, which knows nothing of this project.
//!
//! What moto does not do as AWS does, and the registrar has to live with here:
//!
//! - Targets are healthy the moment they are registered and gone the moment they are not: no `initial`, no `draining`.
//! - It has no instances for the nodes, so that no security group of targets is found to let load balancers in.
//! - Load balancers carry no traffic; only what the API says can be looked at.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use scenarios::{Scenario, address, condition, curl, eventually, run, within};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

const GATE: &str = "target-health.elbv2.k8s.aws/web";
const DEFINITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/crds/targetgroupbindings.yaml");
const REGISTRAR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/registrar");
const REGION: &str = "ap-northeast-2";

/// An AWS of its own for one test, with a VPC, and the registrar of one namespace.
struct Account {
    lab: Scenario,
    environment: Vec<String>,
    vpc: String,
    admin: String,
    log: PathBuf,
    _programs: [Child; 2],
}

impl Account {
    async fn begin(test: &str, port: u16) -> Result<Self> {
        let lab = Scenario::begin(test, &[]).await?;
        let moto = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("moto_server, which `make clients` installs")?;
        let environment: Vec<String> = [
            format!("AWS_ENDPOINT_URL=http://127.0.0.1:{port}"),
            format!("AWS_REGION={REGION}"),
            format!("AWS_DEFAULT_REGION={REGION}"),
            "AWS_ACCESS_KEY_ID=any".to_owned(),
            "AWS_SECRET_ACCESS_KEY=any".to_owned(),
        ]
        .into();
        eventually("moto answers", || async { Ok(curl(&format!("http://127.0.0.1:{port}/moto-api/")).await.ok()) })
            .await?;
        let vpc = aws(&environment, &["ec2", "create-vpc", "--cidr-block", "192.168.0.0/16", "--query", "Vpc.VpcId"]);
        let vpc = vpc.await?;
        for (zone, range) in [("a", 11), ("b", 12), ("c", 13)] {
            let (zone, range) = (format!("{REGION}{zone}"), format!("192.168.{range}.0/24"));
            let role = "ResourceType=subnet,Tags=[{Key=kubernetes.io/role/internal-elb,Value=1}]";
            let create = ["ec2", "create-subnet", "--vpc-id", &vpc, "--cidr-block", &range];
            let more = ["--availability-zone", &zone, "--tag-specifications", role];
            aws(&environment, &[&create[..], &more].concat()).await?;
        }
        let admin = format!("127.0.0.1:{}", port + 1);
        let log = std::env::temp_dir().join(format!("registrar-{}.log", lab.namespace));
        let registrar = Command::new(REGISTRAR)
            .args(["run", "--cluster-name", "lab", "--aws-vpc-id", &vpc, "--admin-listen", &admin])
            .args(["--watch-namespace", &lab.namespace, "--leader-election-namespace", &lab.namespace])
            .envs(environment.iter().filter_map(|pair| pair.split_once('=')))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("the registrar")?;
        Ok(Self { lab, environment, vpc, admin, log, _programs: [moto, registrar] })
    }

    async fn aws(&self, arguments: &[&str]) -> Result<String> {
        aws(&self.environment, arguments).await
    }

    async fn ready(&self, what: &str) -> Result<()> {
        within(Duration::from_secs(30), &format!("/readyz says {what}"), || async {
            let (_, said) = curl(&format!("http://{}/readyz", self.admin)).await?;
            ensure!(said.contains(what), "{said}");
            Ok(Some(()))
        })
        .await
    }

    /// Calls that AWS refused for another reason than that something is not there, as the metrics count them.
    async fn refused(&self) -> Result<Vec<String>> {
        let (_, metrics) = curl(&format!("http://{}/metrics", self.admin)).await?;
        let refused = metrics.lines().filter(|line| {
            line.starts_with("aws_api_calls_total") && !line.contains("error_code=\"\"") && !line.contains("NotFound")
        });
        Ok(refused.map(str::to_owned).collect())
    }

    async fn end(self) -> Result<()> {
        let refused = self.refused().await?;
        ensure!(refused.is_empty(), "{refused:?}; {}", self.log.display());
        std::fs::remove_file(&self.log)?;
        self.lab.end().await
    }
}

/// The AWS CLI, as text.
async fn aws(environment: &[String], arguments: &[&str]) -> Result<String> {
    let mut all: Vec<&str> = environment.iter().map(String::as_str).collect();
    all.push("aws");
    all.extend(arguments);
    all.extend(["--output", "text"]);
    Ok(run("env", &all, "").await?.trim().to_owned())
}

async fn define() -> Result<()> {
    run("kubectl", &["apply", "--server-side", "-f", DEFINITION], "").await?;
    let established = ["wait", "crd/targetgroupbindings.elbv2.k8s.aws", "--for=condition=Established"];
    run("kubectl", &established, "").await.map(drop)
}

fn gate(pod: &Pod) -> Option<&str> {
    condition(pod, GATE).map(|gate| gate.status.as_str())
}

#[tokio::test]
async fn a_binding_is_served_once_its_kind_is_defined_and_its_targets_come_and_go() -> Result<()> {
    run("kubectl", &["delete", "crd", "targetgroupbindings.elbv2.k8s.aws", "--ignore-not-found"], "").await?;
    let account = Account::begin("moto-binding", 5010).await?;
    let lab = &account.lab;
    // A cluster without the definition is no reason not to run.
    account.ready("absent: the cluster does not know this kind; remedy: install its definition").await?;
    define().await?;
    let create = ["elbv2", "create-target-group", "--name", "web", "--protocol", "TCP", "--port", "8080"];
    let more = ["--target-type", "ip", "--vpc-id", &account.vpc, "--query", "TargetGroups[0].TargetGroupArn"];
    let group = account.aws(&[&create[..], &more].concat()).await?;
    let objects = [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }),
        json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding", "metadata": {"name": "web"},
            "spec": {"targetGroupARN": group, "targetType": "ip", "serviceRef": {"name": "web", "port": 80}},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "readinessGates": [{"conditionType": GATE}],
                    "containers": [{"name": "echo", "image": "echo", "ports": [{"containerPort": 8080}]}],
                },
            }},
        }),
    ];
    lab.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).await?;
    let registered = async |count: usize| {
        let pods = lab.ready_pods("app=web", count).await?;
        ensure!(pods.iter().all(|pod| gate(pod) == Some("True")), "gates are open");
        let mut expected: Vec<String> = pods.iter().map(address).collect();
        expected.sort();
        eventually("its targets are the pods", || async {
            let query = "TargetHealthDescriptions[].Target.Id";
            let health = ["elbv2", "describe-target-health", "--target-group-arn", &group, "--query", query];
            let mut found: Vec<String> = account.aws(&health).await?.split_whitespace().map(str::to_owned).collect();
            found.sort();
            ensure!(found == expected, "{found:?}");
            Ok(Some(()))
        })
        .await
    };
    registered(3).await?;
    lab.kubectl(&["scale", "deployment/web", "--replicas=1"]).await?;
    registered(1).await?;
    lab.kubectl(&["delete", "targetgroupbinding/web", "--timeout=60s"]).await?;
    let health =
        ["elbv2", "describe-target-health", "--target-group-arn", &group, "--query", "TargetHealthDescriptions"];
    let left = account.aws(&health).await?;
    ensure!(left.is_empty(), "{left}");
    account.end().await
}

/// A Service with one port, or two.
fn service(ports: &[u16], annotations: &[(&str, &str)]) -> Value {
    let annotation = |(key, value): &(&str, &str)| {
        (format!("service.beta.kubernetes.io/aws-load-balancer-{key}"), Value::from(*value))
    };
    let annotations: serde_json::Map<_, _> = annotations.iter().map(annotation).collect();
    let ports: Vec<_> =
        ports.iter().map(|port| json!({"name": format!("p{port}"), "port": port, "targetPort": 8080})).collect();
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "annotations": annotations},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "selector": {"app": "web"}, "ports": ports,
        },
    })
}

#[tokio::test]
async fn a_services_load_balancer_is_made_changed_and_removed() -> Result<()> {
    define().await?;
    let account = Account::begin("moto-service", 5020).await?;
    let lab = &account.lab;
    lab.apply(&service(&[80], &[("nlb-target-type", "ip")]).to_string()).await?;
    lab.kubectl(&["wait", "service/web", "--for=condition=Active", "--timeout=60s"]).await?;
    let of = |query: &'static str| ["elbv2", "describe-load-balancers", "--query", query];
    let arn = account.aws(&of("LoadBalancers[].LoadBalancerArn")).await?;
    ensure!(account.aws(&of("LoadBalancers[].[Scheme,Type]")).await? == "internal\tnetwork", "{arn}");
    let listeners = ["elbv2", "describe-listeners", "--load-balancer-arn", &arn, "--query", "sort(Listeners[].Port)"];
    ensure!(account.aws(&listeners).await? == "80");

    let changed = [
        ("nlb-target-type", "ip"),
        ("attributes", "load_balancing.cross_zone.enabled=true"),
        ("target-group-attributes", "deregistration_delay.timeout_seconds=60"),
        ("healthcheck-healthy-threshold", "5"),
        ("additional-resource-tags", "team=web"),
    ];
    lab.apply(&service(&[80, 443], &changed).to_string()).await?;
    let groups = ["elbv2", "describe-target-groups", "--query", "TargetGroups[].[HealthyThresholdCount]"];
    let attributes = "Attributes[?Key=='load_balancing.cross_zone.enabled'].Value";
    let cross_zone = ["elbv2", "describe-load-balancer-attributes", "--load-balancer-arn", &arn, "--query", attributes];
    let tags = "TagDescriptions[0].Tags[?Key=='team'].Value";
    let tags = ["elbv2", "describe-tags", "--resource-arns", &arn, "--query", tags];
    eventually("everything is changed", || async {
        let seen = [
            account.aws(&listeners).await?,
            account.aws(&groups).await?,
            account.aws(&cross_zone).await?,
            account.aws(&tags).await?,
        ];
        ensure!(seen == ["80\t443", "5\n5", "true", "web"], "{seen:?}");
        Ok(Some(()))
    })
    .await?;

    lab.kubectl(&["delete", "service/web", "--timeout=100s"]).await?;
    let ours = "SecurityGroups[?starts_with(GroupName, 'k8s-')].GroupName";
    for (service, describe, query) in [
        ("elbv2", "describe-load-balancers", "LoadBalancers"),
        ("elbv2", "describe-target-groups", "TargetGroups"),
        ("ec2", "describe-security-groups", ours),
    ] {
        eventually(&format!("{describe} shows nothing"), || async {
            let left = account.aws(&[service, describe, "--query", query]).await?;
            ensure!(left.is_empty(), "{left}");
            Ok(Some(()))
        })
        .await?;
    }
    account.end().await
}
