//! What an upgrade finds on the cluster, which here is a few answers over HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::helm::{render, tool};

/// The keys that a release made stay over an upgrade, and the hash in it is that of the key that stays.
#[test]
fn generated_keys_stay() {
    let Some(helm) = tool("helm") else { return };
    let known =
        json!({"hmac": STANDARD.encode("an old secret"), "api-key": STANDARD.encode("an old key")});
    let (address, cluster) = cluster(known);
    let server = format!("http://{address}");
    let words = ["--dry-run=server", "--kube-apiserver", &server, "--kubeconfig", "/dev/null"];
    let rendered = render(&helm, &words);
    ask(address, "/stop");
    cluster.join().expect("it ends");
    let rendered = rendered.expect("it renders");
    let keys = &rendered.object("Secret", "-keys").expect("a Secret")["stringData"];
    assert_eq!(keys["hmac"], "an old secret");
    assert_eq!(keys["api-key"], "an old key");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"an old key");
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(keys["api-keys.yaml"].as_str().is_some_and(|list| list.contains(&hex)), "{keys}");
}

/// An API server that knows one Secret, until it is asked for `/stop`.
fn cluster(data: Value) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = BufReader::new(stream.try_clone().expect("the connection")).lines();
            let first = head.next().and_then(Result::ok).unwrap_or_default();
            while head.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let path = first.split([' ', '?']).nth(1).unwrap_or_default();
            let (status, body) = match path {
                "/stop" => return,
                "/api/v1" => (
                    200,
                    json!({
                        "kind": "APIResourceList", "groupVersion": "v1",
                        "resources": [{"name": "secrets", "kind": "Secret", "namespaced": true, "verbs": ["get"]}],
                    }),
                ),
                "/api/v1/namespaces/web/secrets/live-tidegate-keys" => (
                    200,
                    json!({
                        "apiVersion": "v1", "kind": "Secret", "data": data,
                        "metadata": {"name": "live-tidegate-keys", "namespace": "web"},
                    }),
                ),
                _ => (
                    404,
                    json!({
                        "apiVersion": "v1", "kind": "Status", "status": "Failure",
                        "reason": "NotFound", "code": 404,
                    }),
                ),
            };
            let body = body.to_string();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} .\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len(),
            );
        }
    };
    (address, thread::spawn(serve))
}

/// Asks for a path, and waits for the end of the answer.
fn ask(address: SocketAddr, path: &str) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").expect("it is sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
}
