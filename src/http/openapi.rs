//! The HTTP interface as OpenAPI 3.1: each route of the client port, made from the code's own types.
//!
//! A route has its line in [`routes`], with what it takes and answers; one that is in the route table
//! and not here fails a test. Only a test makes this: the document is committed and served as it is.
//!
//! The management port is left out: no route from outside leads there, and a client that is made from
//! the document should hold nothing that it cannot reach.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    Content, InfoBuilder, License, OpenApiBuilder, Ref, Required, ResponseBuilder, Server,
};

use super::{control, documents, problem, publish};
use crate::auth::{SUBJECT_BYTES_MAX, TOKEN_ID_BYTES_MAX};
use crate::protocol::{Close, Code, Envelope, Push, schema};
use crate::publication::Cursor;
use crate::topic::{Pattern, Topic};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const PROBLEM: &str = "application/problem+json";

/// Every route may refuse for these.
const ANY: [Code; 3] = [Code::Origin, Code::Revoked, Code::Internal];
/// Whoever publishes is refused for these; a batch tells most of them item by item.
const PUBLISH: [Code; 12] = [
    Code::BadMessage,
    Code::InvalidTopic,
    Code::Unauthenticated,
    Code::TokenExpired,
    Code::Forbidden,
    Code::NotFound,
    Code::TooBig,
    Code::RateLimited,
    Code::Overloaded,
    Code::BusUnavailable,
    Code::OutcomeUnknown,
    Code::StorageFull,
];
const BATCH: [Code; 4] =
    [Code::BadMessage, Code::Unauthenticated, Code::TokenExpired, Code::TooBig];
/// Whoever reads what is kept.
const READ: [Code; 10] = [
    Code::BadMessage,
    Code::InvalidTopic,
    Code::InvalidCursor,
    Code::Unauthenticated,
    Code::TokenExpired,
    Code::Forbidden,
    Code::NotFound,
    Code::NotSupported,
    Code::Overloaded,
    Code::BusUnavailable,
];
/// Whoever asks all nodes.
const ALL_NODES: [Code; 7] = [
    Code::BadMessage,
    Code::Unauthenticated,
    Code::TokenExpired,
    Code::Forbidden,
    Code::RateLimited,
    Code::Overloaded,
    Code::BusUnavailable,
];
const CONNECT: [Code; 8] = [
    Code::BadMessage,
    Code::InvalidFrom,
    Code::InvalidCursor,
    Code::SubprotocolRequired,
    Code::Unauthenticated,
    Code::TooManySubscriptions,
    Code::Overloaded,
    Code::Draining,
];
const EVENTS: [Code; 13] = [
    Code::BadMessage,
    Code::InvalidTopic,
    Code::InvalidFrom,
    Code::InvalidCursor,
    Code::Unauthenticated,
    Code::TokenExpired,
    Code::Forbidden,
    Code::TooManyTopics,
    Code::TooManySubscriptions,
    Code::ConnectionLimit,
    Code::Overloaded,
    Code::Draining,
    Code::BusUnavailable,
];

/// Each route: its method and path, the name that generated clients call it by, and the rest.
fn routes() -> Vec<(HttpMethod, &'static str, Route)> {
    use HttpMethod::{Delete, Get, Head, Post};
    let topic = || path("topic", "Topic");
    vec![
        (
            Get,
            "/v1/connect",
            Route::new("connect", "Opens a WebSocket, of which `/asyncapi.json` tells")
                .token_in_query()
                .takes(subscribing())
                .take(query("heartbeat", "Heartbeat", "How the node shows life on a quiet socket."))
                .take(query("client", "Client", "Who connects."))
                .answer(
                    "101",
                    ResponseBuilder::new().description("From here on it is a WebSocket."),
                )
                .problem("426", "`bad_message`: this is no WebSocket handshake of version 13.")
                .refuses(&CONNECT),
        ),
        (
            Get,
            "/v1/events",
            Route::new("events", "Streams what is published, as events or as lines of JSON")
                .token_in_query()
                .takes(subscribing())
                .take(header("Last-Event-ID", "Cursors", "Where to go on; wins over the query."))
                .answer("200", stream())
                .refuses(&EVENTS),
        ),
        (
            Get,
            "/v1/topics/{topic}/messages",
            Route::new("readHistory", "Reads a page of a topic's history, oldest first")
                .take(topic())
                .take(query("cursor", "Cursors", "After this place: the `next` of a page."))
                .take(query("last", "Last", "The last so many."))
                .take(query("since", "Since", "What was stored at that time or later."))
                .take(query("limit", "Limit", "Most items."))
                .answer("200", json("A page.", "HistoryPage").header("Cache-Control", of("Text")))
                .refuses(&[&READ[..], &[Code::InvalidFrom]].concat()),
        ),
        (
            Get,
            "/v1/topics/{pattern}/state",
            Route::new("readState", "Reads the newest value of each topic, by rising offset")
                .take(path("pattern", "Pattern"))
                .take(query("cursor", "Cursor", "The `next` of the page before."))
                .take(header("If-None-Match", "Text", "The `ETag` of a page that is known."))
                .answer(
                    "200",
                    json("A page.", "StatePage")
                        .header("ETag", of("Text"))
                        .header("Cache-Control", of("Text")),
                )
                .answer("304", known())
                .refuses(&[&READ[..], &[Code::TooManyTopics]].concat()),
        ),
        (
            Post,
            "/v1/topics/{topic}/messages",
            Route::new("publish", "Publishes one payload")
                .take(topic())
                .take(header(
                    "Idempotency-Key",
                    "Key",
                    "Repeating with the same one is recognised.",
                ))
                .body(payload())
                .answer("200", json("It is done.", "Receipt"))
                .refuses(&PUBLISH),
        ),
        (
            Delete,
            "/v1/topics/{topic}",
            Route::new("deleteValue", "Takes a topic's value away, by publishing a tombstone")
                .take(topic())
                .take(header(
                    "Idempotency-Key",
                    "Key",
                    "Repeating with the same one is recognised.",
                ))
                .answer("200", json("It is done.", "Receipt"))
                .refuses(&PUBLISH),
        ),
        (
            Post,
            "/v1/publish",
            Route::new("publishBatch", "Publishes many at once, in order")
                .body(
                    RequestBodyBuilder::new()
                        .description(Some("The body's form decides, not its `Content-Type`."))
                        .content(JSON, content("Batch"))
                        .content(LINES, content("Lines"))
                        .required(Some(Required::True))
                        .build(),
                )
                .answer(
                    "200",
                    json("What became of each: in the form of the question.", "Results")
                        .content(LINES, content("Lines")),
                )
                .refuses(&BATCH),
        ),
        (
            Get,
            "/v1/topics",
            Route::new("listTopics", "Lists topics that somebody is subscribed to by name")
                .take(query("prefix", "Topic", "This one and those below it."))
                .take(query("after", "Topic", "Behind this one: the `next` of a page."))
                .take(query("limit", "Limit", "Most topics."))
                .answer(
                    "200",
                    json("A page, sorted.", "TopicPage").header("Cache-Control", of("Text")),
                )
                .refuses(&[&ALL_NODES[..], &[Code::InvalidTopic]].concat()),
        ),
        (
            Post,
            "/v1/disconnect",
            Route::new("disconnect", "Sends a user, a token or a connection away, from every node")
                .body(
                    RequestBodyBuilder::new()
                        .content(JSON, content("Target"))
                        .required(Some(Required::True))
                        .build(),
                )
                .answer("200", json("It is done.", "Disconnected"))
                .refuses(
                    &[&ALL_NODES[..], &[Code::TooBig, Code::OutcomeUnknown, Code::StorageFull]]
                        .concat(),
                ),
        ),
        (Get, "/tidegate.js", file("script", "The client library for browsers", "text/javascript")),
        (Head, "/tidegate.js", head("scriptHead", "Whether the client library is as it was")),
        (Get, "/openapi.json", file("openapi", "This document", JSON)),
        (Head, "/openapi.json", head("openapiHead", "Whether this document is as it was")),
        (Get, "/asyncapi.json", file("asyncapi", "The socket and the streams, as AsyncAPI", JSON)),
        (Head, "/asyncapi.json", head("asyncapiHead", "Whether that document is as it was")),
    ]
}

/// The document.
fn document() -> Value {
    let mut paths = PathsBuilder::new();
    for (method, path, route) in routes() {
        paths = paths.path(path, PathItem::new(method, route.finished(path.starts_with("/v1/"))));
    }
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    let info = InfoBuilder::new()
        .title("Tidegate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Publishing, reading what is kept, and streams. Fields, codes and routes are only ever \
             added: ignore what you do not know.",
        ))
        .license(Some(license));
    let document =
        OpenApiBuilder::new().info(info).servers(Some([Server::new("/")])).paths(paths).build();
    let mut document = serde_json::to_value(document).expect("JSON");
    // A schema is taken as it is: not all that may stand in one has a place in a type of utoipa's.
    let mut schemas = schemas();
    retain_used(&document, &mut schemas);
    document["components"] = json!({
        "schemas": schemas,
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "A token (a signed JWT), or an API key. Without one, the grants for \
                                anonymous clients count.",
            },
            "query": {
                "type": "apiKey",
                "in": "query",
                "name": "token",
                "description": "A token. Proxies log URLs: let it be short-lived.",
            },
        },
    });
    document
}

/// What a route takes and answers, as far as it is said.
struct Route {
    operation: OperationBuilder,
    security: Vec<SecurityRequirement>,
    /// Codes by their status.
    refusals: BTreeMap<u16, Vec<&'static str>>,
}

impl Route {
    fn new(id: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary));
        let bearer = SecurityRequirement::new("bearer", [""; 0]);
        let security = vec![SecurityRequirement::default(), bearer];
        Self { operation, security, refusals: BTreeMap::new() }
    }

    fn take(mut self, parameter: Parameter) -> Self {
        self.operation = self.operation.parameter(parameter);
        self
    }

    fn takes(self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        parameters.into_iter().fold(self, Self::take)
    }

    fn token_in_query(mut self) -> Self {
        self.security.push(SecurityRequirement::new("query", [""; 0]));
        self
    }

    fn body(mut self, body: RequestBody) -> Self {
        self.operation = self.operation.request_body(Some(body));
        let words = "`bad_message`: the body did not come in time.";
        self.problem("408", words)
    }

    fn answer(mut self, status: &str, answer: ResponseBuilder) -> Self {
        self.operation = self.operation.response(status, answer);
        self
    }

    fn problem(self, status: &str, words: &str) -> Self {
        let answer = ResponseBuilder::new().description(words);
        self.answer(status, answer.content(PROBLEM, content("Problem")))
    }

    fn refuses(mut self, codes: &[Code]) -> Self {
        for code in codes {
            let status = code.row().status.expect("a status");
            self.refusals.entry(status).or_default().push(code.text());
        }
        self
    }

    /// With what all routes of the interface have in common.
    fn finished(mut self, is_guarded: bool) -> OperationBuilder {
        let mut security = None;
        if is_guarded {
            self = self.refuses(&ANY).take(header(
                "traceparent",
                "Trace",
                "The trace that the request belongs to (W3C Trace Context).",
            ));
            security = Some(std::mem::take(&mut self.security));
        }
        for (status, codes) in std::mem::take(&mut self.refusals) {
            let mut answer = ResponseBuilder::new()
                .description(format!("`{}`", codes.join("`, `")))
                .content(PROBLEM, content("Problem"))
                .header("traceresponse", of("Trace"));
            match status {
                401 => answer = answer.header("WWW-Authenticate", of("Text")),
                429 | 503 => answer = answer.header("Retry-After", of("Seconds")),
                _ => {}
            }
            self = self.answer(&status.to_string(), answer);
        }
        let words = "The URL is longer than 8 KiB.";
        self = self.answer("414", ResponseBuilder::new().description(words));
        self.operation.securities(security)
    }
}

fn content(schema: &str) -> Content {
    Content::new(Some(Ref::from_schema_name(schema)))
}

fn of(schema: &str) -> Header {
    Header::new(Ref::from_schema_name(schema))
}

fn json(words: &str, schema: &str) -> ResponseBuilder {
    let answer = ResponseBuilder::new().description(words).content(JSON, content(schema));
    answer.header("traceresponse", of("Trace"))
}

fn known() -> ResponseBuilder {
    let answer = ResponseBuilder::new().description("It is as it was.");
    answer.header("ETag", of("Text")).header("Cache-Control", of("Text"))
}

fn parameter(place: ParameterIn, name: &str, schema: &str, words: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .description(Some(words))
        .required(Required::False)
        .schema(Some(Ref::from_schema_name(schema)))
}

fn query(name: &str, schema: &str, words: &str) -> Parameter {
    parameter(ParameterIn::Query, name, schema, words).build()
}

fn header(name: &str, schema: &str, words: &str) -> Parameter {
    parameter(ParameterIn::Header, name, schema, words).build()
}

fn path(name: &str, schema: &str) -> Parameter {
    let words = "Percent-decoded once, and then checked.";
    parameter(ParameterIn::Path, name, schema, words).required(Required::True).build()
}

/// What a query says that subscribes.
fn subscribing() -> [Parameter; 5] {
    let one = "At most one of `from`, `cursor`, `last` and `since` says where to begin.";
    [
        query("topic", "Patterns", "What to subscribe to."),
        query("from", "Start", one),
        query("cursor", "Cursors", one),
        query("last", "Last", one),
        query("since", "Since", one),
    ]
}

fn stream() -> ResponseBuilder {
    ResponseBuilder::new()
        .description(
            "The stream; by `Accept: application/x-ndjson` as lines. As events, what is 503 \
             elsewhere is 200 too, a `retry:`, an `event: close` and the end.",
        )
        .content("text/event-stream", content("Events"))
        .content(LINES, content("Lines"))
        .header("Cache-Control", of("Text"))
        .header("traceresponse", of("Trace"))
}

fn payload() -> RequestBody {
    RequestBodyBuilder::new()
        .description(Some(
            "The payload, as it is: its `Content-Type` is not looked at. Without a byte it is a \
             tombstone.",
        ))
        .content(JSON, content("Any"))
        .content("text/plain", content("Text"))
        .content("application/octet-stream", content("Bytes"))
        .required(Some(Required::False))
        .build()
}

fn file(id: &str, summary: &str, kind: &str) -> Route {
    let schema = if kind == JSON { "Any" } else { "Text" };
    let answer = ResponseBuilder::new().description("The file.").content(kind, content(schema));
    let answer = answer.header("ETag", of("Text")).header("Cache-Control", of("Text"));
    let known_by = header("If-None-Match", "Text", "The `ETag` of a file that is known.");
    Route::new(id, summary).take(known_by).answer("200", answer).answer("304", known())
}

fn head(id: &str, summary: &str) -> Route {
    let answer = ResponseBuilder::new().description("The file is there.");
    let answer = answer.header("ETag", of("Text")).header("Cache-Control", of("Text"));
    let known_by = header("If-None-Match", "Text", "The `ETag` of a file that is known.");
    Route::new(id, summary).take(known_by).answer("200", answer).answer("304", known())
}

/// All schemas by their names: those of types, and of what is read or written by hand.
fn schemas() -> Map<String, Value> {
    let mut generator: SchemaGenerator = schema::generator();
    generator.subschema_for::<problem::Body<'_>>();
    generator.subschema_for::<publish::Receipt>();
    generator.subschema_for::<publish::Results>();
    generator.subschema_for::<control::Ended>();
    generator.subschema_for::<control::Page>();
    generator.subschema_for::<Envelope>();
    generator.subschema_for::<Push>();
    generator.subschema_for::<Close>();
    generator.subschema_for::<schema::LastLine>();
    generator.subschema_for::<Pattern>();
    let topic = Value::from(generator.subschema_for::<Topic>());
    let cursor = Value::from(generator.subschema_for::<Cursor>());
    let message = Value::from(generator.subschema_for::<Envelope>());
    let mut all = schema::collected(generator);
    let mut item = schema::payload();
    item.insert("topic".to_owned(), topic.clone());
    item.insert("topics".to_owned(), json!({"type": "array", "minItems": 1, "items": topic}));
    item.insert("key".to_owned(), schema::key());
    let page = |mut fields: Value, required: Value| {
        fields["items"] = json!({"type": "array", "items": message});
        fields["next"] = cursor.clone();
        json!({"type": "object", "required": required, "properties": fields})
    };
    let text = |most: usize| json!({"type": "string", "minLength": 1, "maxLength": most});
    let place = "[a-z2-7]{6}-(0|[1-9a-f][0-9a-f]{0,15})(-[0-9a-f]{4})?";
    let own = json!({
        "Any": {"description": "Any JSON value."},
        "Text": {"type": "string"},
        "Bytes": {"description": "Any bytes."},
        "Lines": {
            "description": "One JSON object a line: a StreamLine, a BatchItem, or one of Results.",
            "type": "string",
            "contentMediaType": LINES,
        },
        "Events": {
            "description": "Server-Sent Events. One without an `event:` holds a Message in its \
                            `data:`; `gap`, `bus`, `position` and `close` hold a GapPush, BusPush, \
                            PositionPush and CloseReason. `id:` holds Cursors.",
            "type": "string",
            "contentMediaType": "text/event-stream",
        },
        "StreamLine": {
            "oneOf": [
                schema::reference("Message"),
                schema::reference("GapPush"),
                schema::reference("BusPush"),
                schema::reference("PositionPush"),
                schema::reference("PingPush"),
                schema::reference("CloseLine"),
            ],
        },
        "Batch": {
            "type": "object",
            "required": ["messages"],
            "properties": {
                "messages": {"type": "array", "maxItems": 1_000, "items": schema::reference("BatchItem")},
            },
        },
        "BatchItem": {
            "type": "object",
            "properties": item,
            "allOf": [
                {"oneOf": [{"required": ["topic"]}, {"required": ["topics"]}]},
                {"oneOf": schema::one_payload()},
            ],
        },
        "HistoryPage": page(json!({"topic": topic}), json!(["topic", "items"])),
        "StatePage": page(json!({"cursor": cursor}), json!(["items", "cursor"])),
        "Target": {
            "description": "Who is to go.",
            "type": "object",
            "properties": {
                "user": text(SUBJECT_BYTES_MAX),
                "token_id": text(TOKEN_ID_BYTES_MAX),
                "connection": text(control::CONNECTION_BYTES_MAX),
            },
            "oneOf": [{"required": ["user"]}, {"required": ["token_id"]}, {"required": ["connection"]}],
        },
        "Patterns": {
            "type": "array",
            "maxItems": 128,
            "items": schema::reference("Pattern"),
        },
        "Cursors": {
            "description": "Cursors, of several namespaces joined by `,`.",
            "type": "string",
            "pattern": format!("^{place}(,{place}){{0,31}}$"),
        },
        "Start": {"type": "string", "enum": ["live", "last"], "default": "live"},
        "Last": schema::last(),
        "Since": schema::since(),
        "Limit": schema::limit(),
        "Key": schema::key(),
        "Client": schema::client(),
        "Heartbeat": schema::heartbeat(),
        "Seconds": {"type": "integer", "minimum": 1},
        "Trace": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
    });
    all.extend(own.as_object().cloned().unwrap_or_default());
    all
}

/// Leaves out what nothing leads to.
fn retain_used(document: &Value, schemas: &mut Map<String, Value>) {
    let mut used = Vec::new();
    names(document, &mut used);
    // Told in words, where a text is not JSON as a whole.
    used.extend(["StreamLine", "BatchItem", "CloseReason"].map(str::to_owned));
    let mut at = 0;
    while let Some(name) = used.get(at).cloned() {
        let schema = schemas.get(&name).unwrap_or_else(|| panic!("there is no schema {name}"));
        names(schema, &mut used);
        at += 1;
    }
    schemas.retain(|name, _| used.contains(name));
}

/// The schemas that a value leads to.
fn names(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                match value.as_str().and_then(|text| text.rsplit_once('/')) {
                    Some((_, name)) if field == "$ref" && !found.iter().any(|one| one == name) => {
                        found.push(name.to_owned());
                    }
                    _ => names(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

/// What is committed, and so served, is what the code's types say.
#[test]
fn the_committed_document_is_this_one() {
    documents::hold("proto/openapi.json", &document());
}

/// Each route of the client port is in the document, by its method, and no other: reads the route
/// table's own text. What only `dev` has is not for clients.
#[test]
fn each_route_of_the_table_is_here() {
    let (_, table) = include_str!("mod.rs").split_once("fn client_routes").expect("the table");
    let (table, _) = table.split_once("\n}\n").expect("its end");
    let mut wanted = Vec::new();
    for resource in table.split("web::resource(\"").skip(1) {
        let (path, rest) = resource.split_once('"').expect("a path");
        for route in rest.split(".route(web::").skip(1) {
            let (method, _) = route.split_once('(').expect("a method");
            wanted.push(format!("{method} {path}"));
        }
    }
    let document = document();
    let paths = document["paths"].as_object().expect("paths");
    let methods = |(path, item): (&String, &Value)| {
        let methods = item.as_object().cloned().unwrap_or_default();
        methods.into_iter().map(|(method, _)| format!("{method} {path}")).collect::<Vec<_>>()
    };
    let mut found: Vec<String> = paths.iter().flat_map(methods).collect();
    wanted.sort();
    found.sort();
    assert!(wanted.len() >= 13, "{wanted:?}");
    assert_eq!(found, wanted, "a route of the table has its line in `routes` of this file");
}

/// Generated clients call a route by its name: each has one of its own.
#[test]
fn each_route_has_a_name_of_its_own() {
    let document = document();
    let items = document["paths"].as_object().expect("paths").values();
    let operations = items.flat_map(|item| item.as_object().expect("methods").values());
    let mut names: Vec<_> = operations.map(|one| one["operationId"].as_str()).collect();
    assert!(names.iter().all(Option::is_some), "{names:?}");
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
}
