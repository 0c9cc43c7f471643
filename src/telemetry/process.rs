//! The standard metrics of a process, from `/proc`; what cannot be read is left out.

use std::{fs, sync::LazyLock};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::help;

/// Clock ticks a second in `/proc`, the same on every architecture that is built.
const TICKS: f64 = 100.0;

/// Read at each scrape.
#[derive(Debug)]
pub struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        if let Some(seconds) = stat.as_deref().and_then(cpu_seconds) {
            let name = "process_cpu_seconds_total";
            let metric =
                encoder.encode_descriptor("process_cpu_seconds", help(name), None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        let limits = fs::read_to_string("/proc/self/limits").ok();
        let status = fs::read_to_string("/proc/self/status").ok();
        let gauges = [
            ("process_open_fds", open_descriptors()),
            ("process_max_fds", limits.as_deref().and_then(max_descriptors)),
            ("process_resident_memory_bytes", status.as_deref().and_then(|text| bytes(text, "VmRSS:"))),
            ("process_virtual_memory_bytes", status.as_deref().and_then(|text| bytes(text, "VmSize:"))),
            ("process_start_time_seconds", *START_TIME),
        ];
        for (name, value) in gauges {
            let Some(value) = value else { continue };
            let metric = encoder.encode_descriptor(name, help(name), None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

/// Once: a later read would follow jumps of the clock.
static START_TIME: LazyLock<Option<f64>> = LazyLock::new(|| {
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + field(&fs::read_to_string("/proc/self/stat").ok()?, 22)? / TICKS)
});

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

/// A field of `/proc/<pid>/stat`, counted from 1 as in proc(5).
fn field(stat: &str, number: usize) -> Option<f64> {
    // the second is the name, in parentheses, and may contain blanks
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(number - 3)?.parse().ok()
}

fn open_descriptors() -> Option<f64> {
    // the listing itself needs one
    let count = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(count).ok().map(f64::from)
}

fn max_descriptors(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn bytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = format!("7 (a) b) S {} 250 50 {} 900", ["0"; 10].join(" "), ["0"; 6].join(" "));
        assert_eq!(cpu_seconds(&stat), Some(3.0));
        assert_eq!(field(&stat, 22), Some(900.0));
        assert_eq!(field("", 22), None);
    }

    #[test]
    fn sizes_and_limits_are_read() {
        assert_eq!(bytes("VmSize:\t 10 kB\nVmRSS:\t   2 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(max_descriptors("Max open files            1024        4096     files\n"), Some(1024.0));
        assert_eq!(max_descriptors("Max open files            unlimited   unlimited     files\n"), None);
        assert!(open_descriptors().is_some_and(|count| count > 2.0));
    }
}
