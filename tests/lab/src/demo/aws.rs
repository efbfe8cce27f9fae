//! The second part of the story: a Network Load Balancer made by hand, with the AWS CLI only.

use std::collections::BTreeMap;

use super::stage::Stage;

/// Requests whose answers are counted.
const REQUESTS: usize = 100;
/// Bounds on how many of [`REQUESTS`] one of two equal targets answers, except once in a thousand runs.
const EVEN: std::ops::RangeInclusive<usize> = 34..=66;

/// Plays it. The pods of the first part are there.
pub async fn play(stage: &mut Stage) {
    if !stage.ask("command -v aws").await.contains("aws") {
        stage.scene("A load balancer by hand");
        stage.expect("aws CLI", "installed", "not on PATH: make demo installs it", false);
        return;
    }
    let [first, second] = two_pods(stage).await;
    if create(stage).await {
        register(stage, &[&first, &second]).await;
        spread(stage, &[&first, &second]).await;
        drain(stage, &first, &second).await;
        delete(stage).await;
    }
}

/// A pod and its address.
struct Pod {
    name: String,
    address: String,
}

async fn two_pods(stage: &mut Stage) -> [Pod; 2] {
    stage.scene("Two pods to send requests to");
    stage.run("kubectl scale deployment/echo --replicas 2").await;
    stage.run("kubectl wait deployment/echo --for=jsonpath='{.status.replicas}'=2 --timeout=60s").await;
    let template = "{range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}";
    let list = format!("kubectl get pods -l app=echo -o jsonpath='{template}'");
    // The third one is still leaving for a moment.
    let pods = stage.until(&list, |text| text.lines().count() == 2).await;
    let mut pods = pods.lines().map(|line| {
        let (name, address) = line.split_once(' ').unwrap_or_default();
        Pod { name: name.to_owned(), address: address.to_owned() }
    });
    let nobody = || Pod { name: "nobody".to_owned(), address: "0.0.0.0".to_owned() };
    [pods.next().unwrap_or_else(nobody), pods.next().unwrap_or_else(nobody)]
}

/// Makes a load balancer `$LB` with the name `$NAME` and a target group `$TG`. Whether it became active.
async fn create(stage: &mut Stage) -> bool {
    stage.scene("A Network Load Balancer by hand: load balancer, target group of addresses, listener");
    let subnets = "aws ec2 describe-subnets --filters Name=tag:kubernetes.io/role/elb,Values=1 \
        --query 'Subnets[].SubnetId' --output text";
    let subnets = stage.ask(subnets).await;
    stage.keep("SUBNETS", &subnets.split_whitespace().collect::<Vec<_>>().join(" "));
    let vpc = stage.ask("aws ec2 describe-vpcs --query 'Vpcs[0].VpcId' --output text").await;
    stage.keep("VPC", vpc.trim());
    let made = stage
        .run(
            "aws elbv2 create-load-balancer --name echo --type network --scheme internet-facing --subnets $SUBNETS \
             --query 'LoadBalancers[0].[LoadBalancerArn,DNSName,State.Code]' --output text",
        )
        .await;
    let [balancer, name, first] = made.split_whitespace().collect::<Vec<_>>().try_into().unwrap_or_default();
    stage.keep("LB", balancer);
    stage.keep("NAME", name);
    stage
        .run(
            "aws elbv2 modify-load-balancer-attributes --load-balancer-arn $LB --attributes \
             Key=load_balancing.cross_zone.enabled,Value=true --query 'length(Attributes)'",
        )
        .await;
    let group = stage
        .run(
            "aws elbv2 create-target-group --name echo --protocol TCP --port 8080 --target-type ip --vpc-id $VPC \
             --health-check-interval-seconds 5 --query 'TargetGroups[0].TargetGroupArn' --output text",
        )
        .await;
    stage.keep("TG", group.trim());
    stage
        .run(
            "aws elbv2 modify-target-group-attributes --target-group-arn $TG --attributes \
             Key=deregistration_delay.timeout_seconds,Value=10 --query 'length(Attributes)'",
        )
        .await;
    stage
        .run(
            "aws elbv2 create-listener --load-balancer-arn $LB --protocol TCP --port 80 --default-actions \
             Type=forward,TargetGroupArn=$TG --query 'Listeners[0].[Protocol,Port]' --output text",
        )
        .await;
    let look = "aws elbv2 describe-load-balancers --load-balancer-arns $LB --query 'LoadBalancers[0].State.Code' \
        --output text";
    let later = stage.until(look, |text| text.trim() == "active").await;
    let seen = format!("{first}, then {}", later.trim());
    let good = seen == "provisioning, then active";
    stage.expect("load balancer", "provisioning, then active", seen, good);
    good
}

/// Address -> state of every target.
async fn states(stage: &mut Stage, shown: bool) -> BTreeMap<String, String> {
    let command = "aws elbv2 describe-target-health --target-group-arn $TG --query \
        'TargetHealthDescriptions[].[Target.Id,TargetHealth.State,TargetHealth.Reason]' --output text";
    let text = if shown { stage.run(command).await } else { stage.ask(command).await };
    let mut fields = text.lines().map(str::split_whitespace);
    fields.by_ref().filter_map(|mut f| Some((f.next()?.to_owned(), f.next()?.to_owned()))).collect()
}

/// Shows the targets until they are as wanted.
async fn states_until(
    stage: &mut Stage,
    wanted: impl Fn(&BTreeMap<String, String>) -> bool,
) -> BTreeMap<String, String> {
    let deadline = Stage::deadline();
    loop {
        let states = states(stage, false).await;
        if wanted(&states) || deadline.is_over() {
            return self::states(stage, true).await;
        }
    }
}

async fn register(stage: &mut Stage, pods: &[&Pod]) {
    stage.scene("Registered targets are initial until the load balancer has checked them itself");
    let targets: Vec<_> = pods.iter().map(|pod| format!("Id={},Port=8080", pod.address)).collect();
    let register = format!("aws elbv2 register-targets --target-group-arn $TG --targets {}", targets.join(" "));
    stage.run(&register).await;
    let all = |states: &BTreeMap<String, String>, wanted| states.len() == 2 && states.values().all(|s| s == wanted);
    let before = states(stage, true).await;
    let after = states_until(stage, |states| all(states, "healthy")).await;
    let seen = |good: bool, word| if good { word } else { "not" };
    let seen =
        format!("{}, then {}", seen(all(&before, "initial"), "initial"), seen(all(&after, "healthy"), "healthy"));
    let good = seen == "initial, then healthy";
    stage.expect("target health", "initial, then healthy", seen, good);
}

/// Sends requests by the load balancer's name, a connection each; returns how often each pod answered.
async fn requests(stage: &mut Stage) -> BTreeMap<String, usize> {
    let command =
        format!("for i in $(seq {REQUESTS}); do curl -s --max-time 5 http://$NAME/ | head -n 1; done | sort | uniq -c");
    let text = stage.run(&command).await;
    let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    lines
        .filter_map(|(count, answer)| Some((answer.strip_prefix("Hostname: ")?.to_owned(), count.parse().ok()?)))
        .collect()
}

async fn spread(stage: &mut Stage, pods: &[&Pod]) {
    stage.scene("100 requests to its DNS name, spread over two pods as chance has it");
    let answers = requests(stage).await;
    let counts: Vec<_> = pods.iter().map(|pod| answers.get(&pod.name).copied().unwrap_or_default()).collect();
    let good = counts.iter().sum::<usize>() == REQUESTS && counts.iter().all(|count| EVEN.contains(count));
    let expected = format!("100 answers, {} to {} each", EVEN.start(), EVEN.end());
    stage.expect("spread", &expected, format!("{} + {}", counts[0], counts[1]), good);
}

async fn drain(stage: &mut Stage, leaving: &Pod, staying: &Pod) {
    stage.scene("A deregistered target is draining, still gets new connections for a while, and then is gone");
    let deregister =
        format!("aws elbv2 deregister-targets --target-group-arn $TG --targets Id={},Port=8080", leaving.address);
    stage.run(&deregister).await;
    let said = states(stage, true).await.remove(&leaving.address).unwrap_or_default();
    let early = requests(stage).await;
    let late = {
        let deadline = Stage::deadline();
        loop {
            let answers = requests(stage).await;
            if !answers.contains_key(&leaving.name) || deadline.is_over() {
                break answers;
            }
        }
    };
    let of = |answers: &BTreeMap<String, usize>, pod: &Pod| answers.get(&pod.name).copied().unwrap_or_default();
    let first = of(&early, leaving);
    let seen = format!("{said}, {first} more requests, then {} of {REQUESTS} elsewhere", of(&late, staying));
    let good = said == "draining" && first > 0 && of(&late, staying) == REQUESTS;
    stage.expect("draining", "draining, more requests, then 100 of 100 elsewhere", seen, good);

    let after = states_until(stage, |states| !states.contains_key(&leaving.address)).await;
    let seen = if after.contains_key(&leaving.address) { "listed still" } else { "gone" };
    stage.expect("deregistration delay", "gone", seen, seen == "gone");
}

async fn delete(stage: &mut Stage) {
    stage.scene("Deleted, nothing is left");
    stage.run("aws elbv2 delete-load-balancer --load-balancer-arn $LB").await;
    // In use for a moment longer, until the listener is forgotten.
    stage.run("until aws elbv2 delete-target-group --target-group-arn $TG 2>/dev/null; do :; done").await;
    let count = "aws elbv2 describe-load-balancers --query 'length(LoadBalancers)'; \
        aws elbv2 describe-target-groups --query 'length(TargetGroups)'";
    let left = stage.run(count).await.split_whitespace().collect::<Vec<_>>().join(" + ");
    stage.expect("left in AWS", "0 + 0", left.clone(), left == "0 + 0");
}
