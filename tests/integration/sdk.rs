//! The files that a node has for browsers: the client library, and the page of `dev`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use reqwest::{Method, Response, StatusCode};

use crate::harness::gateway::free_address;
use crate::harness::{Gateway, Process, SOON, Settings, run, until};

const SCRIPT: &[u8] = include_bytes!("../../sdk/dist/tidegate.js");

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().expect("a text"))
}

/// Any page may have the library, of whatever Origin; who has it already is told so.
#[test]
fn the_library_is_there_for_every_page() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let ask = |method, origin: &'static str, tag: String| {
            let request = gateway.request(method, "/tidegate.js");
            let request = request.header("origin", origin).header("if-none-match", tag);
            async { request.send().await.expect("an answer") }
        };
        let answer = ask(Method::GET, "https://elsewhere.example", String::new()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "content-type"), "text/javascript; charset=utf-8");
        assert_eq!(header(&answer, "access-control-allow-origin"), "*");
        assert_eq!(header(&answer, "cache-control"), "public, no-cache");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        let tag = header(&answer, "etag").to_owned();
        assert!(tag.starts_with('"') && tag.len() == 18, "{tag}");
        assert_eq!(answer.bytes().await.expect("a body"), SCRIPT);

        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
            let answer = ask(Method::GET, "null", known).await;
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(header(&answer, "etag"), tag);
            assert_eq!(header(&answer, "access-control-allow-origin"), "*");
            assert_eq!(answer.bytes().await.expect("a body"), "");
        }
        let answer = ask(Method::GET, "null", "\"another\"".to_owned()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let answer = ask(Method::HEAD, "null", String::new()).await;
        assert_eq!(header(&answer, "content-length"), SCRIPT.len().to_string());
        let answer = ask(Method::POST, "null", String::new()).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(header(&answer, "allow"), "GET, HEAD");
    });
}

/// The page of `dev` and the examples beside it have all that they name, and may speak to nobody but
/// their gateway.
#[test]
fn the_pages_of_dev_are_complete() {
    run(async {
        // What `dev` binds for itself must not be in the way of other tests.
        let _held = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 9_090)));
        let address = free_address();
        let _dev = Process::start(["dev", "--listen", &address.to_string()]);
        let http = reqwest::Client::new();
        let get = async |path: &str| http.get(format!("http://{address}{path}")).send().await;
        until("it is there", SOON, || async { get("/dev/info").await.is_ok() }).await;

        let examples = ["board", "chat", "cursors", "log", "ticker"];
        let examples = examples.map(|name| format!("/examples/{name}.html"));
        for page in ["/".to_owned()].iter().chain(&examples) {
            let answer = get(page).await.expect("an answer");
            let policy = header(&answer, "content-security-policy").to_owned();
            let ours = "default-src 'self'; connect-src 'self' ws: wss:;";
            assert!(policy.starts_with(ours), "{page}: {policy}");
            let text = answer.text().await.expect("a text");
            let named = |attribute: &'static str| {
                text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next())
            };
            let named: Vec<_> = named(" src=\"").chain(named(" href=\"")).collect();
            assert!(named.len() >= 3, "{page}: {named:?}");
            for path in named {
                let path = match path.strip_prefix('/') {
                    Some(_) => path.to_owned(),
                    None => format!("/examples/{path}"),
                };
                let answer = get(&path).await.expect("an answer");
                assert_eq!(answer.status(), StatusCode::OK, "{path}");
                let kind = match path.rsplit_once('.').expect("an ending").1 {
                    "js" => "text/javascript; charset=utf-8",
                    "css" => "text/css; charset=utf-8",
                    "svg" => "image/svg+xml",
                    other => panic!("what is a {other}?"),
                };
                assert_eq!(header(&answer, "content-type"), kind, "{path}");
            }
        }
        let nothing = get("/examples/nothing.html").await.expect("an answer");
        assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
    });
}
