//! The client library that a node has for browsers.

use reqwest::{Method, Response, StatusCode};

use crate::harness::{Gateway, Settings, run};

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
