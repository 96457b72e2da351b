//! map
#![allow(missing_docs)]
pub mod namespace;
pub mod protocol;
pub mod publication;
pub mod topic;
