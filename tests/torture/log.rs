//! What publishers and clients write down while it storms: all that the judge knows.
//!
//! Times are milliseconds since the run began. Topics, clients, Connections and nodes are numbers, and
//! whoever wrote a Publication is found by its Topic and its own dense counter `n`.

use serde::Serialize;

/// Since the run began.
pub(crate) type Ms = u64;

/// One Topic of the run.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    /// Whether its Namespace is kept.
    pub(crate) kept: bool,
    /// Who may read it. Each payload says it, too.
    pub(crate) group: char,
}

/// A place in a history, as clients may compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) epoch: u32,
    pub(crate) offset: u64,
}

/// What a publisher was told, over all its tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// A 2xx.
    Ok,
    /// 4xx or 503 at every try: it was not taken.
    Fail,
    /// Perhaps: 504, no answer, a cut connection.
    Unknown,
}

/// One Publication, as its publisher knows it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) topic: usize,
    pub(crate) n: u32,
    /// When it was first tried.
    pub(crate) began: Ms,
    /// When its publisher went on to the next.
    pub(crate) ended: Ms,
    pub(crate) outcome: Outcome,
    /// Where it is stored, if the answer said so.
    pub(crate) place: Option<Place>,
    /// The longest that an answer took.
    pub(crate) answer: Ms,
    /// What should never be answered to it.
    pub(crate) wrong: Option<String>,
}

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) enum Reason {
    BusInterrupted,
    HistoryTrimmed,
    EpochChanged,
    ReplayLimit,
    Other,
}

impl Reason {
    pub(crate) fn read(text: &str) -> Self {
        match text {
            "bus_interrupted" => Self::BusInterrupted,
            "history_trimmed" => Self::HistoryTrimmed,
            "epoch_changed" => Self::EpochChanged,
            "replay_limit" => Self::ReplayLimit,
            _ => Self::Other,
        }
    }
}

/// What a Subscription noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It was asked for, behind this place; none: live.
    Asked(Option<Place>),
    /// It was answered. A replay begins, which may be empty.
    Begun { place: Option<Place>, reason: Option<Reason> },
    /// The node falls back on history for it: a replay begins while it was live.
    Again,
    /// From here on what comes is live.
    Live,
    /// A Publication.
    Got(Got),
    /// A `gap`.
    Gap(Reason),
    /// Its Connection is over, or another one has it.
    Over,
}

/// A Publication as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) topic: usize,
    pub(crate) n: u32,
    pub(crate) place: Option<Place>,
    pub(crate) replayed: bool,
    /// Which Frame of its Connection brought it.
    pub(crate) frame: u32,
    /// Whether its client had not had it, and so handed it on.
    pub(crate) fresh: bool,
}

/// One line of a Subscription's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Note {
    pub(crate) at: Ms,
    /// An index of [`Run::connections`].
    pub(crate) connection: usize,
    pub(crate) what: What,
}

/// One Subscription, over all Connections of its client.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) client: usize,
    pub(crate) pattern: String,
    pub(crate) kept: bool,
    /// Those that match.
    pub(crate) topics: Vec<usize>,
    pub(crate) notes: Vec<Note>,
}

/// How a Connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Its client left.
    Own,
    /// The node closed it, with these words.
    Closed { status: u16, code: String },
    /// Without a word.
    Cut,
}

/// One Connection of a client.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) node: usize,
    pub(crate) opened: Ms,
    pub(crate) ended: Option<(Ms, End)>,
    /// The Pushes `bus`.
    pub(crate) buses: Vec<(Ms, bool)>,
    /// When it was told to go, and after how long.
    pub(crate) told_to_go: Option<(Ms, Ms)>,
    /// Codes of Replies `error`.
    pub(crate) errors: Vec<(Ms, String)>,
    /// What should never come.
    pub(crate) wrongs: Vec<String>,
}

/// Something that was done to the world.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Fault {
    pub(crate) what: String,
    pub(crate) from: Ms,
    pub(crate) until: Ms,
    /// Nodes whose sockets end without a word.
    pub(crate) cuts: Vec<usize>,
    /// Nodes that stand still, so that their answers come late.
    pub(crate) freezes: Vec<usize>,
    /// Nodes that send everybody away, one after the other.
    pub(crate) drains: Vec<usize>,
    /// Nodes that lose NATS.
    pub(crate) blinds: Vec<usize>,
    /// Whether nobody can publish while it lasts.
    pub(crate) halts: bool,
    /// Whether it takes from histories what retention would have kept.
    pub(crate) destroys: bool,
    /// Whether nobody may notice it.
    pub(crate) unseen: bool,
}

/// What a history holds at the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) topic: usize,
    pub(crate) n: u32,
    pub(crate) place: Place,
}

/// All of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) topics: Vec<Topic>,
    /// The groups of each client.
    pub(crate) groups: Vec<String>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) stored: Vec<Stored>,
    /// What was seen to be wrong from outside, with its invariant.
    pub(crate) seen: Vec<(&'static str, String)>,
    /// When publishing began and ended.
    pub(crate) published: (Ms, Ms),
}
