//! What metrics see, and what AWS sees of us.

use std::sync::Arc;

use registrar::aws::Aws;
use registrar_core::aws::Call;

use crate::{
    stub::{Act, Stub},
    support::{Emulator, Recorder, VPC, call, connect, created_group, settings},
};

#[tokio::test]
async fn every_request_is_observed_with_its_outcome() {
    let emulator = Emulator::start().await;
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<Recorder> = Arc::clone(&recorder);
    let aws = Aws::connect(settings(&emulator.url()), observer).await;
    created_group(&aws, "web").await;
    let vpcs = Call::DescribeVpcs { ids: vec![VPC.to_owned()] };
    emulator.order(r#"{"action":"DescribeVpcs","effect":{"refuse":{"code":"RequestLimitExceeded"}}}"#);
    let _ = call(&aws, &vpcs).await;
    emulator.order(r#"{"action":"DescribeVpcs","effect":"lose"}"#);
    let _ = call(&aws, &vpcs).await;
    emulator.order(r#"{"action":"DescribeVpcs","effect":{"refuse":{"code":"ExpiredToken"}}}"#);
    let _ = call(&aws, &vpcs).await;
    let row = |service: &str, operation: &str, status: Option<u16>, code: Option<&str>| {
        (service.to_owned(), operation.to_owned(), status, code.map(ToOwned::to_owned))
    };
    let expected = [
        row("Elastic Load Balancing v2", "CreateTargetGroup", Some(200), None),
        row("EC2", "DescribeVpcs", Some(503), Some("RequestLimitExceeded")),
        row("EC2", "DescribeVpcs", None, None),
        row("EC2", "DescribeVpcs", Some(403), Some("ExpiredToken")),
        row("EC2", "DescribeVpcs", Some(200), None),
    ];
    assert_eq!(*recorder.0.lock().expect("unpoisoned"), expected);
}

#[tokio::test]
async fn both_clients_say_who_they_are() {
    let stub = Stub::start(Act::Cut).await;
    let aws = connect(&stub.url).await;
    let _ = call(&aws, &Call::DescribeVpcs { ids: Vec::new() }).await;
    let _ = call(&aws, &Call::DescribeAvailabilityZones { zone_ids: Vec::new() }).await;
    let _ = call(&aws, &crate::support::group("web")).await;
    let requests = stub.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        let request = request.to_lowercase();
        assert!(request.contains("user-agent: aws-sdk-rust/"), "{request}");
        assert!(request.contains("app/sluice-registrar"), "{request}");
        assert!(request.contains("authorization: aws4-hmac-sha256 credential=akiatest/"), "{request}");
    }
}
