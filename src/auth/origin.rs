//! From which pages browsers may connect.
//!
//! A browser sends the `Origin` of the page that asks, and no page can change it; without this
//! check any page could speak to the gateway out of its visitor's network. A text that is not what
//! a browser writes is refused, whatever it resembles: only letter case, a port left out and the
//! spelling of an IPv6 address are made alike, and nothing is compared by prefix or suffix. The
//! HTTP routes ask here, and know nothing of the list.

use std::net::Ipv6Addr;

use super::Fault;

/// Longest host name, in bytes.
const HOST_BYTES_MAX: usize = 253;
/// Most entries of `auth.origins`.
const ORIGINS_MAX: usize = 256;

/// The Origins of the configuration; none: pages of the node's own host.
#[derive(Debug, Default)]
pub struct Origins(Vec<Origin>);

#[derive(Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: Host,
    /// None only for a scheme without a usual port, such as an app's own.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    V6(Ipv6Addr),
}

impl Origins {
    /// Reads the configured list.
    pub(super) fn read(list: &[String]) -> Result<Self, Vec<Fault>> {
        if list.len() > ORIGINS_MAX {
            let what = format!("has more than {ORIGINS_MAX} entries");
            return Err(vec![Fault::new("auth.origins", what)]);
        }
        let (mut origins, mut faults) = (Vec::new(), Vec::new());
        for (index, text) in list.iter().enumerate() {
            match Origin::parse(text) {
                Some(origin) if !matches!(&*origin.scheme, "ws" | "wss") => origins.push(origin),
                _ => {
                    let what = format!(
                        "{text:?} is no origin: write https://host or https://host:port, without \
                         path, user or wildcard, and names beyond ASCII as xn--…"
                    );
                    faults.push(Fault::new(format!("auth.origins[{index}]"), what));
                }
            }
        }
        if faults.is_empty() { Ok(Self(origins)) } else { Err(faults) }
    }

    /// Whether a request with these headers may go on. One without `Origin` is from no page.
    #[must_use]
    pub fn admits(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else {
            return true;
        };
        let Some(origin) = Origin::parse(origin) else {
            return false;
        };
        if !self.0.is_empty() {
            return self.0.contains(&origin);
        }
        // The scheme is not compared, since TLS ends in front; but it tells the port left out.
        let usual = usual_port(&origin.scheme);
        match host.and_then(parse_authority) {
            Some((host, port)) => {
                usual.is_some() && host == origin.host && port.or(usual) == origin.port
            }
            None => false,
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let first = scheme.bytes().next()?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !first.is_ascii_alphabetic() || !scheme.bytes().all(legal) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = parse_authority(authority)?;
        let port = port.or(usual_port(&scheme));
        Some(Self { scheme, host, port })
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// `host` or `host:port`, and nothing else.
fn parse_authority(text: &str) -> Option<(Host, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        return Some((Host::V6(address.parse().ok()?), port));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(parse_port(port)?)),
        None => (text, None),
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(legal);
    if name.len() > HOST_BYTES_MAX || !name.split('.').all(is_label) {
        return None;
    }
    Some((Host::Name(name.to_ascii_lowercase()), port))
}

/// A port as browsers write it: no sign, no leading zero.
fn parse_port(text: &str) -> Option<u16> {
    if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests;
