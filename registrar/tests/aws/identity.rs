//! Whose calls they are: credentials that end, roles in other accounts, clocks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, SharedCredentialsProvider, future},
};
use registrar::aws::{Aws, Port as _, Problem, Role, Settings};
use registrar_core::aws::{Account, Call, Fault};

use crate::support::{Emulator, ROLE, VPC, call, connect, created_group, done, refused, settings, soon};

/// Gives other credentials each time, the last ones from then on.
#[derive(Debug)]
struct Rotating {
    credentials: Vec<Credentials>,
    asked: Arc<AtomicUsize>,
}

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed).min(self.credentials.len() - 1);
        future::ProvideCredentials::ready(provider::Result::Ok(self.credentials[nth].clone()))
    }
}

/// The adapter with credentials that change, and how often they were asked for.
async fn rotating(url: &str, keys: &[&str]) -> (Aws, Arc<AtomicUsize>) {
    let of = |key: &&str| Credentials::from_keys(*key, "a-secret-key", Some("a-session-token".to_owned()));
    let asked = Arc::new(AtomicUsize::new(0));
    let provider = Rotating { credentials: keys.iter().map(of).collect(), asked: Arc::clone(&asked) };
    let settings = Settings { credentials: Some(SharedCredentialsProvider::new(provider)), ..settings(url) };
    (Aws::connect(settings, Arc::new(())).await, asked)
}

fn vpcs() -> Call {
    Call::DescribeVpcs { ids: vec![VPC.to_owned()] }
}

#[tokio::test]
async fn credentials_that_ended_are_replaced_and_the_call_is_sent_once_more() {
    let emulator = Emulator::start().await;
    // The emulator knows no session of this key.
    let (aws, asked) = rotating(&emulator.url(), &["ASIAUNKNOWN", "AKIAFRESH"]).await;
    created_group(&aws, "web").await;
    assert_eq!((emulator.count("CreateTargetGroup"), asked.load(Ordering::Relaxed)), (2, 2));
    for what in [vpcs(), vpcs()] {
        done(&aws, &what).await;
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "the new ones are kept");
    for action in ["DescribeVpcs", "DescribeTargetGroups"] {
        emulator.order(&format!(r#"{{"action":"{action}","effect":{{"refuse":{{"code":"ExpiredToken"}}}}}}"#));
    }
    done(&aws, &vpcs()).await;
    assert_eq!(asked.load(Ordering::Relaxed), 3, "EC2 renews as well");
    assert_eq!(aws.problem(), None);
}

#[tokio::test]
async fn calls_that_fail_together_renew_together() {
    let emulator = Emulator::start().await;
    let (aws, asked) = rotating(&emulator.url(), &["ASIAUNKNOWN", "AKIAFRESH"]).await;
    let what = vpcs();
    let results = futures::future::join_all((0..8).map(|_| call(&aws, &what))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn credentials_that_are_never_accepted_are_a_problem_that_ends_with_them() {
    let emulator = Emulator::start().await;
    let (aws, _) = rotating(&emulator.url(), &["ASIAONE", "ASIATWO", "AKIATHREE"]).await;
    assert_eq!(aws.problem(), Some(Problem::Untried));
    assert_eq!(refused(&aws, &vpcs()).await, "AuthFailure");
    let problem = aws.problem().expect("a problem").to_string();
    assert!(problem.starts_with("AWS does not accept our credentials: AuthFailure: "), "{problem}");
    assert!(!problem.contains("a-secret-key") && !problem.contains("a-session-token"), "{problem}");
    done(&aws, &vpcs()).await;
    assert!(aws.ready());
}

#[tokio::test]
async fn a_signature_of_another_time_is_sent_once_more_and_named() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let expire = |times: u8| {
        emulator.order(&format!(
            r#"{{"action":"DescribeVpcs","times":{times},"effect":{{"refuse":{{"code":"RequestExpired"}}}}}}"#
        ));
    };
    expire(1);
    done(&aws, &vpcs()).await;
    expire(2);
    assert_eq!(refused(&aws, &vpcs()).await, "RequestExpired");
    let problem = aws.problem().expect("a problem").to_string();
    assert!(problem.starts_with("the clock of this machine is wrong for AWS: RequestExpired"), "{problem}");
    done(&aws, &vpcs()).await;
    assert_eq!(aws.problem(), None);
}

#[tokio::test]
async fn check_says_who_we_are() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let identity = aws.check(soon()).await.expect("known");
    assert_eq!(identity.arn, "arn:aws:iam::111122223333:user/AKIATEST");
    assert_eq!(identity.account, "111122223333");
    assert!(aws.ready());
}

async fn with_roles(emulator: &Emulator, roles: &[(&str, &str)]) -> Aws {
    let roles: BTreeMap<Arc<str>, Role> = roles
        .iter()
        .map(|(name, arn)| {
            let role = Role { role_arn: (*arn).to_owned(), external_id: Some("the-external-id".to_owned()) };
            (Arc::from(*name), role)
        })
        .collect();
    Aws::connect(Settings { roles, ..settings(&emulator.url()) }, Arc::new(())).await
}

#[tokio::test]
async fn a_role_is_assumed_once_and_its_calls_are_its_own() {
    let emulator = Emulator::start().await;
    let aws = with_roles(&emulator, &[("partner", ROLE)]).await;
    let partner = Account::Role("partner".into());
    for _ in 0..3 {
        aws.call(&partner, &vpcs(), soon()).await.expect("done");
    }
    done(&aws, &vpcs()).await;
    let calls = emulator.calls();
    let assumed: Vec<_> = calls.iter().filter(|call| call.action == "AssumeRole").collect();
    let [assumed] = assumed.as_slice() else { panic!("{assumed:?}") };
    let field = |name: &str| assumed.fields[name].as_str();
    assert_eq!(
        (field("RoleArn"), field("ExternalId"), field("RoleSessionName")),
        (ROLE, "the-external-id", "sluice-lab")
    );
    let who: Vec<_> = calls.iter().filter(|call| call.action == "DescribeVpcs").map(|call| call.who.as_str()).collect();
    let role = "arn:aws:sts::111122223333:assumed-role/sluice-registrar/sluice-lab";
    assert_eq!(who, [role, role, role, "arn:aws:iam::111122223333:user/AKIATEST"]);
}

#[tokio::test]
async fn credentials_of_a_role_that_ended_are_assumed_anew() {
    let emulator = Emulator::start().await;
    let aws = with_roles(&emulator, &[("partner", ROLE)]).await;
    let partner = Account::Role("partner".into());
    aws.call(&partner, &vpcs(), soon()).await.expect("done");
    emulator.order(r#"{"action":"DescribeVpcs","effect":{"refuse":{"code":"ExpiredToken"}}}"#);
    aws.call(&partner, &vpcs(), soon()).await.expect("done");
    assert_eq!(emulator.count("AssumeRole"), 2);
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_is_said_and_harms_nobody_else() {
    let emulator = Emulator::start().await;
    let aws = with_roles(&emulator, &[("partner", "arn:aws:iam::999988887777:role/other")]).await;
    done(&aws, &vpcs()).await;
    let fault = aws.call(&Account::Role("partner".into()), &vpcs(), soon()).await.expect_err("refused");
    assert!(matches!(fault, Fault::NotSent(_)), "{fault:?}");
    assert!(fault.to_string().contains("AccessDenied: "), "{fault}");
    assert!(fault.to_string().contains("sts:AssumeRole on resource: arn:aws:iam::999988887777:role/other"), "{fault}");
    assert_eq!(aws.problem(), None, "our own identity is well");
    let fault = aws.call(&Account::Role("nobody".into()), &vpcs(), soon()).await.expect_err("unknown");
    assert!(fault.to_string().contains("the configuration has no role named `nobody`"), "{fault}");
}
