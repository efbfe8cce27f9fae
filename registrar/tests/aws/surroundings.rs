//! What is taken from environment, files and metadata services. Each case runs in a process of its own, whose environment
//! is nothing but the case's.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use aws_emulator::Oidc;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use registrar::aws::{Aws, Settings};
use registrar_core::aws::Call;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use tokio::process::Command;

use crate::{
    stub::{Act, Stub},
    support::{Emulator, REGION, ROLE, VPC, call},
};

/// What the other process has found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found(BTreeMap<String, String>, String);

impl Found {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Everything that it has logged and said.
    fn said(&self) -> &str {
        &self.1
    }
}

/// Connects with nothing but these variables, makes a call of each service, and says what came of it.
async fn with(variables: &[(&str, &str)]) -> Found {
    let program = std::env::current_exe().expect("this test");
    let output = Command::new(program)
        .args(["--exact", "surroundings::other_process", "--ignored", "--nocapture"])
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("this test runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fields: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.strip_prefix("found ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(fields.contains_key("problem"), "{said}");
    Found(fields, said)
}

#[tokio::test]
#[ignore = "what the other tests here start, with an environment of its own"]
async fn other_process() {
    if std::env::var("TEST_LOG").is_ok() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    }
    let imds = std::env::var("TEST_IMDS").is_ok();
    let aws = Aws::connect(Settings { imds, ..Settings::new("lab") }, Arc::new(())).await;
    let say = |name: &str, value: &str| println!("found {name}={}", value.replace('\n', " "));
    say("region", &aws.region().unwrap_or_default());
    for (name, what) in [
        ("ec2", Call::DescribeVpcs { ids: vec![VPC.to_owned()] }),
        ("elb", Call::DescribeLoadBalancers(registrar_core::aws::LoadBalancerQuery::All { marker: None })),
    ] {
        say(name, &call(&aws, &what).await.map_or_else(|fault| fault.to_string(), |_| "done".to_owned()));
    }
    if let Ok(path) = std::env::var("TEST_THEN") {
        let (from, to) = path.split_once(':').expect("two files");
        fs::rename(from, to).expect("there");
        let what = Call::DescribeVpcs { ids: vec![VPC.to_owned()] };
        say("then", &call(&aws, &what).await.map_or_else(|fault| fault.to_string(), |_| "done".to_owned()));
    }
    say("problem", &aws.problem().map(|problem| problem.to_string()).unwrap_or_default());
}

/// A directory of this test, gone at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-aws-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "a-secret-key")];

#[tokio::test]
async fn keys_and_region_of_the_environment_are_enough() {
    let emulator = Emulator::start().await;
    let url = emulator.url();
    let found = with(&[("AWS_ENDPOINT_URL", &url), ("AWS_REGION", REGION), KEYS[0], KEYS[1]]).await;
    assert_eq!(
        (found.get("region"), found.get("ec2"), found.get("elb"), found.get("problem")),
        (REGION, "done", "done", "")
    );
    assert_eq!(emulator.calls()[0].who, "arn:aws:iam::111122223333:user/AKIAENV");
}

#[tokio::test]
async fn each_service_may_have_an_endpoint_of_its_own() {
    let (emulator, nobody) = (Emulator::start().await, "http://127.0.0.1:1");
    let url = emulator.url();
    let base = [("AWS_ENDPOINT_URL", nobody), ("AWS_REGION", REGION), KEYS[0], KEYS[1]];
    let found = with(&[&base[..], &[("AWS_ENDPOINT_URL_EC2", &url)]].concat()).await;
    assert_eq!(found.get("ec2"), "done");
    assert!(found.get("elb").starts_with("not sent: "), "{found:?}");
    let found = with(&[&base[..], &[("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", &url)]].concat()).await;
    assert_eq!(found.get("elb"), "done");
    assert!(found.get("ec2").starts_with("not sent: "), "{found:?}");
}

#[tokio::test]
async fn a_profile_gives_keys_region_and_endpoint() {
    let emulator = Emulator::start().await;
    let directory = Directory::new("profile");
    let config = format!("[profile lab]\nregion = {REGION}\nendpoint_url = {}\n", emulator.url());
    let config = directory.file("config", &config);
    let keys = "[lab]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = a-secret-key\n";
    let keys = directory.file("credentials", keys);
    let found =
        with(&[("AWS_PROFILE", "lab"), ("AWS_CONFIG_FILE", &config), ("AWS_SHARED_CREDENTIALS_FILE", &keys)]).await;
    assert_eq!((found.get("region"), found.get("ec2"), found.get("elb")), (REGION, "done", "done"), "{found:?}");
    assert_eq!(emulator.calls()[0].who, "arn:aws:iam::111122223333:user/AKIAPROFILE");
}

#[tokio::test]
async fn without_a_region_nothing_is_sent_and_every_remedy_is_named() {
    let found = with(&[KEYS[0], KEYS[1]]).await;
    for remedy in ["--aws-region", "AWS_REGION", "profile", "--aws-imds"] {
        assert!(found.get("problem").contains(remedy), "{found:?}");
        assert!(found.get("ec2").starts_with("not sent: no AWS region is known"), "{found:?}");
    }
}

#[tokio::test]
async fn without_credentials_nothing_is_sent_and_every_remedy_is_named() {
    let emulator = Emulator::start().await;
    let metadata = Stub::start(Act::Cut).await;
    let url = emulator.url();
    let found = with(&[
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_REGION", REGION),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.url),
    ])
    .await;
    for remedy in ["IRSA", "Pod Identity", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "--aws-imds"] {
        assert!(found.get("problem").contains(remedy), "{found:?}");
    }
    assert!(found.get("ec2").starts_with("not sent: DescribeVpcs: "), "{found:?}");
    assert!(found.get("elb").starts_with("not sent: DescribeLoadBalancers: "), "{found:?}");
    assert_eq!(metadata.requests(), Vec::<String>::new(), "the instance was not asked");
    assert!(emulator.calls().is_empty());
}

#[tokio::test]
async fn the_instance_is_asked_for_what_nothing_else_gives_if_that_is_allowed() {
    let emulator = Emulator::start().await;
    let url = emulator.url();
    // Region and credentials are asked for one after the other, each with a token before.
    let keys = r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"AKIAINSTANCE","SecretAccessKey":"k","Token":"t",
                   "LastUpdated":"2020-01-01T00:00:00Z","Expiration":"2999-01-01T00:00:00Z"}"#;
    let answers = ["a-token", REGION, "a-token", "a-role", keys].map(ToOwned::to_owned);
    let metadata = Stub::start(Act::Bodies(answers.into())).await;
    let found =
        with(&[("AWS_ENDPOINT_URL", &url), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.url), ("TEST_IMDS", "1")])
            .await;
    let asked: Vec<_> = metadata.requests().iter().filter_map(|r| r.lines().next().map(ToOwned::to_owned)).collect();
    assert_eq!((found.get("region"), found.get("ec2")), (REGION, "done"), "{found:?}: {asked:?}");
    assert_eq!(emulator.calls()[0].who, "arn:aws:iam::111122223333:user/AKIAINSTANCE");
}

#[tokio::test]
async fn pod_identity_is_asked_with_the_pods_token() {
    let emulator = Emulator::start().await;
    let url = emulator.url().replace("127.0.0.1", "localhost");
    let directory = Directory::new("pod-identity");
    let token = directory.file("token", "the-pods-token");
    let keys = r#"{"AccessKeyId":"AKIAPOD","SecretAccessKey":"k","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#;
    let agent = Stub::start(Act::Bodies(vec![keys.to_owned()])).await;
    let full = format!("{}/v1/credentials", agent.url);
    let found = with(&[
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_REGION", REGION),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &full),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
        // No proxy leads to the agent, which is on the node.
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("NO_PROXY", "localhost"),
    ])
    .await;
    assert_eq!((found.get("ec2"), found.get("elb")), ("done", "done"), "{found:?}");
    let requests = agent.requests();
    assert_eq!(requests.len(), 1, "both clients share the credentials");
    assert!(requests[0].contains("authorization: the-pods-token"), "{requests:?}");
    assert_eq!(emulator.calls()[0].who, "arn:aws:iam::111122223333:user/AKIAPOD");
}

#[tokio::test]
async fn calls_go_through_the_proxy_of_the_environment() {
    let emulator = Emulator::start().await;
    let url = emulator.url();
    let elsewhere = ("AWS_ENDPOINT_URL", "http://aws.invalid");
    let base = [elsewhere, ("AWS_REGION", REGION), KEYS[0], KEYS[1], ("HTTP_PROXY", &url)];
    let found = with(&base).await;
    assert_eq!((found.get("ec2"), found.get("elb")), ("done", "done"), "{found:?}");
    let found = with(&[&base[..], &[("NO_PROXY", "aws.invalid")]].concat()).await;
    assert!(found.get("ec2").starts_with("not sent: "), "{found:?}");
}

/// An issuer of service account tokens, as an API server is.
struct Issuer {
    pair: EcdsaKeyPair,
    directory: Directory,
}

impl Issuer {
    const NAME: &str = "https://kubernetes.default.svc";

    fn new(name: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key");
        Self { pair, directory: Directory::new(name) }
    }

    fn oidc(&self) -> Oidc {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let jwks = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"one","x":"{x}","y":"{y}"}}]}}"#);
        Oidc { jwks: Path::new(&self.directory.file("jwks", &jwks)).to_owned(), issuer: Self::NAME.to_owned() }
    }

    /// A file with a token for a service account of `sluice-system`, in which it ends at a Unix time.
    fn token(&self, file: &str, account: &str, expires: u64) -> String {
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"one"}"#);
        let claims = format!(
            r#"{{"sub":"system:serviceaccount:sluice-system:{account}","iss":"{}","aud":["sts.amazonaws.com"],"exp":{expires}}}"#,
            Self::NAME
        );
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        self.directory.file(file, &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

const NEVER: u64 = 32_000_000_000;

#[tokio::test]
async fn a_service_accounts_token_is_exchanged_for_its_role() {
    let issuer = Issuer::new("irsa");
    let emulator = Emulator::trusting(issuer.oidc()).await;
    let (url, token) = (emulator.url(), issuer.token("token", "sluice-registrar", NEVER));
    let found = with(&[
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_REGION", REGION),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
    ])
    .await;
    assert_eq!((found.get("ec2"), found.get("elb"), found.get("problem")), ("done", "done", ""), "{found:?}");
    assert_eq!(emulator.count("AssumeRoleWithWebIdentity"), 1, "both clients share the session");
    let calls = emulator.calls();
    let call = calls.iter().find(|call| call.action == "DescribeVpcs").expect("logged");
    assert!(call.who.starts_with("arn:aws:sts::111122223333:assumed-role/sluice-registrar/"), "{}", call.who);
}

#[tokio::test]
async fn no_secret_is_logged_nor_shown() {
    let issuer = Issuer::new("secrets");
    let emulator = Emulator::trusting(issuer.oidc()).await;
    let (url, file) = (emulator.url(), issuer.token("token", "sluice-registrar", NEVER));
    let irsa = [
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_REGION", REGION),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &file),
        ("TEST_LOG", "1"),
    ];
    let good = with(&irsa).await;
    emulator.order(r#"{"action":"DescribeVpcs","times":2,"effect":{"refuse":{"code":"ExpiredToken"}}}"#);
    let refused = with(&irsa).await;
    let keys = [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", REGION), KEYS[0], KEYS[1], ("TEST_LOG", "1")];
    let keys = with(&keys).await;
    let token = fs::read_to_string(&file).expect("written");
    let signature = token.rsplit('.').next().expect("three parts");
    for found in [good, refused, keys] {
        let said = found.said();
        assert!(said.contains("DEBUG"), "something was logged: {said}");
        assert!(!said.contains(signature) && !said.contains(KEYS[1].1), "{said}");
        // The emulator's secrets are of 48 hexadecimal digits and its tokens of 128; hashes are of 64.
        let secret = said.split(|c: char| !c.is_ascii_hexdigit()).find(|word| [48, 128].contains(&word.len()));
        assert_eq!(secret, None, "{said}");
    }
}

#[tokio::test]
async fn a_token_that_ended_is_said_and_a_new_one_is_taken_from_its_file() {
    let issuer = Issuer::new("irsa-ended");
    let emulator = Emulator::trusting(issuer.oidc()).await;
    let (url, token) = (emulator.url(), issuer.token("token", "sluice-registrar", 1000));
    let then = format!("{}:{token}", issuer.token("next", "sluice-registrar", NEVER));
    let found = with(&[
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_REGION", REGION),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("TEST_THEN", &then),
    ])
    .await;
    assert!(found.get("ec2").starts_with("not sent: DescribeVpcs: "), "{found:?}");
    assert!(found.get("ec2").contains("InvalidIdentityToken: Token expired"), "{found:?}");
    assert_eq!((found.get("then"), found.get("problem")), ("done", ""), "{found:?}");
}

#[tokio::test]
async fn a_role_that_does_not_trust_the_service_account_is_said_with_the_remedy() {
    let issuer = Issuer::new("irsa-foreign");
    let emulator = Emulator::trusting(issuer.oidc()).await;
    let (url, token) = (emulator.url(), issuer.token("token", "somebody-else", NEVER));
    let found = with(&[
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_REGION", REGION),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
    ])
    .await;
    let says = "AWS credentials could not be obtained: STS: AccessDenied: Not authorized to perform \
                sts:AssumeRoleWithWebIdentity; check the role's trust policy, the token file and the way to STS";
    assert_eq!(found.get("problem"), says);
}
