//! The API over its socket: the Rust SDK as a client, and bytes that no client would send.
#![allow(clippy::expect_used, clippy::panic, clippy::doc_markdown, reason = "a test may fail, and speaks of AWS")]

mod malformed;
mod sdk;

use aws_emulator::{Config, LOOPBACK_WORLD, Running, serve};
use aws_model::{Settings, settings::Profile};
use tokio_util::sync::CancellationToken;
use world::World;

/// An emulator of this process, without a data plane.
pub(crate) struct Emulator {
    pub(crate) running: Running,
    stop: CancellationToken,
}

impl Emulator {
    pub(crate) async fn start(profile: Profile, changes: &[(&str, &str)]) -> Self {
        let mut settings = Settings::profile(profile);
        for (key, value) in changes {
            settings.set(key, value).expect("a setting");
        }
        let world = World::parse(LOOPBACK_WORLD).expect("the shipped world");
        let stop = CancellationToken::new();
        let config = Config { settings, data_plane: false, ..Config::new(world) };
        Self { running: serve(config, stop.clone()).await.expect("loopback"), stop }
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.running.wait().await.expect("a clean end");
    }
}

#[test]
fn readme_has_every_setting_with_its_values() {
    let readme = include_str!("../../README.md");
    for row in aws_model::settings::TABLE {
        let [instant, fast, real] = row.profiles;
        let line = format!("| `{}` | {instant} | {fast} | {real} | {} |", row.key, row.help);
        assert!(readme.contains(&line), "README.md lacks the line\n{line}");
    }
}
