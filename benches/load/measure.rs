//! What the kernel says of a process and of this machine, and the little arithmetic on it. Reads
//! `/proc` only: this bench has no libc. Knows neither contenders nor scenarios.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Fallible;

/// `USER_HZ`: what `/proc/<pid>/stat` counts in, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// Pages of `/proc/net/sockstat`.
const PAGE_KIB: f64 = 4.0;

/// CPU time of a process, all its threads, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    /// Spent since `start`.
    pub(crate) fn since(self, start: Self) -> Self {
        Self { user: self.user - start.user, system: self.system - start.system }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }

    pub(crate) fn sum(self) -> f64 {
        self.user + self.system
    }
}

/// CPU time that the process has used so far.
pub(crate) fn cpu(pid: u32) -> Fallible<Cpu> {
    stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// CPU time of this process.
pub(crate) fn own_cpu() -> Fallible<Duration> {
    Ok(Duration::from_secs_f64(stat(&fs::read_to_string("/proc/self/stat")?)?.sum()))
}

fn stat(text: &str) -> Fallible<Cpu> {
    // The second field, the name, may hold anything: count from its closing bracket.
    let (_, rest) = text.rsplit_once(')').ok_or("/proc/<pid>/stat has no name")?;
    let field = |index: usize| -> Fallible<f64> {
        let field = rest.split_whitespace().nth(index).ok_or("/proc/<pid>/stat is short")?;
        Ok(field.parse::<f64>()? / TICKS_PER_SECOND)
    };
    Ok(Cpu { user: field(11)?, system: field(12)? })
}

/// `VmRSS` of a process. What is mapped from files is in it, but a slope does not see that.
pub(crate) fn rss_kib(pid: u32) -> Fallible<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(value.parse()?)
}

/// What all TCP sockets of this machine hold queued in the kernel: both ends, everybody's.
pub(crate) fn tcp_memory_kib() -> Fallible<f64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).ok_or("no TCP in sockstat")?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem").skip(1);
    Ok(words.next().ok_or("no mem in sockstat")?.parse::<f64>()? * PAGE_KIB)
}

/// The value in the middle, and half the distance between the ends.
pub(crate) fn median(values: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (sorted.first()?, sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    };
    Some((median, (last - first) / 2.0))
}

/// The slope of y over x by least squares.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let over: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let under: f64 = points.iter().map(|(x, _)| (x - mean_x) * (x - mean_x)).sum();
    over / under
}

/// The machine in one line: processor, cores, memory, kernel, congestion control, open files.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cpuinfo = read("/proc/cpuinfo");
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let limits = read("/proc/self/limits");
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    format!(
        "{}, {cores} cores, {} memory, Linux {}, {}, nofile {}",
        after(&cpuinfo, "model name"),
        after(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/sys/net/ipv4/tcp_congestion_control").trim(),
        files.and_then(|files| files.split_whitespace().next()).unwrap_or("?"),
    )
}

/// The load averages over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The first line a program prints, or nothing if it cannot be run.
pub(crate) fn first_line(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}
