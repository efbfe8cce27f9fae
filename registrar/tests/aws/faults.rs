//! Each way in which a call can fail, and what it says of whether the call was done.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use registrar::aws::{Aws, Port as _, Problem};
use registrar_core::aws::{Account, Arn, Call, Fault};

use crate::{
    stub::{Act, Stub},
    support::{Emulator, VPC, call, connect, created_group, group, refused, settings, soon},
};

/// A fault without its words.
fn class(result: &Result<registrar_core::aws::Reply, Fault>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(Fault::Refused(_)) => "refused",
        Err(Fault::Throttled { .. }) => "throttled",
        Err(Fault::Unknown(_)) => "unknown",
        Err(Fault::NotSent(_)) => "not sent",
    }
}

fn vpcs() -> Call {
    Call::DescribeVpcs { ids: vec![VPC.to_owned()] }
}

#[tokio::test]
async fn throttles_are_told_from_refusals_whatever_they_are_called() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    for code in ["Throttling", "ThrottlingException", "PriorRequestNotComplete", "RequestLimitExceeded"] {
        for what in [group("web"), vpcs()] {
            emulator.order(&format!(r#"{{"effect":{{"refuse":{{"code":"{code}"}}}}}}"#));
            assert_eq!(
                call(&aws, &what).await,
                Err(Fault::Throttled { code: code.to_owned() }),
                "{}",
                what.operation()
            );
        }
    }
    assert_eq!(emulator.target_groups(), 0, "nothing was done and nothing repeated");
}

#[tokio::test]
async fn refusals_are_never_repeated() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    for code in ["AccessDenied", "ValidationError", "TooManyTargetGroups", "ResourceInUse"] {
        emulator.order(&format!(r#"{{"action":"CreateTargetGroup","effect":{{"refuse":{{"code":"{code}"}}}}}}"#));
        assert_eq!(refused(&aws, &group("web")).await, code);
    }
    assert_eq!(emulator.count("CreateTargetGroup"), 4);
}

#[tokio::test]
async fn a_lost_reply_and_a_5xx_may_have_been_done() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    for (n, (effect, was_done)) in
        [(r#""lose""#, true), (r#""fail-after""#, true), (r#""fail-before""#, false), (r#""unavailable""#, false)]
            .into_iter()
            .enumerate()
    {
        let before = emulator.target_groups();
        emulator.order(&format!(r#"{{"action":"CreateTargetGroup","effect":{effect}}}"#));
        let result = call(&aws, &group(&format!("g{n}"))).await;
        assert_eq!(class(&result), "unknown", "{effect}: {result:?}");
        assert_eq!(emulator.target_groups() - before, usize::from(was_done), "{effect}");
        emulator.order(&format!(r#"{{"action":"DescribeVpcs","effect":{effect}}}"#));
        let result = call(&aws, &vpcs()).await;
        assert_eq!(class(&result), "unknown", "EC2, {effect}: {result:?}");
    }
    assert_eq!(emulator.count("CreateTargetGroup"), 4, "nothing is repeated here");
}

#[tokio::test]
async fn health_that_is_unavailable_is_unknown() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let group = created_group(&aws, "web").await;
    emulator.set("fault.health-unavailable", "1");
    let result = call(&aws, &Call::DescribeTargetHealth { group }).await;
    let Err(Fault::Unknown(why)) = result else { panic!("{result:?}") };
    assert!(why.contains("HTTP 500 HealthUnavailable"), "{why}");
}

#[tokio::test]
async fn answers_that_cannot_be_read_are_unknown() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 1000\r\n\r\n<DescribeVpcsResponse>";
    let other = "<DescribeSubnetsResponse><subnetSet/></DescribeSubnetsResponse>";
    let refused = "<Response><Errors><Error><Code>InvalidVpcID.NotFound</Code></Error></Errors></Response>";
    let cases = [
        ("no XML", Act::answer("200 OK", "hello"), "unknown"),
        ("a page", Act::answer("200 OK", "<html><body>Sign in</body></html>"), "unknown"),
        ("no body", Act::answer("200 OK", ""), "unknown"),
        ("XML that ends early", Act::answer("200 OK", "<DescribeVpcsResponse><vpcSet>"), "unknown"),
        ("another operation's answer", Act::answer("200 OK", other), "unknown"),
        ("a body that is cut off", Act::Say(whole.to_owned()), "unknown"),
        ("no HTTP", Act::Say("SSH-2.0-x\r\n".to_owned()), "unknown"),
        ("nothing", Act::Cut, "unknown"),
        ("a proxy's refusal", Act::answer("403 Forbidden", "<html>denied</html>"), "unknown"),
        ("a gateway's failure", Act::answer("502 Bad Gateway", "<html>bad gateway</html>"), "unknown"),
        ("a redirection", Act::answer("302 Found", ""), "unknown"),
        ("too many, without a code", Act::answer("429 Too Many Requests", ""), "throttled"),
        ("a refusal without a message", Act::answer("400 Bad Request", refused), "refused"),
    ];
    for (name, act, expected) in cases {
        let stub = Stub::start(act).await;
        let aws = connect(&stub.url).await;
        let result = call(&aws, &vpcs()).await;
        assert_eq!(class(&result), expected, "EC2, {name}: {result:?}");
        if name != "a refusal without a message" {
            let result = call(&aws, &group("web")).await;
            assert_eq!(class(&result), expected, "ELBv2, {name}: {result:?}");
        }
    }
}

#[tokio::test]
async fn the_answer_to_another_question_is_no_answer() {
    let other = "<CreateTagsResponse><return>true</return></CreateTagsResponse>";
    let stub = Stub::start(Act::answer("200 OK", other)).await;
    let aws = connect(&stub.url).await;
    let result = call(&aws, &Call::DeleteSecurityGroup { group_id: "sg-1".to_owned() }).await;
    let Err(Fault::Unknown(why)) = &result else { panic!("{result:?}") };
    assert!(why.contains("<CreateTagsResponse> instead of <DeleteSecurityGroupResponse>"), "{why}");
}

#[tokio::test]
async fn no_answer_in_time_is_unknown_and_the_wait_ends_at_the_deadline() {
    let stub = Stub::start(Act::Wait).await;
    let aws = connect(&stub.url).await;
    for what in [group("web"), vpcs()] {
        let result = aws.call(&Account::Own, &what, Instant::now() + Duration::from_millis(300)).await;
        let Err(Fault::Unknown(why)) = &result else { panic!("{result:?}") };
        assert!(why.contains("no reply in "), "{why}");
    }
    let patient = registrar::aws::Settings { request_timeout: Duration::from_millis(200), ..settings(&stub.url) };
    let aws = Aws::connect(patient, Arc::new(())).await;
    assert_eq!(class(&call(&aws, &vpcs()).await), "unknown", "each request has a limit of its own");
}

#[tokio::test]
async fn a_call_without_time_is_not_sent() {
    let stub = Stub::start(Act::Wait).await;
    let aws = connect(&stub.url).await;
    let result = aws.call(&Account::Own, &group("web"), Instant::now()).await;
    assert_eq!(result, Err(Fault::NotSent("no time was left for CreateTargetGroup".to_owned())));
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn a_call_that_finds_nobody_to_connect_to_is_not_sent() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback").local_addr().expect("bound");
    for url in [format!("http://{free}"), "http://no-such-host.invalid".to_owned()] {
        let aws = connect(&url).await;
        for what in [group("web"), vpcs()] {
            let result = call(&aws, &what).await;
            assert_eq!(class(&result), "not sent", "{url}: {result:?}");
        }
        let problem = aws.problem();
        assert!(matches!(problem, Some(Problem::Unreachable(_))), "{problem:?}");
        assert!(!aws.ready());
    }
}

#[tokio::test]
async fn a_tls_handshake_that_fails_is_not_sent() {
    let stub = Stub::start(Act::Say("not TLS".to_owned())).await;
    let aws = connect(&stub.url.replace("http:", "https:")).await;
    let result = call(&aws, &vpcs()).await;
    assert_eq!(class(&result), "not sent", "{result:?}");
}

#[tokio::test]
async fn faults_are_in_words_a_person_can_use() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let missing = Arn::new("arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/x/0000000000000000");
    let fault = call(&aws, &Call::DescribeTargetGroupAttributes { group: missing }).await.expect_err("missing");
    assert_eq!(fault.to_string(), "TargetGroupNotFound: One or more target groups not found");
    emulator.order(r#"{"effect":"fail-before"}"#);
    let fault = call(&aws, &vpcs()).await.expect_err("500");
    let says = "no reply that can be relied on: DescribeVpcs: HTTP 500 InternalError: An internal error has occurred";
    assert_eq!(fault.to_string(), says);
    let aws = connect("http://127.0.0.1:1").await;
    let fault = aws.call(&Account::Own, &vpcs(), soon()).await.expect_err("nobody there");
    assert!(fault.to_string().starts_with("not sent: DescribeVpcs: "), "{fault}");
    assert!(fault.to_string().contains("Connection refused"), "{fault}");
}
