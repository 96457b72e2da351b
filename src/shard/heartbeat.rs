//! When a Connection is looked at again, and what is done then: pings, time limits, departures.

use std::time::Duration;

use super::connection::{Connection, Frame};
use super::{Key, SLOT_GRACE, Shard, millis, socket, spread, wheel};
use crate::protocol::error::Code;
use crate::protocol::frame::Heartbeat;
use crate::protocol::{Close, Limit, Push};
use crate::session::{Input, Moment};

/// A Shard that was stopped for longer than this judges nobody's silence by it.
const STOPPED_SLOTS: u64 = 2_000 / wheel::SLOT_MS;

impl Shard {
    pub(super) fn turn_wheel(&mut self) {
        let now = self.now().moment;
        let behind = self.wheel.turn(now, &mut self.due);
        if behind > STOPPED_SLOTS {
            // The node itself stood still: nobody is silent because of that.
            for (_, connection) in &mut self.connections {
                connection.heard = now;
                connection.pinged = None;
                connection.blocked = connection.blocked.map(|_| now);
            }
        }
        self.release();
    }

    /// Looks at a Connection whose slot has come.
    pub(super) fn look(&mut self, key: Key) {
        let now = self.now().moment;
        if self.get(key).is_some_and(|one| one.session.deadline().is_some_and(|at| at <= now)) {
            self.handle(key, Input::Clock);
        }
        let write_timeout = millis(self.world.config.write_timeout);
        let max_age = self.world.config.max_age;
        let Some(connection) = self.get(key) else {
            return;
        };
        if let Some(goodbye) = connection.goodbye {
            if goodbye.until <= now {
                return self.remove(key);
            }
        } else if connection.blocked.is_some_and(|since| now.0 - since.0 >= write_timeout) {
            self.counts.slow_consumers.add(1);
            self.counts.hit(Limit::WriteTimeout);
            self.end(key, Close::Refused(Code::SlowConsumer));
            return self.remove(key);
        } else if connection.leaves.is_some_and(|at| at.after(grace(connection)) <= now) {
            self.end(key, Close::Later(Code::Draining, spread(key)));
        } else if max_age
            .is_some_and(|age| connection.leaves.is_none() && old_at(connection, age) <= now)
        {
            self.counts.hit(Limit::MaxConnectionAge);
            self.send_away(key, Moment(now.0 + spread(key)));
        } else {
            self.beat(key, now);
        }
        self.flush(key, now);
        self.schedule(key);
    }

    /// Tells a client to leave at its slot; the wheel closes it some time after that.
    pub(super) fn send_away(&mut self, key: Key, at: Moment) {
        let now = self.now().moment;
        let Some(connection) = self.get(key) else {
            return;
        };
        if connection.leaves.is_none() {
            connection.leaves = Some(at);
            self.handle(key, Input::GoingAway(at.0.saturating_sub(now.0)));
        }
    }

    /// Pings who has been silent, and gives up who stays so.
    pub(super) fn beat(&mut self, key: Key, now: Moment) {
        let (after, timeout) = self.heartbeat();
        let Some(connection) = self.get(key) else {
            return;
        };
        match (connection.pinged, connection.heartbeat) {
            (Some(at), _) if now.0 >= at.0 + timeout => {
                self.counts.no_pongs.add(1);
                self.end(key, Close::Refused(Code::NoPong));
                // Nobody is there to close the other side.
                self.remove(key);
            }
            (Some(_), _) => {}
            (None, heartbeat)
                if now.0 >= connection.quiet_since().0 + connection.silence_ms(after) =>
            {
                if connection.is_stream() {
                    return self.send(key, &Frame::alive());
                }
                connection.pinged = Some(now);
                match heartbeat {
                    Heartbeat::Frame => self.send(key, &Frame::encoded(socket::ping())),
                    Heartbeat::Message => self.send(key, &Frame::push(Push::Ping)),
                }
            }
            (None, _) => {}
        }
    }

    /// Silence before a ping and after it. The wheel looks up to two slots late at each, so the
    /// first begins early, and both together keep what they promise.
    pub(super) fn heartbeat(&self) -> (u64, u64) {
        (
            millis(self.world.config.ping_after).saturating_sub(2 * wheel::SLOT_MS),
            millis(self.world.config.pong_timeout),
        )
    }

    /// Puts a Connection where the wheel will look at it in time.
    pub(super) fn schedule(&mut self, key: Key) {
        let (after, timeout) = self.heartbeat();
        let write_timeout = millis(self.world.config.write_timeout);
        let max_age = self.world.config.max_age;
        let Some(connection) = self.get(key) else {
            return;
        };
        let mut at = match (connection.goodbye, connection.pinged) {
            (Some(goodbye), _) => goodbye.until,
            (None, Some(pinged)) => Moment(pinged.0 + timeout),
            (None, None) => Moment(connection.quiet_since().0 + connection.silence_ms(after)),
        };
        if let Some(deadline) = connection.session.deadline() {
            at = at.min(deadline);
        }
        if let Some(blocked) = connection.blocked {
            at = at.min(Moment(blocked.0 + write_timeout));
        }
        match (connection.leaves, max_age) {
            (Some(leaves), _) => at = at.min(leaves.after(grace(connection))),
            (None, Some(age)) => at = at.min(old_at(connection, age)),
            (None, None) => {}
        }
        let waits_in = connection.slot;
        let slot = self.wheel.slot(at);
        if self.wheel.has_passed(waits_in) || slot < waits_in {
            if let Some(connection) = self.get(key) {
                connection.slot = slot;
            }
            self.wheel.put(slot, key);
        }
    }
}

/// How long after its slot it may still be here. The end of a stream tells it to go.
const fn grace(connection: &Connection) -> Duration {
    if connection.is_stream() { Duration::ZERO } else { SLOT_GRACE }
}

/// When a Connection of this greatest age is sent elsewhere: within a tenth of it, early or late.
fn old_at(connection: &Connection, max_age: Duration) -> Moment {
    let part = u64::from(connection.serial.wrapping_mul(0x9e37_79b1)) % 201;
    Moment(connection.opened.0 + millis(max_age) * (900 + part) / 1_000)
}
