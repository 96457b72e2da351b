//! The version of a NATS server, as it says it, and what is known of it.

use std::fmt;

use async_nats::ServerInfo;

/// The first with all that a node asks of a server.
const NEEDED: Version = Version(2, 9, 0);
/// The first with all that kept Namespaces need.
const NEEDED_KEPT: Version = Version(2, 11, 0);
/// The first releases with all fixes of security that are known, each of the versions it begins with.
const FIXED: [Version; 3] = [Version(2, 11, 16), Version(2, 12, 7), Version(2, 14, 0)];

/// Major, minor and patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u16, u16, u16);

impl Version {
    /// Reads `2.11.16` or `2.14.0-RC.1`, which counts as what it is about to be.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let release = text.split(['-', '+']).next()?;
        let mut numbers = release.split('.').map(|number| number.parse().ok());
        let version = Self(numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(version)
    }

    /// Whether a hole is known that a later release of the same line has closed.
    pub(super) fn lacks_fixes(self) -> bool {
        let [.., newest] = FIXED;
        let of_its_line = |fixed: &Self| (fixed.0, fixed.1) == (self.0, self.1);
        self < *FIXED.iter().find(|fixed| of_its_line(fixed)).unwrap_or(&newest)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Why this server will not do, in words; `kept` is a kept Namespace, if there is any. One whose version
/// cannot be read promises nothing.
pub(super) fn unfit(server: &ServerInfo, kept: Option<&str>) -> Option<String> {
    let ServerInfo { server_name, version, .. } = server;
    let known = Version::parse(version);
    let (needed, who) = match kept {
        Some(namespace) if known.is_none_or(|known| known >= NEEDED) => {
            (NEEDED_KEPT, format!("the history of namespace {namespace}"))
        }
        Some(_) | None => (NEEDED, "a node".to_owned()),
    };
    let will_do = known.is_some_and(|known| known >= needed);
    (!will_do).then(|| {
        format!("the NATS server {server_name:?} has version {version:?}, and {who} needs {needed} or later")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_servers_write_it() {
        assert_eq!(Version::parse("2.11.16"), Some(Version(2, 11, 16)));
        assert_eq!(Version::parse("2.14.0-RC.1"), Some(Version(2, 14, 0)));
        assert_eq!(Version::parse("2.9.0+build"), Some(Version(2, 9, 0)));
        for text in ["", "2", "2.9", "2.9.x", "2.9.0.1", "v2.9.0", "2.9.-1", "2.9.99999"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_too_old_is_told_with_what_is_needed() {
        let said_for = |kept, version: &str| {
            let (server_name, version) = ("n1".to_owned(), version.to_owned());
            unfit(&ServerInfo { server_name, version, ..ServerInfo::default() }, kept)
        };
        let said = |version| said_for(None, version);
        for old in ["2.8.4", "1.9.9", "", "unknown"] {
            let words = said(old).unwrap();
            assert!(["\"n1\"", &format!("{old:?}"), "2.9.0"].iter().all(|it| words.contains(*it)));
        }
        for new in ["2.9.0", "2.10.0", "2.15.1", "3.0.0"] {
            assert_eq!(said(new), None, "{new}");
        }
        let words = said_for(Some("dash"), "2.10.29").unwrap();
        assert!(words.contains("namespace dash needs 2.11.0"), "{words}");
        assert_eq!(said_for(Some("dash"), "2.11.0"), None);
    }

    #[test]
    fn a_line_that_is_fixed_is_so_from_its_fix_on() {
        for (text, lacks) in [
            ("2.9.25", true),
            ("2.11.15", true),
            ("2.11.16", false),
            ("2.12.6", true),
            ("2.12.7", false),
            ("2.13.9", true),
            ("2.14.0", false),
            ("2.15.1", false),
            ("3.0.0", false),
        ] {
            assert_eq!(Version::parse(text).unwrap().lacks_fixes(), lacks, "{text}");
        }
    }
}
