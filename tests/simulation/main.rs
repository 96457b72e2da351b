//! Sessions, Feeds and a model Bus in one seeded simulation, on a clock that is paused.
//!
//! A seed decides everything: who comes, what is published, and what goes wrong. The real Sessions,
//! Directory, Feeds, Table and Outboxes run under a model Bus that drops, delays, repeats, reorders,
//! fails, trims, goes back and begins anew, and under clients that stall, leave, return elsewhere, are
//! sent elsewhere and renew their Tokens. `client` judges each Frame, `judge` what is missing at the end.
//!
//! `SEEDS=n` runs so many seeds, `SEED=n` a single one, with `STEPS=n` and `ONLY=Drop,Delay` as a
//! shrunk failure is printed, and `TELL=1` prints all that
//! happens. Seeds that once failed are kept in `seeds.txt` and always run.

#[cfg(test)]
mod bus;
#[cfg(test)]
mod client;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod rng;
#[cfg(test)]
mod run;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod shard;
#[cfg(test)]
mod truth;
