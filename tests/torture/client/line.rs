//! One Connection of a client, and how each Subscription stands on it.

use tokio::time::Instant;

use super::Socket;
use super::frame::Frame;
use super::subscription::Wanted;

/// How a Subscription stands on a Connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// It is not asked for.
    None,
    Asked,
    Replaying,
    Live,
    /// A newer Connection has it.
    Over,
}

/// The next Publications are those of one Subscription alone.
pub(super) struct Block {
    pub(super) index: usize,
    pub(super) left: u32,
    pub(super) more: bool,
    pub(super) cursor: Option<String>,
}

/// An open Connection.
pub(super) struct Line {
    pub(super) socket: Socket,
    pub(super) connection: usize,
    pub(super) views: Vec<View>,
    pub(super) block: Option<Block>,
    /// Whether everything was asked for.
    pub(super) asked: bool,
    /// Publications so far.
    pub(super) frames: u32,
    pub(super) heard_at: Instant,
    /// Since when everything has been live.
    pub(super) live_since: Option<Instant>,
    /// When the node wants its client elsewhere.
    pub(super) goes_at: Option<Instant>,
    /// When its client leaves it for a newer one.
    pub(super) leaves_at: Option<Instant>,
    pub(super) says_goodbye: bool,
}

impl Line {
    pub(super) fn new(socket: Socket, connection: usize, subscriptions: usize) -> Self {
        Self {
            socket,
            connection,
            views: vec![View::None; subscriptions],
            block: None,
            asked: false,
            frames: 0,
            heard_at: Instant::now(),
            live_since: None,
            goes_at: None,
            leaves_at: None,
            says_goodbye: false,
        }
    }

    /// Whether everything is live here.
    pub(super) fn is_live(&self, subscriptions: &[Wanted]) -> bool {
        self.views.len() == subscriptions.len() && self.views.iter().all(|view| *view == View::Live)
    }

    /// A part of a replay begins.
    pub(super) fn begin_block(
        &mut self,
        index: usize,
        frame: &Frame<'_>,
        cursor: Option<String>,
    ) -> Result<(), String> {
        let left = frame.replayed.ok_or("it does not say how many follow")?;
        let more = frame.more.ok_or("it does not say whether more follow")?;
        self.block = Some(Block { index, left, more, cursor });
        Ok(())
    }
}
