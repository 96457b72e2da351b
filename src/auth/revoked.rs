//! What was revoked: a Token by its id, and a user's Tokens by the time at which they were issued.
//!
//! Nothing of a Token is kept, and no name: a [`Mark`] is the hash of either. Nodes tell each other
//! marks alone, and whoever holds a Token makes its two and looks.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest;

use super::claims::{Claims, LEEWAY_MS, LIFE_MS_MAX};
use crate::publication::Timestamp;

/// No Token that was issued before lives longer.
pub const REVOKED_FOR: Duration = Duration::from_millis(LIFE_MS_MAX + LEEWAY_MS);

const MARK_BYTES: usize = 16;

/// Stands for a user, or for the id of a Token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark([u8; MARK_BYTES]);

/// Something revoked, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Whom it is about.
    pub mark: Mark,
    /// Of a user, Tokens issued later are good.
    pub at: Timestamp,
}

/// All that is revoked, as far as this node knows.
#[derive(Debug, Default)]
pub(super) struct Revoked(RwLock<HashMap<Mark, Timestamp>>);

impl Mark {
    /// Of this subject.
    #[must_use]
    pub fn of_user(subject: &str) -> Self {
        Self::of("user", subject)
    }

    /// Of this `jti`.
    #[must_use]
    pub fn of_token(id: &str) -> Self {
        Self::of("token", id)
    }

    fn of(kind: &str, name: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, format!("{kind}\0{name}").as_bytes());
        let mut bytes = [0; MARK_BYTES];
        for (byte, hashed) in bytes.iter_mut().zip(hash.as_ref()) {
            *byte = *hashed;
        }
        Self(bytes)
    }

    /// Reads what is written by `Display`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 2 * MARK_BYTES || !text.bytes().all(legal) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|bits| Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Revoked {
    /// Takes one in; whether that was news.
    pub(super) fn add(&self, Revocation { mark, at }: Revocation) -> bool {
        // A map is changed in one step, so nobody can leave it half done.
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(mark).or_insert(Timestamp(0));
        let is_news = *known < at;
        *known = at.max(*known);
        is_news
    }

    pub(super) fn holds(&self, claims: &Claims) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return false;
        }
        // One that does not say when it was issued is as old as can be.
        let is_older = |at: &Timestamp| claims.issued_at.is_none_or(|issued| issued <= *at);
        let user = claims.who.user().and_then(|subject| all.get(&Mark::of_user(subject)));
        user.is_some_and(is_older)
            || claims.token_id.as_ref().is_some_and(|id| all.contains_key(&Mark::of_token(id)))
    }

    pub(super) fn knows(&self, mark: Mark) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&mark)
    }

    pub(super) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn all(&self) -> Vec<Revocation> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(mark, at)| Revocation { mark: *mark, at: *at }).collect()
    }

    /// Lets go of what no Token lives long enough for.
    pub(super) fn forget(&self, now: Timestamp) {
        let kept = u64::try_from(REVOKED_FOR.as_millis()).unwrap_or(u64::MAX);
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, at| at.0.saturating_add(kept) > now.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::claims::Who;
    use super::super::grant::Grants;
    use super::*;

    fn claims(subject: &str, issued_at: Option<u64>, token_id: Option<&str>) -> Claims {
        Claims {
            who: Who::User(subject.into()),
            issued_at: issued_at.map(Timestamp),
            token_id: token_id.map(Into::into),
            ..Claims::anonymous(&Grants::default())
        }
    }

    #[test]
    fn a_users_older_tokens_are_revoked_and_later_ones_are_not() {
        let revoked = Revoked::default();
        assert!(revoked.add(Revocation { mark: Mark::of_user("ana"), at: Timestamp(5_000) }));
        assert!(!revoked.add(Revocation { mark: Mark::of_user("ana"), at: Timestamp(4_000) }));
        for (issued_at, is_revoked) in
            [(None, true), (Some(0), true), (Some(5_000), true), (Some(5_001), false)]
        {
            assert_eq!(revoked.holds(&claims("ana", issued_at, None)), is_revoked, "{issued_at:?}");
            assert!(!revoked.holds(&claims("ben", issued_at, Some("ana"))));
        }
        let key = Claims::of_key("ana", Grants::default(), true);
        assert!(!revoked.holds(&key));
    }

    #[test]
    fn a_token_is_revoked_by_its_id_whenever_it_was_issued() {
        let revoked = Revoked::default();
        revoked.add(Revocation { mark: Mark::of_token("t-1"), at: Timestamp(5_000) });
        assert!(revoked.holds(&claims("ana", Some(9_000), Some("t-1"))));
        assert!(!revoked.holds(&claims("t-1", None, Some("t-2"))));
    }

    #[test]
    fn nothing_is_kept_for_longer_than_a_token_lives() {
        let revoked = Revoked::default();
        revoked.add(Revocation { mark: Mark::of_user("ana"), at: Timestamp(1) });
        let life = u64::try_from(REVOKED_FOR.as_millis()).unwrap();
        revoked.forget(Timestamp(life));
        assert!(revoked.len() == 1 && revoked.knows(Mark::of_user("ana")));
        revoked.forget(Timestamp(life + 1));
        assert_eq!(revoked.all(), []);
    }

    #[test]
    fn a_mark_is_read_as_it_is_written() {
        let mark = Mark::of_user("ana");
        assert_ne!(mark, Mark::of_token("ana"));
        assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        let text = mark.to_string();
        for bad in ["", "0", &text[1..], &text.to_uppercase(), &format!("+{}", &text[1..])] {
            assert_eq!(Mark::parse(bad), None, "{bad}");
        }
    }
}
