//! Reads for a person at a terminal.

use registrar::aws::Reader;
use registrar_core::aws::{Account, Call, Fault, Reply};

use crate::{
    stub::{Act, Stub},
    support::{Emulator, VPC, connect, group},
};

fn vpcs() -> Call {
    Call::DescribeVpcs { ids: vec![VPC.to_owned()] }
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let result = Reader::new(&aws).ask(&Account::Own, &group("web")).await;
    assert_eq!(result, Err(Fault::NotSent("CreateTargetGroup is no read".to_owned())));
    assert!(emulator.calls().is_empty());
}

#[tokio::test]
async fn a_throttle_or_a_failure_is_asked_again_and_a_refusal_is_not() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let reader = Reader::new(&aws);
    emulator.order(r#"{"effect":{"refuse":{"code":"RequestLimitExceeded"}}}"#);
    emulator.order(r#"{"effect":"lose"}"#);
    let answer = reader.ask(&Account::Own, &vpcs()).await;
    assert!(matches!(answer, Ok(Reply::Vpcs(_))), "{answer:?}");
    assert_eq!(emulator.count("DescribeVpcs"), 3);
    emulator.order(r#"{"effect":{"refuse":{"code":"AccessDenied"}}}"#);
    let refused = reader.ask(&Account::Own, &vpcs()).await.expect_err("refused");
    assert!(refused.is("AccessDenied"), "{refused}");
    assert_eq!(emulator.count("DescribeVpcs"), 4);
}

#[tokio::test]
async fn what_fails_again_and_again_is_given_up() {
    let stub = Stub::start(Act::answer("500 Internal Server Error", "")).await;
    let aws = connect(&stub.url).await;
    let result = Reader::new(&aws).ask(&Account::Own, &vpcs()).await;
    assert!(matches!(result, Err(Fault::Unknown(_))), "{result:?}");
    assert_eq!(stub.requests().len(), 4);
}
