//! Over the wire, against real parts: the real binary, real sockets, real processes.
//!
//! One binary, so that it links once. A test tells its story in a few lines; how a gateway is started
//! and how a browser speaks stands in [`harness`]. Traffic goes to 127.0.0.0/8 alone, every wait has a
//! deadline, and what a test started ends with it.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod api_keys;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod check;
#[cfg(test)]
mod churn;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod control;
#[cfg(test)]
mod deaths;
#[cfg(test)]
mod delivery;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod event_source;
#[cfg(test)]
mod events;
#[cfg(test)]
mod feeds;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod herds;
#[cfg(test)]
mod history;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod kept_laws;
#[cfg(test)]
mod kept_on_nats;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod many_nodes;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod origins;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod panels;
#[cfg(test)]
mod payloads;
#[cfg(test)]
mod permissions;
#[cfg(test)]
mod recovered;
#[cfg(test)]
mod replays;
#[cfg(test)]
mod rolling;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod sdk;
#[cfg(test)]
mod secured;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod spy;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod topics;
#[cfg(test)]
#[path = "../torture/mod.rs"]
mod torture;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod unharmed;
#[cfg(test)]
mod versions;
