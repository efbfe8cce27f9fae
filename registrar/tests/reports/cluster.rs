//! An API server that holds a few objects and lists them.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::JoinSet,
};

/// The objects, by the path under which they are listed for all namespaces.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) services: Vec<Value>,
    pub(crate) bindings: Vec<Value>,
    pub(crate) pods: Vec<Value>,
    pub(crate) nodes: Vec<Value>,
    /// Requests that were no lists.
    pub(crate) strange: Vec<String>,
}

/// The server, and a kubeconfig that leads to it.
pub(crate) struct Cluster {
    pub(crate) objects: Arc<Mutex<Objects>>,
    kubeconfig: PathBuf,
    _tasks: JoinSet<()>,
}

/// What a process has printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

impl Printed {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the registrar with nothing but these variables.
pub(crate) async fn registrar(arguments: &[&str], variables: &[(&str, &str)]) -> Printed {
    let output = Command::new(env!("CARGO_BIN_EXE_registrar"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Printed { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code() }
}

impl Cluster {
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let kubeconfig = std::env::temp_dir().join(format!("sluice-reports-{name}-{}", std::process::id()));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "x", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "shop"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("written");
        let objects = Arc::new(Mutex::new(Objects::default()));
        let held = Arc::clone(&objects);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&held)));
            }
        });
        Self { objects, kubeconfig, _tasks: tasks }
    }

    /// Runs the registrar against this cluster and an endpoint of AWS.
    pub(crate) async fn run(&self, arguments: &[&str], endpoint: &str) -> Printed {
        let variables = self.variables(endpoint);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        registrar(arguments, &variables).await
    }

    /// The same, to be read while it runs.
    pub(crate) fn spawn(&self, arguments: &[&str], endpoint: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_registrar"))
            .args(arguments)
            .env_clear()
            .envs(self.variables(endpoint))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it runs")
    }

    fn variables(&self, endpoint: &str) -> [(&'static str, String); 6] {
        [
            ("KUBECONFIG", self.kubeconfig.display().to_string()),
            ("AWS_ENDPOINT_URL", endpoint.to_owned()),
            ("AWS_REGION", "ap-northeast-2".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIATEST".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "a-secret-key".to_owned()),
            ("SLUICE_CLUSTER_NAME", "lab".to_owned()),
        ]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

async fn serve(mut stream: TcpStream, objects: Arc<Mutex<Objects>>) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut some = [0; 4096];
        match stream.read(&mut some).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&some[..n]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let (status, body) = answer(head.lines().next().unwrap_or_default(), &objects);
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn answer(line: &str, objects: &Mutex<Objects>) -> (&'static str, String) {
    let mut objects = objects.lock().expect("unpoisoned");
    let path = line.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let (prefix, kind) = path.rsplit_once('/').unwrap_or_default();
    let (items, version, name) = match kind {
        "services" => (&objects.services, "v1", "ServiceList"),
        "pods" => (&objects.pods, "v1", "PodList"),
        "nodes" => (&objects.nodes, "v1", "NodeList"),
        "targetgroupbindings" => (&objects.bindings, "elbv2.k8s.aws/v1beta1", "TargetGroupBindingList"),
        _ => {
            objects.strange.push(line.to_owned());
            return ("404 Not Found", json!({"kind": "Status", "code": 404, "message": "not here"}).to_string());
        }
    };
    if !line.starts_with("GET ") {
        let line = line.to_owned();
        objects.strange.push(line);
        return ("405 Method Not Allowed", String::new());
    }
    let namespace = prefix.rsplit_once("/namespaces/").map(|(_, namespace)| namespace);
    let of = |item: &&Value| namespace.is_none_or(|namespace| item["metadata"]["namespace"] == namespace);
    let items: Vec<_> = items.iter().filter(of).cloned().collect();
    ("200 OK", json!({"apiVersion": version, "kind": name, "metadata": {}, "items": items}).to_string())
}
