//! A Shard's part in what all nodes are asked for: rare, so it looks at everybody it has.

use tokio::sync::mpsc;

use super::{Key, Shard};
use crate::auth::Claims;
use crate::control::{Errand, Whom};
use crate::protocol::{Close, Code};

/// Looks for those who are to go, some at a time.
pub(super) struct Sweep {
    whom: Whom,
    left: Vec<Key>,
    ended: usize,
    answer: mpsc::Sender<usize>,
}

impl Shard {
    pub(super) fn take_errand(&mut self, errand: Errand, keys: Vec<Key>) {
        match errand {
            Errand::End(whom, answer) => {
                let left = match &whom {
                    Whom::Connection(name) => self.named(name).into_iter().collect(),
                    Whom::User(..) | Whom::Token(_) | Whom::Revoked => keys,
                };
                self.sweep = Some(Sweep { whom, left, ended: 0, answer });
            }
            Errand::List(listing, answer) => {
                // Who asked may have given up.
                let _ = answer.try_send(self.table.topics(&listing));
            }
        }
    }

    /// Where a Connection is, by its name.
    fn named(&self, name: &str) -> Option<Key> {
        let packed = u64::from_str_radix(name.rsplit_once('-')?.1, 16).ok()?;
        Some(Key::unpack(packed)).filter(|key| *self.name(*key) == *name)
    }

    /// Ends one of them if it is to go; behind the last it says how many those were.
    pub(super) fn sweep_one(&mut self) {
        let Some(mut sweep) = self.sweep.take() else {
            return;
        };
        let Some(key) = sweep.left.pop() else {
            // The same.
            let _ = sweep.answer.try_send(sweep.ended);
            return;
        };
        if self.is_to_go(key, &sweep.whom) {
            self.end(key, Close::Refused(Code::Revoked));
            sweep.ended += 1;
        }
        self.sweep = Some(sweep);
    }

    fn is_to_go(&self, key: Key, whom: &Whom) -> bool {
        let connection = self.connections.get(key.index as usize);
        let Some(connection) =
            connection.filter(|one| one.serial == key.serial && one.goodbye.is_none())
        else {
            return false;
        };
        let claims = connection.session.claims();
        let is_older = |claims: &Claims, at| claims.issued_at.is_none_or(|issued| issued <= at);
        match (whom, claims) {
            (Whom::Connection(_), _) => true,
            (_, None) => false,
            (Whom::User(subject, at), Some(claims)) => {
                claims.who.user() == Some(subject) && is_older(claims, *at)
            }
            (Whom::Token(id), Some(claims)) => claims.token_id.as_ref() == Some(id),
            (Whom::Revoked, Some(claims)) => self.world.auth.is_revoked(claims),
        }
    }
}
