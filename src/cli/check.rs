//! `tidegate check`: what would be in force, and what a Token may do with it.
//!
//! That the configuration is whole, its files included, was seen when it was loaded; a fault never
//! reaches this command.

use serde_json::{Map, Value, json};

use super::output::{Output, Tone};
use super::{Exit, Failure, now};
use crate::auth::{API_KEY_PREFIX, Auth, Claims, Grants, Token, Verb, Who};
use crate::config::{Config, nofile};
use crate::protocol::json::rfc3339;

pub(super) fn run(config: &Config, token: Option<String>, out: &Output) -> Result<(), Failure> {
    let answer = match token {
        Some(text) => claims(config, text)?,
        None => in_force(config),
    };
    if out.json {
        return out.line(answer);
    }
    let mut rows = Vec::new();
    flatten("", &answer, &mut rows);
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in rows {
        let pad = " ".repeat(width - key.len());
        let key = out.tone(Tone::Name, &key);
        out.line(format!("{key}{pad}  {value}"))?;
    }
    Ok(())
}

/// Every setting with its value.
fn in_force(config: &Config) -> Value {
    let auth = &config.auth;
    let issuers: Vec<Value> = auth
        .issuers
        .iter()
        .map(|issuer| {
            json!({
                "issuer": issuer.issuer,
                "audience": issuer.audience,
                "algorithm": issuer.algorithm,
                "key_file": issuer.key_file,
            })
        })
        .collect();
    let namespaces: Map<String, Value> =
        config.namespaces.iter().map(|(name, rules)| (name.clone(), json!(rules))).collect();
    json!({
        "listen": config.listen,
        "management": config.management,
        "shards": config.shards,
        "node": config.node,
        "nats": config.nats,
        "auth": {
            "issuers": issuers,
            "api_keys_file": auth.api_keys_file,
            "anonymous": grants(&auth.anonymous),
            "origins": auth.origins,
        },
        "namespaces": namespaces,
        "strict": config.strict,
        "limits": config.limits,
        "drain": config.drain,
        "log": config.log,
        "nofile": nofile(),
    })
}

/// What this Token or API key says; refused, if it is not good here.
fn claims(config: &Config, text: String) -> Result<Value, Failure> {
    let auth = Auth::open(&config.auth).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::usage(lines.join("\n"))
    })?;
    let read = if text.starts_with(API_KEY_PREFIX) {
        auth.api_key(&text)
    } else {
        auth.verify(&Token::new(text), now())
    };
    let claims = read.map_err(|why| Failure::new(Exit::Refused, why))?;
    Ok(said(&claims))
}

fn said(claims: &Claims) -> Value {
    let (kind, name) = match &claims.who {
        Who::User(subject) => ("user", subject.as_ref()),
        Who::Key(name) => ("key", name.as_ref()),
        Who::Anonymous => ("anonymous", ""),
    };
    let mut out = json!({ kind: name, "may": grants(&claims.grants) });
    if let Some(at) = claims.expires_at {
        out["expires_at"] = rfc3339(at).into();
    }
    if let Some(id) = &claims.token_id {
        out["token_id"] = id.as_ref().into();
    }
    if claims.disconnect {
        out["disconnect"] = true.into();
    }
    out
}

fn grants(grants: &Grants) -> Value {
    Verb::ALL.iter().map(|&verb| (verb.as_str().to_owned(), json!(grants.of(verb)))).collect()
}

/// Rows of key and value; what is empty says so.
fn flatten(key: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let under = |part: &str| {
        if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") }
    };
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (part, value) in entries {
                flatten(&under(part), value, rows);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, value) in items.iter().enumerate() {
                flatten(&under(&index.to_string()), value, rows);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            rows.push((key.to_owned(), texts.join(" ")));
        }
        Value::Null | Value::Array(_) | Value::Object(_) => {
            rows.push((key.to_owned(), "-".to_owned()));
        }
        Value::String(text) => rows.push((key.to_owned(), text.clone())),
        other => rows.push((key.to_owned(), other.to_string())),
    }
}
