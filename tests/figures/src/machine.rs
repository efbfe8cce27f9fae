//! What figures depend on: the machine, and what else it does.

use std::fs;

use serde::Serialize;

/// The class of this machine.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    /// Processors that this process may use.
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) cpu: String,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let line = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_matches([' ', '\t', ':']).to_owned()
        };
        let memory = line("/proc/meminfo", "MemTotal");
        let kilobytes: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let cpu = Some(line("/proc/cpuinfo", "model name")).filter(|name| !name.is_empty());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kilobytes / 1024.0 / 1024.0).round(),
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            kernel: line("/proc/sys/kernel/osrelease", ""),
        }
    }
}

/// How many processes wanted to run over the last minute, on average.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}
