//! The AWS emulator as part of the lab: names, traffic and identities, tried in the lab.

use anyhow::{Context as _, Result, ensure};
use scenarios::{Scenario, run};

/// Asks the emulator's STS to exchange a token, as an AWS client does. Returns the answer's text.
async fn exchange(token: &str, role: &str) -> Result<String> {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").context("the lab names its AWS endpoint")?;
    let form = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=test&RoleArn={role}&WebIdentityToken={token}"
    );
    run("curl", &["-sS", "--max-time", "10", "--data", &form, &endpoint], "").await
}

#[tokio::test]
async fn token_of_a_service_account_is_exchanged_for_the_role_that_trusts_it_and_for_no_other() -> Result<()> {
    let lab = Scenario::begin("identity", &[]).await?;
    let role = "arn:aws:iam::111122223333:role/sluice-registrar";
    let namespace = "kube-system";
    for account in ["sluice-registrar", "sluice-other"] {
        run("kubectl", &["-n", namespace, "create", "serviceaccount", account], "").await?;
    }
    let token = async |account: &str, audience: &str| {
        let audience = format!("--audience={audience}");
        let token = run("kubectl", &["-n", namespace, "create", "token", account, &audience], "").await?;
        anyhow::Ok(token.trim().to_owned())
    };
    let trusted = token("sluice-registrar", "sts.amazonaws.com").await?;
    let answer = exchange(&trusted, role).await?;
    ensure!(answer.contains("<SecretAccessKey>") && answer.contains("assumed-role/sluice-registrar/test"), "{answer}");

    let forged = {
        let (head, signature) = trusted.rsplit_once('.').context("a signed token")?;
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        format!("{head}.{flipped}{}", &signature[1..])
    };
    let cases = [
        ("another service account", token("sluice-other", "sts.amazonaws.com").await?, "AccessDenied"),
        (
            "another audience",
            token("sluice-registrar", "https://kubernetes.default.svc").await?,
            "InvalidIdentityToken",
        ),
        ("a forged signature", forged, "InvalidIdentityToken"),
    ];
    for (name, token, code) in cases {
        let answer = exchange(&token, role).await?;
        ensure!(answer.contains(&format!("<Code>{code}</Code>")), "{name}: {answer}");
    }
    for account in ["sluice-registrar", "sluice-other"] {
        run("kubectl", &["-n", namespace, "delete", "serviceaccount", account], "").await?;
    }
    lab.end().await
}
