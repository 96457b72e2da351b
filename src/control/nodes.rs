//! Who is there: every node says so once a second, and who says nothing three times is gone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Control, call};
use crate::bus::Bus;
use crate::bus::call::Call;

/// Most nodes of one deployment; who comes on top is not known.
pub const NODES_MAX: usize = 1_024;
/// From one beat to the next, and a tenth more or less.
const BEAT_MS: u64 = 1_000;
const SPREAD_MS: u64 = 200;
/// Three beats at their latest, and a moment for their way.
const GONE: Duration = Duration::from_millis(3_500);
/// Longest name and version.
const TEXT_BYTES_MAX: usize = 128;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Its name, which no other node has.
    pub node: Box<str>,
    /// When it was started, in milliseconds since 1970: which of those that had the name.
    pub incarnation: u64,
    /// Of its program.
    pub version: Box<str>,
    /// How many Connections it has.
    pub connections: usize,
}

/// Those who beat. Clones are the same list.
#[derive(Debug, Clone)]
pub struct Nodes {
    own: Arc<str>,
    incarnation: u64,
    known: Arc<Mutex<HashMap<Box<str>, Known>>>,
}

#[derive(Debug)]
struct Known {
    beat: Beat,
    heard: Instant,
}

impl Nodes {
    pub(super) fn new(own: &Arc<str>, incarnation: u64) -> Self {
        Self { own: Arc::clone(own), incarnation, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Box<str>, Known>> {
        // What is inserted or removed is so in one step.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, one| one.heard.elapsed() < GONE);
        known
    }

    /// Takes a beat in.
    pub(super) fn heard(&self, payload: &[u8]) {
        let fits = |beat: &Beat| beat.node.len().max(beat.version.len()) <= TEXT_BYTES_MAX;
        let Some(beat) = call::read::<Beat>(payload).filter(fits) else {
            return;
        };
        let mut known = self.known();
        if known.len() < NODES_MAX || known.contains_key(&beat.node) {
            known.insert(beat.node.clone(), Known { beat, heard: Instant::now() });
        }
    }

    /// Their names. A node is always among its own.
    pub(super) fn names(&self) -> HashSet<Box<str>> {
        let known = self.known();
        known.keys().cloned().chain([self.own.as_ref().into()]).collect()
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.names().len()
    }

    /// What they last said, by name.
    #[must_use]
    pub fn beats(&self) -> Vec<Beat> {
        let mut beats: Vec<Beat> = self.known().values().map(|one| one.beat.clone()).collect();
        beats.sort_unstable_by(|one, other| one.node.cmp(&other.node));
        beats
    }
}

impl<B: Bus> Control<B> {
    /// Says that this node lives, as long as it does.
    pub(super) async fn beat(&self) {
        loop {
            let beat = Beat {
                node: self.nodes.own.as_ref().into(),
                incarnation: self.nodes.incarnation,
                version: env!("CARGO_PKG_VERSION").into(),
                connections: (self.config.connections)(),
            };
            // Who misses one hears the next.
            let _ = self.bus.tell(Call::Beat, call::write(&beat)).await;
            // The last half of a version 7 UUID is random.
            let spread = Uuid::now_v7().as_u64_pair().1 % SPREAD_MS;
            sleep(Duration::from_millis(BEAT_MS - SPREAD_MS / 2 + spread)).await;
        }
    }
}
