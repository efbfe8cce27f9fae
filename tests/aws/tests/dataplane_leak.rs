//! Connections leave nothing behind. Alone in its file, and so in its process, because it counts the process's descriptors.
#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::fs;

use aws_emulator::dataplane::descriptors::raise_limit;
use aws_model::settings::Profile;
use lab::{Lab, eventually};
use peers::{Client, Pod};
use tokio::task::JoinSet;

#[path = "dataplane/lab.rs"]
#[allow(dead_code, reason = "it serves the tests of another file too")]
mod lab;
#[path = "dataplane/peers.rs"]
#[allow(dead_code, reason = "it serves the tests of another file too")]
mod peers;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("this process").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_leave_no_descriptor_and_no_task_behind() {
    const WAVES: usize = 10;
    const WAVE: usize = 1000;
    let allowed = raise_limit().expect("a limit of its own");
    assert!(allowed >= 4200, "this test needs 4200 open files, and the system's limit is {allowed} (ulimit -Hn)");
    let lab = Lab::start(Profile::Instant, &[]);
    let pods: Vec<_> = (0..2).map(|n| Pod::start(lab.pod_address('a', n))).collect();
    let targets: Vec<_> = pods.iter().map(|pod| pod.at).collect();
    let (balancer, _) = lab.serving(&['a'], &targets, &[], &[]).await;
    let at = balancer.at('a');
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (before, tasks_before) = (descriptors(), tasks());
    for wave in 0..WAVES {
        let mut connecting = JoinSet::new();
        for n in 0..WAVE {
            connecting.spawn(async move {
                let mut client = Client::connect(at).await.expect("an answer");
                assert!(client.is_alive().await);
                // All of a wave are open at once, and end in every way there is.
                (n, client)
            });
        }
        let open = connecting.join_all().await;
        assert!(descriptors() >= before + 4 * WAVE, "wave {wave}: a connection has four ends in this process");
        for (n, client) in open {
            match n % 3 {
                0 => client.close().await,
                1 => client.stream.into_inner().set_zero_linger().expect("open"),
                _ => drop(client),
            }
        }
        eventually("every descriptor and task of the wave is gone", || {
            // A health check may be under way.
            descriptors() <= before + 8 && tasks() <= tasks_before + 8
        })
        .await;
    }
    eventually("every end is logged", || lab.ends().len() >= WAVES * WAVE).await;
    eventually("everything is as before", || descriptors() <= before && tasks() <= tasks_before).await;
    lab.end().await;
}
