//! A verdict for each trick with Origins.

use super::*;

fn listed() -> Origins {
    let list = [
        "https://app.example.com",
        "HTTPS://Other.Example.com:8443",
        "http://localhost:5173",
        "http://[::1]:3000",
        "https://xn--bcher-kva.example",
        "capacitor://localhost",
    ];
    Origins::read(&list.map(str::to_owned)).unwrap()
}

#[test]
fn an_origin_equals_an_entry_or_is_refused() {
    let origins = listed();
    #[rustfmt::skip]
    let cases = [
        ("https://app.example.com", true),
        ("https://app.example.com:443", true),
        ("HTTPS://APP.Example.COM", true),
        ("https://other.example.com:8443", true),
        ("http://localhost:5173", true),
        ("http://[::1]:3000", true),
        ("http://[0:0::1]:3000", true),
        ("https://xn--bcher-kva.example", true),
        ("capacitor://localhost", true),
        // Another scheme, port or host.
        ("http://app.example.com", false),
        ("http://app.example.com:443", false),
        ("https://app.example.com:8443", false),
        ("https://other.example.com", false),
        ("http://localhost", false),
        ("http://127.0.0.1:5173", false),
        ("http://[::1]", false),
        ("http://[::1%25lo]:3000", false),
        ("http://::1:3000", false),
        ("http://[::1]x:3000", false),
        ("http://[::1:3000", false),
        ("capacitor://localhost:80", false),
        ("wss://app.example.com", false),
        // No Origin at all.
        ("", false),
        ("null", false),
        ("*", false),
        ("file://", false),
        ("file:///etc/passwd", false),
        ("app.example.com", false),
        ("//app.example.com", false),
        ("://app.example.com", false),
        ("https:app.example.com", false),
        ("https:/app.example.com", false),
        ("https://", false),
        ("javascript://app.example.com", false),
        ("blob:https://app.example.com", false),
        // Prefixes and suffixes.
        ("https://app.example.com.evil.net", false),
        ("https://evil-app.example.com", false),
        ("https://evil.net/app.example.com", false),
        ("https://x.app.example.com", false),
        ("https://example.com", false),
        ("https://app.example.co", false),
        ("https://appxexample.com", false),
        ("xhttps://app.example.com", false),
        // What browsers never write.
        ("https://app.example.com/", false),
        ("https://app.example.com:443/", false),
        ("https://app.example.com/path", false),
        ("https://app.example.com?x", false),
        ("https://app.example.com#x", false),
        ("https://app.example.com:", false),
        ("https://app.example.com:0443", false),
        ("https://app.example.com:+443", false),
        ("https://app.example.com:65979", false),
        ("https://app.example.com:443:443", false),
        ("https://app.example.com.", false),
        ("https://.app.example.com", false),
        ("https://app..example.com", false),
        ("https://user@app.example.com", false),
        ("https://app.example.com@evil.net", false),
        ("https://user:443@app.example.com", false),
        ("https://app.example.com\\@evil.net", false),
        ("https://app.example.com%2eevil.net", false),
        ("https://app%2eexample.com", false),
        (" https://app.example.com", false),
        ("https://app.example.com ", false),
        ("https://app.example.com\t", false),
        ("https://app.example.com\r\nX: y", false),
        ("https://app.example.com\0", false),
        ("https://app.example.com https://evil.net", false),
        ("https://app.example.com,https://evil.net", false),
        ("https://bücher.example", false),
        ("https://app.example。com", false),
        ("https://аpp.example.com", false),
    ];
    assert!(cases.len() >= 40);
    for (origin, verdict) in cases {
        assert_eq!(origins.admits(Some(origin), Some("app.example.com")), verdict, "{origin:?}");
    }
    assert!(origins.admits(None, None));
}

#[test]
fn without_a_list_the_origin_is_that_of_the_host() {
    let origins = Origins::default();
    #[rustfmt::skip]
    let cases = [
        ("https://a.example", Some("a.example"), true),
        ("http://a.example", Some("a.example"), true),
        ("https://a.example", Some("A.Example:443"), true),
        ("http://a.example", Some("a.example:80"), true),
        ("http://a.example:8080", Some("a.example:8080"), true),
        ("http://127.0.0.1:8080", Some("127.0.0.1:8080"), true),
        ("http://[::1]:8080", Some("[::1]:8080"), true),
        ("https://[::1]", Some("[::1]"), true),
        ("https://a.example", Some("a.example:80"), false),
        ("http://a.example", Some("a.example:443"), false),
        ("http://a.example:8080", Some("a.example"), false),
        ("http://a.example", Some("a.example:8080"), false),
        ("https://evil.net", Some("a.example"), false),
        ("https://a.example.evil.net", Some("a.example"), false),
        ("https://a.example.", Some("a.example."), false),
        ("https://a.example", Some("a.example."), false),
        ("https://a.example", Some("user@a.example"), false),
        ("https://a.example", Some("a.example/"), false),
        ("https://a.example", Some(""), false),
        ("https://a.example", None, false),
        ("null", Some("null"), false),
        ("file://", Some(""), false),
        ("capacitor://localhost", Some("localhost"), false),
        ("http://localhost:8080", Some("127.0.0.1:8080"), false),
    ];
    for (origin, host, verdict) in cases {
        assert_eq!(origins.admits(Some(origin), host), verdict, "{origin} {host:?}");
    }
    assert!(origins.admits(None, Some("a.example")));
}

#[test]
fn an_entry_that_no_browser_would_send_is_a_fault() {
    let bad = [
        "*",
        "null",
        "",
        "https://*.example.com",
        "https://a.example/",
        "wss://a.example",
        "a.example",
        "https://bücher.example",
        "https://user@a.example",
        "https://a.example.",
    ];
    let faults = Origins::read(&bad.map(str::to_owned)).unwrap_err();
    let paths: Vec<_> = faults.iter().map(|fault| fault.path.clone()).collect();
    let wanted: Vec<_> = (0..bad.len()).map(|i| format!("auth.origins[{i}]")).collect();
    assert_eq!(paths, wanted);
    assert!(Origins::read(&vec!["https://a.example".to_owned(); ORIGINS_MAX]).is_ok());
    assert!(Origins::read(&vec!["https://a.example".to_owned(); ORIGINS_MAX + 1]).is_err());
}
