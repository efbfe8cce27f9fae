//! Starting containers: which are due, and what each is made of.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{Api, ResourceExt as _, runtime::events::EventType};
use tokio::time::Instant;

use super::{Event, RETRY, Running, Slot, Worker};
use crate::node::{
    behaviour::Conduct,
    echo::{Echo, Stop},
    environment::{self, Place},
    probe::restart_delay,
    process::{self, Mount, Spec},
    status::{self, Exit, Role, State},
    volumes::{self, Volumes},
    web_identity,
};

/// A container that ran this long begins its restart delays anew.
const STEADY: Duration = Duration::from_mins(10);

/// Why a container cannot be started as it is written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Environment(#[from] environment::Error),
    #[error(transparent)]
    Volumes(#[from] volumes::Error),
    #[error("{0}")]
    Conduct(String),
    #[error("mount {mount}: the pod has no volume {volume}")]
    NoVolume { mount: String, volume: String },
    #[error("service account {0}: {1}")]
    Account(String, Box<kube::Error>),
}

/// What a container runs.
enum Runtime {
    Echo(Box<Echo>),
    Process(Box<Spec>),
    /// An init container of an image that is not run here has nothing to do.
    Nothing,
}

impl Worker {
    /// Starts every container whose turn and time it is.
    pub(super) async fn start_due(&mut self) {
        if self.addresses.is_none() {
            return;
        }
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.running.is_none() && slot.due <= Instant::now() && self.may_start(slot) {
                self.start(index).await;
            }
        }
    }

    /// Whether it is not over with this container, and all init containers before it have done their part.
    pub(super) fn may_start(&self, slot: &Slot) -> bool {
        let over = match &slot.view.state {
            State::Terminated { exit, .. } => !status::restarts(&self.pod, slot.view.role, exit.code),
            _ => false,
        };
        let before = self.slots.iter().take_while(|s| s.view.name != slot.view.name);
        !over && before.filter(|s| s.view.role != Role::Main).all(|s| s.view.is_initialized())
    }

    async fn start(&mut self, index: usize) {
        let runtime = match self.prepare(index).await {
            Ok(runtime) => runtime,
            Err(e) => {
                let message = e.to_string();
                self.warn("Failed", &message).await;
                let slot = &mut self.slots[index];
                slot.view.state = State::Waiting { reason: "CreateContainerConfigError".to_owned(), message };
                slot.due = Instant::now() + RETRY;
                return;
            }
        };
        let log = self.machine.logs.open(self.uid(), &self.slots[index].view.name);
        let slot = &mut self.slots[index];
        if slot.runs > 0 {
            slot.view.restarts += 1;
        }
        slot.runs += 1;
        log.begin_run(slot.view.restarts);
        let note = match &runtime {
            Runtime::Process(spec) => format!("Started container {} as {}", slot.view.name, spec.program.display()),
            Runtime::Echo(_) => format!(
                "Started container {}: image {} is not run here, the built-in echo server answers in its place",
                slot.view.name, slot.view.image
            ),
            Runtime::Nothing => {
                format!("Passed over init container {}: image {} is not run here", slot.view.name, slot.view.image)
            }
        };
        let (stop, run, events) = (Stop::default(), slot.runs, self.events.clone());
        slot.view.state = State::Running { since: Timestamp::now() };
        slot.view.started = slot.container.startup_probe.is_none();
        slot.view.ready = slot.view.started && slot.container.readiness_probe.is_none();
        slot.running = Some(Running { since: Instant::now(), stop: stop.clone(), probes: Vec::new() });
        self.tasks.spawn(async move {
            let exit = match runtime {
                Runtime::Echo(echo) => echo.run(stop).await,
                Runtime::Process(spec) => process::run(&spec, stop, log).await,
                Runtime::Nothing => Exit::with_code(0),
            };
            // The worker is gone only if nobody wants to know.
            let _ = events.send(Event::Exited { slot: index, run, exit });
        });
        self.start_probes(index);
        self.machine.event(&self.pod, EventType::Normal, "Started", &note).await;
    }

    /// A container has ended; decides when it is started again.
    pub(super) fn exited(&mut self, index: usize, run: u32, exit: Exit) {
        let pod = Arc::clone(&self.pod);
        let steady = self.machine.scale.real(STEADY);
        let slot = &mut self.slots[index];
        if slot.runs != run {
            return;
        }
        let Some(mut running) = slot.running.take() else { return };
        running.stop_probes();
        let since = match slot.view.state {
            State::Running { since } => since,
            _ => Timestamp::now(),
        };
        slot.view.started = false;
        slot.view.ready = false;
        let again = status::restarts(&pod, slot.view.role, exit.code) && pod.metadata.deletion_timestamp.is_none();
        let ended = State::Terminated { exit, since, until: Timestamp::now() };
        if !again {
            slot.view.state = ended;
            return;
        }
        slot.crashes = if running.since.elapsed() > steady { 1 } else { slot.crashes + 1 };
        let delay = restart_delay(slot.crashes);
        slot.due = Instant::now() + self.machine.scale.real(delay);
        slot.view.last = Some(ended);
        slot.view.state = if delay.is_zero() {
            State::Waiting { reason: "ContainerCreating".to_owned(), message: String::new() }
        } else {
            let message = format!("back-off {}s restarting container {}", delay.as_secs(), slot.view.name);
            State::Waiting { reason: "CrashLoopBackOff".to_owned(), message }
        };
    }

    pub(super) fn place(&self) -> Place {
        Place { pod: self.addresses.unwrap_or(self.node.addresses), host: self.node.addresses }
    }

    /// Rewrites the volumes if there are any; what fails is tried again.
    pub(super) async fn refresh_volumes(&mut self) {
        let (pod, place) = (Arc::clone(&self.pod), self.place());
        let Some(volumes) = &mut self.volumes else { return };
        if let Err(e) = volumes.refresh(&pod, place).await {
            self.warn("FailedMount", &e.to_string()).await;
            self.retry_later();
        }
    }

    async fn prepare(&mut self, index: usize) -> Result<Runtime, Error> {
        let image = self.slots[index].view.image.clone();
        if let Some(program) = self.machine.program(&image).map(Path::to_owned) {
            return self.prepare_process(index, &program).await.map(|spec| Runtime::Process(Box::new(spec)));
        }
        let slot = &self.slots[index];
        if slot.view.role == Role::Init {
            return Ok(Runtime::Nothing);
        }
        let (container, place) = (&slot.container, self.place());
        let variables = environment::variables(&self.pod, container, place, &BTreeMap::new(), &*self.machine.sources)?;
        let ports = container.ports.iter().flatten().filter(|p| p.protocol.as_deref().is_none_or(|p| p == "TCP"));
        Ok(Runtime::Echo(Box::new(Echo {
            pod: self.pod.name_any(),
            addresses: place.pod.all().collect(),
            ports: ports.filter_map(|p| u16::try_from(p.container_port).ok()).collect(),
            conduct: Conduct::of(&image, &variables).map_err(Error::Conduct)?,
            scale: self.machine.scale,
            log: self.machine.logs.open(self.uid(), &slot.view.name),
        })))
    }

    async fn prepare_process(&mut self, index: usize, program: &Path) -> Result<Spec, Error> {
        let pod = self.with_web_identity().await?;
        let place = self.place();
        let directory = self.machine.state.join("pods").join(self.uid());
        let machine = Arc::clone(&self.machine);
        let volumes = self.volumes.get_or_insert_with(|| Volumes::new(Arc::clone(&machine), directory.join("volumes")));
        volumes.refresh(&pod, place).await?;
        let spec = pod.spec.as_ref();
        let name = &self.slots[index].view.name;
        let containers = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
        // The copy of the container that has the web identity's variables and mounts.
        let container = containers.into_iter().find(|c| c.name == *name).unwrap_or(&self.slots[index].container);
        let mut base = machine.environment.clone();
        base.insert("HOSTNAME".to_owned(), pod.name_any());
        let variables = environment::variables(&pod, container, place, &base, &*machine.sources)?;
        let mut command = environment::arguments(container.command.as_ref(), &variables);
        if command.is_empty() {
            command.push(program.display().to_string());
        }
        command.extend(environment::arguments(container.args.as_ref(), &variables));
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let known = spec.iter().flat_map(|s| s.volumes.iter().flatten()).any(|v| v.name == mount.name);
            if !known {
                return Err(Error::NoVolume { mount: mount.mount_path.clone(), volume: mount.name.clone() });
            }
            let source = volumes.path(&mount.name);
            mounts.push(Mount {
                source: mount.sub_path.as_ref().map_or(source.clone(), |sub| source.join(sub)),
                target: mount.mount_path.clone().into(),
                read_only: mount.read_only == Some(true),
            });
        }
        Ok(Spec {
            root: directory.join(name).join("root"),
            program: program.to_owned(),
            command,
            environment: variables,
            directory: container.working_dir.clone().filter(|d| !d.is_empty()).unwrap_or("/".to_owned()).into(),
            hosts: format!("127.0.0.1 localhost\n{} {}\n", place.pod.v4, pod.name_any()),
            mounts,
        })
    }

    /// The pod, with what EKS adds where its service account has a role.
    async fn with_web_identity(&mut self) -> Result<Arc<Pod>, Error> {
        let name = self.pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default();
        if name.is_empty() {
            return Ok(Arc::clone(&self.pod));
        }
        let namespace = self.pod.namespace().unwrap_or_default();
        let api: Api<ServiceAccount> = Api::namespaced(self.machine.client.clone(), &namespace);
        let account = api.get_opt(&name).await.map_err(|e| Error::Account(name, Box::new(e)))?;
        let role = account.as_ref().and_then(|a| a.annotations().get(web_identity::ROLE_ARN));
        Ok(match role {
            Some(role) => {
                let pod = web_identity::inject(Pod::clone(&self.pod), role, &self.machine.world.region);
                Arc::new(pod)
            }
            None => Arc::clone(&self.pod),
        })
    }
}
