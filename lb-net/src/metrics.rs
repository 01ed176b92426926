//! A page of numbers for Prometheus, and the server that hands it out.
//!
//! The page is made anew for every reader, straight from what the daemon knows: there is no registry,
//! because the numbers live in BPF maps and machines, not here. Format: Prometheus text exposition
//! 0.0.4.
//!
//! The server speaks as much HTTP/1.1 as it takes: `GET /metrics`, one request a connection. It is
//! meant for the loopback; whoever can reach it can read the numbers.

use crate::shutdown::Shutdown;
use std::fmt::{Display, Write};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Readers served at a time; more wait.
const MAX_READERS: usize = 8;
/// How long one reader may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request that are read: nobody asks for a page of numbers at greater length.
const MAX_REQUEST: usize = 4096;

/// What a family of numbers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows. Its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A page under way.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family: its name, and what it counts, in a sentence.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family { page: self, name }
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// A family under way.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// Adds the number that these labels tell apart from the family's others.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let mut text = String::new();
        for (label, content) in labels {
            let content = content
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{label}=\"{content}\"");
        }
        let name = self.name;
        if text.is_empty() {
            self.page.line(format_args!("{name} {value}"));
        } else {
            self.page.line(format_args!("{name}{{{text}}} {value}"));
        }
        self
    }
}

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics on {address}")]
pub struct MetricsError {
    address: SocketAddr,
    source: io::Error,
}

/// Opens the port that [`serve`] serves on.
///
/// # Errors
/// [`MetricsError`] when it cannot be had.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, MetricsError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| MetricsError { address, source })
}

/// Hands `render`'s page to whoever asks, until shutdown.
///
/// Owns the listener. Cancelling it cuts off readers in the middle.
pub async fn serve<F, R>(listener: TcpListener, mut shutdown: Shutdown, render: F)
where
    F: Fn() -> R + Clone + Send + 'static,
    R: Future<Output = String> + Send,
{
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = readers.join_next(), if !readers.is_empty() => {}
            accepted = listener.accept(), if readers.len() < MAX_READERS => match accepted {
                Ok((stream, _)) => {
                    let render = render.clone();
                    // A reader that is slow or gone is its own loss.
                    readers.spawn(async move { timeout(PATIENCE, answer(stream, render)).await });
                }
                Err(error) => {
                    // Out of descriptors, most likely: no use in trying again at once.
                    tracing::warn!(%error, "cannot accept a reader of metrics");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn answer<F, R>(mut stream: TcpStream, render: F) -> io::Result<()>
where
    F: Fn() -> R,
    R: Future<Output = String>,
{
    let mut request = Vec::with_capacity(MAX_REQUEST);
    while !request.ends_with(b"\r\n\r\n") {
        let room = (MAX_REQUEST - request.len()) as u64;
        if (&mut stream).take(room).read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let (status, body) = match target(&request) {
        Some("/metrics") => ("200 OK", render().await),
        Some(_) => ("404 Not Found", "the numbers are at /metrics\n".to_owned()),
        None => ("400 Bad Request", "GET /metrics\n".to_owned()),
    };
    let len = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {len}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// What is asked for, without the query behind it.
fn target(request: &[u8]) -> Option<&str> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    match (words.next()?, words.next()?, words.next()?) {
        ("GET", target, version) if version.starts_with("HTTP/1.") => target.split('?').next(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_prometheus_reads_it() {
        let mut page = Page::new();
        page.family(
            "pm_beacons_total",
            Kind::Counter,
            "Beacons, by node.\nAll of them.",
        )
        .sample(&[("node", "1"), ("key", "a\"b\\c\n")], 3)
        .sample(&[("node", "2")], 4);
        page.family("pm_load", Kind::Gauge, "Load.")
            .sample(&[], 0.5);
        assert_eq!(
            page.finish(),
            "# HELP pm_beacons_total Beacons, by node.\\nAll of them.\n\
             # TYPE pm_beacons_total counter\n\
             pm_beacons_total{node=\"1\",key=\"a\\\"b\\\\c\\n\"} 3\n\
             pm_beacons_total{node=\"2\"} 4\n\
             # HELP pm_load Load.\n\
             # TYPE pm_load gauge\n\
             pm_load 0.5\n"
        );
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a server");
        stream.write_all(request).await.expect("a reader");
        stream.shutdown().await.expect("a reader");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn who_asks_gets_the_page() {
        let listener = bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, shutdown) = Shutdown::on_demand();
        let server = tokio::spawn(serve(listener, shutdown, || async {
            "numbers\n".to_owned()
        }));
        let page = ask(address, b"GET /metrics?x HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("\r\nContent-Length: 8\r\n") && page.ends_with("\r\n\r\nnumbers\n"));
        let others: [(&[u8], &str); 4] = [
            (b"GET / HTTP/1.1\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "400"),
            (b"", "400"),
            (&[b'x'; MAX_REQUEST], "400"),
        ];
        for (request, status) in others {
            let page = ask(address, request).await;
            assert!(page.starts_with(&format!("HTTP/1.1 {status}")), "{page}");
        }
        stop.send_replace(true);
        timeout(PATIENCE, server)
            .await
            .expect("stops")
            .expect("does not panic");
    }
}
