//! `registrar plan`: what would be created, changed, replaced and deleted, without doing it.
//!
//! It makes the same plans as the registrar, from the same reads, and has no way to write: its port takes reads only.

pub mod inputs;
pub mod manifest;
pub mod observe;
pub mod outline;
pub mod report;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, api::ListParams};
use nlb::service::read_existing;
use registrar_core::{
    aws::Account,
    balancers::{Desired, Environment, Intent, Network, Observed, plan},
};

use self::{
    inputs::{Objects, Task, applied, key, task},
    report::{Report, ServicePlan},
};
use crate::{
    aws::{Aws, Reader},
    cli, run,
    settings::{self, Read},
    status::{Output, paint::Paint},
};

/// There is something to report.
const CHANGES: u8 = 1;
/// There is no plan for some Service.
const INCOMPLETE: u8 = 2;

/// `registrar plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// Files with Services, or - for standard input; each is planned as if it had been applied
    #[arg(long = "filename", short, value_name = "FILE", conflicts_with_all = ["namespace", "all"])]
    pub files: Vec<PathBuf>,
    /// The Services of this namespace; without it and without files that of the kubeconfig
    #[arg(long, short, value_name = "NAMESPACE", conflicts_with = "all")]
    pub namespace: Option<String>,
    /// The Services of all namespaces
    #[arg(long, short = 'A')]
    pub all: bool,
    /// Ask neither AWS nor the cluster: print the model of the files
    #[arg(long, requires = "files")]
    pub offline: bool,
    /// How it is written
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
    /// Kubeconfig; otherwise KUBECONFIG, and inside a cluster its service account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The model of load balancers, as in the registrar
    #[command(flatten)]
    pub model: cli::Model,
    /// AWS.
    #[command(flatten)]
    pub aws: cli::Aws,
}

/// Plans and prints. The code is 1 if something would change or stands in the way, and 2 if a Service could not be read.
pub async fn run(arguments: Plan) -> Result<ExitCode> {
    let region = daemon::settings::said(arguments.aws.aws_region.as_deref());
    let read = settings::read(&arguments.model, region)?;
    let vpc_id = arguments.aws.aws_vpc_id.clone().unwrap_or_default();
    let (settings, options) = (Arc::clone(&read.core.model), read.core.load_balancers.clone());
    let environment = Environment { settings, vpc_id, options };
    let services = if arguments.offline {
        offline(from_files(&arguments.files, "default")?, environment)
    } else {
        online(&arguments, &read, environment).await?
    };
    let report = Report::new(services, arguments.offline);
    let text = match arguments.output {
        Output::Text => report.text(Paint::of_stdout()),
        Output::Json => report.json()?,
    };
    print!("{text}");
    Ok(match (report.is_complete(), report.has_changes()) {
        (false, _) => ExitCode::from(INCOMPLETE),
        (true, true) => ExitCode::from(CHANGES),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// The models of Services, as they are without anything that AWS or a cluster could say.
pub fn offline(services: Vec<Service>, environment: Environment) -> Vec<ServicePlan> {
    let environment = Arc::new(environment);
    let objects = Objects { services, ..Objects::default() };
    let plans = objects.services.iter().filter_map(|service| {
        let mut planned = started(service);
        match task(service, &objects, &environment, None)? {
            Task::Refused(violations) => planned.violations = violations,
            Task::Plan(inputs, violations) => {
                planned.violations = violations;
                let desired = Desired::of(&inputs, &Observed::default());
                desired.problems.iter().for_each(|problem| planned.hindered(problem.clone()));
                planned.model = desired.into();
            }
        }
        Some(planned)
    });
    plans.collect()
}

/// The plans of Services of the cluster, or of files as if they had been applied to it.
async fn online(arguments: &Plan, read: &Read, mut environment: Environment) -> Result<Vec<ServicePlan>> {
    let config = run::config(arguments.kubeconfig.as_deref()).await?;
    let here = config.default_namespace.clone();
    let client = Client::try_from(config).context("a client of the API server")?;
    let written = from_files(&arguments.files, &here)?;
    let scope = match &arguments.namespace {
        Some(namespace) => Some(namespace.as_str()),
        None if arguments.all || !written.is_empty() => None,
        None => Some(here.as_str()),
    };
    let mut objects = stored(&client, scope).await?;
    let wanted: Vec<Service> = if arguments.files.is_empty() {
        objects.services.clone()
    } else {
        let of = |service: Service| {
            let stored = objects.services.iter().find(|stored| key(stored) == key(&service));
            applied(service, stored)
        };
        let wanted: Vec<_> = written.into_iter().map(of).collect();
        objects.services.retain(|stored| !wanted.iter().any(|service| key(service) == key(stored)));
        objects.services.extend(wanted.iter().cloned());
        wanted
    };
    let aws = Aws::connect(run::aws_settings(read, arguments.aws.aws_imds), Arc::new(())).await;
    let reader = Reader::new(&aws);
    if environment.vpc_id.is_empty() {
        environment.vpc_id = observe::vpc(&reader, &environment.settings.cluster_name).await?;
    }
    let shared = match &environment.options.backend_security_group {
        Some(id) => Some(id.clone()),
        None => observe::shared_group(&reader, &environment).await?,
    };
    let environment = Arc::new(environment);
    let mut network = Network::default();
    let mut plans = Vec::new();
    for service in &wanted {
        let Some(task) = task(service, &objects, &environment, shared.as_deref()) else { continue };
        let mut planned = started(service);
        match task {
            Task::Refused(violations) => planned.violations = violations,
            Task::Plan(mut inputs, violations) => {
                planned.violations = violations;
                let observed = match observe::all(&reader, service, &mut inputs, &mut network).await {
                    Ok(observed) => observed,
                    Err(error) if error.is_of_everything() => return Err(error.into()),
                    Err(error) => {
                        planned.hindered(error.problem());
                        plans.push(planned);
                        continue;
                    }
                };
                if inputs.intent == Intent::Keep {
                    let reading = read_existing(service, &environment.settings, Some(inputs.spec.scheme));
                    let refused = reading.accepted().is_err();
                    planned.violations = reading.violations;
                    if refused {
                        plans.push(planned);
                        continue;
                    }
                }
                let desired = Desired::of(&inputs, &observed);
                if shared.is_none() && inputs.intent == Intent::Keep && desired.needs_shared_group() {
                    let name = nlb::names::backend_security_group(&environment.settings.cluster_name);
                    planned
                        .notes
                        .push(format!("security group {name}, which load balancers share, would be made first"));
                }
                planned.planned(plan(&desired, &inputs, &observed));
                if inputs.intent == Intent::Keep {
                    planned.model = desired.into();
                }
            }
        }
        plans.push(planned);
    }
    Ok(plans)
}

fn started(service: &Service) -> ServicePlan {
    let key = key(service);
    let mut planned = ServicePlan::new(&key.namespace, &key.name);
    if service.metadata.uid.as_deref().unwrap_or_default().is_empty() {
        planned.notes.push(
            "the Service has no UID before it is created, and generated names contain a hash of it: their last ten \
             characters will be others"
                .to_owned(),
        );
    }
    planned
}

fn from_files(files: &[PathBuf], namespace: &str) -> Result<Vec<Service>> {
    let mut services = Vec::new();
    for file in files {
        services.extend(manifest::read(file, namespace)?);
    }
    let mut keys: Vec<_> = services.iter().map(key).collect();
    keys.sort();
    if let Some([twice, ..]) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("Service {twice} stands in the files twice");
    }
    Ok(services)
}

async fn stored(client: &Client, namespace: Option<&str>) -> Result<Objects> {
    let whole = ListParams::default();
    let (services, bindings) = match namespace {
        Some(namespace) => (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace)),
        None => (Api::all(client.clone()), Api::all(client.clone())),
    };
    Ok(Objects {
        services: services.list(&whole).await.context("listing Services")?.items,
        bindings: bindings.list(&whole).await.context("listing TargetGroupBindings")?.items,
    })
}

/// Everything that is asked is asked in the own account: load balancers are made in no other.
const OWN: Account = Account::Own;
