//! Tidegate: a horizontally scalable pub/sub gateway between browsers and NATS.
//!
//! This page is the map. Each module opens by saying what it is and what it may not know.
//!
//! # Nouns
//!
//! A *Publication* is one message on one *Topic*; the first segment of a Topic is its *Namespace*. A
//! *Pattern* selects Topics. A client has a *Connection* with a *Session* (the conversation, pure) and
//! an *Outbox* (what waits to be written), and lives on one *Shard* (a thread) for life. It asks by
//! *Commands* and hears *Replies* and *Pushes*. A *Subscription* is its interest in one Pattern, fed by
//! a *Feed*, the node's single upstream subscription for it. Feeds and publishers meet at the *Bus*.
//! A *kept* Namespace has a history: each of its Publications has an *Offset*, rising within the
//! history's *Epoch*; a *Cursor* names both, and a client that sends one back gets a *Replay* of what
//! it missed, or is told that it cannot.
//! A *Stream* is a Connection whose client only listens: the body of an HTTP answer.
//! What a client may do is said by the *Grants* in the *Claims* of its *Token*. A Connection ends by one
//! *Close*. A *Pass* is its right to be connected, given at the door (*Admission*). A *Node* is all of
//! this, assembled; its *beat* tells the others that it is there, a *Call* goes to them all, and an
//! *Errand* is a Shard's part in one. A *Revocation* turns Tokens away that are good.
//!
//! # Floors
//!
//! A module imports from lower floors alone; a test (`tests/tidy.rs`) keeps it so.
//!
//! ```text
//!  5  cli, node, config, telemetry        assemble; may see everything
//!  4  http                                actix-web and actix-ws live only here
//!  3  shard                               sockets and threads; no JSON
//!  2  admission, session, feed, publisher, session is pure; feed and control are generic over
//!     control                             the Bus
//!  1  bus, auth, span                     doors, which never see each other
//!  0  topic, namespace, publication, protocol, measure    plain values and functions
//! ```
//!
//! # Laws
//!
//! 1. A Shard is one thread, and what is in it belongs to it: no locks, no atomics.
//! 2. One road: every Publication goes through the Bus, also within a node.
//! 3. Encode once: a Frame that goes to many holds nothing of one Connection.
//! 4. Never a silent hole: whoever drops or loses says so, until the client is told.
//! 5. Everything is bounded, and each bound has a name.
//!
//! # Walks
//!
//! A message, published over HTTP and read in a browser:
//!
//! ```text
//!  http/publish ─▶ auth ─▶ publisher ─▶ bus ─▶ feed ─▶ shard ─▶ socket
//!    (parse)     (Claims)  (Grant, id)       (Envelope) (table, Outbox)
//! ```
//!
//! A subscribe:
//!
//! ```text
//!  socket ─▶ shard ─▶ session ─▶ shard ─▶ feed ─▶ bus
//!           (frame)  (Grant)   (attach)    │
//!  socket ◀─ shard ◀─ session ◀────────────┘  through the Shard's inbox: what stands behind
//!         (subscribed)  (join)                the answer is for it, what stands before is not
//! ```
//!
//! A return, with a Cursor, to a kept Namespace: the same walk, but the answer comes in parts.
//!
//! ```text
//!  session ─▶ shard ─▶ feed ─▶ ring, else history
//!  (one part at a time)  │
//!  session ◀─ shard ◀────┘  subscribed or replay, and its Publications; the Session asks for the
//!     │                     next part when the Outbox is under half; with the last part it joins
//!     └─▶ what comes is live
//! ```
//!
//! A disconnect: asked of one node, done by all. Each answers, itself among them; who does not is told.
//!
//! ```text
//!  http/control ─▶ control ─▶ bus ─▶ control ─▶ shard ─▶ one `end` each
//!                     ▲       (all)  (revoked)    │ (errand)
//!                     └──────── answers ◀─────────┘   and then it is kept, for nodes that come later
//! ```
//!
//! A death: client gone, no pong, Token expired, Outbox full, bad frames, node going. Each is one
//! `Close`, and there is one exit, `shard::Shard::end`: out of the table, a close frame if the peer can
//! hear it, the socket shut, Feeds let go, one log line.

pub mod admission;
pub mod auth;
pub mod bus;
pub mod cli;
pub mod config;
pub mod control;
pub mod feed;
pub mod http;
pub mod measure;
pub mod namespace;
pub mod node;
pub mod protocol;
pub mod publication;
pub mod publisher;
pub mod session;
pub mod shard;
pub mod span;
pub mod telemetry;
pub mod topic;
