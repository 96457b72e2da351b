//! What the server's permissions have refused, by subject.
//!
//! A refusal comes as an event, and nothing else fails: the publish is dropped, the subscription is
//! deaf. So it is noted here the moment it is heard, and whoever awaits an echo looks before trusting
//! it. A reconnect forgets all: the permissions may be others.

use std::collections::HashSet;

use tokio::sync::watch;

/// Refused subjects that are remembered; beyond it, those before are forgotten.
const SUBJECTS_MAX: usize = 1_024;

/// The refusals of one connection.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    publish: HashSet<String>,
    subscribe: HashSet<String>,
}

/// Keeps them, and tells who watches.
#[derive(Debug, Default)]
pub(super) struct Denied(watch::Sender<Refusals>);

impl Denied {
    /// Takes note of an error of the server, if it is a refusal.
    pub(super) fn note(&self, words: &str) {
        let Some((_, subject)) = words.split_once('"') else {
            return;
        };
        let subject = subject.trim_end_matches('"').to_owned();
        let verb = words.to_ascii_lowercase();
        self.0.send_if_modified(|refusals| {
            let subjects = if verb.contains("violation for publish") {
                &mut refusals.publish
            } else if verb.contains("violation for subscription") {
                &mut refusals.subscribe
            } else {
                return false;
            };
            if subjects.len() >= SUBJECTS_MAX {
                subjects.clear();
            }
            subjects.insert(subject)
        });
    }

    /// Whether publishing there was refused.
    pub(super) fn publishing(&self, subject: &str) -> bool {
        self.0.borrow().publish.contains(subject)
    }

    /// Whether listening there was refused.
    pub(super) fn subscribing(&self, subject: &str) -> bool {
        self.0.borrow().subscribe.contains(subject)
    }

    /// Hears of every refusal.
    pub(super) fn watch(&self) -> watch::Receiver<Refusals> {
        self.0.subscribe()
    }

    /// Another link: what was refused on the last one may be allowed.
    pub(super) fn forget(&self) {
        self.0.send_modify(|refusals| *refusals = Refusals::default());
    }
}

impl Refusals {
    /// Whether listening there was refused.
    pub(super) fn subscribing(&self, subject: &str) -> bool {
        self.subscribe.contains(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_subject() {
        let denied = Denied::default();
        denied.note("Permissions Violation for Publish to \"tidegate.in.a\"");
        denied.note("Permissions Violation for Subscription to \"tidegate.in.b.>\"");
        denied.note("Something \"else\"");
        assert!(denied.publishing("tidegate.in.a") && !denied.publishing("tidegate.in.b.>"));
        assert!(denied.subscribing("tidegate.in.b.>") && !denied.subscribing("else"));
        denied.forget();
        assert!(!denied.publishing("tidegate.in.a"));
    }
}
