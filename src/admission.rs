//! Who may come in, and how many at once.
//!
//! Every Connection holds a [`Pass`] from its handshake to its end, so the counts are exact over all
//! Shards and cannot leak: whoever ends drops it. Handshakes ask here before the 101, Shards when a
//! Connection's Token is known. It knows no socket and no Session.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// The bounds on coming in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connections of the node.
    pub max_connections: usize,
    /// Of these, those that are not `connected` yet.
    pub unauthenticated: usize,
    /// Connections of one Token's subject.
    pub user_connections: usize,
    /// New Connections a second, in the long run.
    pub handshakes_per_second: NonZeroU32,
    /// How many of them at once.
    pub handshakes_burst: NonZeroU32,
}

/// Why somebody may not come in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `max_connections`
    #[error("this node has all the connections that it takes")]
    Full,
    /// `unauthenticated`
    #[error("too many connections of this node have not shown a Token yet")]
    Unauthenticated,
    /// `handshakes_per_second`
    #[error("more new connections a second than this node takes")]
    TooFast(Duration),
}

/// The node's door.
#[derive(Debug)]
pub struct Admission {
    config: Config,
    handshakes: DefaultDirectRateLimiter,
    connections: AtomicUsize,
    unauthenticated: AtomicUsize,
    users: Mutex<HashMap<Arc<str>, usize>>,
}

/// The right to be connected; given back when it is dropped.
#[derive(Debug)]
pub struct Pass {
    door: Arc<Admission>,
    state: State,
}

#[derive(Debug)]
enum State {
    Unauthenticated,
    Anonymous,
    User(Arc<str>),
}

impl Admission {
    /// A door with these bounds.
    #[must_use]
    pub fn new(config: Config) -> Arc<Self> {
        let quota =
            Quota::per_second(config.handshakes_per_second).allow_burst(config.handshakes_burst);
        Arc::new(Self {
            handshakes: RateLimiter::direct(quota),
            connections: AtomicUsize::new(0),
            unauthenticated: AtomicUsize::new(0),
            users: Mutex::default(),
            config,
        })
    }

    /// Lets a handshake in, or says why not.
    ///
    /// # Errors
    /// A bound is reached.
    pub fn enter(self: &Arc<Self>) -> Result<Pass, Refused> {
        take(&self.connections, self.config.max_connections).ok_or(Refused::Full)?;
        // From here on dropping the pass gives back what was taken.
        let waiting = take(&self.unauthenticated, self.config.unauthenticated);
        let state = if waiting.is_some() { State::Unauthenticated } else { State::Anonymous };
        let pass = Pass { door: Arc::clone(self), state };
        waiting.ok_or(Refused::Unauthenticated)?;
        self.handshakes.check().map_err(|refused| {
            Refused::TooFast(refused.wait_time_from(DefaultClock::default().now()))
        })?;
        Ok(pass)
    }

    /// How many may be in.
    #[must_use]
    pub const fn connections_max(&self) -> usize {
        self.config.max_connections
    }

    /// How many are in.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        // A count is changed in one step, so nobody can leave it half done.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Its holder is known now: a user, or nobody in particular. False: that user has all the
    /// Connections that one may have. Who is known already stays who he is.
    #[must_use]
    pub fn is_for(&mut self, user: Option<&Arc<str>>) -> bool {
        if !matches!(self.state, State::Unauthenticated) {
            return true;
        }
        let Some(user) = user else {
            self.known(State::Anonymous);
            return true;
        };
        let mut users = self.door.users();
        let count = users.entry(Arc::clone(user)).or_default();
        let room = *count < self.door.config.user_connections;
        if room {
            *count += 1;
            drop(users);
            self.known(State::User(Arc::clone(user)));
        }
        room
    }

    fn known(&mut self, state: State) {
        self.door.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        self.state = state;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.door.connections.fetch_sub(1, Ordering::Relaxed);
        match &self.state {
            State::Unauthenticated => {
                self.door.unauthenticated.fetch_sub(1, Ordering::Relaxed);
            }
            State::Anonymous => {}
            State::User(user) => {
                let mut users = self.door.users();
                if let Some(count) = users.get_mut(user) {
                    *count -= 1;
                    if *count == 0 {
                        users.remove(user);
                    }
                }
            }
        }
    }
}

/// Counts one more, unless that would be over the bound.
fn take(count: &AtomicUsize, max: usize) -> Option<usize> {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < max).then_some(now + 1))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(
        max_connections: usize,
        unauthenticated: usize,
        user_connections: usize,
    ) -> Arc<Admission> {
        let plenty = NonZeroU32::new(1_000).unwrap();
        Admission::new(Config {
            max_connections,
            unauthenticated,
            user_connections,
            handshakes_per_second: plenty,
            handshakes_burst: plenty,
        })
    }

    #[test]
    fn each_bound_holds_at_n_and_refuses_at_n_plus_one() {
        let door = door(3, 2, 1);
        let (mut one, two) = (door.enter().unwrap(), door.enter().unwrap());
        assert_eq!(door.enter().unwrap_err(), Refused::Unauthenticated);
        assert!(one.is_for(Some(&"ana".into())));
        let mut three = door.enter().unwrap();
        assert_eq!(door.enter().unwrap_err(), Refused::Full);
        assert!(!three.is_for(Some(&"ana".into())));
        drop(one);
        assert!(three.is_for(Some(&"ana".into())));
        drop((two, three));
        assert_eq!(door.connections(), 0);
        assert_eq!(door.unauthenticated.load(Ordering::Relaxed), 0);
        assert!(door.users().is_empty());
    }

    #[test]
    fn new_ones_come_at_a_rate() {
        let few = NonZeroU32::new(2).unwrap();
        let door = Admission::new(Config {
            max_connections: 100,
            unauthenticated: 100,
            user_connections: 100,
            handshakes_per_second: few,
            handshakes_burst: few,
        });
        let _in = (door.enter().unwrap(), door.enter().unwrap());
        assert!(matches!(door.enter(), Err(Refused::TooFast(_))));
        assert_eq!(door.connections(), 2);
    }
}
