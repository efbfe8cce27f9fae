//! What one listener of the data plane carries on this machine: connections per second, time added, memory held.
//!
//! Run by hand: `cargo run --release -p aws-emulator --example dataplane_bench`. The plane, the target and the clients
//! are three processes, so that each one's processor time and memory are its own. A connection is short: connect, 64
//! bytes there, 64 bytes back, FIN from both.
//!
//! The addresses are loopback ones. `SLUICE_BENCH_NETWORK=192.168` takes those of the lab, in a network namespace where
//! they are local. A source port is free again a minute after its flow, there: above some 450 connections a second from
//! one zone to one target, `net.ipv4.tcp_tw_reuse=1` is needed (for loopback addresses it is the default).
#![allow(clippy::expect_used, clippy::cast_precision_loss, reason = "a program run by hand, whose figures are rounded")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_emulator::{Engine, dataplane};
use aws_model::{Body, Caller, Model, Request, Resolution, Service, Settings, Value, settings::Profile};
use figures::record;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use world::World;

/// One message, either way.
const MESSAGE: [u8; 64] = [7; 64];
/// Clients that connect as fast as they are answered.
const CLIENTS: usize = 32;
/// How long each measurement takes.
const SPAN: Duration = Duration::from_secs(8);
/// Connections for the time that is added, one after the other.
const SAMPLES: usize = 5_000;
/// Connections held open at once. The plane has two descriptors for each.
const HELD: usize = 9_000;

/// Says the first two bytes of all addresses, to the parts as well.
const NETWORK: &str = "SLUICE_BENCH_NETWORK";

/// The first two bytes of all addresses: by default a network that the data plane's tests do not use, nor most likely
/// another run of this program.
fn network() -> String {
    std::env::var(NETWORK).unwrap_or_else(|_| format!("127.{}", 217 + std::process::id() % 38))
}

fn target_address() -> SocketAddr {
    format!("{}.11.10:8080", network()).parse().expect("a network as 192.168")
}

fn main() {
    let allowed = dataplane::descriptors::raise_limit().expect("a limit of its own");
    if allowed < 2 * HELD as u64 + 100 {
        println!("the last part needs {} open files; the system's limit is {allowed} (ulimit -Hn)", 2 * HELD + 100);
    }
    match std::env::args().nth(1).as_deref() {
        None => compare(),
        Some("plane") => plane(),
        Some("target") => single().block_on(target()),
        Some(other) => println!("no such part: {other}"),
    }
}

fn compare() {
    let (plane, at) = part("plane");
    let (target, _) = part("target");
    let runtime = single();
    let at: SocketAddr = at.parse().expect("the plane prints its address");
    runtime.block_on(async { while exchange(at).await.is_none() {} });

    let (direct, relayed) = (runtime.block_on(latencies(target_address())), runtime.block_on(latencies(at)));
    println!("one connection after the other, {SAMPLES} of them:");
    for (name, p) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
        let (d, r) = (percentile(&direct, p), percentile(&relayed, p));
        println!("  {name:>6}: direct {d:?}, relayed {r:?}, added {:?}", r.saturating_sub(d));
        if p != 999 {
            let id = format!("emulator.added-{name}");
            record(&id, r.saturating_sub(d).as_secs_f64() * 1000.0).expect("a row of the table");
        }
    }

    for (name, to) in [("direct", target_address()), ("relayed", at)] {
        let before = [cpu(plane.0.id()), cpu(target.0.id()), cpu(std::process::id())];
        let started = Instant::now();
        let (done, mut times, failed) = runtime.block_on(hammer(to));
        let seconds = started.elapsed().as_secs_f64();
        times.sort_unstable();
        let after = [cpu(plane.0.id()), cpu(target.0.id()), cpu(std::process::id())];
        println!(
            "{CLIENTS} clients, {name}: {:.0} connections/s, {failed} failed; p50 {:?}, p99 {:?}",
            done as f64 / seconds,
            percentile(&times, 500),
            percentile(&times, 990)
        );
        let each = |n: usize| after[n].saturating_sub(before[n]).as_secs_f64() * 1e6 / done as f64;
        println!(
            "  processor time per connection: plane {:.1} us, target {:.1} us, client {:.1} us",
            each(0),
            each(1),
            each(2)
        );
        if name == "relayed" {
            record("emulator.connections", done as f64 / seconds).expect("a row of the table");
            record("emulator.failed", failed as f64).expect("a row of the table");
        }
    }

    let before = memory(plane.0.id());
    let held = runtime.block_on(hold(at));
    let (during, open) = (memory(plane.0.id()), descriptors(plane.0.id()));
    println!(
        "{} connections held open: {:.1} kB each in the plane, {open} descriptors",
        held.len(),
        (during - before) / held.len() as f64
    );
    record("emulator.memory", (during - before) / held.len() as f64).expect("a row of the table");
    {
        let _context = runtime.enter();
        drop(held);
    }
    let patience = Instant::now();
    while descriptors(plane.0.id()) > 64 && patience.elapsed() < Duration::from_secs(10) {
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    }
    println!("after they closed: {} descriptors", descriptors(plane.0.id()));
}

/// A process that is ended when it is dropped.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Starts a part, which prints one line when it is ready.
fn part(name: &str) -> (Part, String) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .arg(name)
        .env(NETWORK, network())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    (Part(child), line.trim().to_owned())
}

fn plane() {
    daemon::log::init("warn", daemon::log::Format::Text).expect("a filter");
    let world = world::DEFAULT.replace("192.168.", &format!("{}.", network()));
    let world = World::parse(&world).expect("the default world with other addresses");
    let engine = Arc::new(Engine::new(Model::new(&world, Settings::profile(Profile::Instant), 1), 1.0));
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let at = load_balancer(&engine);
        println!("{at}");
        // Not on this thread: one more that takes part would have to be woken for it.
        let mut tasks = daemon::tasks::Tasks::new(CancellationToken::new());
        tasks.spawn("the data plane", dataplane::run(engine, tasks.stop().clone()));
        tasks.wait(Duration::ZERO).await.expect("no defect");
    });
}

/// Makes a load balancer in one zone with a listener and the one target. It gives the address to connect to.
fn load_balancer(engine: &Engine) -> SocketAddr {
    let call = |action: &str, fields: &[(&str, &str)]| {
        let version = ("Version", Service::Elb.version());
        let request = Request {
            service: Service::Elb,
            action: Some(action.to_owned()),
            fields: fields
                .iter()
                .chain([&version])
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            caller: Some(Caller { access_key: "AKIDEXAMPLE".to_owned(), ..Caller::default() }),
            token: None,
            defect: None,
        };
        match engine.with(|model, now| model.handle(&request, now)).body {
            Body::Result { value, .. } => value,
            Body::Error { code, message } => unreachable!("{action}: {code}: {message}"),
        }
    };
    let field = |value: &Value, list: &str, name: &str| -> String {
        let text = value.get(list).and_then(|list| list.at(0)).and_then(|first| first.get(name)).and_then(Value::text);
        text.expect("a field of every reply").to_owned()
    };
    let created = call(
        "CreateLoadBalancer",
        &[
            ("Name", "bench"),
            ("Type", "network"),
            ("Scheme", "internal"),
            ("Subnets.member.1", "subnet-0a00000000000aaa2"),
        ],
    );
    let (balancer, name) =
        (field(&created, "LoadBalancers", "LoadBalancerArn"), field(&created, "LoadBalancers", "DNSName"));
    let group = field(
        &call(
            "CreateTargetGroup",
            &[
                ("Name", "bench"),
                ("Protocol", "TCP"),
                ("Port", "8080"),
                ("VpcId", "vpc-0a1b2c3d4e5f60718"),
                ("TargetType", "ip"),
            ],
        ),
        "TargetGroups",
        "TargetGroupArn",
    );
    call(
        "CreateListener",
        &[
            ("LoadBalancerArn", &balancer),
            ("Protocol", "TCP"),
            ("Port", "80"),
            ("DefaultActions.member.1.Type", "forward"),
            ("DefaultActions.member.1.TargetGroupArn", &group),
        ],
    );
    call("RegisterTargets", &[("TargetGroupArn", &group), ("Targets.member.1.Id", &target_address().ip().to_string())]);
    match engine.with(|model, _| model.resolve(&name)) {
        Resolution::Addresses { addresses, .. } => SocketAddr::new(addresses[0], 80),
        Resolution::NoSuchName | Resolution::NotOurs => unreachable!("the name was just given"),
    }
}

async fn target() {
    let at = target_address();
    let listener = TcpListener::bind(at).await.expect("a local address");
    println!("{at}");
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut stream, _)) = accepted else { continue };
                serving.spawn(async move {
                    let mut message = MESSAGE;
                    if stream.read_exact(&mut message).await.is_ok() {
                        let _gone = stream.write_all(&message).await;
                        let _gone = stream.read(&mut message).await;
                    }
                });
            }
            Some(_) = serving.join_next() => {}
        }
    }
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// One short connection: how long it took from connect to the whole answer.
async fn exchange(to: SocketAddr) -> Option<Duration> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(to).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let mut message = MESSAGE;
    stream.write_all(&message).await.ok()?;
    stream.read_exact(&mut message).await.ok()?;
    let took = started.elapsed();
    stream.shutdown().await.ok()?;
    (stream.read(&mut message).await.ok()? == 0).then_some(took)
}

async fn latencies(to: SocketAddr) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..SAMPLES {
        times.extend(exchange(to).await);
    }
    times.sort_unstable();
    times
}

/// Connections made and answered, their times, and how many failed.
async fn hammer(to: SocketAddr) -> (usize, Vec<Duration>, usize) {
    let until = Instant::now() + SPAN;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let (mut times, mut failed) = (Vec::new(), 0);
            while Instant::now() < until {
                match exchange(to).await {
                    Some(took) => times.push(took),
                    None => failed += 1,
                }
            }
            (times, failed)
        });
    }
    let all = clients.join_all().await;
    let failed = all.iter().map(|(_, failed)| failed).sum();
    let times: Vec<_> = all.into_iter().flat_map(|(times, _)| times).collect();
    (times.len(), times, failed)
}

async fn hold(to: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..HELD {
        let mut stream = TcpStream::connect(to).await.expect("listening");
        stream.write_all(&MESSAGE).await.expect("open");
        stream.read_exact(&mut [0; 64]).await.expect("an answer");
        held.push(stream);
    }
    held
}

fn percentile(sorted: &[Duration], per_mille: usize) -> Duration {
    sorted[(sorted.len() - 1) * per_mille / 1000]
}

/// User and system time of a process so far.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let after_name = stat.rsplit(") ").next().expect("fields");
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|t| t.parse::<u64>().expect("ticks")).sum();
    // The kernel's unit for user space is fixed at a hundredth of a second.
    Duration::from_millis(ticks * 10)
}

/// Resident memory in kB.
fn memory(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("resident memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").count()
}
