//! The parts and the figures.

use crate::{
    Goal::{AtLeast, AtMost, Shown},
    Part, Row,
};

/// All parts, in the order in which they are run.
pub const PARTS: &[Part] = &[
    Part {
        name: "webhook",
        about: "the webhook as a process; client and server share this machine",
        command: "cargo bench --offline --quiet -p webhook --bench load",
        long: false,
    },
    Part {
        name: "emulator",
        about: "short connections over loopback; the data plane, the target and 32 clients are a process each",
        command: "target/release/examples/dataplane_bench",
        long: false,
    },
    Part {
        name: "gates",
        about: "the containers of 100 pods become ready at once, in a group of 1; pods are objects, and who measures is \
                their kubelet, which writes Ready as soon as it sees the gate open; AWS is instant",
        command: "target/release/lab exec --logs target/bench/logs/gates --profile instant \
                  --world target/bench/world.yaml --without node,cert-manager,webhook,registrar -- \
                  cargo bench --offline --quiet --workspace --bench lab -- gates",
        long: false,
    },
    Part {
        name: "deployment",
        about: "a Deployment of 1 scaled to 101 in the lab, with Sluice as its chart installs it; AWS is instant",
        command: "target/release/lab exec --logs target/bench/logs/deployment --profile instant --time-scale 20 \
                  --image sluice-webhook=target/bench/bin/webhook --image sluice-registrar=target/bench/bin/registrar -- \
                  cargo bench --offline --quiet --workspace --bench lab -- deployment",
        long: false,
    },
    Part {
        name: "lags",
        about: "the same with the lags of a real load balancer on a true clock, and the rate limits AWS has published: \
                100 pods in a group, then 100 Deployments of a pod, each with a group, rolled at once",
        command: "target/release/lab exec --logs target/bench/logs/lags --profile real-2023 \
                  --image sluice-webhook=target/bench/bin/webhook --image sluice-registrar=target/bench/bin/registrar -- \
                  cargo bench --offline --quiet --workspace --bench lab -- lags",
        long: false,
    },
    Part {
        name: "scale",
        about: "1,000 bindings of 10 pods each, as objects in a real API server (no pod has a process, nodes are objects \
                too, slices are the endpoint controller's); the registrar is a process beside them",
        command: "target/release/lab exec --logs target/bench/logs/scale --profile instant \
                  --world target/bench/world.yaml --without node,cert-manager,webhook,registrar -- \
                  cargo bench --offline --quiet --workspace --bench lab -- scale",
        long: false,
    },
    Part {
        name: "failover",
        about: "two registrars, 20 bindings of 5 pods each, objects as for scale; one pod becomes ready at the instant of \
                the signal, and is waited for in the emulator's log",
        command: "target/release/lab exec --logs target/bench/logs/failover --profile instant \
                  --world target/bench/world.yaml --without node,cert-manager,webhook,registrar -- \
                  cargo bench --offline --quiet --workspace --bench lab -- failover",
        long: false,
    },
    Part {
        name: "services",
        about: "Services with a load balancer of their own each, made at once by one registrar; AWS is instant and limits \
                no rate while they are made, and limits it as AWS has published when 500 of them are taken over",
        command: "target/release/lab exec --logs target/bench/logs/services --profile instant \
                  --set quota.network-load-balancers=1000 --set quota.network-load-balancer-enis-per-vpc=5000 \
                  --world target/bench/world.yaml --without node,cert-manager,webhook,registrar -- \
                  cargo bench --offline --quiet --workspace --bench lab -- services",
        long: false,
    },
    Part {
        name: "rollouts",
        about: "500 connections a second through the load balancer during 50 rollouts, a scale-in and a node drain, with the \
                lags of a real load balancer, on clocks twenty times as fast",
        command: "SLUICE_ROLLOUTS=50 target/release/lab exec --logs target/bench/logs/rollouts --profile real-2023 \
                  --time-scale 20 \
                  --image sluice-webhook=target/bench/bin/webhook --image sluice-registrar=target/bench/bin/registrar -- \
                  cargo bench --offline --quiet --workspace --bench lab -- rollouts",
        long: true,
    },
];

/// All figures.
pub const TABLE: &[Row] = &[
    row("webhook.cpu", "CPU time per 1,000 reviews, 16 connections", "s", AtMost(0.04)),
    row("webhook.p99", "p99 of a review, 16 connections", "ms", AtMost(2.0)),
    row("webhook.throughput", "reviews per second, 16 connections", "", AtLeast(20_000.0)),
    row("webhook.memory-idle", "memory, nothing cached", "MiB", AtMost(12.0)),
    row("webhook.memory-loaded", "memory after load, 1,000 Services and 1,000 bindings", "MiB", AtMost(25.0)),
    row("webhook.ready", "from start to ready", "ms", AtMost(300.0)),
    row(
        "webhook.hostile-slowdown",
        "p99 with 5,000 bad connections and 64 MiB of bodies, over p99 alone",
        "x",
        AtMost(2.0),
    ),
    row("webhook.hostile-memory", "peak memory meanwhile", "MiB", AtMost(128.0)),
    row("webhook.lint", "lint of 1,000 Services", "ms", AtMost(100.0)),
    row("emulator.added-p50", "time a load balancer adds to a short connection, p50", "ms", Shown),
    row("emulator.added-p99", "the same, p99", "ms", Shown),
    row("emulator.connections", "short connections per second through a listener", "", Shown),
    row("emulator.failed", "of those, failed", "", AtMost(0.0)),
    row("emulator.memory", "memory per connection held open", "kB", Shown),
    row("gates.p50", "containers ready to pod Ready, 100 pods at once, p50", "ms", AtMost(150.0)),
    row("gates.p99", "the same, p99", "ms", AtMost(400.0)),
    row("gates.calls", "ELBv2 calls meanwhile", "", AtMost(8.0)),
    row("gates.floor-p50", "the same without Sluice: the kubelet opens the gates, p50", "ms", Shown),
    row("gates.floor-p99", "the same, p99", "ms", Shown),
    row("deployment.lab-ready", "from nothing to a lab with Sluice installed", "s", Shown),
    row("deployment.spread", "time in which the processes of 100 pods become ready on this machine", "s", Shown),
    row("deployment.p50", "containers ready to pod Ready as they do, p50", "s", Shown),
    row("deployment.p99", "the same, p99", "s", Shown),
    row("deployment.calls", "ELBv2 calls meanwhile", "", Shown),
    row("lags.one-p99", "AWS says healthy to pod Ready, 100 pods in a group, p99", "s", AtMost(3.0)),
    row("lags.many-p99", "the same, 100 groups rolled at once, p99", "s", AtMost(15.0)),
    row("lags.throttles", "throttled calls in both", "", AtMost(0.0)),
    row("scale.memory", "memory of the registrar", "MiB", AtMost(150.0)),
    row("scale.restart", "from its start to the first write that was needed", "s", AtMost(5.0)),
    row("scale.writes-restart", "writes on restart but for that one", "", AtMost(0.0)),
    row("scale.writes-idle", "writes to AWS and to pods while nothing changes", "", AtMost(0.0)),
    row("scale.cpu", "share of a core meanwhile", "%", AtMost(1.0)),
    row("scale.calls", "ELBv2 calls for 50 changes in a group (2n + 10)", "", AtMost(110.0)),
    row("failover.sigterm", "SIGTERM to the next leader's first write", "s", AtMost(3.0)),
    row("failover.sigkill", "SIGKILL to the next leader's first write", "s", AtMost(25.0)),
    row("failover.apiserver", "API server killed under churn: its next answer to the first write", "s", AtMost(10.0)),
    row("services.hostnames", "200 Services at once: all have hostnames", "s", AtMost(30.0)),
    row("services.calls", "AWS calls for each of them", "", AtMost(20.0)),
    row("services.restart-writes", "writes when 500 Services are taken over", "", AtMost(0.0)),
    row("services.restart-throttles", "throttled calls meanwhile", "", AtMost(0.0)),
    row("services.restart-time", "until all of them have been looked at", "s", Shown),
    row("rollouts.requests", "requests", "", AtLeast(1.0)),
    row("rollouts.failed", "of those, failed", "", AtMost(0.0)),
];

const fn row(id: &'static str, figure: &'static str, unit: &'static str, goal: crate::Goal) -> Row {
    Row { id, figure, unit, goal }
}
