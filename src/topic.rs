//! Topics, and the Patterns that select them.
//!
//! A [`Topic`] is where a Publication goes; a [`Pattern`] is what a client subscribes to or a Grant
//! allows. Both are checked once, at the door, and carry that proof in their type from then on: what
//! stands in a `Topic` can be made into a NATS subject by putting something in front of it.
//!
//! A segment is 1-64 of `A-Z a-z 0-9 _ - = : @ ~ , !`, segments are joined by `.`. In a Pattern a
//! segment may be `*` (exactly one), and the last may be `>` (one or more). `**` is a second spelling
//! of that `>`, for URLs and shells; it is read everywhere and never written.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest Topic or Pattern, in bytes.
pub const BYTES_MAX: usize = 200;
/// Most segments of a Topic or Pattern.
pub const SEGMENTS_MAX: usize = 16;
/// Longest segment, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 64;

/// A validated name that a Publication is sent to, such as `dash.orders.eu`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// What a client subscribes to or a Grant allows.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

/// Why a text is no Topic or Pattern.
#[expect(clippy::module_name_repetitions, reason = "an error is met far from its module")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// Over [`BYTES_MAX`].
    #[error("it has {0} bytes, at most {BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Over [`SEGMENTS_MAX`].
    #[error("it has more than {SEGMENTS_MAX} segments")]
    TooManySegments,
    /// Two dots in a row, or one at an end.
    #[error("segment {0} is empty")]
    EmptySegment(usize),
    /// Over [`SEGMENT_BYTES_MAX`].
    #[error("segment {0} is longer than {SEGMENT_BYTES_MAX} bytes")]
    SegmentTooLong(usize),
    /// A character that no segment may hold.
    #[error("{0:?} is not allowed in a topic")]
    Character(char),
    /// A wildcard where none may be.
    #[error("a wildcard is not allowed here")]
    Wildcard,
    /// `>` or `**` that is not the last segment.
    #[error("'>' (or '**') must be the last segment")]
    NotLast,
    /// A first segment that begins with `_`.
    #[error("first segments that begin with '_' are reserved")]
    Reserved,
    /// A Subscription whose first segment is a wildcard.
    #[error("the first segment must be named, not a wildcard")]
    OpenNamespace,
}

impl Topic {
    /// Reads a Topic. No wildcards.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check(text, |_, _| Err(TopicError::Wildcard))?;
        Ok(Self(text.into()))
    }

    /// Reads a Topic of a Namespace that is the nodes' own; none if clients could name it.
    #[must_use]
    pub fn reserved(text: &str) -> Option<Self> {
        let fault = check(text, |_, _| Err(TopicError::Wildcard));
        (fault == Err(TopicError::Reserved)).then(|| Self(text.into()))
    }

    /// The dotted text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first segment.
    #[must_use]
    pub fn namespace(&self) -> &str {
        first(&self.0)
    }
}

impl Pattern {
    /// Reads a Pattern as Grants and configuration may hold it.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check(text, |segment, last| match segment {
            ">" | "**" if !last => Err(TopicError::NotLast),
            _ => Ok(()),
        })?;
        Ok(Self(match text.strip_suffix("**") {
            Some(head) => format!("{head}>").into(),
            None => text.into(),
        }))
    }

    /// Reads a Pattern that a client may subscribe to: its Namespace is named.
    pub fn parse_subscription(text: &str) -> Result<Self, TopicError> {
        let pattern = Self::parse(text)?;
        if matches!(first(&pattern.0), "*" | ">") {
            return Err(TopicError::OpenNamespace);
        }
        Ok(pattern)
    }

    /// The dotted text, with `>` for `**`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first segment, which for a Grant may be a wildcard.
    #[must_use]
    pub fn namespace(&self) -> &str {
        first(&self.0)
    }

    /// Whether it has a wildcard. One without matches a single Topic.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.0.split('.').any(|segment| matches!(segment, "*" | ">"))
    }

    /// Whether this Topic is one of those it selects.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.covers_segments(topic.as_str())
    }

    /// Whether every Topic that `other` can match is matched by this one, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.covers_segments(&other.0)
    }

    /// The Pattern that matches what both match; none if no Topic is of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (mut ours, mut theirs) = (self.0.split('.'), other.0.split('.'));
        let mut both = Vec::new();
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => break,
                (None, Some(_)) | (Some(_), None) => return None,
                (Some(">"), Some(rest)) => {
                    both.push(rest);
                    both.extend(theirs);
                    break;
                }
                (Some(rest), Some(">")) => {
                    both.push(rest);
                    both.extend(ours);
                    break;
                }
                (Some("*"), Some(one)) | (Some(one), Some("*")) => both.push(one),
                (Some(one), Some(other)) if one == other => both.push(one),
                (Some(_), Some(_)) => return None,
            }
        }
        // Too long for a Pattern is too long for every Topic that would match.
        Self::parse(&both.join(".")).ok()
    }

    fn covers_segments(&self, other: &str) -> bool {
        let (mut ours, mut theirs) = (self.0.split('.'), other.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(">"), Some(_)) => return true,
                (Some(_), Some(">")) | (None, Some(_)) | (Some(_), None) => return false,
                (Some("*"), Some(_)) => {}
                (Some(one), Some(other)) if one == other => {}
                (Some(_), Some(_)) => return false,
            }
        }
    }
}

/// The grammar that Topics and Patterns share; `wild` judges a wildcard segment.
fn check(
    text: &str,
    wild: impl Fn(&str, bool) -> Result<(), TopicError>,
) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > BYTES_MAX {
        return Err(TopicError::TooLong(text.len()));
    }
    let mut segments = text.split('.').enumerate().peekable();
    while let Some((index, segment)) = segments.next() {
        if index == SEGMENTS_MAX {
            return Err(TopicError::TooManySegments);
        }
        match segment {
            "" => return Err(TopicError::EmptySegment(index + 1)),
            "*" | ">" | "**" => wild(segment, segments.peek().is_none())?,
            _ => check_segment(segment, index)?,
        }
    }
    if text.starts_with('_') { Err(TopicError::Reserved) } else { Ok(()) }
}

fn check_segment(segment: &str, index: usize) -> Result<(), TopicError> {
    if let Some(bad) = segment.chars().find(|&c| !legal(c)) {
        return Err(TopicError::Character(bad));
    }
    if segment.len() > SEGMENT_BYTES_MAX {
        return Err(TopicError::SegmentTooLong(index + 1));
    }
    Ok(())
}

const fn legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '=' | ':' | '@' | '~' | ',' | '!')
}

fn first(text: &str) -> &str {
    text.split_once('.').map_or(text, |(head, _)| head)
}

/// Whether a text could stand as one segment: what `{sub}` of a Grant may become.
#[must_use]
pub fn is_segment(text: &str) -> bool {
    !text.is_empty() && check_segment(text, 0).is_ok()
}

impl From<&Topic> for Pattern {
    fn from(topic: &Topic) -> Self {
        Self(Arc::clone(&topic.0))
    }
}

macro_rules! text_like {
    ($noun:ident) => {
        impl fmt::Display for $noun {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
        impl fmt::Debug for $noun {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, out)
            }
        }
        impl Borrow<str> for $noun {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $noun {
            type Err = TopicError;
            fn from_str(text: &str) -> Result<Self, TopicError> {
                Self::parse(text)
            }
        }
        impl serde::Serialize for $noun {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(&self.0)
            }
        }
        impl<'de> serde::Deserialize<'de> for $noun {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                Self::parse(&text).map_err(|why| {
                    serde::de::Error::custom(format!("{:?} is no topic or pattern: {why}", text))
                })
            }
        }
    };
}
text_like!(Topic);
text_like!(Pattern);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn what_is_reserved_no_client_can_name() {
        assert_eq!(Topic::reserved("_revoked.0f").unwrap().namespace(), "_revoked");
        for text in ["dash.eu", "_revoked..a", "_revoked.*", "_revoked.>", "_a b", ""] {
            assert_eq!(Topic::reserved(text), None, "{text}");
        }
        for text in ["_revoked.0f", "_revoked.>", "_revoked"] {
            assert!(Topic::parse(text).is_err() && Pattern::parse(text).is_err(), "{text}");
            assert!(Pattern::parse_subscription(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_grant_covers_no_longer_name() {
        assert!(pattern("dash.*").covers(&pattern("dash.a")));
        for wider in ["dash.a.b", "dash.>", "dash", "dash.a.*"] {
            assert!(!pattern("dash.*").covers(&pattern(wider)), "{wider}");
        }
        assert!(!pattern("team.1").covers(&pattern("team.10")));
        assert!(pattern(">").covers(&pattern("*.x")));
        assert!(!pattern("*.>").covers(&pattern(">")));
        assert!(pattern("dash.>").covers(&pattern("dash.*.>")));
        assert!(!pattern("dash.*.>").covers(&pattern("dash.>")));
    }

    #[test]
    fn the_second_spelling_is_read_and_never_written() {
        assert_eq!(pattern("dash.**").as_str(), "dash.>");
        assert_eq!(pattern("**").as_str(), ">");
        assert_eq!(Pattern::parse("a.**.b"), Err(TopicError::NotLast));
        assert_eq!(Pattern::parse("a.x**"), Err(TopicError::Character('*')));
    }

    #[test]
    fn bounds_hold_at_n_and_break_at_n_plus_one() {
        let segment = "a".repeat(SEGMENT_BYTES_MAX);
        assert!(Topic::parse(&segment).is_ok());
        assert_eq!(Topic::parse(&format!("{segment}a")), Err(TopicError::SegmentTooLong(1)));
        assert!(Topic::parse(&vec!["a"; SEGMENTS_MAX].join(".")).is_ok());
        let many = vec!["a"; SEGMENTS_MAX + 1].join(".");
        assert_eq!(Topic::parse(&many), Err(TopicError::TooManySegments));
        let long = format!("{0}.{0}.{0}.{1}", segment, "a".repeat(5));
        assert_eq!(long.len(), BYTES_MAX);
        assert!(Topic::parse(&long).is_ok());
        assert_eq!(Topic::parse(&format!("{long}a")), Err(TopicError::TooLong(201)));
    }

    #[test]
    fn an_intersection_longer_than_every_topic_is_none() {
        let segment = "a".repeat(SEGMENT_BYTES_MAX);
        let (one, other) = (format!("{segment}.{segment}.*.*"), format!("*.*.{segment}.{segment}"));
        assert_eq!(pattern(&one).intersection(&pattern(&other)), None);
    }

    #[test]
    fn reserved_and_open_first_segments_are_refused() {
        assert_eq!(Topic::parse("_revoked.a"), Err(TopicError::Reserved));
        assert_eq!(Topic::parse("$SYS.a"), Err(TopicError::Character('$')));
        assert_eq!(Pattern::parse_subscription("*.x"), Err(TopicError::OpenNamespace));
        assert_eq!(Pattern::parse_subscription(">"), Err(TopicError::OpenNamespace));
        assert!(Pattern::parse_subscription("x.*").is_ok());
    }

    /// The naive reference: expands wildcards over a small universe of Topics.
    fn naive(pattern: &[String], topic: &[String]) -> bool {
        match (pattern.first().map(String::as_str), topic.first()) {
            (None, None) => true,
            (Some(">"), Some(_)) => true,
            (Some("*"), Some(_)) => naive(&pattern[1..], &topic[1..]),
            (Some(one), Some(other)) => one == other && naive(&pattern[1..], &topic[1..]),
            _ => false,
        }
    }

    fn universe() -> Vec<Vec<String>> {
        let letters = ["a", "b", "c"];
        let mut all: Vec<Vec<String>> = vec![vec![]];
        let mut out = Vec::new();
        for _ in 0..4 {
            all = all
                .iter()
                .flat_map(|head| {
                    letters.iter().map(move |l| [head.clone(), vec![(*l).to_owned()]].concat())
                })
                .collect();
            out.extend(all.clone());
        }
        out
    }

    fn segments() -> impl Strategy<Value = Vec<String>> {
        let middle = prop::sample::select(vec!["a", "b", "*"]);
        let last = prop::sample::select(vec!["a", "b", "*", ">"]);
        (prop::collection::vec(middle, 0..3), last).prop_map(|(mut head, last)| {
            head.push(last);
            head.into_iter().map(str::to_owned).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn what_patterns_match_agrees_with_the_naive_reference(
            one in segments(), other in segments()
        ) {
            let (p, q) = (pattern(&one.join(".")), pattern(&other.join(".")));
            let (mut covered, both) = (true, p.intersection(&q));
            prop_assert_eq!(&both, &q.intersection(&p));
            for topic in universe() {
                let name = Topic::parse(&topic.join(".")).unwrap();
                prop_assert_eq!(p.matches(&name), naive(&one, &topic));
                covered &= !q.matches(&name) || p.matches(&name);
                let of_both = both.as_ref().is_some_and(|both| both.matches(&name));
                prop_assert_eq!(of_both, p.matches(&name) && q.matches(&name));
            }
            prop_assert_eq!(p.covers(&q), covered);
        }

        #[test]
        fn no_text_panics_and_what_is_read_is_written_alike(text in "\\PC{0,220}") {
            if let Ok(topic) = Topic::parse(&text) {
                prop_assert_eq!(topic.as_str(), text.as_str());
            }
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(&Pattern::parse(pattern.as_str()).unwrap(), &pattern);
            }
        }
    }
}
