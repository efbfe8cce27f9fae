//! The AWS emulator inside the lab: its API, its control API, its load balancers' names in the lab's DNS, and its log.

use std::{collections::BTreeMap, ffi::OsString, fs, io, path::PathBuf};

use aws_emulator::{Config, Oidc, dns};
use aws_model::{Settings, settings};
use daemon::tasks::Tasks;
use kube::Client;
use world::World;

use crate::{cli::Options, controlplane};

/// Port of the AWS API, the one that emulators of AWS have by custom.
const API_PORT: u16 = 4566;
/// Port of the control API.
const CONTROL_PORT: u16 = 4567;
const DNS_PORT: u16 = 53;

/// Why there is no AWS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that does not exist, or a value that it does not take.
    #[error("--set: {0}")]
    Setting(#[from] settings::Error),
    /// The API server's keys for tokens.
    #[error("the API server's keys for web identity tokens: {0}")]
    Keys(#[source] Box<kube::Error>),
    /// A file.
    #[error("write {0}: {1}")]
    Write(PathBuf, #[source] io::Error),
    /// The emulator itself.
    #[error(transparent)]
    Serve(#[from] aws_emulator::Error),
    /// The lab's DNS.
    #[error(transparent)]
    Dns(#[from] dns::Error),
}

/// The settings that the command line asks for.
pub fn settings(options: &Options) -> Result<Settings, Error> {
    let mut settings = Settings::profile(options.profile);
    for (key, value) in &options.set {
        settings.set(key, value)?;
    }
    Ok(settings)
}

/// Starts the emulator as a task of `tasks`, with its log in `logs`. It believes the tokens of this cluster's service
/// accounts. Returns what AWS clients in the lab need in their environment.
pub async fn start(
    client: &Client,
    world: &World,
    options: &Options,
    state: &std::path::Path,
    logs: &std::path::Path,
    tasks: &mut Tasks,
) -> Result<BTreeMap<String, OsString>, Error> {
    let jwks = state.join("jwks.json");
    fs::write(&jwks, keys(client).await?).map_err(|e| Error::Write(jwks.clone(), e))?;
    let log = logs.join("aws.jsonl");
    let (address, stop) = (world.infrastructure.aws, tasks.stop().clone());
    let config = Config {
        settings: settings(options)?,
        seed: options.seed,
        time_scale: options.time_scale.factor(),
        api: (address, API_PORT).into(),
        control: (address, CONTROL_PORT).into(),
        oidc: Some(Oidc { jwks, issuer: controlplane::issuer(&world.region, &world.cluster) }),
        log: Some(log.clone()),
        ..Config::new(world.clone())
    };
    let emulator = aws_emulator::serve(config, stop.clone()).await?;
    let names = dns::Sockets::bind((world.infrastructure.dns, DNS_PORT).into()).await?;
    let zones = vec![dns::load_balancers(emulator.engine.clone())];
    tasks.spawn("DNS", names.serve(zones, stop));
    tasks.spawn("the AWS emulator", emulator.wait());
    let environment = [
        ("AWS_ENDPOINT_URL", format!("http://{address}:{API_PORT}").into()),
        ("AWS_REGION", world.region.clone().into()),
        ("AWS_DEFAULT_REGION", world.region.clone().into()),
        ("AWS_ACCESS_KEY_ID", "lab".into()),
        ("AWS_SECRET_ACCESS_KEY", "lab".into()),
        // No instance has metadata here, and clients would wait for it.
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ("AWS_PAGER", OsString::new()),
        ("SLUICE_LAB_LOG", log.into_os_string()),
        ("SLUICE_LAB_CONTROL", format!("http://{address}:{CONTROL_PORT}").into()),
    ];
    Ok(environment.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Of those variables, what the processes of pods get: where AWS is, but nobody's keys.
pub fn for_pods(environment: &BTreeMap<String, OsString>) -> impl Iterator<Item = (String, String)> + '_ {
    ["AWS_ENDPOINT_URL", "AWS_EC2_METADATA_DISABLED"].into_iter().filter_map(|name| {
        let value = environment.get(name)?.to_str()?;
        Some((name.to_owned(), value.to_owned()))
    })
}

async fn keys(client: &Client) -> Result<String, Error> {
    let request = http::Request::get("/openid/v1/jwks").body(Vec::new());
    let request = request.map_err(|e| Error::Keys(Box::new(kube::Error::HttpError(e))))?;
    client.request_text(request).await.map_err(|e| Error::Keys(Box::new(e)))
}
