//! What metrics and logs see.

use std::{
    io,
    sync::{Arc, Mutex},
};

use registrar::aws::Port as _;
use registrar::aws::{Aws, Settings};
use registrar_core::aws::{Account, Call};
use tracing::Level;

use crate::{
    stub::{Act, Stub},
    support::{Emulator, Recorder, VPC, call, connect, created_group, settings, soon},
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

/// Keeps what is logged.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_logged_nor_shown() {
    let kept = Kept::default();
    let writer = kept.clone();
    let logs = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(logs);
    let emulator = Emulator::start().await;
    let role = registrar::aws::Role { role_arn: crate::support::ROLE.to_owned(), external_id: None };
    let roles = [("partner".into(), role)].into();
    let aws = Aws::connect(Settings { roles, ..settings(&emulator.url()) }, Arc::new(())).await;
    let vpcs = Call::DescribeVpcs { ids: Vec::new() };
    aws.call(&Account::Role("partner".into()), &vpcs, soon()).await.expect("done");
    call(&aws, &vpcs).await.expect("done");
    emulator.order(r#"{"action":"DescribeVpcs","effect":{"refuse":{"code":"AccessDenied"}}}"#);
    call(&aws, &vpcs).await.expect_err("refused");
    let stub = Stub::start(Act::answer("500 Internal Server Error", "x")).await;
    call(&connect(&stub.url).await, &vpcs).await.expect_err("500");
    let logged = String::from_utf8_lossy(&kept.0.lock().expect("unpoisoned")).into_owned();
    assert!(logged.contains("DescribeVpcs"), "something was logged");
    let shown = format!("{logged}{aws:?}");
    // The emulator's secrets and tokens are of 48 and 128 hexadecimal digits.
    let long_hex = shown.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() >= 48 && word.len() != 64);
    assert_eq!(long_hex, None, "a secret or a token");
    assert!(!shown.contains("the-secret-key"), "the key");
}
