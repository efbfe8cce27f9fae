//! An emulator of this process, and the adapter that calls it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_emulator::{Config, LOOPBACK_WORLD, Oidc, Running, serve};
use aws_model::{Caller, Event, Request, Service, faults::Order, settings::Profile};
use registrar::aws::{Aws, Observed, Observer, Port as _, Settings};
use registrar_core::aws::{Account, Arn, Call, CreateTargetGroup, Fault, HealthCheck, Reply};
use tokio_util::sync::CancellationToken;
use world::World;

pub(crate) const VPC: &str = "vpc-0a1b2c3d4e5f60718";
pub(crate) const SUBNETS: [&str; 3] =
    ["subnet-0a00000000000aaa2", "subnet-0b00000000000bbb2", "subnet-0c00000000000ccc2"];
pub(crate) const PUBLIC_SUBNETS: [&str; 3] =
    ["subnet-0a00000000000aaa1", "subnet-0b00000000000bbb1", "subnet-0c00000000000ccc1"];
pub(crate) const NODE_GROUP: &str = "sg-0d00000000000ddd1";
pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/sluice-registrar";
pub(crate) const REGION: &str = "ap-northeast-2";

/// Long enough for anything here.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// An emulator without a data plane.
pub(crate) struct Emulator {
    running: Running,
    _stop: CancellationToken,
}

impl Emulator {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn trusting(oidc: Oidc) -> Self {
        Self::with(|config| config.oidc = Some(oidc)).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let world = World::parse(LOOPBACK_WORLD).expect("the shipped world");
        let mut config = Config {
            settings: aws_model::Settings::profile(Profile::Instant),
            data_plane: false,
            ..Config::new(world)
        };
        change(&mut config);
        let stop = CancellationToken::new();
        Self { running: serve(config, stop.clone()).await.expect("loopback"), _stop: stop }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.running.api)
    }

    /// What befalls the next call of an operation.
    pub(crate) fn order(&self, json: &str) {
        let order: Order = serde_json::from_str(json).expect("an order");
        self.running.engine.with(|model, now| model.order(order, now)).expect("valid");
    }

    /// Does something in EC2 without a request, where a test needs a thousand of a kind.
    pub(crate) fn do_in_ec2(&self, action: &str, fields: &[(&str, &str)]) {
        let request = Request {
            service: Service::Ec2,
            action: Some(action.to_owned()),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            defect: None,
            caller: Some(Caller { access_key: "AKIATEST".to_owned(), ..Caller::default() }),
            token: None,
        };
        let reply = self.running.engine.with(|model, now| model.handle(&request, now));
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    pub(crate) fn set(&self, key: &str, value: &str) {
        self.running.engine.with(|model, now| model.set(key, value, now)).expect("a setting");
    }

    pub(crate) fn target_groups(&self) -> usize {
        self.running.engine.with(|model, _| model.counts()).target_groups
    }

    /// Who has called what so far, with which fields.
    pub(crate) fn calls(&self) -> Vec<Logged> {
        let (entries, _) = self.running.engine.journal().after(0, usize::MAX, |_| true);
        let logged = |event: &Event| match event {
            Event::Api { who, action, fields, .. } => {
                Some(Logged { who: who.clone(), action: action.clone(), fields: fields.iter().cloned().collect() })
            }
            _ => None,
        };
        entries.iter().filter_map(|entry| logged(&entry.event)).collect()
    }

    pub(crate) fn count(&self, action: &str) -> usize {
        self.calls().iter().filter(|call| call.action == action).count()
    }
}

/// A call as the emulator has logged it.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) who: String,
    pub(crate) action: String,
    pub(crate) fields: BTreeMap<String, String>,
}

/// Settings for an endpoint, with a key of nobody.
pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        region: Some(REGION.to_owned()),
        endpoint_url: Some(url.to_owned()),
        credentials: Some(SharedCredentialsProvider::new(Credentials::from_keys("AKIATEST", "the-secret-key", None))),
        ..Settings::new("lab")
    }
}

pub(crate) async fn connect(url: &str) -> Aws {
    Aws::connect(settings(url), Arc::new(())).await
}

/// What became of a request: service, operation, status, error code.
pub(crate) type Row = (String, String, Option<u16>, Option<String>);

/// Remembers what it is told.
#[derive(Debug, Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<Row>>);

impl Observer for Recorder {
    fn observed(&self, request: &Observed<'_>) {
        let row = (
            request.service.to_owned(),
            request.operation.to_owned(),
            request.status,
            request.error_code.map(ToOwned::to_owned),
        );
        self.0.lock().expect("unpoisoned").push(row);
    }
}

pub(crate) async fn call(aws: &Aws, call: &Call) -> Result<Reply, Fault> {
    aws.call(&Account::Own, call, soon()).await
}

/// A call that must succeed.
pub(crate) async fn done(aws: &Aws, what: &Call) -> Reply {
    match call(aws, what).await {
        Ok(reply) => reply,
        Err(fault) => panic!("{what:?}: {fault}"),
    }
}

/// The code with which a call must be refused.
pub(crate) async fn refused(aws: &Aws, what: &Call) -> String {
    match call(aws, what).await {
        Err(Fault::Refused(refusal)) => refusal.code,
        other => panic!("{what:?}: {other:?}"),
    }
}

pub(crate) fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A target group for TCP on port 8080, named so.
pub(crate) fn group(name: &str) -> Call {
    Call::CreateTargetGroup(CreateTargetGroup {
        name: name.to_owned(),
        protocol: "TCP".to_owned(),
        port: 8080,
        vpc_id: VPC.to_owned(),
        target_type: "ip".to_owned(),
        ip_address_type: "ipv4".to_owned(),
        health_check: HealthCheck::default(),
        tags: BTreeMap::new(),
    })
}

pub(crate) async fn created_group(aws: &Aws, name: &str) -> Arn {
    match done(aws, &group(name)).await {
        Reply::TargetGroups { target_groups, .. } => target_groups[0].arn.clone(),
        other => panic!("{other:?}"),
    }
}
