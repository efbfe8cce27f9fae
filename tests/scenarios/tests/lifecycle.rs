//! How labs begin and end, seen from outside. Needs permission to make namespaces, and the programs built (`lab build`).

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_mins(1);
/// How long the kernel and a process may take to end what a lab consists of.
const END: Duration = Duration::from_secs(10);

/// The program under test, built beside this one.
fn lab() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a file");
    own.ancestors().nth(2).expect("target/<profile>").join("lab")
}

/// A lab that runs a shell script and stays until its standard input ends.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Running {
    /// Starts a lab and waits until it has printed `word`.
    fn start(options: &[&str], script: &str, word: &str) -> Result<Self> {
        let mut child = Command::new(lab())
            .arg("exec")
            .args(options)
            .args(["--without", "cert-manager", "--", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("piped")?);
        let (sender, lines) = mpsc::channel();
        // Ends with the pipe.
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
        });
        let running = Self { child, stdin };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            match line.with_context(|| format!("waiting for the lab to print {word}")) {
                Ok(line) if line.contains(word) => return Ok(running),
                Ok(_) => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// All processes of the lab, as this machine numbers them.
    fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::from([self.child.id()]);
        let mut pending = vec![self.child.id()];
        while let Some(pid) = pending.pop() {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
            for task in tasks {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                let fresh: Vec<u32> = children.split_whitespace().filter_map(|c| c.parse().ok()).collect();
                pending.extend(fresh.into_iter().filter(|child| found.insert(*child)));
            }
        }
        found
    }

    fn wait(mut self) -> Result<Option<i32>> {
        wait(&mut self.child, END)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child, limit: Duration) -> Result<Option<i32>> {
    let mut code = None;
    until(limit, "the lab has ended", || {
        Ok(match child.try_wait()? {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        })
    })?;
    Ok(code)
}

fn until(limit: Duration, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !done()? {
        if Instant::now() > deadline {
            bail!("waited {limit:?} in vain until {what}");
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// The processes of a set that still run. One that has ended and is not reaped yet counts as ended.
fn alive(pids: &BTreeSet<u32>) -> Vec<String> {
    let stat = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    pids.iter().filter_map(stat).filter(|stat| !stat.contains(") Z ")).collect()
}

/// What a lab could leave behind on the machine beside processes.
fn traces() -> Result<(String, BTreeSet<String>)> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let listening = fs::read_to_string("/proc/net/tcp")?
        .lines()
        .filter(|line| line.split_whitespace().nth(3) == Some("0A"))
        .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
        // The ports of a lab: API server, etcd, nodes.
        .filter(|at| ["192B", "094B", "280A"].iter().any(|port| at.ends_with(&format!(":{port}"))))
        .collect();
    Ok((mounts, listening))
}

const HOLD: &str = "kubectl create deployment web --image echo --port 8080 --replicas 3 >/dev/null && \
     kubectl rollout status deployment/web >/dev/null && echo up && cat";

#[test]
fn killing_the_parent_leaves_no_process_no_mount_and_no_port_behind() -> Result<()> {
    let before = traces()?;
    let running = Running::start(&[], HOLD, "up")?;
    let processes = running.processes();
    ensure!(processes.len() >= 8, "a lab has a control plane and more: {processes:?}");
    kill_process(running.pid(), Signal::KILL)?;
    until(END, "every process has ended", || Ok(alive(&processes).is_empty()))
        .with_context(|| format!("left: {:?}", alive(&processes)))?;
    ensure!(traces()? == before, "mounts or ports are left: {:?}", traces()?);
    Ok(())
}

#[test]
fn termination_reaches_the_command_and_ends_everything() -> Result<()> {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let running = Running::start(&[], "echo up; exec cat", "up")?;
        let processes = running.processes();
        kill_process(running.pid(), signal)?;
        ensure!(running.wait()? == Some(code), "{signal:?}");
        until(END, "every process has ended", || Ok(alive(&processes).is_empty()))?;
    }
    Ok(())
}

#[test]
fn two_labs_run_side_by_side_with_the_same_addresses() -> Result<()> {
    let mut labs = Vec::new();
    for name in ["one", "two"] {
        let script = format!(
            "kubectl create configmap mark --from-literal=name={name} >/dev/null && {HOLD} && \
             test $(kubectl get configmap mark -o jsonpath={{.data.name}}) = {name}"
        );
        labs.push(Running::start(&[], &script, "up")?);
    }
    for mut lab in labs {
        lab.stdin.take().context("held open")?.flush()?;
        // The end of its input ends the script, which then looks once more at its own cluster.
        ensure!(lab.wait()? == Some(0));
    }
    Ok(())
}

#[test]
fn status_of_the_command_is_the_status_of_the_lab() -> Result<()> {
    let output = |script: &str| {
        Command::new(lab()).args(["exec", "--without", "node,cert-manager", "--", "sh", "-c", script]).output()
    };
    ensure!(output("exit 7")?.status.code() == Some(7));
    ensure!(output("kill -9 $$")?.status.code() == Some(137));
    Ok(())
}

#[test]
fn address_of_a_deleted_pod_is_given_again_at_once_when_asked_for() -> Result<()> {
    let script = "set -e; address() { kubectl get pod $1 -o jsonpath={.status.podIP}; }; \
        make() { kubectl run $1 --image echo --overrides '{\"spec\":{\"nodeName\":\"ip-192-168-11-10.ap-northeast-2.compute.internal\"}}' >/dev/null; \
                 kubectl wait pod/$1 --for=condition=Ready --timeout=30s >/dev/null; }; \
        make a; first=$(address a); kubectl delete pod a >/dev/null; make b; echo $first $(address b)";
    for (reuse, same) in [("immediate", true), ("1h", false)] {
        let output = Command::new(lab())
            .args(["exec", "--without", "cert-manager", "--ip-reuse", reuse, "--", "sh", "-c", script])
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let (first, second) = text.trim().split_once(' ').with_context(|| format!("two addresses: {text}"))?;
        ensure!((first == second) == same, "{reuse}: {first} and {second}");
    }
    Ok(())
}

#[test]
fn time_scale_shortens_what_specs_ask_the_nodes_to_wait_for() -> Result<()> {
    // At real time the pod would be ready after a minute and leave after another.
    let overrides = r#"{"spec": {"terminationGracePeriodSeconds": 90, "containers": [{"name": "slow", "image": "slow-start",
        "env": [{"name": "LAB_START_DELAY", "value": "60s"}], "ports": [{"containerPort": 80}],
        "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 10},
        "lifecycle": {"preStop": {"sleep": {"seconds": 60}}}}]}}"#;
    let script = "kubectl run slow --image slow-start --overrides \"$0\" >/dev/null && \
        kubectl wait pod/slow --for=condition=Ready --timeout=30s && kubectl delete pod slow --wait=false && \
        kubectl wait pod/slow --for=delete --timeout=30s";
    let status = Command::new(lab())
        .args(["exec", "--without", "cert-manager,aws", "--time-scale", "20", "--", "sh", "-c", script, overrides])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Runs `lab exec -- true` as a shell does in a user namespace of its own, after `prepare`.
fn without_something(prepare: &str, path: &Path) -> Result<Output> {
    let script = format!("{prepare}\nexec \"$LAB\" exec -- true");
    Ok(Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", &script])
        .env("LAB", lab())
        .env("ONLY", path)
        .stdin(Stdio::null())
        .output()?)
}

#[test]
fn missing_prerequisite_is_said_in_one_sentence_that_names_the_remedy() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("sluice-lifecycle-{}", std::process::id()));
    let programs = |name: &str, wanted: &[&str]| -> Result<PathBuf> {
        let bin = directory.join(name);
        fs::create_dir_all(&bin)?;
        for program in wanted {
            let path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .chain(["/usr/sbin".into(), "/sbin".into()])
                .map(|d| d.join(program))
                .find(|file| file.exists())
                .with_context(|| format!("{program} is installed here"))?;
            symlink(fs::canonicalize(path)?, bin.join(program))?;
        }
        Ok(bin)
    };
    // The system's own directories are searched too, so what is to be missing is covered there.
    let cover = "mount -t tmpfs none /usr/sbin; test -L /sbin || mount -t tmpfs none /sbin; export PATH=$ONLY";
    let no_namespaces = "for kind in user net; do echo 0 > /proc/sys/user/max_${kind}_namespaces; done";
    let no_cache = format!("{cover}; export HOME=/nonexistent XDG_CACHE_HOME={}", directory.join("cache").display());
    let cases = [
        (
            "no ip",
            cover,
            programs("no-ip", &["unshare", "setpriv"])?,
            "the program ip is not on PATH: install iproute2",
        ),
        (
            "no unshare",
            cover,
            programs("no-unshare", &["setpriv", "ip"])?,
            "the program unshare is not on PATH: install util-linux",
        ),
        (
            "no Go",
            no_cache.as_str(),
            programs("no-go", &["unshare", "setpriv", "ip", "true"])?,
            "Go is needed to build etcd",
        ),
        ("no namespaces", no_namespaces, PathBuf::new(), "run the lab as root, or allow unprivileged user namespaces"),
    ];
    for (name, prepare, path, says) in cases {
        let output = without_something(prepare, &path)?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(125), "{name}: {:?} {text}", output.status);
        ensure!(text.contains(says), "{name}: {text}");
        ensure!(text.trim().lines().count() == 1, "{name}: one sentence: {text}");
    }
    fs::remove_dir_all(&directory)?;
    Ok(())
}
