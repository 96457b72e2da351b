//! `tidegate history`: what is kept of one Topic, oldest first, page by page over HTTP.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::frame::Frame;
use super::gateway::Gateway;
use super::output::{Output, note};
use super::{Failure, From, Remote, Topic, from, wait};
use crate::protocol::json::HISTORY_ITEMS_MAX;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whose history, such as dash.eu
    #[arg(value_parser = Topic::parse)]
    topic: Topic,
    /// Where to begin: behind a Cursor, with the last N, or at a time [default: with the oldest]
    #[arg(long, value_name = "CURSOR|N|TIME", value_parser = from::reading)]
    from: Option<From>,
    /// End after so many Publications
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    remote: Remote,
}

/// What the gateway answers.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Page<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
    next: Option<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { topic, from, limit, remote } = arguments;
    let out = Output::new(remote.json);
    let gateway = Gateway::new(remote.url, remote.token);
    wait(print(&gateway, &topic, from.as_ref().map(from::query), limit, &out))
}

async fn print(
    gateway: &Gateway,
    topic: &Topic,
    mut from: Option<(&'static str, String)>,
    mut left: u64,
    out: &Output,
) -> Result<(), Failure> {
    let client = Gateway::client()?;
    loop {
        let mut url = gateway.route(&["v1", "topics", topic.as_str(), "messages"]);
        let limit = left.min(HISTORY_ITEMS_MAX.into());
        url.query_pairs_mut().append_pair("limit", &limit.to_string()).extend_pairs(from);
        let body = gateway.answer(client.get(url)).await?;
        let page: Page<'_> = serde_json::from_slice(&body).map_err(|_| foreign())?;
        for item in &page.items {
            if out.json {
                out.line(item.get())?;
            } else {
                let frame: Frame<'_> = serde_json::from_str(item.get()).map_err(|_| foreign())?;
                out.line(frame.message(out))?;
            }
        }
        left = left.saturating_sub(page.items.len() as u64);
        match page.next {
            Some(next) if left > 0 => from = Some(("cursor", next)),
            Some(next) => {
                note(format_args!("there is more: --from {next}"));
                return Ok(());
            }
            None => return Ok(()),
        }
    }
}

fn foreign() -> Failure {
    Failure::failed("the answer is not that of a Tidegate gateway")
}
