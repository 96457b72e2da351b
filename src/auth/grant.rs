//! Permissions: a verb, and the Patterns for which it holds.
//!
//! Tokens, entries of the API key file and the setting `anonymous` all bring [`Grants`]. A Grant
//! covers an ask if every Topic that the ask can mean is one of its own, so nobody gains a Topic by
//! asking for more than one at a time.

use std::fmt;

use serde::Deserialize;

use super::Fault;
use crate::topic::Pattern;

/// Most Patterns of one verb.
pub const GRANTS_MAX: usize = 128;

/// What can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Receive what comes, and a Subscription's replay.
    Subscribe,
    /// Send Publications and Tombstones.
    Publish,
    /// Read what was.
    History,
}

impl Verb {
    /// Every verb, in the order of the documents.
    pub const ALL: [Self; 3] = [Self::Subscribe, Self::Publish, Self::History];

    /// Its name in Tokens, files and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::History => "history",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The Patterns of each verb.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Grants {
    /// What may be received.
    pub subscribe: Vec<Pattern>,
    /// Where may be published.
    pub publish: Vec<Pattern>,
    /// What may be read back.
    pub history: Vec<Pattern>,
}

impl Grants {
    /// The Patterns of one verb.
    #[must_use]
    pub fn of(&self, verb: Verb) -> &[Pattern] {
        match verb {
            Verb::Subscribe => &self.subscribe,
            Verb::Publish => &self.publish,
            Verb::History => &self.history,
        }
    }

    /// Whether nothing is granted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Verb::ALL.iter().all(|&verb| self.of(verb).is_empty())
    }

    /// Whether one Pattern of this verb covers all that `pattern` can mean.
    #[must_use]
    pub fn covers(&self, verb: Verb, pattern: &Pattern) -> bool {
        self.of(verb).iter().any(|grant| grant.covers(pattern))
    }

    pub(super) fn of_mut(&mut self, verb: Verb) -> &mut Vec<Pattern> {
        match verb {
            Verb::Subscribe => &mut self.subscribe,
            Verb::Publish => &mut self.publish,
            Verb::History => &mut self.history,
        }
    }

    /// The lists that are too long, under the path of the setting that they stand in.
    pub(super) fn faults(&self, path: &str) -> Vec<Fault> {
        Verb::ALL
            .iter()
            .filter(|&&verb| self.of(verb).len() > GRANTS_MAX)
            .map(|verb| {
                let what = format!("has more than {GRANTS_MAX} patterns");
                Fault::new(format!("{path}.{verb}"), what)
            })
            .collect()
    }
}

/// Why an ask is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What was asked for.
    pub verb: Verb,
    /// Which Topics.
    pub pattern: Pattern,
    /// Whether that client showed neither Token nor key.
    pub anonymous: bool,
}

impl fmt::Display for Denied {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "no Grant to {} covers {}", verb_phrase(self.verb), self.pattern)?;
        if self.anonymous {
            out.write_str(", and no Token was sent")?;
        }
        Ok(())
    }
}

impl std::error::Error for Denied {}

const fn verb_phrase(verb: Verb) -> &'static str {
    match verb {
        Verb::Subscribe => "subscribe",
        Verb::Publish => "publish",
        Verb::History => "read history",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::claims::Claims;
    use super::*;
    use crate::topic::Topic;

    fn patterns() -> impl Strategy<Value = Vec<Pattern>> {
        let middle = prop::sample::select(vec!["a", "b", "*"]);
        let last = prop::sample::select(vec!["a", "b", "*", ">"]);
        let one = (prop::collection::vec(middle, 0..2), last).prop_map(|(mut head, last)| {
            head.push(last);
            Pattern::parse(&head.join(".")).unwrap()
        });
        prop::collection::vec(one, 0..5)
    }

    fn claims(subscribe: Vec<Pattern>) -> Arc<Claims> {
        Arc::new(Claims::anonymous(&Grants { subscribe, ..Grants::default() }))
    }

    fn topics() -> Vec<Topic> {
        let mut all = vec!["a".to_owned(), "b".to_owned()];
        for _ in 0..2 {
            let longer = all.iter().flat_map(|head| [format!("{head}.a"), format!("{head}.b")]);
            let longer: Vec<_> = longer.collect();
            all.extend(longer);
        }
        all.iter().map(|text| Topic::parse(text).unwrap()).collect()
    }

    proptest! {
        /// What is allowed holds no Topic that some Grant does not match, and a Topic alone is
        /// allowed exactly if some Grant matches it.
        #[test]
        fn nobody_gains_a_topic(grants in patterns(), asks in patterns()) {
            let claims = claims(grants.clone());
            for topic in topics() {
                let matched = grants.iter().any(|grant| grant.matches(&topic));
                let alone = claims.allows(Verb::Subscribe, &Pattern::from(&topic)).is_ok();
                prop_assert_eq!(alone, matched);
                for ask in &asks {
                    let allowed = claims.allows(Verb::Subscribe, ask).is_ok();
                    prop_assert!(!allowed || !ask.matches(&topic) || matched);
                    prop_assert!(claims.allows(Verb::Publish, ask).is_err());
                }
            }
        }

        /// Whatever fewer Grants allow, more Grants allow as well: renewal only ever takes away
        /// what the new Token does not cover.
        #[test]
        fn fewer_grants_allow_no_more(
            grants in patterns(),
            keep in prop::collection::vec(any::<bool>(), 5),
            asks in patterns(),
        ) {
            let kept = grants.iter().zip(&keep).filter(|(_, keep)| **keep);
            let fewer = claims(kept.map(|(grant, _)| grant.clone()).collect());
            let more = claims(grants);
            for ask in &asks {
                let (fewer, more) =
                    (fewer.allows(Verb::Subscribe, ask), more.allows(Verb::Subscribe, ask));
                prop_assert!(fewer.is_err() || more.is_ok());
            }
        }
    }
}
