//! The nodes of the lab: registered with the API, and running the pods that the scheduler binds to them.
//!
//! One process stands for the kubelets of all nodes. What a kubelet decides is computed by modules without I/O
//! ([`status`], [`probe`], [`grace`], [`environment`], [`projection`], [`nodeport`], [`address`]); what it does to the
//! outside is done by the others.

mod address;
mod api;
mod atomic_writer;
mod behaviour;
mod echo;
mod environment;
mod forward;
mod grace;
mod logs;
mod machine;
mod nodeport;
mod pods;
mod probe;
mod prober;
mod process;
mod projection;
mod proxy_protocol;
mod register;
mod sources;
mod status;
mod volumes;
mod web_identity;
mod worker;

use std::{collections::BTreeMap, convert::Infallible, path::Path, sync::Arc};

use daemon::tasks::Tasks;
use world::World;

pub use behaviour::Behaviour;
pub use process::{Error as ContainerError, become_container};

use self::{
    machine::{Machine, Parts},
    sources::Sources,
};
use crate::{cli::Options, controlplane::ControlPlane};

/// Why there are no nodes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Registering.
    #[error(transparent)]
    Register(#[from] register::Error),
    /// A node's own API.
    #[error(transparent)]
    Api(#[from] api::Error),
}

/// Registers the nodes of the world and runs their pods as tasks of `tasks`.
pub async fn start(
    control: &ControlPlane,
    world: &World,
    options: &Options,
    environment: BTreeMap<String, String>,
    state: &Path,
    tasks: &mut Tasks,
) -> Result<(), Error> {
    let client = control.client.clone();
    let nodes: Vec<_> = machine::nodes(world).into_iter().map(Arc::new).collect();
    let (sources, feeds) = Sources::new();
    let sources = Arc::new(sources);
    let machine = Arc::new(Machine::new(Parts {
        client: client.clone(),
        world,
        scale: options.time_scale,
        ip_reuse: options.ip_reuse,
        images: options.image.clone(),
        environment,
        state,
        sources: Arc::clone(&sources),
    }));
    let server = api::Server::new(Arc::clone(&machine), &control.node)?;
    for node in &nodes {
        register::register(&client, node, &world.region).await?;
        let (server, stop) = (server.clone(), tasks.stop().clone());
        tasks.spawn(format!("API of node {}", node.name), server.run(node.addresses.v4, stop));
    }
    let stop = tasks.stop().clone();
    tasks.spawn("node leases", forever(register::heartbeat(client.clone(), nodes.clone(), stop.clone())));
    tasks.spawn("node ports", forever(forward::run(client.clone(), nodes.clone(), stop.clone())));
    tasks.spawn("pods", forever(pods::run(machine, nodes, stop.clone())));
    tasks.spawn(
        "secrets and config maps",
        forever(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sources.run(client, feeds) => {}
            }
        }),
    );
    Ok(())
}

async fn forever(work: impl Future<Output = ()>) -> Result<(), Infallible> {
    work.await;
    Ok(())
}
