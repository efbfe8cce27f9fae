//! Every effect has an answer, in time, and none is sent that may not be.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use kube::Client;
use prometheus_client::registry::Registry;
use registrar::{
    aws::Port,
    clock::Clock,
    executor::{Executor, Ports},
    kubernetes::Cluster,
    leadership::Standing,
    metrics::Metrics,
};
use registrar_core::{
    Effect, Event, Settings,
    aws::{Account, Arn, Call, Fault, Reply},
    cluster::{Key, Uid},
    effect::{About, Action, Cause, EffectId, Notice, Priority, Request},
    event::{Denial, Outcome},
};
use tokio::sync::watch;

/// An AWS that says which groups it was asked for, and answers those called `quick` only.
#[derive(Default)]
struct Slow(Mutex<Vec<String>>);

#[async_trait]
impl Port for Slow {
    async fn call(&self, _: &Account, call: &Call, _: Instant) -> Result<Reply, Fault> {
        let Call::DeregisterTargets { group, .. } = call else { panic!("{call:?}") };
        self.0.lock().unwrap().push(group.as_str().to_owned());
        if group.as_str() == "quick" { Ok(Reply::Done) } else { std::future::pending().await }
    }
}

fn executor(standing: Standing) -> (Executor, Arc<Slow>, watch::Sender<Standing>) {
    executor_that_is_watched(standing, Arc::default())
}

/// With an API server that never answers, and what it is asked for.
fn executor_that_is_watched(
    standing: Standing,
    asked: Arc<Mutex<Vec<String>>>,
) -> (Executor, Arc<Slow>, watch::Sender<Standing>) {
    let metrics = Metrics::register(&mut Registry::default());
    let silent = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        asked.lock().unwrap().push(request.uri().path().to_owned());
        std::future::pending::<Result<http::Response<kube::client::Body>, tower::BoxError>>()
    });
    let client = Client::new(silent, "default");
    let aws = Arc::new(Slow::default());
    let (sender, standing) = watch::channel(standing);
    let ports = Ports {
        aws: Arc::<Slow>::clone(&aws),
        cluster: Cluster::new(client, "test".to_owned(), Settings::default(), metrics.clone()),
        standing,
        clock: Clock::start(),
        metrics,
    };
    (Executor::new(ports), aws, sender)
}

fn effect(id: u64, priority: Priority, fence: Option<u64>, action: Action) -> Effect {
    let cause = Cause { object: Key::new("default", "web"), because: "a test".to_owned() };
    Effect { id: EffectId(id), action, priority, deadline: Duration::from_mins(1), fence, cause }
}

fn removal(group: &str) -> Action {
    let call = Call::DeregisterTargets { group: Arn::new(group), targets: Vec::new() };
    Action::Aws { account: Account::Own, call }
}

const LEADING: Standing = Standing::Leading { fence: 1, until: Duration::from_hours(1) };

async fn ended(executor: &mut Executor) -> (u64, Outcome) {
    let Event::Ended { id, outcome } = executor.ended().await.unwrap() else { panic!("an end") };
    (id.0, outcome)
}

#[tokio::test(start_paused = true)]
async fn call_and_request_without_an_answer_are_unknown_when_their_time_is_over() {
    let (mut executor, _, _standing) = executor(LEADING);
    executor.submit(effect(1, Priority::Deregister, Some(1), removal("slow")));
    let begun = tokio::time::Instant::now();
    let (id, outcome) = ended(&mut executor).await;
    assert!(id == 1 && matches!(outcome, Outcome::Aws(Err(Fault::Unknown(_)))), "{outcome:?}");
    assert!(begun.elapsed() <= Duration::from_secs(6), "well before the lease ends: {:?}", begun.elapsed());

    let request = Request::GetBinding { binding: Key::new("default", "web") };
    executor.submit(effect(2, Priority::Gates, None, Action::Kubernetes(request)));
    let (id, outcome) = ended(&mut executor).await;
    assert!(id == 2 && matches!(outcome, Outcome::Kubernetes(Err(Denial::Unknown(_)))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn write_of_another_leadership_is_never_sent() {
    let (mut executor, aws, standing) = executor(LEADING);
    executor.submit(effect(1, Priority::Deregister, Some(7), removal("quick")));
    let (_, outcome) = ended(&mut executor).await;
    assert!(matches!(outcome, Outcome::Aws(Err(Fault::NotSent(_)))), "{outcome:?}");
    standing.send_replace(Standing::Following);
    executor.submit(effect(2, Priority::Deregister, Some(1), removal("quick")));
    let (_, outcome) = ended(&mut executor).await;
    assert!(matches!(outcome, Outcome::Aws(Err(Fault::NotSent(_)))), "{outcome:?}");
    assert!(aws.0.lock().unwrap().is_empty(), "nobody was asked");
    standing.send_replace(LEADING);
    executor.submit(effect(3, Priority::Deregister, Some(1), removal("quick")));
    assert_eq!(ended(&mut executor).await, (3, Outcome::Aws(Ok(Reply::Done))));
}

#[tokio::test(start_paused = true)]
async fn of_what_waits_the_most_urgent_goes_first_and_the_rest_is_answered_at_the_end() {
    let (mut executor, aws, _standing) = executor(LEADING);
    for id in 0..32 {
        executor.submit(effect(id, Priority::Drift, Some(1), removal("slow")));
    }
    executor.submit(effect(100, Priority::Drift, Some(1), removal("drift")));
    executor.submit(effect(101, Priority::Deregister, Some(1), removal("urgent")));
    let _ = ended(&mut executor).await;
    tokio::task::yield_now().await;
    let asked = aws.0.lock().unwrap().clone();
    assert_eq!(asked.last().map(String::as_str), Some("urgent"), "{} asked", asked.len());
    let dropped = executor.drop_waiting();
    let not_sent = |event: &Event| {
        matches!(event, Event::Ended { id: EffectId(100), outcome: Outcome::Aws(Err(Fault::NotSent(_))) })
    };
    assert!(dropped.len() == 1 && dropped.iter().all(not_sent), "{dropped:?}");
    while !executor.is_idle() {
        let _ = ended(&mut executor).await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_written_one_by_one_while_the_api_server_has_something_to_do_for_gates() {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let (mut executor, _aws, _standing) = executor_that_is_watched(LEADING, Arc::clone(&asked));
    let key = Key::new("default", "web");
    executor.submit(effect(0, Priority::Gates, None, Action::Kubernetes(Request::GetBinding { binding: key.clone() })));
    for id in 1..10 {
        let notice = Notice {
            about: About::Binding(key.clone(), Uid("1".into())),
            warning: false,
            reason: "Test",
            message: id.to_string(),
        };
        let publish = effect(id, Priority::Drift, None, Action::Kubernetes(Request::Publish(notice)));
        executor.submit(Effect { deadline: Duration::from_mins(2), ..publish });
    }
    let events = || asked.lock().unwrap().iter().filter(|path| path.ends_with("/events")).count();
    let all_begin = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    all_begin().await;
    assert_eq!(events(), 1, "{:?}", asked.lock());
    let (id, _) = ended(&mut executor).await;
    all_begin().await;
    assert!(id == 0 && events() == 4, "{id}: {:?}", asked.lock());
}
