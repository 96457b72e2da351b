//! A NATS operator with one account: servers let in whoever shows that this account has signed for him.

use std::fmt::Write as _;

use aws_lc_rs::rand::fill;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tidegate::node::wall_clock;

/// What the letters stand for with which names begin.
const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const USER: u8 = 20 << 3;
const SEED: u8 = 18 << 3;

/// A key pair and what it is for.
struct Nkey {
    kind: u8,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl Nkey {
    fn new(kind: u8) -> Self {
        let mut seed = [0; 32];
        fill(&mut seed).expect("random bytes");
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a key pair");
        Self { kind, seed, pair }
    }

    /// The public key as NATS writes it.
    fn name(&self) -> String {
        written(&[&[self.kind], self.pair.public_key().as_ref()].concat())
    }

    /// The secret key as NATS writes it.
    fn seed(&self) -> String {
        written(&[&[SEED | self.kind >> 5, self.kind << 3], &self.seed[..]].concat())
    }

    /// Says something of somebody.
    fn says(&self, subject: &Nkey, nats: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let issued_at = wall_clock().0 / 1_000;
        let claims = json!({
            "iat": issued_at, "iss": self.name(), "sub": subject.name(), "name": "test",
            "nats": nats,
        });
        let head = part(&json!({"typ": "JWT", "alg": "ed25519-nkey"}));
        let signed = format!("{head}.{}", part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// An operator and its one account.
pub(crate) struct Operator {
    operator: Nkey,
    account: Nkey,
}

impl Operator {
    /// A new one.
    pub(crate) fn new() -> Self {
        Self { operator: Nkey::new(OPERATOR), account: Nkey::new(ACCOUNT) }
    }

    /// The lines with which a server trusts it.
    pub(crate) fn lines(&self) -> String {
        let operator =
            self.operator.says(&self.operator, &json!({"type": "operator", "version": 2}));
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1,
        });
        let account = json!({"type": "account", "version": 2, "limits": limits});
        let account = self.operator.says(&self.account, &account);
        let name = self.account.name();
        format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {name}: {account} }}\n"
        )
    }

    /// Credentials of a new user that may publish and subscribe below these.
    pub(crate) fn credentials(&self, allowed: &[&str]) -> String {
        let user = Nkey::new(USER);
        let allow = json!({"allow": allowed});
        let token = self.account.says(
            &user,
            &json!({
                "type": "user", "version": 2, "pub": allow, "sub": allow,
                "subs": -1, "data": -1, "payload": -1,
            }),
        );
        let seed = user.seed();
        format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// Base32 of the bytes and their checksum, without padding.
fn written(bytes: &[u8]) -> String {
    let all = [bytes, &checksum(bytes).to_le_bytes()].concat();
    let bits = all.iter().fold(String::new(), |mut bits, byte| {
        let _ = write!(bits, "{byte:08b}");
        bits
    });
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let five =
        bits.as_bytes().chunks(5).map(|chunk| format!("{:0<5}", String::from_utf8_lossy(chunk)));
    five.map(|five| char::from(letters[usize::from_str_radix(&five, 2).expect("bits")])).collect()
}

/// CRC-16/XMODEM.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}
