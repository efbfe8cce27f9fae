//! The webhook as it is deployed: its manifests, a certificate of cert-manager, and a real API server that asks it.

mod webhook_installed;

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{Pod, Service},
};
use kube::{Api, ResourceExt as _, api::PostParams};
use scenarios::{CHART, Scenario, eventually, run};
use serde_json::{Value, json};

use self::webhook_installed::{FAMILY, LABELS, create, installed, pod, service};

fn gates(pod: &Pod) -> Vec<String> {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.clone()).unwrap_or_default();
    gates.into_iter().map(|gate| gate.condition_type).collect()
}

#[tokio::test]
async fn the_usual_service_is_stored_without_a_word() -> Result<()> {
    let lab = Scenario::begin("usual", &[]).await?;
    installed().await?;
    let (stored, says) = create(&lab.namespace, &service("web", &[]), false).await?;
    ensure!(stored && says.is_empty(), "{says}");
    lab.end().await
}

#[tokio::test]
async fn a_broken_service_is_refused_with_everything_that_is_wrong_with_it() -> Result<()> {
    let lab = Scenario::begin("broken", &[]).await?;
    installed().await?;
    // What is written, and what the one message must say about each of it.
    let variants: [&[(&str, &str, &str)]; 10] = [
        &[("scheme", "public", "internet-facing"), ("nlb-target-type", "pod", "ip")],
        &[("healthcheck-interval", "4", "5"), ("healthcheck-healthy-threshold", "11", "10")],
        &[("healthcheck-path", "healthz", "/"), ("healthcheck-port", "99999", "65535")],
        &[("ssl-cert", "my-certificate", "arn:"), ("backend-protocol", "https", "ssl")],
        &[("security-groups", "sg-xyz", "sg-"), ("disable-nlb-sg", "yes", "true")],
        &[("subnets", "subnet-1", "subnet-"), ("ip-address-type", "ipv6", "dualstack")],
        &[("additional-resource-tags", "a", "="), ("name", "a_b", "letters")],
        &[("attributes", "deletion_protection.enabled=maybe", "true"), ("pod-drain", "soon", "auto")],
        &[("private-ipv4-addresses", "10.0.0.1", "internal"), ("enable-icmp-for-path-mtu-discovery", "yes", "on")],
        &[
            ("target-group-attributes", "deregistration_delay.timeout_seconds=-1", "3600"),
            ("healthcheck-unhealthy-threshold", "1", "10"),
        ],
    ];
    let mut problems = Vec::new();
    for (index, variant) in variants.iter().enumerate() {
        let annotations: Vec<_> = variant.iter().map(|(key, value, _)| (*key, *value)).collect();
        let (stored, says) = create(&lab.namespace, &service(&format!("broken-{index}"), &annotations), false).await?;
        if stored || !says.contains("admission webhook \"service.sluice.k8s.aws\" denied the request: Service") {
            problems.push(format!("{annotations:?} was not refused by the webhook: {says}"));
        }
        for (key, value, remedy) in *variant {
            let line = says.lines().find(|line| line.starts_with(&format!("- {FAMILY}{key}: ")));
            let value = value.rsplit('=').next().unwrap_or_default();
            if line.is_none_or(|line| !line.contains(value) || !line.contains(remedy)) {
                problems.push(format!("{key}: {value} -> {remedy}: {line:?} of\n{says}"));
            }
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    lab.end().await
}

#[tokio::test]
async fn a_mistyped_key_is_stored_with_a_warning_that_says_what_was_meant() -> Result<()> {
    let lab = Scenario::begin("typo", &[]).await?;
    installed().await?;
    let (stored, says) = create(&lab.namespace, &service("web", &[("schema", "internal")]), false).await?;
    ensure!(stored, "{says}");
    let expected = format!("Warning: {FAMILY}schema");
    ensure!(says.contains(&expected) && says.contains("did you mean") && says.contains("scheme"), "{says}");
    lab.end().await
}

#[tokio::test]
async fn pods_get_their_gates_although_no_target_group_exists() -> Result<()> {
    let lab = Scenario::begin("gated", &[("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled")]).await?;
    installed().await?;
    let (stored, says) = create(&lab.namespace, &service("web", &[]), false).await?;
    ensure!(stored, "{says}");
    let pods: Api<Pod> = lab.api();
    // The webhook learns of the Service a moment after it was stored.
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    let seen = eventually("gates for both ports", || async {
        let pod = pods.create(&tried, &serde_json::from_value(pod("tried"))?).await?;
        let gates = gates(&pod);
        Ok((gates.len() == 2).then_some(gates))
    })
    .await?;
    for gate in &seen {
        let name = format!("target-health.elbv2.k8s.aws/k8s-{}-web-", &lab.namespace.replace('-', "")[..8]);
        ensure!(gate.starts_with(&name), "{gate} begins with {name}");
    }
    lab.apply(&pod("stored").to_string()).await?;
    ensure!(gates(&lab.pod("stored").await?) == seen, "the stored pod has the same");

    // A Deployment's pods have no name yet, and their templates no namespace.
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web", "of": "deployment"}},
            "template": {
                "metadata": {"labels": {"app": "web", "of": "deployment"}},
                "spec": {"containers": [{"name": "server", "image": "echoserver"}]},
            },
        },
    });
    lab.apply(&deployment.to_string()).await?;
    let made = eventually("two pods", || async {
        let made = lab.pods("of=deployment").await?;
        Ok((made.len() == 2).then_some(made))
    })
    .await?;
    for pod in made {
        ensure!(gates(&pod) == seen, "{}: {:?}", pod.name_any(), gates(&pod));
    }

    let mut opted_out = pod("without");
    opted_out["metadata"]["labels"]["elbv2.k8s.aws/pod-readiness-gate-inject"] = json!("disabled");
    lab.apply(&opted_out.to_string()).await?;
    ensure!(gates(&lab.pod("without").await?).is_empty(), "a pod can want none");
    lab.end().await
}

#[tokio::test]
async fn a_second_mutating_hook_and_reinvocation_change_nothing() -> Result<()> {
    let lab = Scenario::begin("again", &LABELS).await?;
    installed().await?;
    // The same hooks once more under a name that comes later: each changes the pod, so that the others are asked again.
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(lab.client.clone());
    let mut again = mutating.get("sluice-webhook").await?;
    again.metadata = kube::core::ObjectMeta { name: Some(lab.namespace.clone()), ..Default::default() };
    for hook in again.webhooks.iter_mut().flatten() {
        hook.name = format!("again.{}", hook.name);
        let selector = hook.namespace_selector.get_or_insert_default();
        let labels = selector.match_labels.get_or_insert_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), lab.namespace.clone());
    }
    mutating.create(&PostParams::default(), &again).await?;
    let (stored, says) = create(&lab.namespace, &service("web", &[]), false).await?;
    ensure!(stored, "{says}");
    let pods: Api<Pod> = lab.api();
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    let made = eventually("a pod with gates", || async {
        let made = pods.create(&tried, &serde_json::from_value(pod("tried"))?).await?;
        Ok((!gates(&made).is_empty()).then_some(made))
    })
    .await?;
    ensure!(gates(&made).len() == 2, "{:?}", gates(&made));
    let spec = made.spec.context("a spec")?;
    ensure!(spec.termination_grace_period_seconds == Some(130), "{:?}", spec.termination_grace_period_seconds);
    let sleeps = spec.containers[0].lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()?.sleep.as_ref());
    ensure!(sleeps.is_some_and(|sleep| sleep.seconds == 120), "{sleeps:?}");
    mutating.delete(&lab.namespace, &kube::api::DeleteParams::default()).await?;
    lab.end().await
}

/// Pods of every combination of what the hooks look at.
fn combinations() -> Vec<Value> {
    let hook = |lifecycle: &str| serde_json::from_str::<Value>(lifecycle).unwrap_or_default();
    let gates = [
        "null",
        "[]",
        r#"[{"conditionType":"www.example.com/a"}]"#,
        r#"[{"conditionType":"target-health.alb.ingress.k8s.aws/x"},{"conditionType":"www.example.com/a"}]"#,
        r#"[{"conditionType":"target-health.alb.ingress.k8s.aws/x"}]"#,
        r#"[{"conditionType":"not/a/condition"}]"#,
    ];
    let lifecycles = [
        "null",
        "{}",
        r#"{"preStop":{"exec":{"command":["true"]}}}"#,
        r#"{"preStop":{"sleep":{"seconds":5}}}"#,
        r#"{"preStop":{"sleep":{"seconds":500}}}"#,
        r#"{"postStart":{"exec":{"command":["true"]}}}"#,
        r#"{"preStop":{}}"#,
    ];
    // The containers that are named for QUIC, and what each has in its environment.
    let servers = [None, Some(("c0,c1,i", "null")), Some((" c1 ,,nobody", r#"[{"name":"A","value":"b"}]"#))];
    let sidecars = [None, Some((None, "null")), Some((Some("Always"), "null")), Some((Some("Always"), lifecycles[3]))];
    let graces = [None, Some(0), Some(1), Some(30), Some(-1)];
    let mut pods = Vec::new();
    for gate in gates {
        for lifecycle in lifecycles {
            for sidecar in sidecars {
                for grace in graces {
                    for containers in 0..3 {
                        let name = format!("p{}", pods.len());
                        // Each in turn: all of them with everything else would be three times as many pods.
                        let server = servers[pods.len() % servers.len()];
                        let env = hook(server.map_or("null", |(_, env)| env));
                        let container = |index| json!({"name": format!("c{index}"), "image": "x", "lifecycle": hook(lifecycle), "env": env});
                        let mut pod = json!({
                            "metadata": {"name": name, "labels": {"app": "web"}},
                            "spec": {"containers": (0..containers).map(container).collect::<Vec<_>>(), "readinessGates": hook(gate)},
                        });
                        if let Some((names, _)) = server {
                            pod["metadata"]["annotations"] = json!({format!("{FAMILY}quic-enabled-containers"): names});
                        }
                        if let Some((policy, lifecycle)) = sidecar {
                            let init = json!({"name": "i", "image": "x", "restartPolicy": policy, "lifecycle": hook(lifecycle)});
                            pod["spec"]["initContainers"] = json!([init]);
                        }
                        if let Some(grace) = grace {
                            pod["spec"]["terminationGracePeriodSeconds"] = json!(grace);
                        }
                        pods.push(pod);
                    }
                }
            }
        }
    }
    pods
}

#[tokio::test]
async fn the_api_server_accepts_a_pod_with_the_patch_exactly_when_it_accepts_it_without() -> Result<()> {
    let with = Scenario::begin("with", &LABELS).await?;
    let without = Scenario::begin("without", &[]).await?;
    installed().await?;
    let (stored, says) = create(&with.namespace, &service("web", &[]), false).await?;
    ensure!(stored, "{says}");
    let pods = combinations();
    ensure!(pods.len() > 2000, "{}", pods.len());
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    // As bytes, because the types of a client would leave out what the test is about.
    let try_in = async |namespace: &str, pod: &Value| -> Result<Option<Pod>> {
        let url = format!("/api/v1/namespaces/{namespace}/pods");
        let request = kube::core::Request::new(url).create(&tried, pod.to_string().into_bytes())?;
        match with.client.request::<Pod>(request).await {
            Ok(pod) => Ok(Some(pod)),
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    eventually("gates", || async {
        let made = try_in(&with.namespace, &pod("first")).await?;
        Ok(made.filter(|pod| !gates(pod).is_empty()).map(drop))
    })
    .await?;
    let results: Vec<Result<(&Value, bool, Option<Pod>)>> = stream::iter(&pods)
        .map(async |pod| {
            Ok((pod, try_in(&without.namespace, pod).await?.is_some(), try_in(&with.namespace, pod).await?))
        })
        .buffer_unordered(8)
        .collect()
        .await;
    let (mut problems, mut accepted) = (String::new(), 0);
    for result in results {
        let (pod, plain, patched) = result?;
        accepted += usize::from(plain);
        if plain != patched.is_some() {
            writeln!(problems, "accepted without: {plain}, with: {}: {pod}", patched.is_some())?;
        }
        let Some(patched) = patched else { continue };
        if gates(&patched).iter().filter(|gate| gate.contains("elbv2")).count() != 2 {
            writeln!(problems, "without its gates: {pod}")?;
        }
        let named =
            pod["metadata"]["annotations"][format!("{FAMILY}quic-enabled-containers")].as_str().unwrap_or_default();
        for container in patched.spec.iter().flat_map(|spec| &spec.containers) {
            let ids =
                container.env.iter().flatten().filter(|variable| variable.name == "AWS_LBC_QUIC_SERVER_ID").count();
            if ids != usize::from(named.contains(&container.name)) {
                writeln!(problems, "{} has {ids} server ids: {pod}", container.name)?;
            }
        }
    }
    ensure!(problems.is_empty(), "{problems}");
    ensure!(accepted > 500 && accepted < pods.len(), "{accepted} of {} are valid", pods.len());
    without.end().await?;
    with.end().await
}

#[tokio::test]
async fn services_without_a_class_get_ours_where_that_is_wanted_and_others_are_left_alone() -> Result<()> {
    let lab = Scenario::begin("class", &[]).await?;
    installed().await?;
    let services: Api<Service> = lab.api();
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    let class_of = async |kind: &str, class: Option<&str>| -> Result<Option<String>> {
        let spec =
            json!({"type": kind, "loadBalancerClass": class, "selector": {"app": "web"}, "ports": [{"port": 80}]});
        let service = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec}))?;
        Ok(services.create(&tried, &service).await?.spec.unwrap_or_default().load_balancer_class)
    };
    ensure!(class_of("LoadBalancer", None).await?.is_none(), "nobody asked for it yet");
    let wanted = async |value: &str| {
        let value = format!("enableServiceMutatorWebhook={value}");
        let upgrade = ["upgrade", "sluice", CHART, "--namespace", "sluice-system", "--reuse-values", "--set", &value];
        run("helm", &upgrade, "").await
    };
    wanted("true").await?;
    let seen = eventually("a class", || class_of("LoadBalancer", None)).await;
    let others = async {
        for (kind, class) in [("LoadBalancer", Some("example.com/other")), ("ClusterIP", None), ("NodePort", None)] {
            let seen = class_of(kind, class).await?;
            ensure!(seen.as_deref() == class, "{kind} of {class:?}: {seen:?}");
        }
        Ok(())
    }
    .await;
    wanted("false").await?;
    ensure!(seen? == "service.k8s.aws/nlb");
    others?;
    lab.end().await
}

#[tokio::test]
async fn the_account_of_the_webhook_may_list_and_watch_two_kinds_and_nothing_else() -> Result<()> {
    installed().await?;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "sluice-system"}});
    let account = "--as=system:serviceaccount:sluice-system:sluice-webhook";
    let answer =
        run("kubectl", &[account, "create", "--validate=false", "-f", "-", "-o", "json"], &review.to_string()).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    ensure!(answer["status"]["incomplete"] == false, "{answer}");
    let words = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
    };
    let mut may = BTreeSet::new();
    for rule in answer["status"]["resourceRules"].as_array().into_iter().flatten() {
        for resource in words(rule, "resources") {
            // What everybody may: to ask who it is and what it may.
            if !resource.starts_with("selfsubject") {
                may.extend(words(rule, "verbs").into_iter().map(|verb| format!("{verb} {resource}")));
            }
        }
    }
    let expected =
        ["list services", "list targetgroupbindings", "watch services", "watch targetgroupbindings"].map(str::to_owned);
    ensure!(may == BTreeSet::from(expected), "{may:?}");
    // And to see which versions there are.
    let urls = answer["status"]["nonResourceRules"].as_array().into_iter().flatten();
    ensure!(urls.flat_map(|rule| words(rule, "verbs")).all(|verb| verb == "get"), "{answer}");
    Ok(())
}
