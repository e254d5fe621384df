//! The two sockets that carry subscriptions: WebSocket and IPC, as whole messages in and out.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Uri};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::endpoint::{Address, Scheme};
use crate::json_stream::{Piece, Splitter, TooLarge};
use crate::{CloseReason, tls};

type WebSocket = WebSocketStream<MaybeTlsStream<Overheard>>;

/// Bytes asked of an IPC socket at a time.
const IPC_READ: usize = 128 * 1024;

/// A message, or something that is none.
#[derive(Debug)]
pub(crate) enum Incoming {
    Json(Bytes),
    Binary,
    Garbage,
}

pub(crate) enum MessageReader {
    WebSocket { stream: SplitStream<WebSocket>, limit: usize, heard: Arc<AtomicU64> },
    Ipc { socket: OwnedReadHalf, splitter: Splitter, limit: usize },
}

pub(crate) enum MessageWriter {
    WebSocket(SplitSink<WebSocket, Message>),
    Ipc(OwnedWriteHalf),
}

/// Opens the socket. The error is in words and names no URL.
pub(crate) async fn open(address: &Address, limit: usize) -> Result<(MessageReader, MessageWriter), String> {
    match address {
        Address::Ipc(path) => open_ipc(path, limit).await,
        Address::Url { scheme, uri, authorization } => {
            open_web_socket(*scheme, uri, authorization.as_ref(), limit).await
        }
    }
}

async fn open_ipc(path: &Path, limit: usize) -> Result<(MessageReader, MessageWriter), String> {
    let socket = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
    let (reader, writer) = socket.into_split();
    let reader = MessageReader::Ipc { socket: reader, splitter: Splitter::new(limit), limit };
    Ok((reader, MessageWriter::Ipc(writer)))
}

async fn open_web_socket(
    scheme: Scheme,
    uri: &Uri,
    authorization: Option<&HeaderValue>,
    limit: usize,
) -> Result<(MessageReader, MessageWriter), String> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(scheme.default_port());
    let socket = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    // A request is one small segment; waiting for more of them costs up to 40 ms.
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let heard = Arc::new(AtomicU64::new(0));
    let socket = Overheard { socket, heard: heard.clone() };
    let mut request = uri.into_client_request().map_err(in_words)?;
    if let Some(value) = authorization {
        request.headers_mut().insert(AUTHORIZATION, value.clone());
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
        .write_buffer_size(0);
    let connector = Connector::Rustls(tls::client_config());
    let (stream, _) = client_async_tls_with_config(request, socket, Some(config), Some(connector))
        .await
        .map_err(in_words)?;
    let (sink, stream) = stream.split();
    Ok((MessageReader::WebSocket { stream, limit, heard }, MessageWriter::WebSocket(sink)))
}

impl MessageReader {
    /// Bytes that came over the socket so far, whole messages or not; `None` where no ping could ask for some.
    pub(crate) fn heard(&self) -> Option<Arc<AtomicU64>> {
        match self {
            Self::WebSocket { heard, .. } => Some(heard.clone()),
            Self::Ipc { .. } => None,
        }
    }

    /// The next message. The error is why there will be no further one.
    pub(crate) async fn next(&mut self) -> Result<Incoming, CloseReason> {
        match self {
            Self::WebSocket { stream, limit, .. } => next_of_web_socket(stream, *limit).await,
            Self::Ipc { socket, splitter, limit } => next_of_ipc(socket, splitter, *limit).await,
        }
    }
}

/// Pings are answered by tungstenite: the pong is queued when the ping is read and sent by the next read.
async fn next_of_web_socket(
    stream: &mut SplitStream<WebSocket>,
    limit: usize,
) -> Result<Incoming, CloseReason> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(Incoming::Json(text.into())),
            Some(Ok(Message::Binary(_))) => return Ok(Incoming::Binary),
            Some(Ok(Message::Close(frame))) => {
                return Err(CloseReason::ByNode { code: frame.map_or(1005, |frame| frame.code.into()) });
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return Err(close_reason(error, limit)),
            None => return Err(CloseReason::Broken("the stream ended".to_owned())),
        }
    }
}

async fn next_of_ipc(
    socket: &mut OwnedReadHalf,
    splitter: &mut Splitter,
    limit: usize,
) -> Result<Incoming, CloseReason> {
    loop {
        match splitter.next_piece() {
            Ok(Some(Piece::Value(value))) => return Ok(Incoming::Json(value)),
            Ok(Some(Piece::Garbage(_))) => return Ok(Incoming::Garbage),
            Ok(None) => {}
            Err(TooLarge) => return Err(CloseReason::MessageTooLarge { limit }),
        }
        let buffer = splitter.buffer();
        buffer.reserve(IPC_READ);
        match socket.read_buf(buffer).await {
            Ok(0) => return Err(CloseReason::ByNode { code: 1005 }),
            Ok(_) => {}
            Err(error) => return Err(CloseReason::Broken(error.to_string())),
        }
    }
}

impl MessageWriter {
    pub(crate) fn is_ipc(&self) -> bool {
        matches!(self, Self::Ipc(_))
    }

    /// Asks a WebSocket for a sign of life.
    pub(crate) async fn ping(&mut self) -> Result<(), CloseReason> {
        match self {
            Self::WebSocket(sink) => {
                let ping = Message::Ping(Bytes::new());
                sink.send(ping).await.map_err(|error| close_reason(error, usize::MAX))
            }
            Self::Ipc(_) => Ok(()),
        }
    }

    /// Writes one message and flushes. A cancelled write of a WebSocket message leaves it whole in the buffer; on IPC
    /// it tears the stream.
    pub(crate) async fn send(&mut self, text: String) -> Result<(), CloseReason> {
        match self {
            Self::WebSocket(sink) => {
                sink.send(Message::text(text)).await.map_err(|error| close_reason(error, usize::MAX))
            }
            Self::Ipc(socket) => socket
                .write_all(text.as_bytes())
                .await
                .map_err(|error| CloseReason::Broken(error.to_string())),
        }
    }
}

fn close_reason(error: tungstenite::Error, limit: usize) -> CloseReason {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            CloseReason::MessageTooLarge { limit }
        }
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            CloseReason::ByNode { code: 1005 }
        }
        error => CloseReason::Broken(in_words(error)),
    }
}

/// Lower case, and without what the variants could quote of a request or an answer.
fn in_words(error: tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Io(error) => error.to_string(),
        tungstenite::Error::Http(answer) => format!("http status {}", answer.status().as_u16()),
        tungstenite::Error::Tls(error) => format!("tls: {error}"),
        tungstenite::Error::Protocol(error) => format!("websocket protocol: {error}"),
        tungstenite::Error::Utf8(_) => "a text message that is not utf-8".to_owned(),
        tungstenite::Error::Capacity(error) => format!("websocket capacity: {error}"),
        _ => "the websocket handshake failed".to_owned(),
    }
}

/// A socket that counts the bytes that come in, so that a long message on its way is not taken for silence.
#[derive(Debug)]
pub(crate) struct Overheard {
    socket: TcpStream,
    heard: Arc<AtomicU64>,
}

impl AsyncRead for Overheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        self.heard.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        polled
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
