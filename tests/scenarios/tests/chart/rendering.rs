//! What the chart renders.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use nlb::settings::{ModelSettings, Scheme, TargetType};
use registrar::cli::Model;
use registrar_core::settings::{Isolation, Rate};
use serde_json::Value;

use super::release::{CHART, helm, render};

/// The objects of a rendered chart.
fn objects(rendered: &str) -> Result<Vec<Value>> {
    let objects: Vec<Option<Value>> = serde_saphyr::from_multiple(rendered)?;
    Ok(objects.into_iter().flatten().collect())
}

/// A file of a rendered `ConfigMap`.
fn file(rendered: &str, map: &str, name: &str) -> Result<String> {
    let objects = objects(rendered)?;
    let map = objects.iter().find(|object| object["metadata"]["name"] == map).context("the settings")?;
    Ok(map["data"][name].as_str().context("their text")?.to_owned())
}

fn settings(rendered: &str) -> Result<ModelSettings> {
    Ok(serde_saphyr::from_str(&file(rendered, "sluice-settings", "settings.yaml")?)?)
}

/// What the registrar makes of its two files.
fn registrar_settings(test: &str, rendered: &str) -> Result<registrar_core::settings::Settings> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder)?;
    let (model, own) = (folder.join("settings.yaml"), folder.join("registrar.yaml"));
    fs::write(&model, file(rendered, "sluice-settings", "settings.yaml")?)?;
    fs::write(&own, file(rendered, "sluice-registrar-settings", "registrar.yaml")?)?;
    let flags = Model { settings: Some(model), registrar_settings: Some(own), ..Model::default() };
    Ok(registrar::settings::read(&flags, None)?.core)
}

#[tokio::test]
async fn the_same_values_are_rendered_to_the_same_bytes() -> Result<()> {
    let tags = ["--set", "defaultTags.b=2,defaultTags.a=1"];
    let first = render(&tags).await?;
    ensure!(first == render(&tags).await?, "two renderings differ");
    ensure!(first == render(&["--set", "defaultTags.a=1,defaultTags.b=2"]).await?, "the order of values is seen");
    for word in ["caBundle", "PRIVATE KEY", "kind: Secret"] {
        ensure!(!first.contains(word), "{word} is rendered");
    }
    Ok(())
}

#[tokio::test]
async fn the_manifest_for_kubectl_is_fresh() -> Result<()> {
    let path = Path::new(CHART).join("../install.yaml");
    let found = fs::read_to_string(&path)?;
    let values = "clusterName=YOUR-CLUSTER-NAME,vpcId=vpc-YOUR-VPC-ID,namespace.create=true";
    let expected = helm(&["template", "sluice", CHART, "--namespace", "sluice-system", "--set", values]).await?;
    let body = found.split_once("---\n").context("a head that says what it is")?.1;
    ensure!(expected.strip_prefix("---\n") == Some(body), "manifests/install.yaml is stale; run: make render");
    Ok(())
}

#[tokio::test]
async fn settings_without_values_are_the_defaults_of_the_model() -> Result<()> {
    let expected = ModelSettings { cluster_name: "plain".to_owned(), ..ModelSettings::default() };
    let rendered = helm(&["template", "sluice", CHART, "--set", "clusterName=plain,vpcId=vpc-1"]).await?;
    let seen = settings(&rendered)?;
    ensure!(seen == expected, "{seen:?} instead of {expected:?}");
    Ok(())
}

#[tokio::test]
async fn every_value_of_the_model_reaches_its_setting() -> Result<()> {
    let gates = [
        "ServiceTypeLoadBalancerOnly=true",
        "EnableIPTargetType=false",
        "EnableTCPUDPListener=true",
        "NLBHealthCheckAdvancedConfig=false",
        "NLBSecurityGroup=false",
        "LBCapacityReservation=false",
        "WeightedTargetGroups=false",
        "EnhancedDefaultBehavior=true",
        "EnableDefaultTagsLowPriority=true",
    ];
    let gates = gates.map(|gate| format!("controllerConfig.featureGates.{gate}")).join(",");
    let values = "region=eu-west-1,loadBalancerClass=example.com/nlb,defaultTargetType=ip,defaultSSLPolicy=Other,\
                  defaultLoadBalancerScheme=internet-facing,defaultTags.team=7,externalManagedTags={owner},\
                  enableBackendSecurityGroup=false,enableManageBackendSecurityGroupRules=true,drainFloorSeconds=90";
    let seen = settings(&render(&["--set", values, "--set", &gates]).await?)?;
    let expected = ModelSettings {
        cluster_name: "lab".to_owned(),
        region: Some("eu-west-1".to_owned()),
        load_balancer_class: "example.com/nlb".to_owned(),
        default_target_type: TargetType::Ip,
        default_scheme: Scheme::InternetFacing,
        default_ssl_policy: "Other".to_owned(),
        default_tags: [("team".to_owned(), "7".to_owned())].into(),
        external_managed_tags: ["owner".to_owned()].into(),
        enable_backend_security_group: false,
        enable_manage_backend_security_group_rules: true,
        drain_floor_seconds: 90,
        features: nlb::settings::Features {
            service_type_load_balancer_only: true,
            ip_target_type: false,
            tcp_udp_listener: true,
            advanced_health_checks: false,
            nlb_security_group: false,
            capacity_reservation: false,
            weighted_target_groups: false,
            enhanced_default_behavior: true,
            default_tags_low_priority: true,
        },
    };
    ensure!(seen == expected, "{seen:?} instead of {expected:?}");
    Ok(())
}

#[tokio::test]
async fn every_value_of_the_registrar_reaches_its_setting() -> Result<()> {
    let values = "isolation=enforce,maxTargetsPerTargetGroup=400,auditPeriodSeconds=60,localNodesOnly=true,swapPatienceSeconds=9,features.sharedGroups=false,\
                  awsApiRates.describe.burst=5,awsApiRates.describe.perSecond=2,backendSecurityGroup=sg-1,\
                  disableRestrictedSecurityGroupRules=true,serviceTargetENISGTags=owner=me\\,tier=,\
                  roles.partner.roleArn=arn:aws:iam::444455556666:role/targets,\
                  controllerConfig.featureGates.SubnetsClusterTagCheck=false,\
                  controllerConfig.featureGates.SubnetDiscoveryByReachability=false";
    let seen = registrar_settings("every-value", &render(&["--set", values]).await?)?;
    let known = registrar_core::settings::Settings::default();
    let load_balancers = registrar_core::balancers::Options {
        backend_security_group: Some("sg-1".to_owned()),
        exact_endpoint_rules: true,
        endpoint_group_tags: [("owner", "me"), ("tier", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        subnets_cluster_tag_check: false,
        subnet_discovery_by_reachability: false,
        ..known.load_balancers
    };
    ensure!(seen.load_balancers == load_balancers, "{:?}", seen.load_balancers);
    ensure!(seen.isolation == Isolation::Enforce, "{:?}", seen.isolation);
    ensure!(seen.most_targets == Some(400), "{:?}", seen.most_targets);
    ensure!(seen.audit_period.as_secs() == 60, "{:?}", seen.audit_period);
    ensure!(seen.local_nodes_only && seen.swap_patience.as_secs() == 9, "{:?}", seen.swap_patience);
    ensure!(!seen.features.shared_groups && seen.features.instance_targets, "{:?}", seen.features);
    ensure!(seen.rates.describe == Some(Rate { burst: 5, per_second: 2.0 }), "{:?}", seen.rates);
    ensure!(seen.roles.keys().map(|name| &**name).eq(["partner"]), "{:?}", seen.roles);
    Ok(())
}

#[tokio::test]
async fn registrar_settings_without_values_are_the_defaults() -> Result<()> {
    let seen = registrar_settings("no-values", &render(&[]).await?)?;
    let known = registrar_core::settings::Settings::default();
    ensure!(seen.load_balancers == known.load_balancers, "{:?}", seen.load_balancers);
    ensure!(seen.features == known.features && seen.isolation == known.isolation, "{seen:?}");
    ensure!(!seen.local_nodes_only && seen.swap_patience == known.swap_patience, "{seen:?}");
    ensure!(seen.most_targets == known.most_targets && seen.audit_period == known.audit_period, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn other_settings_are_other_pods() -> Result<()> {
    let checksums = async |arguments: &[&str]| -> Result<Vec<Value>> {
        let objects = objects(&render(arguments).await?)?;
        let deployments = objects.into_iter().filter(|object| object["kind"] == "Deployment");
        Ok(deployments.map(|d| d["spec"]["template"]["metadata"]["annotations"]["checksum/settings"].clone()).collect())
    };
    let (before, after) = (checksums(&[]).await?, checksums(&["--set", "drainFloorSeconds=90"]).await?);
    ensure!(before.len() == 2 && after.len() == 2, "{before:?} {after:?}");
    ensure!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
    Ok(())
}

#[tokio::test]
async fn monitoring_is_rendered_where_it_is_asked_for() -> Result<()> {
    let kinds = ["ServiceMonitor", "PrometheusRule"];
    let without = objects(&render(&[]).await?)?;
    ensure!(!without.iter().any(|object| kinds.iter().any(|kind| object["kind"] == **kind)), "it was not asked for");
    let values = "serviceMonitor.enabled=true,prometheusRule.enabled=true,grafanaDashboard.enabled=true";
    let with = objects(&render(&["--set", values]).await?)?;
    let count = |kind: &str| with.iter().filter(|object| object["kind"] == kind).count();
    ensure!(count("ServiceMonitor") == 2 && count("PrometheusRule") == 1, "{with:?}");
    let rule = with.iter().find(|object| object["kind"] == "PrometheusRule").context("the rules")?;
    ensure!(rule["spec"]["groups"].as_array().is_some_and(|groups| groups.len() == 2), "{rule}");
    let dashboard =
        with.iter().find(|object| object["metadata"]["name"] == "sluice-dashboard").context("the dashboard")?;
    let _: Value = serde_json::from_str(dashboard["data"]["sluice.json"].as_str().context("its text")?)?;
    Ok(())
}

#[tokio::test]
async fn permissions_follow_the_features() -> Result<()> {
    // What a feature adds to what the registrar may do in the cluster.
    let off = "features.loadBalancers=false,features.instanceTargets=false,features.sharedGroups=false";
    let cases = [
        ("loadBalancers", ["services patch", "services/status patch"]),
        ("instanceTargets", ["nodes list", "nodes watch"]),
        ("sharedGroups", ["configmaps get", "configmaps update"]),
    ];
    let without = permissions(&objects(&render(&["--set", off]).await?)?, "ClusterRole");
    for (feature, added) in cases {
        let on = off.replace(&format!("{feature}=false"), &format!("{feature}=true"));
        let with = permissions(&objects(&render(&["--set", &on]).await?)?, "ClusterRole");
        for permission in added {
            ensure!(!without.iter().any(|p| p == permission), "{permission} is granted without {feature}");
            ensure!(with.iter().any(|p| p == permission), "{permission} is not granted with {feature}: {with:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_namespace_alone_is_served_with_permissions_in_it_alone() -> Result<()> {
    let rendered = render(&["--set", "watchNamespace=shop"]).await?;
    let objects = objects(&rendered)?;
    let wide = permissions(&objects, "ClusterRole");
    ensure!(wide == ["namespaces list", "namespaces watch", "nodes list", "nodes watch"], "{wide:?}");
    let outside = objects.iter().filter(|object| object["kind"] == "Role" && object["metadata"]["namespace"] != "shop");
    let outside = permissions(&outside.cloned().collect::<Vec<_>>(), "Role");
    ensure!(outside.iter().all(|permission| permission.starts_with("leases ")), "{outside:?}");
    Ok(())
}

/// `resource verb` for everything that the registrar's roles of a kind grant, in order.
fn permissions(objects: &[Value], kind: &str) -> Vec<String> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let of_registrar = |object: &&Value| {
        object["kind"] == kind
            && object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("sluice-registrar"))
    };
    let mut all = Vec::new();
    for rule in objects.iter().filter(of_registrar).filter_map(|role| role["rules"].as_array()).flatten() {
        for resource in texts(&rule["resources"]) {
            all.extend(texts(&rule["verbs"]).into_iter().map(|verb| format!("{resource} {verb}")));
        }
    }
    all.sort();
    all
}
