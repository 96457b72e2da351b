//! Micro benchmarks.

fn main() {}
