//! The table of a whole run: every metric with its goal and its bar, the medians of all contenders,
//! our ratios, and the verdict; above it where it was taken, below it what went wrong. Only
//! computes text: it measures nothing and knows no process.

use crate::contender::Kind;
use crate::measure;
use crate::scenario::Sample;

/// What a scenario can measure. The order is that of the rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metric {
    Idle,
    AfterBurst,
    Kernel,
    Broadcast,
    BroadcastP50,
    BroadcastP99,
    BroadcastLast,
    Burst,
    Batches,
    BurstWrites,
    BurstClosed,
    Tick,
    TickWrites,
    Sparse,
    SparseP99,
    Heartbeats,
    Pings,
    HealthyP99,
    StalledP99,
    StalledRatio,
    StalledGrowth,
    StalledKernel,
    Nodes,
    NodesP50,
    NodesP99,
    NodesLastP50,
    NodesLastP99,
    Nodes50,
    Nodes50P50,
    Nodes50P99,
    Nodes50LastP50,
    Nodes50LastP99,
    Resume,
    ResumeCpu,
    Feed,
    Start,
    Binary,
}

/// A value that Tidegate's may not exceed.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    TimesFloor(f64),
    TimesBun(f64),
    TimesCentrifugo(f64),
}
use Bound::{AtMost, TimesBun, TimesCentrifugo, TimesFloor};

/// Whether a value is within its bounds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// There are no bounds, or what they are relative to is absent.
    Unknown,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Unknown => "-",
        }
    }
}

impl Metric {
    pub(crate) const ALL: [Self; 37] = [
        Self::Idle,
        Self::AfterBurst,
        Self::Kernel,
        Self::Broadcast,
        Self::BroadcastP50,
        Self::BroadcastP99,
        Self::BroadcastLast,
        Self::Burst,
        Self::Batches,
        Self::BurstWrites,
        Self::BurstClosed,
        Self::Tick,
        Self::TickWrites,
        Self::Sparse,
        Self::SparseP99,
        Self::Heartbeats,
        Self::Pings,
        Self::HealthyP99,
        Self::StalledP99,
        Self::StalledRatio,
        Self::StalledGrowth,
        Self::StalledKernel,
        Self::Nodes,
        Self::NodesP50,
        Self::NodesP99,
        Self::NodesLastP50,
        Self::NodesLastP99,
        Self::Nodes50,
        Self::Nodes50P50,
        Self::Nodes50P99,
        Self::Nodes50LastP50,
        Self::Nodes50LastP99,
        Self::Resume,
        Self::ResumeCpu,
        Self::Feed,
        Self::Start,
        Self::Binary,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle: user memory per WebSocket, KiB (VmRSS slope)",
            Self::AfterBurst => "the same after 20 x 1 KiB and 5 s of quiet, KiB",
            Self::Kernel => "kernel TCP memory beside it, both ends, KiB (sockstat slope)",
            Self::Broadcast => "broadcast to 1,000 at 20/s: CPU us per delivery",
            Self::BroadcastP50 => "broadcast: p50, ms",
            Self::BroadcastP99 => "broadcast: p99, ms",
            Self::BroadcastLast => "broadcast: to the last subscriber, p99, ms",
            Self::Burst => "burst of 1,000 at once to 1,000: CPU us per delivery",
            Self::Batches => "burst of 2,000 in batches of 100: CPU us per delivery",
            Self::BurstWrites => "burst in batches of 100: writes per delivery",
            Self::BurstClosed => "bursts: connections closed",
            Self::Tick => "dashboard tick, 20 Topics x 1,000, 10/s: CPU us per delivery",
            Self::TickWrites => "dashboard tick: writes per delivery",
            Self::Sparse => "sparse, 10 subscribers a Topic, 2,000 msg/s: CPU us per delivery",
            Self::SparseP99 => "sparse: p99, ms",
            Self::Heartbeats => "heartbeats of idle connections: % of a core",
            Self::Pings => "heartbeats: pings per connection and 25 s",
            Self::HealthyP99 => "4 KiB to 1,000 at 20/s: p99, ms",
            Self::StalledP99 => "the same with 5 % stalled: p99 of the healthy, ms",
            Self::StalledRatio => "5 % stalled: healthy p99 with / without",
            Self::StalledGrowth => "5 % stalled: memory grows by, MiB",
            Self::StalledKernel => "5 % stalled: kernel TCP memory grows by, MiB (sockstat)",
            Self::Nodes => {
                "two nodes over NATS, 1,000 subscribers, 20/s: CPU us per delivery (both nodes)"
            }
            Self::NodesP50 => "two nodes, 20/s: p50, ms",
            Self::NodesP99 => "two nodes, 20/s: p99, ms",
            Self::NodesLastP50 => "two nodes, 20/s: to the last subscriber, p50, ms",
            Self::NodesLastP99 => "two nodes, 20/s: to the last subscriber, p99, ms",
            Self::Nodes50 => {
                "two nodes over NATS, 1,000 subscribers, 50/s: CPU us per delivery (both nodes)"
            }
            Self::Nodes50P50 => "two nodes, 50/s: p50, ms",
            Self::Nodes50P99 => "two nodes, 50/s: p99, ms",
            Self::Nodes50LastP50 => "two nodes, 50/s: to the last subscriber, p50, ms",
            Self::Nodes50LastP99 => "two nodes, 50/s: to the last subscriber, p99, ms",
            Self::Resume => {
                "1,000 clients resume 100 missed messages each at once, from the ring: s until the last has all"
            }
            Self::ResumeCpu => "the same: CPU us per delivery",
            Self::Feed => "from a stream of NATS to a Feed, nobody wants it: CPU us per message",
            Self::Start => "start to ready, ms",
            Self::Binary => "binary, MB",
        }
    }

    fn goal(self) -> &'static [Bound] {
        match self {
            Self::Idle => &[AtMost(1.0)],
            Self::AfterBurst => &[AtMost(1.4)],
            Self::Broadcast => &[TimesBun(1.05)],
            Self::Burst | Self::Batches => &[AtMost(0.25), TimesBun(0.9)],
            Self::BurstWrites => &[AtMost(0.02)],
            Self::BurstClosed => &[AtMost(0.0)],
            Self::Tick | Self::Sparse => &[TimesBun(1.0)],
            Self::TickWrites => &[AtMost(0.1)],
            Self::Heartbeats => &[AtMost(1.3)],
            Self::StalledRatio => &[AtMost(1.1)],
            Self::NodesP99 | Self::Nodes50P99 => &[TimesCentrifugo(0.5)],
            Self::Resume => &[AtMost(0.1)],
            Self::Start => &[AtMost(100.0)],
            Self::Binary => &[AtMost(15.0)],
            _ => &[],
        }
    }

    fn bar(self) -> &'static [Bound] {
        match self {
            Self::Idle => &[AtMost(2.5)],
            Self::AfterBurst => &[AtMost(3.0)],
            Self::Broadcast => &[TimesFloor(1.25)],
            Self::Burst | Self::Batches => &[AtMost(0.4)],
            Self::BurstWrites => &[AtMost(0.05)],
            Self::BurstClosed => &[AtMost(0.0)],
            Self::Tick => &[AtMost(1.0)],
            Self::TickWrites => &[AtMost(0.2)],
            Self::Sparse => &[TimesBun(1.3)],
            Self::Heartbeats => &[AtMost(1.6)],
            Self::StalledRatio => &[AtMost(1.25)],
            Self::NodesP99 | Self::Nodes50P99 => &[TimesCentrifugo(1.0)],
            Self::Resume => &[AtMost(0.5)],
            // 120,000 messages per second and core.
            Self::Feed => &[AtMost(8.33)],
            Self::Start => &[AtMost(300.0)],
            Self::Binary => &[AtMost(25.0)],
            _ => &[],
        }
    }
}

/// Everything that a run has to say.
#[derive(Default)]
pub(crate) struct Table {
    /// Machine, commit, versions, rounds: a line each.
    pub(crate) head: Vec<String>,
    pub(crate) present: Vec<Kind>,
    pub(crate) absent: Vec<String>,
    pub(crate) samples: Vec<(Kind, Sample)>,
    pub(crate) faults: Vec<String>,
    /// The load client's share of a core: of whom, in what, how much.
    pub(crate) shares: Vec<(Kind, &'static str, f64)>,
    /// What repeats this run.
    pub(crate) command: String,
}

impl Table {
    fn values(&self, kind: Kind, metric: Metric) -> impl Iterator<Item = &Sample> {
        let of = move |(found, sample): &&(Kind, Sample)| *found == kind && sample.metric == metric;
        self.samples.iter().filter(of).map(|(_, sample)| sample)
    }

    fn median(&self, kind: Kind, metric: Metric) -> Option<(f64, f64)> {
        let values: Vec<f64> = self.values(kind, metric).map(|sample| sample.value).collect();
        measure::median(&values)
    }

    /// The limit that `bound` is in this run.
    fn limit(&self, metric: Metric, bound: Bound) -> Option<f64> {
        match bound {
            AtMost(limit) => Some(limit),
            TimesFloor(times) => Some(times * self.median(Kind::Floor, metric)?.0),
            TimesBun(times) => Some(times * self.median(Kind::Bun, metric)?.0),
            TimesCentrifugo(times) => Some(times * self.median(Kind::Centrifugo, metric)?.0),
        }
    }

    fn verdict(&self, metric: Metric, bounds: &[Bound]) -> Verdict {
        let Some((ours, _)) = self.median(Kind::Tidegate, metric) else {
            return Verdict::Unknown;
        };
        let limits: Vec<Option<f64>> =
            bounds.iter().map(|bound| self.limit(metric, *bound)).collect();
        if limits.iter().flatten().any(|limit| ours > *limit) {
            Verdict::Missed
        } else if limits.is_empty() || limits.contains(&None) {
            Verdict::Unknown
        } else {
            Verdict::Met
        }
    }

    /// The metrics whose bar Tidegate missed.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let missed = |metric: &Metric| self.verdict(*metric, metric.bar()) == Verdict::Missed;
        Metric::ALL.into_iter().filter(missed).map(Metric::name).collect()
    }

    /// The whole text, in Markdown that also reads well in a terminal.
    pub(crate) fn render(&self) -> String {
        let mut lines = self.head.clone();
        lines.push(format!("* Load client's share of a core: {}", self.share_line()));
        lines.push(String::new());
        lines.extend(self.render_rows());
        lines.push(String::new());
        lines.push("Lost, twice, out of order, closed, void:".to_owned());
        lines.extend(list(&self.faults, "nothing"));
        lines.push(String::new());
        lines.push("Absent:".to_owned());
        lines.extend(list(&self.absent, "nobody"));
        lines.push(String::new());
        lines.push(format!("Repeat it with `{}`.", self.command));
        lines.join("\n") + "\n"
    }

    /// The highest share of each contender's runs.
    fn share_line(&self) -> String {
        let highest = |kind: Kind| {
            let of = self.shares.iter().filter(|(found, ..)| *found == kind);
            let (_, scenario, share) = of.max_by(|a, b| a.2.total_cmp(&b.2))?;
            Some(format!("{} at most {:.0} % ({scenario})", kind.name(), share * 100.0))
        };
        let shares: Vec<String> = self.present.iter().filter_map(|kind| highest(*kind)).collect();
        if shares.is_empty() { "not measured".to_owned() } else { shares.join(", ") }
    }

    fn render_rows(&self) -> Vec<String> {
        let mut rows = vec![vec!["metric".to_owned()]];
        rows[0].extend(self.present.iter().map(|kind| kind.name().to_owned()));
        for title in ["/ floor", "/ Bun", "/ Centrifugo", "goal", "", "bar", ""] {
            rows[0].push(title.to_owned());
        }
        for metric in Metric::ALL {
            if self.present.iter().any(|kind| self.median(*kind, metric).is_some()) {
                rows.push(self.render_row(metric));
            }
        }
        align(&rows)
    }

    fn render_row(&self, metric: Metric) -> Vec<String> {
        let mut row = vec![metric.name().to_owned()];
        row.extend(self.present.iter().map(|kind| self.render_cell(*kind, metric)));
        for to in [Kind::Floor, Kind::Bun, Kind::Centrifugo] {
            row.push(self.render_ratio(metric, to));
        }
        for bounds in [metric.goal(), metric.bar()] {
            row.push(render_bounds(bounds));
            row.push(self.verdict(metric, bounds).text().to_owned());
        }
        row
    }

    fn render_cell(&self, kind: Kind, metric: Metric) -> String {
        let Some((median, spread)) = self.median(kind, metric) else {
            return "-".to_owned();
        };
        let part = |pick: fn((f64, f64)) -> f64| {
            let parts = self.values(kind, metric).filter_map(|sample| sample.apart).map(pick);
            measure::median(&parts.collect::<Vec<f64>>())
        };
        let apart = match (part(|apart| apart.0), part(|apart| apart.1)) {
            (Some((user, _)), Some((system, _))) => {
                format!(" (u {}, s {})", digits(user), digits(system))
            }
            _ => String::new(),
        };
        format!("{} ± {}{apart}", digits(median), digits(spread))
    }

    /// Our median over another's.
    fn render_ratio(&self, metric: Metric, to: Kind) -> String {
        match (self.median(Kind::Tidegate, metric), self.median(to, metric)) {
            (Some((ours, _)), Some((theirs, _))) if ours > 0.0 && theirs > 0.0 => {
                format!("{:.2}", ours / theirs)
            }
            _ => "-".to_owned(),
        }
    }
}

fn render_bounds(bounds: &[Bound]) -> String {
    let texts: Vec<String> = bounds
        .iter()
        .map(|bound| match bound {
            AtMost(limit) => format!("<= {limit}"),
            TimesFloor(times) => format!("<= {times} x floor"),
            TimesBun(times) => format!("<= {times} x Bun"),
            TimesCentrifugo(times) => format!("<= {times} x Centrifugo"),
        })
        .collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}

/// Three significant digits or so.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn list(items: &[String], none: &str) -> Vec<String> {
    if items.is_empty() {
        return vec![format!("* {none}")];
    }
    items.iter().map(|item| format!("* {item}")).collect()
}

/// A Markdown table, its columns padded to one width.
fn align(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let widths = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        widths.max().unwrap_or_default().max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let render = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("| {} |", cells.join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut lines: Vec<String> = rows.iter().map(render).collect();
    lines.insert(1.min(lines.len()), format!("| {} |", rule.join(" | ")));
    lines
}
