//! Process pods, cert-manager and admission webhooks, tried in the lab.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::ValidatingWebhookConfiguration,
        core::v1::{ConfigMap, Secret},
        discovery::v1::EndpointSlice,
    },
};
use kube::{Api, ResourceExt as _, api::ListParams};
use scenarios::{Scenario, address, eventually, is_ready, within};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

/// A pod of `/bin/sh` that runs a script.
fn shell(name: &str, script: &str, more: &serde_json::Value) -> String {
    let mut container = json!({"name": "sh", "image": "shell", "args": ["-c", script]});
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    let volumes = container["volumes"].take();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container], "volumes": volumes,
    }})
    .to_string()
}

async fn log_of(lab: &Scenario, pod: &str) -> Result<String> {
    let over = |phase: &str| ["Succeeded", "Failed"].contains(&phase);
    lab.pod_when(pod, "has run", |p| p.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(over)).await?;
    lab.kubectl(&["logs", pod]).await
}

#[tokio::test]
async fn process_sees_its_environment_its_volumes_and_the_api_as_in_a_cluster() -> Result<()> {
    let lab = Scenario::begin("process", &[]).await?;
    lab.kubectl(&["create", "secret", "generic", "settings", "--from-literal=password=s3cret"]).await?;
    let script = "echo ip=$POD_IP arg=$(ARG) password=$PASSWORD; cat /etc/settings/password; echo; \
        cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; touch /etc/settings/x 2>/dev/null && echo writable; \
        touch /scratch/x && echo scratch; ls -A /root; grep $POD_IP /etc/hosts; \
        kubectl auth whoami -o jsonpath={.status.userInfo.username} --server \
        https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT \
        --certificate-authority /var/run/secrets/kubernetes.io/serviceaccount/ca.crt \
        --token $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)";
    let more = json!({
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "ARG", "value": "of-$(POD_IP)"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "settings", "key": "password"}}},
        ],
        "volumeMounts": [
            {"name": "settings", "mountPath": "/etc/settings", "readOnly": true},
            {"name": "scratch", "mountPath": "/scratch"},
        ],
        "volumes": [{"name": "settings", "secret": {"secretName": "settings"}}, {"name": "scratch", "emptyDir": {}}],
    });
    lab.apply(&shell("looks", script, &more)).await?;
    let log = log_of(&lab, "looks").await?;
    let ip = address(&lab.pod("looks").await?);
    let expected = format!(
        "ip={ip} arg=of-{ip} password=s3cret\ns3cret\n{ns}\nscratch\n{ip} looks\nsystem:serviceaccount:{ns}:default\n",
        ns = lab.namespace
    );
    scenarios::expect_equal("the container's output", &log, &expected)?;
    lab.end().await
}

#[tokio::test]
async fn service_account_with_a_role_gets_a_web_identity_token_and_one_without_does_not() -> Result<()> {
    let lab = Scenario::begin("role", &[]).await?;
    let script = "echo role=$AWS_ROLE_ARN; test -n \"$AWS_WEB_IDENTITY_TOKEN_FILE\" && \
        cut -d. -f2 $AWS_WEB_IDENTITY_TOKEN_FILE | tr '_-' '/+' | base64 -d 2>/dev/null; true";
    lab.apply(&shell("without", script, &json!({}))).await?;
    scenarios::expect_equal("without a role", &log_of(&lab, "without").await?, &"role=\n".to_owned())?;
    let role = "arn:aws:iam::111122223333:role/test";
    lab.kubectl(&["annotate", "serviceaccount", "default", &format!("eks.amazonaws.com/role-arn={role}")]).await?;
    lab.apply(&shell("with", script, &json!({}))).await?;
    let log = log_of(&lab, "with").await?;
    ensure!(log.starts_with(&format!("role={role}\n")), "{log}");
    ensure!(log.contains(r#""aud":["sts.amazonaws.com"]"#), "{log}");
    ensure!(log.contains(&format!(r#""sub":"system:serviceaccount:{}:default""#, lab.namespace)), "{log}");
    lab.end().await
}

#[tokio::test]
async fn process_is_terminated_and_then_killed_as_its_grace_period_says() -> Result<()> {
    let lab = Scenario::begin("signals", &[]).await?;
    let polite = "trap 'echo terminated; exit 0' TERM; echo up; while :; do read -t 1 x </dev/zero; done";
    let stubborn = "trap '' TERM; echo up; while :; do read -t 1 x </dev/zero; done";
    for (name, script, code, says) in [("polite", polite, 0, "up\nterminated\n"), ("stubborn", stubborn, 137, "up\n")] {
        let mut pod: serde_json::Value = serde_json::from_str(&shell(name, script, &json!({})))?;
        pod["metadata"]["finalizers"] = json!(["example.com/look"]);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(2);
        lab.apply(&pod.to_string()).await?;
        eventually("its first line", || async { Ok(lab.kubectl(&["logs", name]).await?.contains("up").then_some(())) })
            .await?;
        lab.kubectl(&["delete", "pod", name, "--wait=false"]).await?;
        let ended = eventually("it has ended", || async {
            let statuses = lab.pod(name).await?.status.and_then(|s| s.container_statuses).unwrap_or_default();
            Ok(statuses.into_iter().find_map(|c| c.state?.terminated))
        })
        .await?;
        ensure!(ended.exit_code == code, "{name}: {ended:?}");
        if code == 0 {
            let log = lab.kubectl(&["logs", name]).await.unwrap_or_else(|_| says.to_owned());
            ensure!(log == says, "{name}: {log}");
        }
        let patch = r#"[{"op":"remove","path":"/metadata/finalizers"}]"#;
        lab.kubectl(&["patch", "pod", name, "--type=json", "-p", patch]).await?;
    }
    lab.end().await
}

#[tokio::test]
async fn missing_secret_keeps_the_container_waiting_until_it_is_there() -> Result<()> {
    let lab = Scenario::begin("missing", &[]).await?;
    let more = json!({
        "volumeMounts": [{"name": "later", "mountPath": "/later"}],
        "volumes": [{"name": "later", "secret": {"secretName": "later"}}],
    });
    lab.apply(&shell("waits", "cat /later/key", &more)).await?;
    let message = eventually("the reason", || async {
        let statuses = lab.pod("waits").await?.status.and_then(|s| s.container_statuses).unwrap_or_default();
        Ok(statuses.into_iter().find_map(|c| c.state?.waiting?.message))
    })
    .await?;
    ensure!(message.ends_with(&format!("secret {}/later does not exist", lab.namespace)), "{message}");
    lab.kubectl(&["create", "secret", "generic", "later", "--from-literal=key=now"]).await?;
    scenarios::expect_equal("output", &log_of(&lab, "waits").await?, &"now\n".to_owned())?;
    lab.end().await
}

/// Issuer, CA, leaf, two replicas of the review server behind a Service, and the webhook configuration that calls them.
fn webhook(namespace: &str) -> String {
    format!(
        r#"
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {{ name: root }}
spec: {{ selfSigned: {{}} }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {{ name: ca }}
spec:
  isCA: true
  commonName: review-ca
  secretName: ca
  privateKey: {{ algorithm: ECDSA, encoding: PKCS8 }}
  issuerRef: {{ name: root, kind: Issuer }}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {{ name: ca }}
spec: {{ ca: {{ secretName: ca }} }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {{ name: serving }}
spec:
  secretName: serving
  dnsNames: [review.{namespace}.svc]
  privateKey: {{ algorithm: ECDSA, encoding: PKCS8, rotationPolicy: Always }}
  issuerRef: {{ name: ca, kind: Issuer }}
---
apiVersion: v1
kind: Service
metadata: {{ name: review }}
spec: {{ selector: {{ app: review }}, ports: [{{ port: 443, targetPort: https }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: review }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: review }} }}
  template:
    metadata: {{ labels: {{ app: review }} }}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: server
          image: review-server
          args: ["$(POD_IP):9443", /certs]
          env: [{{ name: POD_IP, valueFrom: {{ fieldRef: {{ fieldPath: status.podIP }} }} }}]
          ports: [{{ name: https, containerPort: 9443 }}]
          readinessProbe: {{ tcpSocket: {{ port: https }}, periodSeconds: 1 }}
          lifecycle: {{ preStop: {{ sleep: {{ seconds: 2 }} }} }}
          volumeMounts: [{{ name: certs, mountPath: /certs, readOnly: true }}]
      volumes: [{{ name: certs, secret: {{ secretName: serving }} }}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: {namespace}
  annotations: {{ cert-manager.io/inject-ca-from: {namespace}/serving }}
webhooks:
  - name: review.example.com
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Fail
    timeoutSeconds: 5
    namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {namespace} }} }}
    rules: [{{ apiGroups: [""], apiVersions: [v1], resources: [configmaps], operations: [CREATE] }}]
    clientConfig: {{ service: {{ name: review, namespace: {namespace}, path: /review }} }}
"#
    )
}

/// One review: an object that is only tried. The webhook must be asked, so an answer without it is an error.
async fn review(lab: &Scenario) -> Result<()> {
    let object: ConfigMap = serde_json::from_value(json!({"metadata": {"generateName": "tried-"}}))?;
    let parameters = kube::api::PostParams { dry_run: true, ..Default::default() };
    lab.api::<ConfigMap>().create(&parameters, &object).await?;
    Ok(())
}

/// Reviews one after the other until told to stop. Returns how many there were, or the first one that failed.
async fn review_until(lab: Arc<Scenario>, mut stop: watch::Receiver<bool>) -> Result<u32> {
    let mut reviews = 0;
    while !*stop.borrow_and_update() {
        review(&lab).await.with_context(|| format!("after {reviews} reviews"))?;
        reviews += 1;
    }
    Ok(reviews)
}

/// What the replicas have printed about certificates, the last line of each.
async fn certificates(lab: &Scenario) -> Result<BTreeSet<String>> {
    let mut last = BTreeSet::new();
    for pod in lab.pods("app=review").await? {
        let log = lab.kubectl(&["logs", &pod.name_any()]).await?;
        let line = log.lines().rfind(|line| line.starts_with("certificate "));
        last.insert(line.context("a certificate was loaded")?.to_owned());
    }
    Ok(last)
}

#[tokio::test]
async fn webhook_with_a_certificate_of_cert_manager_survives_renewal_and_the_loss_of_a_replica() -> Result<()> {
    let lab = Scenario::begin("review", &[]).await?;
    lab.apply(&webhook(&lab.namespace)).await?;
    lab.ready_pods("app=review", 2).await?;
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(lab.client.clone());
    eventually("the CA in the webhook configuration", || async {
        let hooks = configurations.get(&lab.namespace).await?.webhooks.unwrap_or_default();
        Ok(hooks.into_iter().find_map(|hook| hook.client_config.ca_bundle))
    })
    .await?;
    eventually("a first review", || async { review(&lab).await.map(Some) }).await?;
    let mut asked = 0;
    for pod in lab.pods("app=review").await? {
        asked += lab.kubectl(&["logs", &pod.name_any()]).await?.matches("review \"CREATE\"").count();
    }
    ensure!(asked > 0, "the API server has called the webhook");

    // From here on no review may fail.
    let lab = Arc::new(lab);
    let (stop, stopped) = watch::channel(false);
    let mut reviewing = JoinSet::new();
    reviewing.spawn(review_until(Arc::clone(&lab), stopped));

    // Renewal: the kubelet's way of projecting the new Secret reaches both replicas.
    let secrets = lab.api::<Secret>();
    let certificate = |secret: Secret| secret.data.unwrap_or_default().remove("tls.crt").map(|ByteString(bytes)| bytes);
    let old_secret = certificate(secrets.get("serving").await?);
    let old = certificates(&lab).await?;
    let renew = r#"{"status":{"conditions":[{"type":"Issuing","status":"True","reason":"ManuallyTriggered",
        "message":"renewed by a test","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    lab.kubectl(&["patch", "certificate", "serving", "--subresource=status", "--type=merge", "-p", renew]).await?;
    eventually("a renewed Secret", || async {
        let new = certificate(secrets.get("serving").await?);
        Ok((new.is_some() && new != old_secret).then_some(()))
    })
    .await?;
    within(Duration::from_secs(5), "both replicas have loaded the renewed pair", || async {
        let new = certificates(&lab).await?;
        Ok((new.len() == 1 && new.is_disjoint(&old)).then_some(()))
    })
    .await?;

    // Loss: one replica is deleted. Until its endpoint has gone it still serves, and afterwards nobody calls it.
    let victim = lab.pods("app=review").await?.remove(0).name_any();
    lab.kubectl(&["delete", "pod", &victim, "--wait=false"]).await?;
    let slices = lab.api::<EndpointSlice>();
    eventually("the replica is replaced", || async {
        let list = slices.list(&ListParams::default().labels("kubernetes.io/service-name=review")).await?;
        let endpoints = list.items.iter().flat_map(|slice| &slice.endpoints);
        let names = endpoints.filter_map(|e| e.target_ref.as_ref()?.name.as_ref());
        let pods = lab.pods("app=review").await?;
        let gone = names.chain(pods.iter().filter_map(|p| p.metadata.name.as_ref())).all(|name| *name != victim);
        Ok((gone && pods.iter().filter(|p| is_ready(p)).count() == 2).then_some(()))
    })
    .await?;
    stop.send_replace(true);
    let reviews = reviewing.join_next().await.context("the task")???;
    ensure!(reviews > 50, "only {reviews} reviews");
    lab.kubectl(&["delete", "validatingwebhookconfiguration", &lab.namespace]).await?;
    Arc::into_inner(lab).context("one owner")?.end().await
}
