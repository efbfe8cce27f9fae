//! AWS as it is: slow to tell of what it has made, over its request rates, losing replies.

use std::time::Duration;

use aws_model::settings::Profile;
use k8s_openapi::api::core::v1::Service;
use registrar_core::{cluster::Key, settings::Rates};

use crate::{life::STORY, services::service, stage::Stage};

fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

fn stormy() -> aws_model::Settings {
    let mut settings = aws_model::Settings::profile(Profile::Real2023);
    for (key, value) in [
        ("fault.lose-replies", "0.04"),
        ("fault.fail-after", "0.04"),
        ("fault.fail-before", "0.06"),
        ("consistency.slow-share", "0.3"),
    ] {
        settings.set(key, value).expect("a setting");
    }
    settings
}

#[test]
fn lost_replies_server_errors_and_slow_views_leave_no_duplicate_and_nothing_behind() {
    for seed in 0..25 {
        let mut stage = Stage::with(&stormy(), seed);
        let before = stage.model.counts();
        let key = stage.apply(service(&STORY.replace("targetPort: 8080", "targetPort: 8080, nodePort: 30080")));
        stage.run(minutes(15));
        assert!(stage.is_active(&key), "seed {seed}: {:#?}\n{:#?}", stage.conditions(&key), stage.sent);
        stage.annotate(&key, "additional-resource-tags", Some("team=edge"));
        stage.annotate(&key, "attributes", Some("deletion_protection.enabled=false"));
        stage.change(&key, |service| service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 8000);
        stage.run(minutes(20));
        let counts = stage.model.counts();
        let found = (counts.load_balancers, counts.listeners, counts.target_groups, stage.bindings.len());
        assert_eq!(found, (1, 1, 1, 1), "seed {seed}: {:#?}\n{:#?}", stage.conditions(&key), stage.sent);
        stage.delete(&key);
        stage.run(minutes(20));
        assert_eq!(stage.model.counts(), before, "seed {seed}: {:#?}", stage.sent);
        assert_eq!(stage.services.len(), 0, "seed {seed}");
    }
}

fn numbered(n: usize) -> Service {
    service(&STORY.replace("name: echoserver", &format!("name: echoserver-{n}")))
}

/// Quotas that are not what is tried here.
fn roomy(profile: Profile) -> aws_model::Settings {
    let mut settings = aws_model::Settings::profile(profile);
    for (key, value) in
        [("quota.network-load-balancers", "5000"), ("quota.network-load-balancer-enis-per-vpc", "20000")]
    {
        settings.set(key, value).expect("a setting");
    }
    settings
}

fn create(stage: &mut Stage, count: usize) -> Vec<Key> {
    (0..count).map(|n| stage.apply(numbered(n))).collect()
}

fn calls(stage: &Stage) -> usize {
    let is_call = |name: &str| {
        ["Describe", "Create", "Modify", "Set", "Authorize", "Revoke", "AddTags", "Delete"]
            .iter()
            .any(|start| name.starts_with(start))
            && !["SetManaged", "SetService", "SetBinding", "DeleteBinding"].iter().any(|start| name.starts_with(start))
    };
    stage.sent.iter().filter(|(name, _)| is_call(name) && !name.contains(':')).count()
}

#[test]
fn two_hundred_services_at_once_cost_at_most_twenty_calls_each() {
    let mut stage = Stage::with(&roomy(Profile::Instant), 1);
    stage.settings.rates = Rates::LIFTED;
    stage.start();
    let keys = create(&mut stage, 200);
    stage.run(Duration::from_secs(30));
    let published = keys.iter().filter(|key| stage.hostname(key).is_some()).count();
    assert_eq!(published, 200);
    let calls = calls(&stage);
    assert!(calls <= 200 * 20, "{calls} calls");
    stage.sent.clear();
    stage.run(minutes(10));
    assert_eq!(stage.writes(), Vec::<&str>::new());
}

#[test]
fn within_the_documented_rates_two_hundred_services_come_at_the_pace_of_the_bucket() {
    let mut stage = Stage::with(&roomy(Profile::Fast), 1);
    let keys = create(&mut stage, 200);
    // Three calls of each Service draw on the bucket of creations: 20 at once, 3 per second.
    let pace = Duration::from_secs((200 * 3 - 20) / 3);
    stage.run(pace.mul_f64(1.1));
    let published = keys.iter().filter(|key| stage.hostname(key).is_some()).count();
    assert_eq!((published, stage.throttled), (200, 0));
}

#[test]
fn a_restart_with_five_hundred_services_is_not_throttled_once_and_writes_nothing() {
    let mut stage = Stage::with(&roomy(Profile::Instant), 1);
    stage.settings.rates = Rates::LIFTED;
    stage.start();
    let keys = create(&mut stage, 500);
    stage.run(minutes(1));
    assert!(keys.iter().all(|key| stage.is_active(key)));
    let limited = aws_model::Settings::profile(Profile::Fast);
    for (key, value) in limited.entries().into_iter().filter(|(key, _)| key.starts_with("bucket.")) {
        stage.model.set(key, &value, stage.now).expect("a setting");
    }
    stage.settings.rates = Rates::default();
    stage.start();
    stage.sent.clear();
    stage.throttled = 0;
    stage.run(minutes(30));
    assert_eq!(stage.throttled, 0);
    assert_eq!(stage.writes(), Vec::<&str>::new());
    assert!(calls(&stage) >= 500, "they are looked at");
}
