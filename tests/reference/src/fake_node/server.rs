//! The sockets: WebSocket and HTTP on one port, IPC on a path.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::script::RpcErr;
use super::state::{Connection, Reaction, Shared};

/// Messages that wait for a connection. A test that pushes more than this to a client that does not read is wrong.
const QUEUE: usize = 65_536;

/// Which block a message is about, and how it got asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub block: B256,
    pub what: &'static str,
}

/// What goes out on a connection.
#[derive(Debug, Clone)]
pub(super) enum Outgoing {
    Text { text: Bytes, mark: Option<Mark> },
    Binary(Vec<u8>),
    Ping,
    Close(u16),
    Drop,
}

/// All tasks of a node, so that they end with it.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Mark {
    pub(super) fn of(block: B256, method: &str) -> Option<Self> {
        let known = ["eth_getLogs", "eth_getBlockByHash", "eth_getBlockByNumber", "eth_getBlockReceipts"];
        known.into_iter().find(|known| *known == method).map(|what| Self { block, what })
    }
}

impl Outgoing {
    pub(super) fn text(text: &str) -> Self {
        Self::Text { text: Bytes::copy_from_slice(text.as_bytes()), mark: None }
    }
}

impl Tasks {
    pub(super) fn serve_tcp(&self, listener: TcpListener, shared: Arc<Shared>) {
        let tasks = Self { running: self.running.clone() };
        self.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if shared.change(admit) {
                    tasks.spawn(serve_socket(socket, shared.clone()));
                }
            }
        });
    }

    pub(super) fn serve_ipc(&self, listener: UnixListener, shared: Arc<Shared>) {
        let tasks = Self { running: self.running.clone() };
        self.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if shared.change(admit) {
                    tasks.spawn(serve_local_socket(socket, shared.clone()));
                }
            }
        });
    }

    pub(super) fn abort(&self) {
        for task in self.running().drain(..) {
            task.abort();
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running();
        running.retain(|task| !task.is_finished());
        running.push(tokio::spawn(task).abort_handle());
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn admit(state: &mut super::state::State) -> bool {
    state.accepted.push(Instant::now());
    !state.script.refusing
}

/// A WebSocket handshake is a GET, a request is a POST: the first byte tells.
async fn serve_socket(socket: TcpStream, shared: Arc<Shared>) {
    let mut first = [0];
    shared.until_it_reads().await;
    let _ = socket.set_nodelay(true);
    match socket.peek(&mut first).await {
        Ok(1) if first == *b"P" => serve_http(socket, &shared).await,
        Ok(1) => {
            if let Ok(stream) = tokio_tungstenite::accept_async(socket).await {
                serve_web_socket(stream, shared).await;
            }
        }
        _ => {}
    }
}

/// A connection's place in the state; leaving it also ends its subscriptions.
struct Place {
    shared: Arc<Shared>,
    number: u64,
    outgoing: mpsc::Sender<Outgoing>,
}

impl Place {
    fn take(shared: Arc<Shared>) -> (Self, mpsc::Receiver<Outgoing>) {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let number = shared.change(|state| {
            let number = state.connections.keys().max().map_or(1, |last| last + 1);
            state.connections.insert(number, Connection::new(outgoing.clone()));
            number
        });
        (Self { shared, number, outgoing }, queue)
    }

    async fn on_text(&self, text: &[u8]) {
        let Some(reaction) = react(&self.shared, Some(self.number), text) else { return };
        match reaction {
            Reaction::Respond { response, after, mark } => {
                self.send_after(after, Outgoing::Text { text: response, mark }).await;
            }
            Reaction::Text(text) => self.send_after(None, Outgoing::text(&text)).await,
            Reaction::Drop => self.send_after(None, Outgoing::Drop).await,
            Reaction::Nothing | Reaction::HttpStatus(..) => {}
        }
    }

    async fn send_after(&self, after: Option<Duration>, outgoing: Outgoing) {
        let queue = self.outgoing.clone();
        match after {
            None => drop(queue.send(outgoing).await),
            Some(after) => drop(tokio::spawn(async move {
                sleep(after).await;
                let _ = queue.send(outgoing).await;
            })),
        }
    }

    fn note(&self, marks: &mut Vec<Mark>) {
        if marks.is_empty() {
            return;
        }
        let now = Instant::now();
        self.shared.change(|state| {
            for mark in marks.drain(..) {
                state.sent.entry(mark.block).or_default().insert(mark.what, now);
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.change(|state| state.connections.remove(&self.number));
    }
}

async fn serve_web_socket(stream: WebSocketStream<TcpStream>, shared: Arc<Shared>) {
    let (place, mut queue) = Place::take(shared);
    let (mut sink, mut stream) = stream.split();
    let writing = async {
        let mut marks = Vec::new();
        while let Some(first) = queue.recv().await {
            let mut next = Some(first);
            while let Some(outgoing) = next {
                let message = match outgoing {
                    Outgoing::Text { text, mark } => {
                        marks.extend(mark);
                        Message::Text(Utf8Bytes::try_from(text).expect("JSON is UTF-8"))
                    }
                    Outgoing::Binary(data) => Message::Binary(data.into()),
                    Outgoing::Ping => Message::Ping(Bytes::from_static(b"ping")),
                    Outgoing::Close(code) => {
                        Message::Close(Some(CloseFrame { code: code.into(), reason: Utf8Bytes::default() }))
                    }
                    Outgoing::Drop => return,
                };
                if sink.feed(message).await.is_err() {
                    return;
                }
                next = queue.try_recv().ok();
            }
            if sink.flush().await.is_err() {
                return;
            }
            place.note(&mut marks);
        }
    };
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            // The pong is written by the next read.
            place.shared.until_it_reads().await;
            match message {
                Message::Text(text) => place.on_text(text.as_bytes()).await,
                Message::Pong(_) => place.shared.change(|state| state.pongs += 1),
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

async fn serve_local_socket(socket: UnixStream, shared: Arc<Shared>) {
    let (place, mut queue) = Place::take(shared);
    let (mut reader, mut writer) = socket.into_split();
    let writing = async {
        while let Some(outgoing) = queue.recv().await {
            if write_local(&mut writer, outgoing, &place).await.is_none() {
                return;
            }
        }
    };
    let reading = async {
        let mut received = Vec::new();
        while reader.read_buf(&mut received).await.is_ok_and(|count| count > 0) {
            place.shared.until_it_reads().await;
            let mut values = serde_json::Deserializer::from_slice(&received).into_iter::<Value>();
            while let Some(Ok(request)) = values.next() {
                place.on_text(request.to_string().as_bytes()).await;
            }
            let taken = values.byte_offset();
            received.drain(..taken);
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

/// `None` ends the connection.
async fn write_local(writer: &mut OwnedWriteHalf, outgoing: Outgoing, place: &Place) -> Option<()> {
    match outgoing {
        Outgoing::Text { text, mark } => {
            writer.write_all(&text).await.ok()?;
            writer.write_all(b"\n").await.ok()?;
            place.note(&mut mark.into_iter().collect());
            Some(())
        }
        Outgoing::Binary(_) | Outgoing::Ping => Some(()),
        Outgoing::Close(_) | Outgoing::Drop => None,
    }
}

/// HTTP/1.1 with kept-alive connections and `Content-Length`.
async fn serve_http(mut socket: TcpStream, shared: &Shared) {
    let mut received = Vec::new();
    while let Some(body) = read_http(&mut socket, &mut received).await {
        shared.until_it_reads().await;
        let mut retry_after = None;
        let (status, text, after) = match react(shared, None, &body) {
            Some(Reaction::Respond { response, after, .. }) => (200, response, after),
            Some(Reaction::Text(text)) => (200, text.into(), None),
            Some(Reaction::HttpStatus(status, seconds)) => {
                retry_after = seconds;
                (status, Bytes::from_static(b"<html>gateway</html>"), None)
            }
            Some(Reaction::Nothing) => std::future::pending().await,
            Some(Reaction::Drop) | None => return,
        };
        sleep(after.unwrap_or_default()).await;
        let retry_after =
            retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status} Fake\r\ncontent-type: application/json\r\n{retry_after}content-length: {}\r\n\r\n",
            text.len()
        );
        if socket.write_all(&[head.as_bytes(), &text].concat()).await.is_err() {
            return;
        }
    }
}

async fn read_http(socket: &mut TcpStream, received: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(body_at) = received.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) {
            let head = String::from_utf8_lossy(&received[..body_at]).to_ascii_lowercase();
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
            if received.len() >= body_at + length {
                let body = received[body_at..body_at + length].to_vec();
                received.drain(..body_at + length);
                return Some(body);
            }
        }
        if socket.read_buf(received).await.ok()? == 0 {
            return None;
        }
    }
}

/// One request or one batch.
fn react(shared: &Shared, connection: Option<u64>, text: &[u8]) -> Option<Reaction> {
    let request: Value = match serde_json::from_slice(text) {
        Ok(request) => request,
        Err(_) => {
            let error = RpcErr::new(-32700, "parse error").json();
            return Some(Reaction::Text(format!(r#"{{"jsonrpc":"2.0","id":null,"error":{error}}}"#)));
        }
    };
    let Value::Array(requests) = request else {
        return Some(shared.change(|state| state.take(connection, &request, false)));
    };
    let reactions: Vec<Reaction> = shared.change(|state| {
        let mut reactions: Vec<_> =
            requests.iter().map(|request| state.take(connection, request, true)).collect();
        if state.script.reversed_batches {
            reactions.reverse();
        }
        reactions
    });
    Some(of_batch(reactions))
}

fn of_batch(reactions: Vec<Reaction>) -> Reaction {
    let mut responses = Vec::new();
    let mut longest = None;
    for reaction in reactions {
        match reaction {
            Reaction::Respond { response, after, .. } => {
                longest = longest.max(after);
                responses.push(response);
            }
            Reaction::Drop => return Reaction::Drop,
            Reaction::Text(text) => return Reaction::Text(text),
            status @ Reaction::HttpStatus(..) => return status,
            Reaction::Nothing => {}
        }
    }
    if responses.is_empty() {
        return Reaction::Nothing;
    }
    let texts: Vec<&Bytes> = responses.iter().collect();
    Reaction::Respond { response: super::chain::list_of(&texts), after: longest, mark: None }
}
