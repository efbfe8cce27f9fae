//! Certificates that change as the kubelet changes them.

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time::interval};

use crate::{
    Server,
    client::{self, Connection},
    kubelet::Pair,
};

/// How many swaps there are; `SLUICE_SWAPS=1000` for the whole promise.
fn swaps() -> u32 {
    std::env::var("SLUICE_SWAPS").ok().and_then(|swaps| swaps.parse().ok()).unwrap_or(100)
}

async fn served(server: &Server) -> Vec<u8> {
    server.connect().await.certificate
}

/// Waits until another certificate than `old` is served.
async fn another(server: &Server, old: &[u8]) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        let now = served(server).await;
        if now != old {
            return now;
        }
        assert!(Instant::now() < deadline, "the old certificate is served still");
        ticks.tick().await;
    }
}

/// Waits until a pair that cannot be used was looked at, which shows as one more failure.
async fn rejected(server: &Server, before: u64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut ticks = interval(Duration::from_millis(20));
    while server.metrics.certificate_failures.get() == before {
        assert!(Instant::now() < deadline, "nobody looked at the new pair");
        ticks.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_swapped_under_load_without_a_failed_review() {
    let mut server = Server::start("swaps").await;
    let (address, roots) = (server.address, server.authority.roots());
    let stop = tokio_util::sync::CancellationToken::new();
    let mut load = JoinSet::new();
    // 200 reviews a second: half of them over connections that are kept, half over new ones.
    for kept in [true, false] {
        let (roots, stop) = (roots.clone(), stop.clone());
        load.spawn(async move {
            let mut connection = Connection::open(address, roots.clone()).await.unwrap();
            let mut ticks = interval(Duration::from_millis(10));
            let mut reviews = 0;
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                if !kept {
                    connection = Connection::open(address, roots.clone()).await.unwrap();
                }
                connection.review().await.unwrap();
                reviews += 1;
            }
            reviews
        });
    }
    let mut ticks = interval(Duration::from_millis(30));
    let pairs: Vec<Pair> = (0..8).map(|_| server.authority.issue(2020..2041)).collect();
    for swap in 0..swaps() {
        ticks.tick().await;
        server.volume.swap(&pairs[swap as usize % pairs.len()]);
    }
    let old = served(&server).await;
    server.volume.swap(&server.authority.issue(2020..2042));
    another(&server, &old).await;
    stop.cancel();
    let reviews: u32 = load.join_all().await.into_iter().sum();
    assert!(reviews > swaps(), "only {reviews} reviews");
    assert!(server.metrics.certificate_loads.get() > u64::from(swaps() / 10), "hardly any pair was loaded");
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_leaves_the_old_one_serving() {
    let mut server = Server::start("unusable").await;
    let first = served(&server).await;
    let (good, other) = (server.authority.issue(2020..2041), server.authority.issue(2020..2041));
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let unusable = [
        ("mismatched", Pair { certificate: good.certificate.clone(), key: other.key.clone() }),
        ("half a certificate", Pair { certificate: half(&good.certificate), ..good.clone() }),
        ("half a key", Pair { key: half(&good.key), ..good.clone() }),
        ("empty", Pair { certificate: String::new(), key: String::new() }),
        ("expired", server.authority.issue(2020..2021)),
        ("not valid yet", server.authority.issue(2040..2041)),
    ];
    for (what, pair) in unusable {
        let failures = server.metrics.certificate_failures.get();
        server.volume.swap(&pair);
        rejected(&server, failures).await;
        assert_eq!(served(&server).await, first, "{what}");
    }
    server.volume.swap(&good);
    another(&server, &first).await;
}

#[tokio::test]
async fn a_connection_survives_the_swap_of_its_certificate() {
    let mut server = Server::start("kept").await;
    let mut kept = server.connect().await;
    let old = kept.certificate.clone();
    server.volume.swap(&server.authority.issue(2020..2041));
    another(&server, &old).await;
    kept.review().await.unwrap();
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_refused() {
    let server = Server::start("old-tls").await;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(server.authority.roots())
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from(crate::kubelet::NAME).unwrap();
    let error = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    assert!(client::handshake(server.address, server.authority.roots()).await.is_ok());
}
