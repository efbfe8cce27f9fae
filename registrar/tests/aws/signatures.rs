//! Signatures, recomputed from the bytes that arrived as the specification of SigV4 says, and not by the library that made
//! them.

use std::{collections::BTreeMap, fmt::Write as _};

use registrar_core::aws::{Call, Filter};
use ring::{digest, hmac};

use crate::{
    stub::{Act, Stub},
    support::{REGION, call, connect, group},
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// The signature that a request ought to have.
fn expected(request: &str, service: &str, secret: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").expect("head and body");
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST / HTTP/1.1"));
    let headers: BTreeMap<String, &str> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let field = |name: &str| {
        let fields = headers["authorization"].split([' ', ',']);
        fields.into_iter().find_map(|field| field.strip_prefix(name)).expect("a field").to_owned()
    };
    let signed = field("SignedHeaders=");
    for name in ["host", "x-amz-date", "content-type"] {
        assert!(signed.split(';').any(|signed| signed == name), "{name} is not signed: {signed}");
    }
    let canonical: Vec<_> = signed.split(';').map(|name| format!("{name}:{}", headers[name])).collect();
    let payload = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
    let canonical = format!("POST\n/\n\n{}\n\n{signed}\n{payload}", canonical.join("\n"));
    let at = headers["x-amz-date"];
    let day = at.split_once('T').expect("a date and a time").0;
    let scope = format!("{day}/{REGION}/{service}/aws4_request");
    assert_eq!(field("Credential="), format!("AKIATEST/{scope}"));
    let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}");
    let key = [day, REGION, service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| keyed(&key, part));
    hex(&keyed(&key, &text))
}

#[tokio::test]
async fn requests_of_both_clients_are_signed_as_the_specification_says() {
    let stub = Stub::start(Act::Cut).await;
    let aws = connect(&stub.url).await;
    let filter = Filter { name: "tag:a b&c".to_owned(), values: vec!["é=*~".to_owned(), String::new()] };
    let subnets = Call::DescribeSubnets { ids: Vec::new(), filters: vec![filter] };
    for (what, service) in [(subnets, "ec2"), (group("web"), "elasticloadbalancing")] {
        let _ = call(&aws, &what).await;
        let request = stub.requests().pop().expect("a request");
        let signature = request.split("Signature=").nth(1).and_then(|rest| rest.lines().next()).expect("signed");
        assert_eq!(signature, expected(&request, service, "the-secret-key"), "{service}: {request}");
    }
}
