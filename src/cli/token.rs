//! `tidegate token`: makes Tokens for clients and API keys for backends.
//!
//! The text is printed alone, so that a shell can take it: `TIDEGATE_TOKEN=$(tidegate token …)`.

use std::time::Duration;

use clap::Args;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::output::{Output, note};
use super::{Failure, File, now};
use crate::auth::{Algorithm, NewToken, make_api_key};
use crate::config::{Config, Overrides};
use crate::measure::span;
use crate::topic::Pattern;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whose Token: its subject
    #[arg(long, required_unless_present = "api_key", conflicts_with = "api_key")]
    sub: Option<String>,
    /// Make an API key of this name instead, and its entry for auth.api_keys_file
    #[arg(long, value_name = "NAME")]
    api_key: Option<String>,
    /// What may be subscribed to; {sub} stands for the subject
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// Where may be published
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// What may be read back
    #[arg(long, value_name = "PATTERN")]
    history: Vec<String>,
    /// Let the API key end other clients' connections
    #[arg(long, requires = "api_key", conflicts_with = "sub")]
    disconnect: bool,
    /// How long the Token is good, at most 24h
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = life)]
    ttl: Duration,
    #[command(flatten)]
    file: File,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let out = Output::bare(arguments.json);
    match (&arguments.sub, &arguments.api_key) {
        (Some(subject), _) => {
            let config = arguments.file.load(&Overrides::default())?;
            let may = May {
                subscribe: arguments.subscribe.clone(),
                publish: arguments.publish.clone(),
                history: arguments.history.clone(),
            };
            let token = sign(&config, subject.clone(), may, arguments.ttl)?;
            if out.json { out.line(json!({ "token": token })) } else { out.line(token) }
        }
        (None, Some(name)) => {
            let (key, entry) = api_key(name, &arguments)?;
            if out.json {
                return out.line(json!({ "key": key, "entry": entry }));
            }
            out.line(key)?;
            let words = "the line for auth.api_keys_file; the key itself is stored nowhere:";
            note(words);
            out.line(entry)
        }
        (None, None) => Err(Failure::usage("it needs --sub or --api-key")),
    }
}

/// What a Token lets its holder subscribe to, publish to and read back.
pub(super) struct May {
    pub(super) subscribe: Vec<String>,
    pub(super) publish: Vec<String>,
    pub(super) history: Vec<String>,
}

/// Signs a Token with the first HMAC issuer.
pub(super) fn sign(
    config: &Config,
    subject: String,
    may: May,
    life: Duration,
) -> Result<String, Failure> {
    let hmac = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    let issuers = &config.auth.issuers;
    let issuer =
        issuers.iter().find(|issuer| hmac.contains(&issuer.algorithm)).ok_or_else(|| {
            Failure::usage(
                "auth.issuers: none has HS256, HS384 or HS512, and no other key can sign",
            )
        })?;
    let May { subscribe, publish, history } = may;
    let draft = NewToken {
        subject,
        subscribe,
        publish,
        history,
        life,
        issuer: issuer.issuer.clone(),
        audience: issuer.audience.clone(),
        algorithm: issuer.algorithm,
    };
    let secret = issuer.secret().map_err(Failure::usage)?;
    draft.sign(secret.expose_secret(), now()).map_err(Failure::usage)
}

/// A key, and its entry with the Patterns asked for.
fn api_key(name: &str, arguments: &Arguments) -> Result<(String, String), Failure> {
    let (key, mut entry) =
        make_api_key(name).map_err(|fault| Failure::usage(format!("--api-key: {}", fault.what)))?;
    let verbs = [
        ("publish", &arguments.publish),
        ("history", &arguments.history),
        ("subscribe", &arguments.subscribe),
    ];
    for (verb, texts) in verbs.into_iter().filter(|(_, texts)| !texts.is_empty()) {
        let mut list = Vec::new();
        for text in texts {
            let pattern = Pattern::parse(text)
                .map_err(|why| Failure::usage(format!("--{verb} {text:?}: {why}")))?;
            // No Pattern holds what YAML would read otherwise inside quotes.
            list.push(format!("\"{pattern}\""));
        }
        let filled = format!("{verb}: [{}]", list.join(", "));
        let empty = format!("{verb}: []");
        entry = if entry.contains(&empty) {
            entry.replace(&empty, &filled)
        } else {
            entry.replace('}', &format!(", {filled}}}"))
        };
    }
    if arguments.disconnect {
        entry = entry.replace("disconnect: false", "disconnect: true");
    }
    Ok((key, entry))
}

/// Reads `--ttl`.
fn life(text: &str) -> Result<Duration, String> {
    match span(text) {
        Some(life) if life > Duration::from_secs(24 * 3600) => Err("is over 24h".to_owned()),
        Some(life) if life >= Duration::from_secs(1) => Ok(life),
        _ => Err("is no duration such as 30m or 1h".to_owned()),
    }
}
