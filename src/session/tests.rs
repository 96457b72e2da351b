//! Tests of the Session.
