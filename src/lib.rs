//! map
#![allow(missing_docs)]
pub mod auth;
pub mod bus;
pub mod cli;
pub mod config;
pub mod feed;
pub mod http;
pub mod namespace;
pub mod node;
pub mod protocol;
pub mod publication;
pub mod publisher;
pub mod session;
pub mod shard;
pub mod telemetry;
pub mod topic;
