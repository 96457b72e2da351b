//! What clients see: Frames, error codes, close reasons, and their encodings.
//!
//! `proto/README.md` is the specification in prose, `proto/vectors` holds golden Frames; a test
//! compares both with what stands here. Plain values and functions: no socket, no clock.

pub mod close;
pub mod cursor;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod json;
pub mod limit;
pub mod replay;
#[cfg(test)]
pub(crate) mod schema;
pub mod stream;

pub use close::Close;
pub use envelope::Envelope;
pub use error::{Code, Error};
pub use frame::{Ask, Command, From, GapReason, Id, Push, Reply};
pub use limit::Limit;
