//! `tidegate disconnect`: sends a user, a Token or a Connection away, from every node.

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::gateway::Gateway;
use super::output::{Output, note};
use super::{Failure, Remote, wait};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    remote: Remote,
}

/// Exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// All that this user has open; Tokens issued until now count no more
    #[arg(long)]
    user: Option<String>,
    /// All that is open under the Token with this jti, which counts no more
    #[arg(long, value_name = "JTI")]
    token_id: Option<String>,
    /// This Connection; it may come back
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
}

/// What the gateway answers.
#[derive(Debug, Deserialize)]
struct Disconnected {
    closed: u64,
    silent_nodes: u64,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { whom: Whom { user, token_id, connection }, remote } = arguments;
    let named = [("user", user), ("token_id", token_id), ("connection", connection)];
    let body = named.into_iter().find_map(|(field, name)| Some(json!({ field: name? })));
    let body = body.ok_or_else(|| Failure::usage("it needs --user, --token-id or --connection"))?;
    let out = Output::new(remote.json);
    let gateway = Gateway::new(remote.url, remote.token);
    wait(send(&gateway, body.to_string(), &out))
}

async fn send(gateway: &Gateway, body: String, out: &Output) -> Result<(), Failure> {
    let route = gateway.route(&["v1", "disconnect"]);
    let request = Gateway::client()?.post(route).body(body);
    let body = gateway.answer(request).await?;
    if out.json {
        return out.line(String::from_utf8_lossy(&body).trim_end());
    }
    let Disconnected { closed, silent_nodes } = serde_json::from_slice(&body)
        .map_err(|_| Failure::failed("the answer is not that of a Tidegate gateway"))?;
    if silent_nodes > 0 {
        note(format!("{silent_nodes} nodes have not answered; what they closed is not counted"));
    }
    out.line(format!("{closed} closed"))
}
