//! What the process itself takes, under the names that every client library of Prometheus uses.

use std::{fs, io};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// Of the clock by which Linux tells programs of time, on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
const KIB: u64 = 1024;

/// Metrics that are read when they are asked for. What the system does not tell is left out.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process));
    registry
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Ok(taken) = Taken::read() else { return Ok(()) };
        let metrics: [(&str, &str, &dyn EncodeMetric); 7] = [
            ("cpu_seconds", "CPU time that was used", &ConstCounter::new(taken.cpu_seconds)),
            ("start_time_seconds", "When it was started, in seconds since 1970", &ConstGauge::new(taken.started)),
            ("resident_memory_bytes", "Memory that is used", &ConstGauge::new(taken.resident_bytes)),
            ("virtual_memory_bytes", "Memory that is reserved", &ConstGauge::new(taken.virtual_bytes)),
            ("threads", "Threads", &ConstGauge::new(taken.threads)),
            ("open_fds", "Files and sockets that are open", &ConstGauge::new(taken.open_files)),
            ("max_fds", "Files and sockets that may be open", &ConstGauge::new(taken.most_files)),
        ];
        for (name, help, metric) in metrics {
            let name = format!("process_{name}");
            metric.encode(encoder.encode_descriptor(&name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Taken {
    cpu_seconds: f64,
    started: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: u64,
    open_files: u64,
    most_files: u64,
}

impl Taken {
    /// See proc(5); what cannot be found there counts as 0.
    fn read() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let status = fs::read_to_string("/proc/self/status")?;
        let limits = fs::read_to_string("/proc/self/limits")?;
        let system = fs::read_to_string("/proc/stat")?;
        // The name of the program may hold anything, blanks and brackets too. What follows begins with the third field.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let seconds = |field: usize| {
            fields.get(field - 3).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default() / TICKS_PER_SECOND
        };
        let booted = number(&system, "btime");
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
        Ok(Self {
            cpu_seconds: seconds(14) + seconds(15),
            started: booted as f64 + seconds(22),
            resident_bytes: number(&status, "VmRSS:") * KIB,
            virtual_bytes: number(&status, "VmSize:") * KIB,
            threads: number(&status, "Threads:"),
            open_files: fs::read_dir("/proc/self/fd")?.count() as u64,
            most_files: number(&limits, "Max open files"),
        })
    }
}

/// The number behind the first word of a line.
fn number(text: &str, word: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(word));
    rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn what_the_process_takes_is_shown_by_the_usual_names() {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry()).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in\n{text}")).parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3600.0..now + 2.0).contains(&value("process_start_time_seconds")), "{text}");
        let (resident, reserved) = (value("process_resident_memory_bytes"), value("process_virtual_memory_bytes"));
        assert!(resident > 500_000.0 && resident < reserved, "{text}");
        assert!(value("process_threads") >= 1.0);
        // Files that are opened are counted.
        let before = Taken::read().unwrap().open_files;
        let _files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = Taken::read().unwrap();
        assert!((before + 30..after.most_files).contains(&after.open_files), "{before} {after:?}");
    }
}
