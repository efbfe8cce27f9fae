//! etcd, API server, controller manager and scheduler, with the settings that a lab needs.

pub mod pki;
mod process;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use daemon::tasks::Tasks;
use kube::Client;
use world::World;

use self::{
    pki::{Authority, Pair},
    process::Process,
};
use crate::{assets::Assets, ready};

/// Port of the API server.
pub const PORT: u16 = 6443;
/// Port of every node's own API, where the API server fetches logs.
pub const NODE_PORT: u16 = 10250;
/// Addresses of Services. Nothing carries them: a Service is reached at its pods, its node ports or its load balancer.
const SERVICE_RANGE: &str = "10.100.0.0/16";
const IPV6_SERVICE_RANGE: &str = "fd00:100::/108";
const ETCD: &str = "http://127.0.0.1:2379";
const PATIENCE: Duration = Duration::from_secs(90);
/// What Sluice asks of the API server is recorded, so that it can be compared with what Sluice may ask.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - { level: Metadata, userGroups: ['system:serviceaccounts:sluice-system'] }
  - { level: None }
";

/// Why there is no usable API.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Keys and certificates.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// A program.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// A file of settings.
    #[error("write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The client of the API.
    #[error("client of the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The kubeconfig that the lab wrote itself.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// It took too long.
    #[error("the API server was not ready within {PATIENCE:?}; last answer: {0}")]
    NotReady(String),
}

/// A control plane that answers.
#[derive(Clone)]
pub struct ControlPlane {
    /// Cluster administrator's kubeconfig, for people and tests.
    pub kubeconfig: PathBuf,
    /// A client with the same rights, for the lab's node.
    pub client: Client,
    /// What the servers of the nodes show, and whom they believe.
    pub node: NodeTls,
}

/// Certificates of the nodes' own API.
#[derive(Clone)]
pub struct NodeTls {
    /// Certificate authority, PEM; the API server's client certificate is signed by it.
    pub authority: String,
    /// Serving pair for all nodes.
    pub serving: Pair,
}

/// Starts everything and waits until the API answers. The programs are supervised by `tasks`.
pub async fn start(
    assets: &Assets,
    world: &World,
    state: &Path,
    logs: &Path,
    tasks: &mut Tasks,
) -> Result<ControlPlane, Error> {
    let settings = Settings::prepare(world, state, logs)?;
    let mut run = |program: &'static str, arguments: Vec<String>| -> Result<(), Error> {
        let process = Process::start(program, assets.program(program), &arguments, logs)?;
        tasks.spawn(process.name(), process.ended());
        Ok(())
    };
    run("etcd", settings.etcd())?;
    run("kube-apiserver", settings.apiserver())?;
    let config = kube::Config::from_custom_kubeconfig(
        kube::config::Kubeconfig::read_from(&settings.admin)?,
        &kube::config::KubeConfigOptions::default(),
    )
    .await?;
    let client = Client::try_from(config).map_err(|e| Error::Client(Box::new(e)))?;
    wait_until_ready(&client).await?;
    // Not before: they give up on an API server that does not answer within ten seconds.
    run("kube-controller-manager", settings.controller_manager())?;
    run("kube-scheduler", settings.scheduler()?)?;
    Ok(ControlPlane { kubeconfig: settings.admin, client, node: settings.node })
}

async fn wait_until_ready(client: &Client) -> Result<(), Error> {
    let ask = || async {
        let request = http::Request::get("/readyz").body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request_text(request).await.map(|_| None)
    };
    ready::until(PATIENCE, ask).await.map_err(Error::NotReady)
}

/// Files and arguments of the programs.
struct Settings {
    address: Ipv4Addr,
    service_ranges: String,
    cluster: String,
    region: String,
    directory: PathBuf,
    authority: PathBuf,
    serving: Pair,
    to_nodes: Pair,
    token_key: PathBuf,
    token_public: PathBuf,
    audit_policy: PathBuf,
    audit_log: PathBuf,
    admin: PathBuf,
    manager: PathBuf,
    scheduler: PathBuf,
    node: NodeTls,
}

impl Settings {
    fn prepare(world: &World, state: &Path, logs: &Path) -> Result<Self, Error> {
        let authority = Authority::create(&state.join("pki"))?;
        let address = world.infrastructure.apiserver;
        let names =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
        let addresses = [IpAddr::V4(address), IpAddr::V4(Ipv4Addr::new(10, 100, 0, 1))];
        let serving = authority.server("apiserver", &names, &addresses)?;
        let nodes: Vec<_> = world.instances.iter().map(|i| IpAddr::V4(i.address)).collect();
        let node =
            NodeTls { authority: authority.certificate.clone(), serving: authority.server("node", &[], &nodes)? };
        let (token_key, token_public) = authority.token_keys()?;
        let audit_policy = state.join("audit.yaml");
        write(&audit_policy, AUDIT_POLICY)?;
        let kubeconfig = |file: &str, user: &str, group: &str| -> Result<PathBuf, Error> {
            let pair = authority.client(file, user, group)?;
            let path = state.join(format!("{file}.kubeconfig"));
            write(&path, &kubeconfig(address, &authority.certificate_file(), &pair, user))?;
            Ok(path)
        };
        Ok(Self {
            admin: kubeconfig("admin", "lab-admin", "system:masters")?,
            manager: kubeconfig("controller-manager", "system:kube-controller-manager", "")?,
            scheduler: kubeconfig("scheduler", "system:kube-scheduler", "")?,
            to_nodes: authority.client("apiserver-to-node", "kube-apiserver", "system:masters")?,
            authority: authority.certificate_file(),
            cluster: world.cluster.clone(),
            region: world.region.clone(),
            directory: state.to_owned(),
            address,
            service_ranges: service_ranges(world),
            serving,
            token_key,
            token_public,
            audit_policy,
            audit_log: logs.join("audit.log"),
            node,
        })
    }

    fn etcd(&self) -> Vec<String> {
        arguments(&[
            ("data-dir", self.directory.join("etcd").display().to_string()),
            ("listen-client-urls", ETCD.to_owned()),
            ("advertise-client-urls", ETCD.to_owned()),
            ("listen-peer-urls", "http://127.0.0.1:2380".to_owned()),
            // The data is gone with the lab anyway.
            ("unsafe-no-fsync", "true".to_owned()),
            ("quota-backend-bytes", (4_u64 << 30).to_string()),
            ("log-level", "warn".to_owned()),
        ])
    }

    fn apiserver(&self) -> Vec<String> {
        let file = |path: &Path| path.display().to_string();
        arguments(&[
            ("etcd-servers", ETCD.to_owned()),
            ("bind-address", self.address.to_string()),
            ("advertise-address", self.address.to_string()),
            ("secure-port", PORT.to_string()),
            ("service-cluster-ip-range", self.service_ranges.clone()),
            ("tls-cert-file", file(&self.serving.certificate_file)),
            ("tls-private-key-file", file(&self.serving.key_file)),
            ("client-ca-file", file(&self.authority)),
            ("kubelet-certificate-authority", file(&self.authority)),
            ("kubelet-client-certificate", file(&self.to_nodes.certificate_file)),
            ("kubelet-client-key", file(&self.to_nodes.key_file)),
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("service-account-issuer", issuer(&self.region, &self.cluster)),
            ("service-account-signing-key-file", file(&self.token_key)),
            ("service-account-key-file", file(&self.token_public)),
            ("api-audiences", "https://kubernetes.default.svc".to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("audit-policy-file", file(&self.audit_policy)),
            ("audit-log-path", file(&self.audit_log)),
            // Webhooks are called at their Service's endpoints, so no proxy for cluster addresses is needed.
            ("enable-aggregator-routing", "true".to_owned()),
            ("allow-privileged", "true".to_owned()),
            ("profiling", "false".to_owned()),
        ])
    }

    fn controller_manager(&self) -> Vec<String> {
        let kubeconfig = self.manager.display().to_string();
        arguments(&[
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("bind-address", "127.0.0.1".to_owned()),
            ("root-ca-file", self.authority.display().to_string()),
            ("service-account-private-key-file", self.token_key.display().to_string()),
            ("use-service-account-credentials", "true".to_owned()),
            ("leader-elect", "false".to_owned()),
            ("allocate-node-cidrs", "false".to_owned()),
            // Rollouts of hundreds of pods must not wait for the client's own limit.
            ("kube-api-qps", "300".to_owned()),
            ("kube-api-burst", "600".to_owned()),
            ("profiling", "false".to_owned()),
        ])
    }

    fn scheduler(&self) -> Result<Vec<String>, Error> {
        let kubeconfig = self.scheduler.display().to_string();
        let path = self.directory.join("scheduler.yaml");
        let text = format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nleaderElection:\n  \
             leaderElect: false\nclientConnection:\n  kubeconfig: {kubeconfig}\n  qps: 300\n  burst: 600\n"
        );
        write(&path, &text)?;
        Ok(arguments(&[
            ("config", path.display().to_string()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("bind-address", "127.0.0.1".to_owned()),
        ]))
    }
}

/// The issuer of service account tokens, in the form that EKS clusters have.
pub fn issuer(region: &str, cluster: &str) -> String {
    format!("https://oidc.eks.{region}.amazonaws.com/id/{}", cluster.to_uppercase())
}

/// One range for each family of the VPC. The first is that of Services that ask for no family.
fn service_ranges(world: &World) -> String {
    let ipv6 = world.vpc.ipv6.map(|_| IPV6_SERVICE_RANGE);
    [SERVICE_RANGE].into_iter().chain(ipv6).collect::<Vec<_>>().join(",")
}

fn arguments(pairs: &[(&str, String)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn kubeconfig(address: Ipv4Addr, authority: &Path, pair: &Pair, user: &str) -> String {
    let (authority, certificate, key) = (authority.display(), pair.certificate_file.display(), pair.key_file.display());
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
         clusters: [{{name: lab, cluster: {{server: \"https://{address}:{PORT}\", certificate-authority: {authority}}}}}]\n\
         users: [{{name: \"{user}\", user: {{client-certificate: {certificate}, client-key: {key}}}}}]\n\
         contexts: [{{name: lab, context: {{cluster: lab, user: \"{user}\"}}}}]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_ipv4_first_and_ipv6_where_the_vpc_has_it() {
        let world = World::parse(world::DEFAULT).expect("valid");
        assert_eq!(service_ranges(&world), "10.100.0.0/16,fd00:100::/108");
        assert_eq!(service_ranges(&world.without_ipv6()), "10.100.0.0/16");
    }
}
