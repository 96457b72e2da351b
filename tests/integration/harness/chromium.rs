//! A page in a real Chromium: an EventSource as browsers have it, which tells the test what it hears.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The page, and nothing else is served.
const PAGE: &str = include_str!("../../browser/events.html");
/// Programs that are one, by the names that systems give them.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// A place for pages, and the browser that shows them.
pub(crate) struct Chromium {
    program: PathBuf,
    /// Where the page comes from.
    pub(crate) origin: String,
    told: mpsc::UnboundedReceiver<Value>,
    pages: Vec<(Child, TempDir)>,
    _tasks: JoinSet<()>,
}

impl Chromium {
    /// Finds one, or says that there is none.
    pub(crate) async fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let mut programs =
            NAMES.iter().flat_map(|name| folders.iter().map(move |one| one.join(name)));
        let Some(program) = programs.find(|program| program.is_file()) else {
            // Past what a test's output is caught by.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no Chromium here (install chromium)");
            return None;
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (teller, told) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, teller));
        let origin = format!("http://{address}");
        Some(Self { program, origin, told, pages: Vec::new(), _tasks: tasks })
    }

    /// Opens a page whose EventSource reads this stream.
    pub(crate) fn open(&mut self, gateway: SocketAddr, query: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let query = query.replace('&', "%26").replace('=', "%3D").replace('*', "%2A");
        let page = format!("{}/?url=http://{gateway}/v1/events?{query}", self.origin);
        let child = Command::new(&self.program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .arg(page)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Chromium starts");
        self.pages.push((child, folder));
    }

    /// The next thing that a page tells.
    pub(crate) async fn told(&mut self) -> Value {
        let told = timeout(Duration::from_secs(60), self.told.recv()).await;
        told.expect("the page is silent").expect("it is served")
    }

    /// Passes over what it tells until it is this.
    pub(crate) async fn until_told(&mut self, kind: &str) -> Value {
        loop {
            let told = self.told().await;
            if told["kind"] == kind {
                return told;
            }
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        for (page, _) in &mut self.pages {
            // It may have ended by itself; then there is nobody to end.
            let _ = page.kill();
            let _ = page.wait();
        }
    }
}

async fn serve(listener: TcpListener, teller: mpsc::UnboundedSender<Value>) {
    let mut answers = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let teller = teller.clone();
        answers.spawn(async move {
            // A browser that leaves in the middle has told nothing.
            let _ = answer(socket, &teller).await;
        });
        while answers.try_join_next().is_some() {}
    }
}

/// Answers one request: the page itself, or what it tells.
async fn answer(socket: TcpStream, teller: &mpsc::UnboundedSender<Value>) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    let (mut first, mut length) = (String::new(), 0);
    socket.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await?;
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let body = if first.starts_with("POST /told") {
        let mut told = vec![0; length];
        socket.read_exact(&mut told).await?;
        if let Ok(told) = serde_json::from_slice(&told) {
            let _ = teller.send(told);
        }
        ""
    } else {
        PAGE
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}
