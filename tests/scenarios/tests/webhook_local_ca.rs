//! The webhook without cert-manager: its certificate comes from `certs/local-ca`.

#[expect(dead_code, reason = "other tests install it with cert-manager, and ask about pods")]
mod webhook_installed;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{ByteString, api::admissionregistration::v1::ValidatingWebhookConfiguration};
use kube::{Api, Client};
use scenarios::{CHART, eventually, run};

use self::webhook_installed::{asked, create, service};

/// How many authorities API servers trust for the webhook, and the newest of them.
async fn authorities(client: &Client) -> Result<(usize, String)> {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let hooks = configurations.get("sluice-webhook").await?.webhooks.unwrap_or_default();
    let ByteString(bundle) = hooks.into_iter().find_map(|hook| hook.client_config.ca_bundle).context("an authority")?;
    let bundle = String::from_utf8(bundle)?;
    let newest = bundle.split("-----END CERTIFICATE-----").next().unwrap_or_default().to_owned();
    Ok((bundle.matches("BEGIN CERTIFICATE").count(), newest))
}

async fn refused() -> Result<bool> {
    let (_, says) = create("default", &service("broken", &[("scheme", "public")]), true).await?;
    Ok(says.contains("denied the request"))
}

/// How many certificates a replica has taken in the place of another.
async fn loads(pods: &str) -> Result<u32> {
    let mut loads = 0;
    for address in pods.split_whitespace() {
        let (_, metrics) = scenarios::curl(&format!("http://{address}:8080/metrics")).await?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("sluice_webhook_certificate_loads_total "));
        loads += line.context("the metric")?.parse::<u32>()?;
    }
    Ok(loads)
}

#[tokio::test]
async fn a_certificate_of_local_ca_is_served_trusted_and_renewed() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let definitions = run("kubectl", &["get", "crd", "-o", "name"], "").await?;
    ensure!(!definitions.contains("cert-manager.io"), "this lab must be without cert-manager");
    // Another test may have defined bindings here.
    let install =
        ["install", "sluice", CHART, "--namespace", "sluice-system", "--create-namespace", "--take-ownership"];
    let values =
        "clusterName=lab,registrar.enabled=false,enableCertManager=false,webhookTLS.existingSecret=sluice-webhook-tls";
    run("helm", &[&install[..], &["--set", values]].concat(), "").await?;
    let script = format!("{CHART}/../../certs/local-ca");
    run(&script, &["--days", "30"], "").await?;
    asked().await?;
    let client = Client::try_default().await?;
    let (count, first) = authorities(&client).await?;
    ensure!(count == 1, "{count} authorities");

    // Renewed while nobody notices.
    let pods = ["-n", "sluice-system", "get", "pods", "-o", "jsonpath={.items[*].status.podIP}"];
    let pods = run("kubectl", &pods, "").await?;
    ensure!(loads(&pods).await? == 0, "nothing was replaced yet");
    run(&script, &[], "").await?;
    let (count, second) = authorities(&client).await?;
    ensure!(count == 2 && second != first, "the one before is trusted still: {count}");
    ensure!(refused().await?, "between the old certificate and the new");
    eventually("the new certificate in both replicas", || async { Ok((loads(&pods).await? == 2).then_some(())) })
        .await?;
    ensure!(refused().await?, "with the new certificate");
    Ok(())
}
