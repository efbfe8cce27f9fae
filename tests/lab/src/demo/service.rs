//! A Deployment and a Service are applied, and a load balancer is there whose requests every pod answers.

use std::collections::BTreeMap;

use super::{
    rollout::{Recorded, Studio, record},
    stage::Stage,
    timeline::{Span, Timeline},
};

/// Requests whose answers are counted.
const REQUESTS: usize = 100;
/// Bounds on how many of [`REQUESTS`] one of so many equal targets answers, except once in a thousand runs.
const EVEN: [std::ops::RangeInclusive<usize>; 3] = [REQUESTS..=REQUESTS, 34..=66, 17..=51];

const HEALTH: &str = "aws elbv2 describe-target-health --target-group-arn $TG --output text --query \
    'TargetHealthDescriptions[].[Target.Id,TargetHealth.State,TargetHealth.Reason]'";

/// Plays it. Whether there is a load balancer.
pub async fn play(stage: &mut Stage, studio: &Studio) -> bool {
    if !apply(stage).await {
        return false;
    }
    spread(stage, 2, "spread over two").await;
    scale_in(stage, studio).await;
    spread(stage, 1, "after the lag").await;
    scale_out(stage).await;
    spread(stage, 3, "spread over three").await;
    true
}

async fn apply(stage: &mut Stage) -> bool {
    stage.scene("A Deployment behind a Network Load Balancer, in a namespace whose pods get gates and the drain delay");
    stage.run("cat echo-service-nlb.yaml").await;
    stage.run("kubectl create namespace shop").await;
    stage
        .run(
            "kubectl label namespace shop elbv2.k8s.aws/pod-readiness-gate-inject=enabled \
             elbv2.k8s.aws/pod-drain-inject=enabled",
        )
        .await;
    let said = stage.run("kubectl -n shop apply -f echo-service-nlb.yaml").await;
    stage
        .run(
            "kubectl -n shop wait service/echo --for=jsonpath='{.status.loadBalancer.ingress[0].hostname}' \
             --timeout=60s",
        )
        .await;
    let name = "kubectl -n shop get service echo -o jsonpath='{.status.loadBalancer.ingress[0].hostname}'";
    let name = stage.ask(name).await;
    stage.keep("NAME", name.trim());
    let group = "kubectl -n shop get targetgroupbindings -o jsonpath='{.items[0].spec.targetGroupARN}'";
    let group = stage.ask(group).await;
    stage.keep("TG", group.trim());
    stage.run("kubectl -n shop get pods -o wide").await;
    stage.run("kubectl -n shop rollout status deployment/echo --timeout=100s").await;
    let table = stage.run("kubectl -n shop get pods -o wide").await;
    stage.run(HEALTH).await;
    let open = gates_open(&table);
    let hints = said.matches("is an old form").count();
    let is_named = name.contains(".elb.") && name.contains("shop-echo");
    let named = if is_named { "a hostname" } else { "no hostname" };
    let seen = format!("{hints} hint, {named}, {open} gates open");
    let expected = "1 hint, a hostname, 2 gates open";
    stage.expect("apply", expected, seen.clone(), seen == expected);
    is_named
}

/// How many running pods have gates, and all of them open, by the last column of kubectl's wide table.
fn gates_open(table: &str) -> usize {
    let running = table.lines().filter(|line| line.contains(" Running "));
    let gates = running.filter_map(|line| line.split_whitespace().next_back()?.split_once('/'));
    gates.filter(|(open, all)| open == all).count()
}

/// How often each pod answered.
async fn requests(stage: &mut Stage) -> BTreeMap<String, usize> {
    let command =
        format!("for i in $(seq {REQUESTS}); do curl -s --max-time 5 http://$NAME/ | head -n 1; done | sort | uniq -c");
    let text = stage.run(&command).await;
    let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    lines
        .filter_map(|(count, answer)| Some((answer.strip_prefix("Hostname: ")?.to_owned(), count.parse().ok()?)))
        .collect()
}

async fn spread(stage: &mut Stage, pods: usize, title: &str) {
    stage.scene("100 requests to its name, a connection each");
    let answers = requests(stage).await;
    let even = &EVEN[pods - 1];
    let good = answers.len() == pods
        && answers.values().sum::<usize>() == REQUESTS
        && answers.values().all(|n| even.contains(n));
    let counts: Vec<_> = answers.values().map(ToString::to_string).collect();
    let expected = if pods == 1 {
        "100 from the one left".to_owned()
    } else {
        format!("100 answers, {} to {} from each of {pods}", even.start(), even.end())
    };
    stage.expect(title, &expected, counts.join(" + "), good);
}

async fn scale_in(stage: &mut Stage, studio: &Studio) {
    stage.scene("Scaled to one: the leaving pod is draining, and answers for as long as new connections reach it");
    let command = "load --target http://$NAME --rate 100 --report scale-in.json -- sh -c '
    kubectl -n shop scale deployment/echo --replicas=1
    until aws elbv2 describe-target-health --target-group-arn $TG --output text | grep draining; do :; done
    curl -s -o /dev/null \"$SLUICE_LAB_CONTROL/v1/log?kind=routing&contains=none&wait=60\"'";
    let seen = record(stage, studio, "Scaling in, with drain delay", "shop", "scale-in.json", command).await;
    let (text, good) = match seen {
        None => ("nothing".to_owned(), false),
        Some(Recorded { load, timeline }) => {
            let late = answers_while_draining(&timeline, &load);
            let text = format!("draining, {late} answers meanwhile, {} failed", load.failures_in_words());
            (text, late > 0 && load.failed == 0)
        }
    };
    stage.expect("scale to 1", "draining, answers meanwhile, 0 failed", text, good);
    stage.scene("The load balancer has let go of it, as the emulator's log says");
    stage.run("curl -s \"$SLUICE_LAB_CONTROL/v1/log?kind=routing&contains=none\"").await;
}

/// Requests that were begun after a target had become draining, and that its pod answered.
fn answers_while_draining(timeline: &Timeline, load: &load::Report) -> u64 {
    let draining = |span: &&Span| span.what == "draining";
    timeline
        .targets
        .iter()
        .filter_map(|target| {
            let since = target.states.iter().find(draining)?.from.max(0.0);
            let address = target.target.split(':').next();
            let pod = timeline.pods.iter().find(|pod| pod.address.as_deref() == address)?;
            // From the first second that is wholly after it.
            let after = load.seconds.iter().zip(0_u32..).filter(|(_, second)| f64::from(*second) >= since);
            Some(after.filter_map(|(second, _)| second.answered.get(&pod.name)).sum::<u64>())
        })
        .sum()
}

async fn scale_out(stage: &mut Stage) {
    stage.scene("Scaled to three: targets are initial, then healthy, and each gate opens when its own target is");
    stage.run("kubectl -n shop scale deployment/echo --replicas=3").await;
    let count = |text: &str, state| text.split_whitespace().filter(|word| *word == state).count();
    let early = stage.until(HEALTH, |text| count(text, "initial") == 2).await;
    println!("$ {HEALTH}\n{}", early.trim_end());
    stage.run("kubectl -n shop rollout status deployment/echo --timeout=100s").await;
    let table = stage.run("kubectl -n shop get pods -o wide").await;
    let late = stage.run(HEALTH).await;
    let open = gates_open(&table);
    let seen =
        format!("{} initial, then {} healthy, {open} gates open", count(&early, "initial"), count(&late, "healthy"));
    let expected = "2 initial, then 3 healthy, 3 gates open";
    stage.expect("scale to 3", expected, seen.clone(), seen == expected);
}
