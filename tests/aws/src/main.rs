//! The emulator as a program of its own.

#![allow(clippy::doc_markdown, reason = "the help text is read in a terminal")]

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use aws_emulator::{Config, LOOPBACK_WORLD, Oidc, dataplane, serve_in};
use aws_model::{
    Settings,
    settings::{Profile, TABLE},
};
use clap::Parser;
use daemon::{log, shutdown, tasks::Tasks};
use tokio_util::sync::CancellationToken;
use world::World;

/// AWS's ELBv2 (Network Load Balancers), EC2 and STS on this machine, with load balancers that carry traffic.
///
/// Point any AWS client at it:
///
///   export AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_REGION=ap-northeast-2
///   export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any
///   aws elbv2 describe-load-balancers
///
/// The world (VPC, subnets, instances) is one of loopback addresses unless --world names another; every address of a
/// load balancer must be local to this machine for its listeners to open. Settings are changed while it runs through
/// the control API (GET and PUT /v1/settings).
#[derive(Debug, Parser)]
#[command(name = "aws-emulator", version, verbatim_doc_comment)]
struct Arguments {
    /// Where the AWS API listens.
    #[arg(long, default_value = "127.0.0.1:4566", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the control API listens.
    #[arg(long, default_value = "127.0.0.1:4567", value_name = "ADDRESS")]
    control: SocketAddr,
    /// Answer DNS for names of load balancers here.
    #[arg(long, value_name = "ADDRESS")]
    dns: Option<SocketAddr>,
    /// World file in the format of tests/lab/world.yaml.
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// Set of lags and limits to begin with: instant, fast or real-2023.
    #[arg(long, default_value = "fast", value_name = "NAME")]
    profile: Profile,
    /// Change one value of the profile, as key=value; may be given often. --settings lists them.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Print every setting with its value in each profile, and exit.
    #[arg(long)]
    settings: bool,
    /// How much faster than real time lags, health checks and delays run.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    time_scale: f64,
    /// Seed of every lag and choice: the same seed and the same requests give the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the ordered log here, as JSON lines.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Serve the API only: no listeners, no health checks.
    #[arg(long)]
    no_data_plane: bool,
    /// Keys that sign web identity tokens, as a JWKS file.
    #[arg(long, value_name = "FILE", requires = "oidc_issuer")]
    oidc_jwks: Option<PathBuf>,
    /// Issuer (`iss`) of web identity tokens.
    #[arg(long, value_name = "URL", requires = "oidc_jwks")]
    oidc_issuer: Option<String>,
    /// What of the emulator's own doings is written to standard error.
    #[arg(long, env = "RUST_LOG", default_value = "info,hickory_server=warn", value_name = "FILTER")]
    verbosity: String,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it must be KEY=VALUE, for example lag.registration=10s")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.settings {
        print_settings();
        return Ok(ExitCode::SUCCESS);
    }
    log::init(&arguments.verbosity, log::Format::Text)?;
    let config = configure(arguments)?;
    if let Err(error) = dataplane::descriptors::raise_limit() {
        tracing::warn!(%error, "there may be fewer connections than wanted");
    }
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    tasks.watch("signals", shutdown::on_signal(stop));
    let running = serve_in(config, tasks).await?;
    tracing::info!(api = %running.api, control = %running.control, "serving");
    running.wait().await?;
    Ok(ExitCode::SUCCESS)
}

fn configure(arguments: Arguments) -> anyhow::Result<Config> {
    let world = match &arguments.world {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            World::parse(&text).with_context(|| format!("in {}", path.display()))?
        }
        None => World::parse(LOOPBACK_WORLD)?,
    };
    let mut settings = Settings::profile(arguments.profile);
    for (key, value) in &arguments.set {
        settings.set(key, value)?;
    }
    Ok(Config {
        settings,
        seed: arguments.seed,
        time_scale: arguments.time_scale,
        api: arguments.listen,
        control: arguments.control,
        dns: arguments.dns,
        data_plane: !arguments.no_data_plane,
        oidc: arguments.oidc_jwks.zip(arguments.oidc_issuer).map(|(jwks, issuer)| Oidc { jwks, issuer }),
        log: arguments.log,
        ..Config::new(world)
    })
}

fn print_settings() {
    let [instant, fast, real] = Profile::ALL.map(Profile::name);
    println!("{:<64} {instant:>9} {fast:>9} {real:>9}  meaning", "setting");
    for row in TABLE {
        let [instant, fast, real] = row.profiles;
        println!("{:<64} {instant:>9} {fast:>9} {real:>9}  {}", row.key, row.help);
    }
}
