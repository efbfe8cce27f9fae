//! A load balancer and a target group made by hand, with the AWS CLI, and what the emulator's log says of them.

use std::{collections::BTreeSet, time::Duration};

use crate::{Scenario, eventually, run, within};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Runs the AWS CLI and returns what it printed as text.
pub async fn aws(arguments: &[&str]) -> Result<String> {
    let arguments = [arguments, &["--output", "text"]].concat();
    Ok(run("aws", &arguments, "").await?.trim().to_owned())
}

/// The states of a group's targets as AWS says them, by address or instance.
pub async fn states(group: &str) -> Result<Vec<(String, String)>> {
    let query = "TargetHealthDescriptions[].[Target.Id,TargetHealth.State]";
    let text = aws(&["elbv2", "describe-target-health", "--target-group-arn", group, "--query", query]).await?;
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    Ok(lines.map(|(id, state)| (id.to_owned(), state.to_owned())).collect())
}

/// Waits until these and no others of a group's targets are healthy.
pub async fn healthy(group: &str, expected: &BTreeSet<String>) -> Result<()> {
    eventually(&format!("healthy are {expected:?}"), || async {
        let states = states(group).await?;
        let healthy: BTreeSet<String> =
            states.iter().filter(|(_, state)| state == "healthy").map(|(id, _)| id.clone()).collect();
        ensure!(healthy == *expected, "{states:?}");
        Ok(Some(()))
    })
    .await
}

/// The target group of the only binding of a test.
pub async fn bound(lab: &Scenario) -> Result<String> {
    lab.kubectl(&["get", "targetgroupbindings", "-o", "jsonpath={.items[0].spec.targetGroupARN}"]).await
}

/// A target group of addresses behind a listener of a load balancer, and where the log was when it was made.
pub struct TargetGroup {
    /// Its ARN.
    pub arn: String,
    load_balancer: String,
    listener: String,
}

impl TargetGroup {
    /// Makes one whose health checks ask for `/healthz` of port 8080, every five seconds.
    pub async fn create(lab: &Scenario) -> Result<Self> {
        // Names are at most 32 characters, and unique.
        let name: String = lab.namespace.chars().rev().take(28).collect::<String>().chars().rev().collect();
        let name = format!("t{}", name.trim_matches('-'));
        let subnets = ["subnet-0a00000000000aaa1", "subnet-0b00000000000bbb1", "subnet-0c00000000000ccc1"];
        let mut create = vec!["elbv2", "create-load-balancer", "--type", "network", "--name", &name];
        create.extend(["--query", "LoadBalancers[0].LoadBalancerArn", "--subnets"]);
        create.extend(subnets);
        let load_balancer = aws(&create).await?;
        let vpc = "vpc-0a1b2c3d4e5f60718";
        let arn = aws(&[
            &["elbv2", "create-target-group", "--name", &name, "--protocol", "TCP", "--port", "8080"][..],
            &[
                "--target-type",
                "ip",
                "--vpc-id",
                vpc,
                "--health-check-protocol",
                "HTTP",
                "--health-check-path",
                "/healthz",
            ],
            &["--health-check-interval-seconds", "5", "--healthy-threshold-count", "2"],
            &["--query", "TargetGroups[0].TargetGroupArn"],
        ]
        .concat())
        .await?;
        let forward = format!("Type=forward,TargetGroupArn={arn}");
        let listener =
            aws(&[
                &[
                    "elbv2",
                    "create-listener",
                    "--load-balancer-arn",
                    &load_balancer,
                    "--protocol",
                    "TCP",
                    "--port",
                    "80",
                ][..],
                &["--default-actions", &forward, "--query", "Listeners[0].ListenerArn"],
            ]
            .concat())
            .await?;
        Ok(Self { arn, load_balancer, listener })
    }

    /// A Service `web` and a binding `web` of it to this group.
    pub async fn bind(&self, lab: &Scenario) -> Result<()> {
        self.bind_with(lab, "").await
    }

    /// The same with more in the binding's spec: `, <field>: <value>`.
    pub async fn bind_with(&self, lab: &Scenario, more: &str) -> Result<()> {
        lab.apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: web }}\nspec: {{ selector: {{ app: web }}, ports: [{{ port: 80, targetPort: 8080 }}] }}\n\
             ---\napiVersion: elbv2.k8s.aws/v1beta1\nkind: TargetGroupBinding\nmetadata: {{ name: web }}\n\
             spec: {{ targetGroupARN: {}, targetType: ip, serviceRef: {{ name: web, port: 80 }}{more} }}\n",
            self.arn
        ))
        .await
    }

    /// The states that AWS says, by address.
    pub async fn states(&self) -> Result<Vec<(String, String)>> {
        states(&self.arn).await
    }

    /// The state of one target, once it is that.
    pub async fn reaches(&self, address: &str, wanted: &str) -> Result<()> {
        eventually(&format!("{address} {wanted}"), || async {
            let states = self.states().await?;
            Ok(states.iter().any(|(id, state)| id == address && state == wanted).then_some(()))
        })
        .await
    }

    /// Removes what was made.
    pub async fn delete(self) -> Result<()> {
        aws(&["elbv2", "delete-listener", "--listener-arn", &self.listener]).await?;
        aws(&["elbv2", "delete-load-balancer", "--load-balancer-arn", &self.load_balancer]).await?;
        eventually("the target group is deleted", || async {
            Ok(aws(&["elbv2", "delete-target-group", "--target-group-arn", &self.arn]).await.ok())
        })
        .await
        .map(drop)
    }
}

/// The emulator's log and its switches.
pub struct Emulator {
    control: String,
}

impl Emulator {
    /// That of the lab.
    pub fn new() -> Result<Self> {
        Ok(Self { control: std::env::var("SLUICE_LAB_CONTROL").context("the lab names its control API")? })
    }

    /// The entries of a kind after a sequence number that contain a text, the oldest first.
    pub async fn log(&self, after: u64, kind: &str, contains: &str) -> Result<Vec<Value>> {
        let url = format!("{}/v1/log?after={after}&kind={kind}&contains={contains}&limit=10000&wait=0", self.control);
        let answer: Value = serde_json::from_str(&run("curl", &["-sS", "--max-time", "10", &url], "").await?)?;
        Ok(answer["entries"].as_array().cloned().unwrap_or_default())
    }

    /// The last sequence number so far.
    pub async fn last(&self) -> Result<u64> {
        let url = format!("{}/v1/log?after=0&kind=none&limit=1&wait=0", self.control);
        let answer: Value = serde_json::from_str(&run("curl", &["-sS", "--max-time", "10", &url], "").await?)?;
        answer["last"].as_u64().context("the log has an end")
    }

    /// Seconds on the emulator's clock.
    pub async fn now(&self) -> Result<f64> {
        let url = format!("{}/v1/time", self.control);
        let answer: Value = serde_json::from_str(&run("curl", &["-sS", "--max-time", "10", &url], "").await?)?;
        answer["now"].as_f64().context("the emulator has a clock")
    }

    /// All calls after a sequence number that this scenario has not made itself by [`crate::query`].
    pub async fn calls(&self, after: u64) -> Result<Vec<Value>> {
        let (mut calls, mut after) = (Vec::new(), after);
        loop {
            let page = self.log(after, "api", "").await?;
            let Some(last) = page.last().and_then(|entry| entry["sequence"].as_u64()) else { return Ok(calls) };
            calls.extend(page.into_iter().filter(|call| call["agent"] != crate::query::AGENT));
            after = last;
        }
    }

    /// Changes settings: `{"bucket.describe": "40/10"}`.
    pub async fn set(&self, settings: &Value) -> Result<()> {
        let url = format!("{}/v1/settings", self.control);
        let body = settings.to_string();
        run("curl", &["-sS", "--fail", "--max-time", "10", "-X", "PUT", "--data", &body, &url], "").await.map(drop)
    }

    /// Sets all settings to those of a profile.
    pub async fn profile(&self, name: &str) -> Result<()> {
        let url = format!("{}/v1/profile/{name}", self.control);
        run("curl", &["-sS", "--fail", "--max-time", "10", "-X", "PUT", &url], "").await.map(drop)
    }

    /// Makes an address a black hole for the load balancer, or an address again.
    pub async fn unreachable(&self, address: &str, unreachable: bool) -> Result<()> {
        let url = format!("{}/v1/addresses/{address}", self.control);
        let body = format!(r#"{{"unreachable": {unreachable}}}"#);
        run("curl", &["-sS", "--fail", "--max-time", "10", "-X", "PUT", "--data", &body, &url], "").await.map(drop)
    }
}

/// The entry of the log in which somebody asked for this with this address, once there is one.
pub async fn called(emulator: &Emulator, after: u64, action: &str, address: &str) -> Result<Value> {
    within(Duration::from_secs(30), &format!("{action} of {address}"), || async {
        let entries = emulator.log(after, "api", address).await?;
        Ok(entries.into_iter().find(|entry| entry["action"] == action))
    })
    .await
}

/// Whether a call of the log changes something.
pub fn is_write(call: &Value) -> bool {
    let action = call["action"].as_str().unwrap_or_default();
    call["service"] != "sts" && !["Describe", "Get"].iter().any(|verb| action.starts_with(verb))
}

/// Whether a call of the log was refused for its rate.
pub fn is_throttled(call: &Value) -> bool {
    call["error"].as_str().is_some_and(|code| code.contains("Throttl") || code == "RequestLimitExceeded")
}
