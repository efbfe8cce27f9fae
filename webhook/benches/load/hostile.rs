//! What good reviews notice of 5,000 bad connections and of 64 MiB of bodies in flight.
//!
//! Bad clients are a process of their own that runs when nobody else wants to, as near as one machine comes to their being
//! elsewhere.

use std::{process::Stdio, time::Duration};

use figures::{percentile, record};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{interval, timeout},
};

use crate::{client, cpu, memory, quantile, webhook::Webhook};

const OF_EACH: usize = 1250;
const LARGE: usize = 10;
const BODY: usize = 6_500_000;

/// Ten reviews a second per connection, as a cluster would ask.
async fn paced(webhook: &Webhook, time: Duration) -> Vec<Duration> {
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let mut connection = webhook.connect().await.unwrap();
        clients.spawn(async move {
            let mut ticks = interval(Duration::from_millis(10));
            let (start, mut latencies) = (std::time::Instant::now(), Vec::new());
            while start.elapsed() < time {
                ticks.tick().await;
                let asked = std::time::Instant::now();
                connection.post("/mutate-v1-pod", crate::POD).await.unwrap();
                latencies.push(asked.elapsed());
            }
            latencies
        });
    }
    let mut latencies: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    latencies.sort_unstable();
    latencies
}

/// A connection that is opened again whenever the server has had enough of it.
async fn hold(webhook: std::net::SocketAddr, roots: rustls::RootCertStore, sort: usize) {
    loop {
        let Ok(()) = held(webhook, roots.clone(), sort).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
    }
}

/// What the bad process does: the address, and a file with the authority that the webhook's certificate is of.
pub(crate) async fn be_bad(address: &str, authority: &str) {
    let address = address.parse().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(std::fs::read(authority).unwrap().into()).unwrap();
    let sorts = std::env::var("SORTS").unwrap_or("0123".to_owned());
    let sorts: Vec<usize> = sorts.bytes().map(|digit| usize::from(digit - b'0')).collect();
    let mut bad = JoinSet::new();
    for number in 0..4 * OF_EACH + LARGE {
        let sort = if number < 4 * OF_EACH { sorts[number % sorts.len()] } else { 4 };
        bad.spawn(hold(address, roots.clone(), sort));
    }
    bad.join_all().await;
}

async fn held(address: std::net::SocketAddr, roots: rustls::RootCertStore, sort: usize) -> std::io::Result<()> {
    let mut nothing = Vec::new();
    if sort < 2 {
        let mut stream = TcpStream::connect(address).await?;
        if sort == 1 {
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).await?;
        }
        return stream.read_to_end(&mut nothing).await.map(drop);
    }
    let mut stream = client::handshake(address, roots).await?;
    let head = match sort {
        2 => "POST /mutate-v1-pod HTTP/1.1\r\nHost: x\r\n".to_owned(),
        3 => "POST /mutate-v1-pod HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{".to_owned(),
        _ => format!("POST /mutate-v1-pod HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n"),
    };
    stream.write_all(head.as_bytes()).await?;
    if sort > 3 {
        stream.write_all(&vec![b' '; BODY - 1]).await?;
    }
    stream.read_to_end(&mut nothing).await.map(drop)
}

/// How often good reviews are asked alone and beside bad clients, by turns: 1 in 100 of them depends on what else the
/// machine does, so each figure is the middle one of as many.
const ROUNDS: usize = 5;

pub(crate) async fn measure(webhook: &Webhook, time: Duration) {
    println!();
    let authority = std::env::temp_dir().join(format!("sluice-authority-{}", std::process::id()));
    std::fs::write(&authority, &webhook.authority.root).unwrap();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(round(webhook, "400 good reviews/s alone", time).await);
        let mut bad = tokio::process::Command::new("chrt");
        bad.args(["--idle", "0"])
            .arg(std::env::current_exe().unwrap())
            .arg(webhook.reviews.to_string())
            .arg(&authority);
        let mut bad = bad.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = cpu(webhook);
        beside.push(round(webhook, "with 5000 bad ones, 64 MiB", time).await);
        println!("CPU time meanwhile             {:8.2} s in {:.0} s", cpu(webhook) - before, time.as_secs_f64());
        bad.kill().await.unwrap();
        // What the bad ones held is let go.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let _ = std::fs::remove_file(authority);
    let [alone, beside] = [alone, beside].map(|mut of_rounds| {
        of_rounds.sort_by(f64::total_cmp);
        percentile(&of_rounds, 50)
    });
    record("webhook.hostile-slowdown", beside / alone).unwrap();
    record("webhook.hostile-memory", memory(webhook, "VmHWM:")).unwrap();
}

/// What 1 in 100 good reviews takes at least, in milliseconds.
async fn round(webhook: &Webhook, what: &str, time: Duration) -> f64 {
    let latencies = timeout(time * 4, paced(webhook, time)).await.expect("good reviews come through");
    println!(
        "{what:30} p50 {:7.3} ms, p99 {:7.3} ms, memory {:6.1} MiB, peak {:6.1} MiB",
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.99),
        memory(webhook, "VmRSS:"),
        memory(webhook, "VmHWM:"),
    );
    quantile(&latencies, 0.99)
}
