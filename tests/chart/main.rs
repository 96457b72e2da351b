//! The chart, as Helm renders it: no cluster, no network.
//!
//! Each file in `helm/tidegate/ci` is somebody's values; what comes of it is read back and judged, by
//! the schemas of Kubernetes, by those of the objects that others define, by the gateway itself, and
//! by what the documents say. `make tools` brings Helm and the schemas; what is not there is told in a
//! line that begins with `SKIPPED`, and in CI is a failure. What only a cluster can show: `make e2e`.

#[cfg(test)]
mod configuration;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod helm;
#[cfg(test)]
mod monitoring;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod upgrades;
