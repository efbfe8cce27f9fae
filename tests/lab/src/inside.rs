//! The half of the lab inside its namespaces: process 1, which starts everything and runs what the user asked for.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use clap::Parser as _;
use daemon::tasks::{self, Tasks};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use world::World;

use crate::{
    addons,
    assets::Assets,
    aws,
    cli::{self, Cli, Inside, Options, Part},
    controlplane::{self, ControlPlane},
    demo, network, node, ready,
};

/// How long a command has to end after it was told to.
const GRACE: Duration = Duration::from_secs(10);

/// Why there is no lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the outer half handed over.
    #[error("the inner half of the lab is started by the outer one: run `lab exec`, `lab shell` or `lab demo` ({0})")]
    Handover(String),
    /// The description of the VPC.
    #[error("world {0}: {1}")]
    World(String, #[source] world::Error),
    /// A file.
    #[error("{0} {1}: {2}")]
    File(&'static str, PathBuf, #[source] io::Error),
    /// Network and mounts.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The control plane.
    #[error(transparent)]
    ControlPlane(#[from] controlplane::Error),
    /// The AWS emulator.
    #[error(transparent)]
    Aws(#[from] aws::Error),
    /// The nodes.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// What is installed into the cluster.
    #[error(transparent)]
    Addon(#[from] addons::Error),
    /// The cluster did not become usable.
    #[error(transparent)]
    NotReady(#[from] ready::Error),
    /// A part of the lab ended while it was needed.
    #[error(transparent)]
    Tasks(#[from] tasks::Error),
    /// The user's command.
    #[error("run {command}: {source}")]
    Command {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Finds what is wrong with the options before anything is built or started.
pub fn check(options: &Options) -> Result<(), Error> {
    read_world(options)?;
    aws::settings(options)?;
    Ok(())
}

/// Sets the namespaces up, starts the lab, does what was asked for, and returns the status to exit with. Nothing is torn
/// down: the kernel ends everything when process 1 does.
pub fn run(inside: &Inside) -> Result<ExitCode, Error> {
    let assets = serde_json::from_str(&inside.assets).map_err(|e| Error::Handover(e.to_string()))?;
    let arguments = [OsString::from("lab")].into_iter().chain(inside.arguments.iter().cloned());
    let cli = Cli::try_parse_from(arguments).map_err(|e| Error::Handover(e.to_string()))?;
    let (options, activity) = match cli.command {
        cli::Command::Exec(exec) => (exec.options, Activity::Command(exec.command)),
        cli::Command::Shell(options) => (options, Activity::Shell),
        cli::Command::Demo(demo) => (demo.options, Activity::Demo { report: demo.report }),
        other => return Err(Error::Handover(format!("{other:?}"))),
    };
    let world = network::possible(read_world(&options)?);
    network::mount_state(&world)?;
    network::set_up(&world)?;
    network::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::File("start the runtime in", PathBuf::from(network::STATE), e))?;
    let result = runtime.block_on(Lab { assets, options, world }.run(activity));
    // Whatever still blocks in there ends with this process.
    runtime.shutdown_background();
    result
}

fn read_world(options: &Options) -> Result<World, Error> {
    let (name, text) = match &options.world {
        None => ("world.yaml".to_owned(), world::DEFAULT.to_owned()),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|e| Error::File("read", path.clone(), e))?;
            (path.display().to_string(), text)
        }
    };
    let world = World::parse(&text).map_err(|e| Error::World(name, e))?;
    Ok(world.with_instances(options.nodes.get()))
}

/// What the lab is for.
enum Activity {
    Command(Vec<OsString>),
    Shell,
    Demo { report: PathBuf },
}

struct Lab {
    assets: Assets,
    options: Options,
    world: World,
}

impl Lab {
    async fn run(mut self, activity: Activity) -> Result<ExitCode, Error> {
        let started = Instant::now();
        let mut tasks = Tasks::new(CancellationToken::new());
        let state = Path::new(network::STATE);
        let logs = self.options.logs.clone().unwrap_or_else(|| state.join("logs"));
        fs::create_dir_all(&logs).map_err(|e| Error::File("create", logs.clone(), e))?;
        let control = controlplane::start(&self.assets, &self.world, state, &logs, &mut tasks).await?;
        let mut environment = self.environment(state, &control)?;
        if self.options.with(Part::Aws) {
            let aws = aws::start(&control.client, &self.world, &self.options, state, &logs, &mut tasks).await?;
            environment.extend(aws);
        }
        if self.options.with(Part::Node) {
            self.start_nodes(&control, state, &environment, &mut tasks).await?;
        }
        if self.options.with(Part::CertManager) {
            addons::install_cert_manager(&self.assets, &environment).await?;
        }
        // The story installs Sluice itself, for all to see.
        if !matches!(activity, Activity::Demo { .. }) {
            let Self { assets, world, options } = &self;
            addons::install_sluice(assets, &environment, &control.client, world, options, state).await?;
        }
        let nodes = if self.options.with(Part::Node) { self.world.instances.len() } else { 0 };
        ready::wait(&control.client, nodes).await?;
        eprintln!("lab: ready in {:.1} s: {nodes} nodes", started.elapsed().as_secs_f64());
        let stop = tasks.stop().clone();
        tokio::select! {
            ended = tasks.wait(Duration::ZERO) => {
                ended?;
                Ok(ExitCode::FAILURE)
            }
            code = self.act(activity, &environment, &control) => {
                stop.cancel();
                code
            }
        }
    }

    async fn act(
        &self,
        activity: Activity,
        environment: &BTreeMap<String, OsString>,
        control: &ControlPlane,
    ) -> Result<ExitCode, Error> {
        match activity {
            Activity::Command(command) => execute(&command, environment).await,
            Activity::Demo { report } => {
                let (client, scale) = (control.client.clone(), self.options.time_scale);
                let setting = demo::Setting { directory: story()?, environment, client, scale, report: &report };
                // Process 1 is not ended by signals that it does not handle.
                let failed = |source| Error::Command { command: "the story".to_owned(), source };
                let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
                let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
                tokio::select! {
                    code = demo::play(setting) => Ok(code),
                    _ = terminate.recv() => Ok(told(Signal::TERM)),
                    _ = interrupt.recv() => Ok(told(Signal::INT)),
                }
            }
            Activity::Shell => {
                story()?;
                println!("{}", include_str!("greeting.txt"));
                let shell = std::env::var_os("SHELL").unwrap_or_else(|| OsString::from("/bin/sh"));
                execute(&[shell], environment).await
            }
        }
    }

    async fn start_nodes(
        &mut self,
        control: &ControlPlane,
        state: &Path,
        commands: &BTreeMap<String, OsString>,
        tasks: &mut Tasks,
    ) -> Result<(), Error> {
        let images = addons::images(&self.assets, &self.options)?;
        self.options.image.extend(images);
        let environment = [
            ("KUBERNETES_SERVICE_HOST", self.world.infrastructure.apiserver.to_string()),
            ("KUBERNETES_SERVICE_PORT", controlplane::PORT.to_string()),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOME", "/".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into_iter();
        let environment = environment.chain(aws::for_pods(commands)).collect();
        Ok(node::start(control, &self.world, &self.options, environment, state, tasks).await?)
    }

    /// What commands in the lab see beside the user's own environment.
    fn environment(&self, state: &Path, control: &ControlPlane) -> Result<BTreeMap<String, OsString>, Error> {
        let bin = state.join("bin");
        fs::create_dir_all(&bin).map_err(|e| Error::File("create", bin.clone(), e))?;
        for (name, path) in self.assets.programs() {
            let link = bin.join(name);
            symlink(path, &link).map_err(|e| Error::File("link", link.clone(), e))?;
        }
        // The load generator, if it was built beside this program.
        if let Some(load) = std::env::current_exe().ok().map(|own| own.with_file_name("load")).filter(|p| p.is_file()) {
            let link = bin.join("load");
            symlink(load, &link).map_err(|e| Error::File("link", link.clone(), e))?;
        }
        let mut path = bin.into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let environment = [
            ("KUBECONFIG", control.kubeconfig.clone().into_os_string()),
            ("PATH", path),
            ("SLUICE_LAB_CLIENTS", self.world.clients.to_string().into()),
        ];
        Ok(environment.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

fn story() -> Result<PathBuf, Error> {
    demo::write_files().map_err(|e| Error::File("write the story to", PathBuf::from(network::STATE), e))
}

/// Runs a command on this terminal. The first signal that reaches the lab is passed on to it; it has ten seconds then.
async fn execute(command: &[OsString], environment: &BTreeMap<String, OsString>) -> Result<ExitCode, Error> {
    let (program, arguments) = command.split_first().ok_or_else(|| Error::Handover("no command".to_owned()))?;
    let failed = |source| Error::Command { command: program.to_string_lossy().into_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut child =
        Command::new(program).args(arguments).envs(environment).kill_on_drop(true).spawn().map_err(failed)?;
    let told = tokio::select! {
        status = child.wait() => return status.map(exit_code).map_err(failed),
        _ = terminate.recv() => Signal::TERM,
        // On a terminal the command has had it already, and a second one would cut its own clean-up short.
        _ = interrupt.recv() => Signal::INT,
    };
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
        && (told == Signal::TERM || !io::IsTerminal::is_terminal(&io::stdin()))
    {
        // Gone already is as good as signalled.
        let _ = kill_process(pid, told);
    }
    match timeout(GRACE, child.wait()).await {
        Ok(status) => status.map(exit_code).map_err(failed),
        Err(_) => Ok(self::told(told)),
    }
}

/// The status of what a signal ended.
fn told(signal: Signal) -> ExitCode {
    ExitCode::from(128 + u8::try_from(signal.as_raw()).unwrap_or_default())
}

/// The command's own status; 128 and the signal's number where a signal ended it, as shells have it.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1))
}
