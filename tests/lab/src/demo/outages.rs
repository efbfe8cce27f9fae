//! What happens to Sluice itself in the middle of a rollout: its certificate is renewed, its leader is killed.

use super::{
    rollout::{Recorded, Studio, pods, record},
    stage::Stage,
};

/// What `cmctl renew` does.
const RENEW: &str = r#"{"status":{"conditions":[{"type":"Issuing","status":"True","reason":"ManuallyTriggered","message":"renewed","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
const HOLDER: &str = "kubectl -n sluice-system get lease sluice-registrar -o jsonpath='{.spec.holderIdentity}'";
const CERTIFICATE: &str = "kubectl -n sluice-system get certificate sluice-webhook -o jsonpath='{.status.revision}'";

/// Plays it.
pub async fn play(stage: &mut Stage, studio: &Studio) {
    stage.scene("In the middle of a rollout cert-manager renews the webhook's certificate, and the leader is killed");
    let revision = stage.ask(CERTIFICATE).await;
    let leader = stage.run(HOLDER).await;
    stage.keep("LEADER", leader.split('_').next().unwrap_or_default().trim());
    stage.keep("RENEW", RENEW);
    let old = pods(stage, "shop").await;
    stage.keep("OLD", &old);
    let command = "load --target http://$NAME --rate 300 --report outages.json -- sh -c '
    kubectl -n sluice-system patch certificate sluice-webhook --subresource=status --type=merge -p \"$RENEW\"
    kubectl -n shop rollout restart deployment/echo
    kubectl -n sluice-system delete pod $LEADER --force --grace-period=0
    kubectl -n shop rollout status deployment/echo --timeout=110s
    kubectl -n shop wait --for=delete $OLD --timeout=60s'";
    let title = "A rollout while the certificate is renewed and the leader killed";
    let seen = record(stage, studio, title, "shop", "outages.json", command).await;
    let renewed = stage.run(CERTIFICATE).await;
    let next = stage.run(HOLDER).await;
    let (text, good) = match seen {
        None => ("nothing".to_owned(), false),
        Some(Recorded { load, timeline }) => {
            let new: Vec<_> = timeline.pods.iter().filter(|pod| !old.contains(&pod.name)).collect();
            let gated = new.iter().filter(|pod| pod.gated && pod.gate_opened.is_some()).count();
            let renewed = if renewed == revision { "not renewed" } else { "renewed" };
            let led = if next == leader { "the same leader" } else { "a new leader" };
            let text =
                format!("{renewed}, {led}, {gated} of {} gates open, {} failed", new.len(), load.failures_in_words());
            let good = text == format!("renewed, a new leader, {0} of {0} gates open, 0 failed", new.len());
            (text, good && new.len() == old.split_whitespace().count())
        }
    };
    stage.expect("outages", "renewed, a new leader, 3 of 3 gates open, 0 failed", text, good);
}
