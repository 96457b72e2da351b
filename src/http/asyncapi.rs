//! The socket and the streams as AsyncAPI 3, from the schemas of the Frames.
//!
//! The application that it describes is the node: it receives Commands and sends what it says. Only a
//! test makes this: the document is committed and served as it is.

use serde_json::{Map, Value, json};

use super::documents;
use crate::protocol::schema::{self, PLACE, reference};

/// Each Command, and the Reply to it.
const ASKED: [(&str, Option<&str>); 8] = [
    ("Connect", Some("Connected")),
    ("Subscribe", Some("Subscribed")),
    ("Unsubscribe", Some("Unsubscribed")),
    ("Publish", Some("Published")),
    ("History", Some("History")),
    ("Token", Some("Token")),
    ("Ping", Some("Pong")),
    ("Pong", None),
];
/// What a socket is told unasked, and what a stream brings.
const PUSHED: [&str; 8] = [
    "Message",
    "ReplayPush",
    "GapPush",
    "PositionPush",
    "UnsubscribedPush",
    "BusPush",
    "GoingAwayPush",
    "PingPush",
];
const STREAMED: [&str; 6] =
    ["Message", "GapPush", "BusPush", "PositionPush", "PingPush", "CloseLine"];

/// The document.
fn document() -> Value {
    let schemas = schema::frames();
    let commands = ASKED.map(|(command, _)| format!("{command}Command"));
    let replies = ASKED.iter().filter_map(|(_, reply)| reply.map(|reply| format!("{reply}Reply")));
    let pushes = PUSHED.map(str::to_owned);
    let error = "ErrorReply".to_owned();
    let socket: Vec<String> =
        commands.into_iter().chain(replies).chain(pushes).chain([error]).collect();
    let streamed = STREAMED.map(str::to_owned);
    let all = socket.iter().chain(&streamed);
    let messages: Map<String, Value> =
        all.map(|name| (name.clone(), message(name, &schemas))).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The frames of the socket, and the lines of streams. Fields, frames, codes \
                            and reasons are only ever added: ignore what you do not know.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "socket": server("ws"),
            "streams": server("http"),
        },
        "channels": {
            "socket": {
                "address": "/v1/connect",
                "title": "WebSocket",
                "description": "Text messages, each one JSON object: the subprotocol \
                                `tidegate.v1.json`. A close has a CloseReason.",
                "servers": [{"$ref": "#/servers/socket"}],
                "messages": carried(&socket),
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": query(&["heartbeat", "client"]),
                        "bindingVersion": "0.1.0",
                    },
                },
            },
            "events": {
                "address": "/v1/events",
                "title": "Streams",
                "description": "As lines, `application/x-ndjson`, each is one of these. As events, \
                                `text/event-stream`, a Message has no `event:`, a PingPush is a \
                                comment, and the `data:` of a `close` is a CloseReason.",
                "servers": [{"$ref": "#/servers/streams"}],
                "messages": carried(&streamed),
            },
        },
        "operations": operations(),
        "components": {
            "schemas": schemas,
            "messages": messages,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token (a signed JWT), or an API key. A socket may also bring a \
                                    token as the subprotocol `bearer.<token>`, or in `connect`. \
                                    Without one, the grants for anonymous clients count.",
                },
                "query": {
                    "type": "httpApiKey",
                    "in": "query",
                    "name": "token",
                    "description": "A token. Proxies log URLs: let it be short-lived.",
                },
            },
        },
    })
}

fn server(protocol: &str) -> Value {
    json!({
        "host": "{host}",
        "protocol": protocol,
        "variables": {"host": {"description": "Of any node.", "default": "localhost:8080"}},
        "security": [
            {"$ref": "#/components/securitySchemes/bearer"},
            {"$ref": "#/components/securitySchemes/query"},
        ],
    })
}

/// A Frame by the name of its schema. An answer carries the `id` of what it answers.
fn message(name: &str, schemas: &Map<String, Value>) -> Value {
    let schema = schemas.get(name).unwrap_or_else(|| panic!("there is no schema {name}"));
    let mut message = json!({
        "name": schema["properties"]["type"]["const"],
        "title": name,
        "summary": schema["description"],
        "payload": reference(name),
    });
    if name.ends_with("Command") || name.ends_with("Reply") {
        message["correlationId"] = json!({"location": "$message.payload#/id"});
    }
    message
}

fn carried(names: &[String]) -> Value {
    let place = |name: &String| json!({"$ref": format!("#/components/messages/{name}")});
    names.iter().map(|name| (name.clone(), place(name))).collect::<Map<_, _>>().into()
}

fn operations() -> Value {
    let on = |channel: &str, names: &[&str]| -> Vec<Value> {
        let place = |name| json!({"$ref": format!("#/channels/{channel}/messages/{name}")});
        names.iter().map(place).collect()
    };
    let channel = |name: &str| json!({"$ref": format!("#/channels/{name}")});
    let mut all = json!({
        "push": {
            "action": "send",
            "channel": channel("socket"),
            "summary": "What the node says unasked.",
            "messages": on("socket", &PUSHED),
        },
        "stream": {
            "action": "send",
            "channel": channel("events"),
            "summary": "What a client that only listens is sent.",
            "messages": on("events", &STREAMED),
            "bindings": {
                "http": {"method": "GET", "query": query(&[]), "bindingVersion": "0.3.0"},
            },
        },
    });
    for (command, reply) in ASKED {
        let frame = format!("{command}Command");
        let mut operation = json!({
            "action": "receive",
            "channel": channel("socket"),
            "messages": on("socket", &[&frame]),
        });
        if let Some(reply) = reply {
            let reply = format!("{reply}Reply");
            operation["reply"] = json!({
                "channel": channel("socket"),
                "messages": on("socket", &[&reply, "ErrorReply"]),
            });
        }
        all[command.to_lowercase()] = operation;
    }
    all
}

/// The query of a handshake or of a stream.
fn query(more: &[&str]) -> Value {
    let pattern = reference("Pattern");
    let all = json!({
        "token": {"description": "A token (JWT).", "type": "string"},
        "topic": {"type": "array", "items": pattern},
        "from": {"type": "string", "enum": ["live", "last"], "default": "live"},
        "cursor": {"description": "Cursors, joined by `,`.", "type": "string"},
        "last": schema::last(),
        "since": schema::since(),
        "heartbeat": schema::heartbeat(),
        "client": schema::client(),
    });
    let all = all.as_object().cloned().unwrap_or_default();
    let has = |name: &String| {
        !matches!(name.as_str(), "heartbeat" | "client") || more.contains(&name.as_str())
    };
    let properties: Map<String, Value> = all.into_iter().filter(|(name, _)| has(name)).collect();
    json!({"type": "object", "properties": properties})
}

/// What is committed, and so served, is what the code's types say.
#[test]
fn the_committed_document_is_this_one() {
    documents::hold("proto/asyncapi.json", &document());
}

/// No Frame is missing: each that the code knows is a message of the document.
#[test]
fn each_frame_is_here() {
    let document = document();
    let messages = document["components"]["messages"].as_object().expect("messages");
    for frames in ["Command", "Reply", "Push"] {
        let schema = &document["components"]["schemas"][frames];
        for frame in schema["oneOf"].as_array().expect("a choice") {
            let place = frame["$ref"].as_str().expect("a place");
            let name = place.trim_start_matches(&format!("#{PLACE}/"));
            assert!(messages.contains_key(name), "{name} has its line in this file's tables");
        }
    }
}
