//! What all pods of the lab share: the API, the addresses, the images and the clock.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{
    Client, Resource as _, ResourceExt as _,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use world::World;

use super::{
    address::{Addresses, Exhausted, Pool, Pools},
    behaviour::short_name,
    logs::LogBook,
    sources::Sources,
};
use crate::{
    cli::{IpReuse, NamedImage},
    scale::Scale,
};

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its name, which is its private DNS name as on EKS.
    pub name: String,
    /// Its addresses.
    pub addresses: Addresses,
    /// Id of its instance.
    pub instance: String,
    /// Id of the subnet that it and its pods have their addresses from.
    pub subnet: String,
    /// Name of its zone.
    pub zone: String,
}

/// The nodes of a world: one per instance.
pub fn nodes(world: &World) -> Vec<NodeInfo> {
    world
        .instances
        .iter()
        .map(|instance| NodeInfo {
            name: format!("ip-{}.{}.compute.internal", instance.address.to_string().replace('.', "-"), world.region),
            addresses: Addresses::in_world(world, instance.address),
            instance: instance.id.clone(),
            subnet: instance.subnet.clone(),
            zone: world.subnet(&instance.subnet).map(|s| s.zone.clone()).unwrap_or_default(),
        })
        .collect()
}

/// What all pods share.
pub struct Machine {
    /// The API, with every right.
    pub client: Client,
    /// Divides the times of specs.
    pub scale: Scale,
    /// The VPC.
    pub world: World,
    /// Variables that every container of a process gets first.
    pub environment: BTreeMap<String, String>,
    /// Directory for the files of pods.
    pub state: PathBuf,
    /// Secrets and config maps.
    pub sources: Arc<Sources>,
    /// What containers wrote.
    pub logs: LogBook,
    images: Vec<NamedImage>,
    pools: Mutex<Pools>,
    started: Instant,
    recorder: Recorder,
}

/// What a machine is made of.
pub struct Parts<'a> {
    /// The API, with every right.
    pub client: Client,
    /// The VPC.
    pub world: &'a World,
    /// Divides the times of specs.
    pub scale: Scale,
    /// When addresses may be used again.
    pub ip_reuse: IpReuse,
    /// Images that are programs of this machine.
    pub images: Vec<NamedImage>,
    /// Variables that every container of a process gets first.
    pub environment: BTreeMap<String, String>,
    /// Directory for the files of pods.
    pub state: &'a Path,
    /// Secrets and config maps.
    pub sources: Arc<Sources>,
}

impl Machine {
    /// A machine without pods.
    pub fn new(parts: Parts) -> Self {
        let instances = parts.world.instances.iter().map(|i| i.address);
        let taken: Vec<_> = instances.chain(parts.world.interfaces.iter().map(|i| i.address)).collect();
        let subnets = parts.world.subnets.iter();
        let pools = subnets.map(|s| (s.id.clone(), Pool::new(s.cidr, parts.ip_reuse, taken.iter().copied()))).collect();
        let reporter = Reporter { controller: "lab-node".to_owned(), instance: None };
        Self {
            recorder: Recorder::new(parts.client.clone(), reporter),
            client: parts.client,
            scale: parts.scale,
            world: parts.world.clone(),
            environment: parts.environment,
            state: parts.state.to_owned(),
            sources: parts.sources,
            logs: LogBook::default(),
            images: parts.images,
            pools: Mutex::new(pools),
            started: Instant::now(),
        }
    }

    /// The program that an image stands for: named in full, without its tag, or by its last part.
    pub fn program(&self, image: &str) -> Option<&Path> {
        program(&self.images, image)
    }

    /// Addresses for a pod of this node.
    pub fn take_addresses(&self, node: &NodeInfo) -> Result<Addresses, Exhausted> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        match pools.get_mut(&node.subnet) {
            Some(pool) => pool.take(self.now()).map(|v4| Addresses::in_world(&self.world, v4)),
            None => Ok(node.addresses),
        }
    }

    /// Gives a pod's addresses back.
    pub fn release_addresses(&self, node: &NodeInfo, addresses: Addresses) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get_mut(&node.subnet) {
            pool.release(addresses.v4, self.now());
        }
    }

    /// Time of the lab's clock since its start.
    fn now(&self) -> Duration {
        self.scale.scaled(self.started.elapsed())
    }

    /// Tells about a pod. An Event that cannot be written is only logged.
    pub async fn event(&self, pod: &Pod, type_: EventType, reason: &str, note: &str) {
        // The API takes 1024 bytes.
        let note = note.chars().take(250).collect();
        let about: ObjectReference = pod.object_ref(&());
        let event =
            Event { type_, reason: reason.to_owned(), note: Some(note), action: reason.to_owned(), secondary: None };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::debug!(pod = pod.name_any(), %error, "Event not written");
        }
    }
}

fn program<'a>(images: &'a [NamedImage], image: &str) -> Option<&'a Path> {
    let without_tag = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    [image, without_tag, short_name(image)]
        .into_iter()
        .find_map(|name| images.iter().find(|i| i.name == name))
        .map(|i| i.program.as_path())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn image_is_found_in_full_without_its_tag_or_by_its_last_part() {
        let named = |name: &str| vec![NamedImage { name: name.to_owned(), program: "/bin/x".into() }];
        for (given, image, found) in [
            ("webhook", "webhook", true),
            ("webhook", "registry:5000/sluice/webhook:v1", true),
            ("registry:5000/sluice/webhook", "registry:5000/sluice/webhook:v1", true),
            ("webhook:v1", "webhook:v1", true),
            ("webhook:v1", "webhook:v2", false),
            ("webhook", "other/sluice-webhook:v1", false),
        ] {
            assert_eq!(program(&named(given), image).is_some(), found, "{given} for {image}");
        }
    }

    #[test]
    fn nodes_are_named_after_their_ipv4_addresses_in_their_zones() {
        let world = World::parse(world::DEFAULT).expect("valid");
        let ipv4 = IpAddr::from([192, 168, 12, 10]);
        let ipv6 = "2001:db8:0:1a12::c0a8:c0a".parse().expect("an address");
        for (world, addresses) in [(world.clone(), vec![ipv4, ipv6]), (world.without_ipv6(), vec![ipv4])] {
            let node = &nodes(&world)[1];
            assert_eq!(node.name, "ip-192-168-12-10.ap-northeast-2.compute.internal");
            assert_eq!(node.zone, "ap-northeast-2b");
            assert_eq!(node.addresses.all().collect::<Vec<_>>(), addresses);
        }
    }
}
