//! `registrar run`: puts the parts together.

use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use daemon::{
    admin::Admin,
    http::Shutdown,
    readiness::{Condition, Readiness},
    shutdown::on_signal,
    socket,
    tasks::Tasks,
};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use prometheus_client::registry::Registry;
use registrar_core::{
    State,
    aws::{Account, Call, Filter, Reply},
    cluster::Kind,
    settings::{Settings, Vpc},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    aws::{self, Aws, Port},
    cli::Run,
    clock::Clock,
    decisions::Decisions,
    executor::{Executor, Ports, standing::CALL},
    kubernetes::Cluster,
    leadership::{Candidate, Election, identity},
    metrics::Metrics,
    settings,
    watches::Watches,
};

/// Events that wait for a decision, at most.
const QUEUE: usize = 1024;
/// How long everything has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(8);
/// How often AWS is asked who we are while it does not say.
const AWS_PERIOD: Duration = Duration::from_secs(2);
/// How often the VPC is asked for before the registrar does without.
const VPC_ATTEMPTS: u32 = 3;

/// Runs until SIGTERM.
pub async fn run(arguments: Run) -> Result<()> {
    let clock = Clock::start();
    let region = daemon::settings::said(arguments.aws.aws_region.as_deref());
    let settings = settings::read(&arguments.model, region)?;
    let timing = settings::timing(&arguments.leadership)?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let config = config(arguments.kubernetes.kubeconfig.as_deref()).await?;
    let namespace = arguments.leadership.leader_election_namespace.unwrap_or_else(|| config.default_namespace.clone());
    let admin =
        socket::listen(arguments.admin_listen).with_context(|| format!("listening on {}", arguments.admin_listen))?;
    let port = Arc::new(Aws::connect(aws_settings(&settings, arguments.aws.aws_imds), Arc::new(metrics.clone())).await);

    let readiness = Readiness::default();
    let stop = CancellationToken::new();
    let quiet = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    tasks.watch("signals", on_signal(stop.clone()));
    let shutdown = Shutdown { stop: stop.clone(), linger: Duration::ZERO };
    tasks.spawn("admin", Admin { readiness: readiness.clone(), registry: Arc::new(registry) }.serve(admin, shutdown));

    let (events, queue) = mpsc::channel(QUEUE);
    let watches = Watches {
        client: client(&config, Purpose::Watches)?,
        namespace: arguments.kubernetes.watch_namespace.filter(|name| !name.is_empty()),
        settings: settings.core.clone(),
        events,
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let mut warm = Vec::new();
    for (kind, name) in kinds(&settings.core) {
        let synced = readiness.condition(name, "not listed yet");
        warm.push(synced.clone());
        tasks.spawn(name, watches.clone().follow(kind, synced));
    }
    drop(watches);

    let leases = Api::namespaced(client(&config, Purpose::Lease)?, &namespace);
    let election =
        Election::new(arguments.leadership.leader_election_id, identity(&arguments.kubernetes.pod_name), timing);
    let heard = readiness.condition("lease", "no answer from the API server yet");
    let candidate = Candidate::new(leases, election, warm, clock, heard, metrics.clone());
    let standing = candidate.standing();
    tasks.spawn("lease", candidate.run(stop.clone(), quiet.clone()));

    tasks.spawn("AWS", follow_aws(Arc::clone(&port), readiness.condition("aws", "not asked yet"), stop.clone()));
    let cluster = Cluster::new(
        client(&config, Purpose::Requests)?,
        arguments.kubernetes.pod_name,
        settings.core.clone(),
        metrics.clone(),
    );
    // Manifests say nothing as an empty value.
    let vpc = arguments.aws.aws_vpc_id.filter(|id| !id.is_empty());
    tasks.spawn("decisions", async move {
        let vpc = match vpc {
            Some(id) => stop.run_until_cancelled(find_vpc(port.as_ref(), id)).await.flatten(),
            None => None,
        };
        let state = State::new(&Settings { vpc, ..settings.core });
        let ports = Ports { aws: port, cluster, standing: standing.clone(), clock, metrics: metrics.clone() };
        let executor = Executor::new(ports);
        Decisions { state, executor, events: queue, standing, clock, metrics }.run(stop, quiet).await
    });
    tracing::info!(admin = %arguments.admin_listen, %namespace, "running");
    tasks.wait(GRACE).await?;
    tracing::info!("ended");
    Ok(())
}

/// What the adapter of AWS is told.
pub(crate) fn aws_settings(settings: &settings::Read, imds: bool) -> aws::Settings {
    aws::Settings {
        region: settings.core.model.region.clone(),
        imds,
        roles: settings.roles.clone(),
        request_timeout: CALL,
        ..aws::Settings::new(&settings.core.model.cluster_name)
    }
}

/// The kinds that are watched, with the names of their tasks and readiness conditions.
fn kinds(settings: &Settings) -> impl Iterator<Item = (Kind, &'static str)> + use<> {
    let nodes = settings.features.instance_targets.then_some((Kind::Node, "nodes"));
    [
        (Kind::Service, "services"),
        (Kind::Binding, "targetgroupbindings"),
        (Kind::Slice, "endpointslices"),
        (Kind::Pod, "pods"),
        (Kind::Namespace, "namespaces"),
    ]
    .into_iter()
    .chain(nodes)
}

/// Where the API server is, and who we are to it.
pub(crate) async fn config(kubeconfig: Option<&Path>) -> Result<Config> {
    match kubeconfig {
        None => Config::infer().await.context("where the API server is"),
        Some(path) => {
            let read = Kubeconfig::read_from(path).with_context(|| format!("kubeconfig {}", path.display()))?;
            let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
            config.with_context(|| format!("kubeconfig {}", path.display()))
        }
    }
}

/// What a client is for. Each has connections of its own, so that none waits behind another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Watches,
    Requests,
    Lease,
}

fn client(config: &Config, purpose: Purpose) -> Result<Client> {
    let mut config = config.clone();
    if purpose != Purpose::Watches {
        // One attempt each: what comes next is decided with what it came to.
        config.default_retry = false;
        config.read_timeout = Some(CALL);
        config.reset_reader_on_write = true;
    }
    Client::try_from(config).context("a client of the API server")
}

/// Keeps the condition equal to how we stand with AWS.
async fn follow_aws(aws: Arc<Aws>, condition: Condition, stop: CancellationToken) -> Result<(), Infallible> {
    while !stop.is_cancelled() {
        if aws.problem().is_some() {
            // What it finds is what `problem` says next.
            let _ = stop.run_until_cancelled(Box::pin(aws.check((Instant::now() + CALL).into_std()))).await;
        }
        match aws.problem() {
            None => condition.met(""),
            Some(problem) => condition.unmet(problem.to_string()),
        }
        stop.run_until_cancelled(sleep(AWS_PERIOD)).await;
    }
    Ok(())
}

/// The subnets of the VPC; nothing if AWS does not tell soon.
async fn find_vpc(aws: &Aws, id: String) -> Option<Vpc> {
    let filters = vec![Filter { name: "vpc-id".to_owned(), values: vec![id.clone()] }];
    let call = Call::DescribeSubnets { ids: Vec::new(), filters };
    for attempt in 0..VPC_ATTEMPTS {
        match aws.call(&Account::Own, &call, (Instant::now() + CALL).into_std()).await {
            Ok(Reply::Subnets(found)) => {
                let ranges = found.iter().flat_map(|subnet| std::iter::once(&subnet.cidr).chain(&subnet.ipv6_cidrs));
                let subnets: Vec<_> = ranges.filter_map(|range| range.parse().ok()).collect();
                if subnets.is_empty() {
                    tracing::warn!(vpc = id, "the VPC has no subnets, or there is no such VPC");
                }
                return Some(Vpc { id, subnets });
            }
            other => tracing::warn!(vpc = id, ?other, attempt, "the VPC's subnets are not known"),
        }
        sleep(registrar_core::aws::Fault::backoff(attempt)).await;
    }
    None
}
