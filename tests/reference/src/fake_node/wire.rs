//! The wire between a node and its clients, which fails at any byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Passes on to a node on this machine what comes in, and back what the node says, as long as nothing is scripted.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    port: u16,
    accepting: JoinHandle<()>,
}

/// What truly happened on a wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireCounts {
    /// Connections that were cut in the middle of what the node said.
    pub cut: u64,
    /// Times that the node's words stopped in the middle, and went on later.
    pub stalled: u64,
    /// Connections that were not taken.
    pub refused: u64,
    /// Connections that were answered with status 429.
    pub limited: u64,
}

#[derive(Debug)]
struct Shared {
    plan: Mutex<Plan>,
    /// Counts the cuts of all connections.
    cuts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Plan {
    /// After so many more bytes from the node.
    fate: Option<(usize, Fate)>,
    refusing: bool,
    /// Connections yet to be answered with 429, and its `Retry-After` in seconds.
    limiting: Option<(u64, u64)>,
    counts: WireCounts,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Cut,
    Stall(Duration),
}

impl Wire {
    /// A wire to the node that listens on this port of 127.0.0.1.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("binding")?;
        let own = listener.local_addr()?.port();
        let shared = Arc::new(Shared { plan: Mutex::default(), cuts: watch::Sender::new(0) });
        let accepting = tokio::spawn(accept(listener, port, shared.clone()));
        Ok(Self { shared, port: own, accepting })
    }

    /// `ws://127.0.0.1:PORT` of this end.
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// After so many more bytes from the node all connections are cut, wherever that is.
    pub fn cut_after(&self, bytes: usize) {
        self.shared.lock().fate = Some((bytes, Fate::Cut));
    }

    /// After so many more bytes from the node the rest keeps waiting for so long.
    pub fn stall_after(&self, bytes: usize, pause: Duration) {
        self.shared.lock().fate = Some((bytes, Fate::Stall(pause)));
    }

    /// Cuts all connections now.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// New connections are dropped at once (`true`), or taken again.
    pub fn refuse(&self, refuse: bool) {
        self.shared.lock().refusing = refuse;
    }

    /// The next so many connections are answered with status 429 and `Retry-After` in seconds (RFC 9110, section 10.2.3).
    pub fn limit(&self, times: u64, seconds: u64) {
        self.shared.lock().limiting = Some((times, seconds));
    }

    /// Takes back what was to happen after some more bytes.
    pub fn spare(&self) {
        self.shared.lock().fate = None;
    }

    /// Takes new connections as it should.
    pub fn welcome(&self) {
        let mut plan = self.shared.lock();
        (plan.refusing, plan.limiting) = (false, None);
    }

    /// What happened so far.
    pub fn counts(&self) -> WireCounts {
        self.shared.lock().counts
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// Of the next bytes, how many are passed on before what is due then.
    fn pass(&mut self, bytes: usize) -> (usize, Option<Fate>) {
        match self.fate.take() {
            None => (bytes, None),
            Some((left, fate)) if left >= bytes => {
                self.fate = Some((left - bytes, fate));
                (bytes, None)
            }
            Some((left, fate)) => {
                match fate {
                    Fate::Cut => self.counts.cut += 1,
                    Fate::Stall(_) => self.counts.stalled += 1,
                }
                (left, Some(fate))
            }
        }
    }

    /// Whether a new connection is one to be answered with 429, and the seconds.
    fn take_limit(&mut self) -> Option<u64> {
        let (times, seconds) = self.limiting.take()?;
        if times > 1 {
            self.limiting = Some((times - 1, seconds));
        }
        self.counts.limited += 1;
        Some(seconds)
    }
}

async fn accept(listener: TcpListener, port: u16, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.lock().refusing {
            shared.lock().counts.refused += 1;
            continue;
        }
        let limit = shared.lock().take_limit();
        let shared = shared.clone();
        tokio::spawn(async move {
            match limit {
                Some(seconds) => answer_429(client, seconds).await,
                None => connect(client, port, &shared).await,
            }
        });
    }
}

async fn answer_429(mut client: TcpStream, seconds: u64) {
    let mut request = [0; 4096];
    let _ = client.read(&mut request).await;
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: {seconds}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
}

async fn connect(client: TcpStream, port: u16, shared: &Shared) {
    let mut cuts = shared.cuts.subscribe();
    let Ok(node) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), node.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    let asking = tokio::io::copy(&mut from_client, &mut to_node);
    let answering = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_node.read(&mut buffer).await {
            let (mut passed, mut from) = (0, 0);
            while from < count {
                let (length, fate) = shared.lock().pass(count - from);
                passed += length;
                if to_client.write_all(&buffer[from..passed]).await.is_err() {
                    return;
                }
                match fate {
                    Some(Fate::Cut) => {
                        shared.cuts.send_modify(|cuts| *cuts += 1);
                        return;
                    }
                    Some(Fate::Stall(pause)) => sleep(pause).await,
                    None => {}
                }
                from = passed;
            }
        }
    };
    tokio::select! {
        _ = cuts.changed() => {}
        _ = asking => {}
        () = answering => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_node::FakeNode;

    async fn echo() -> Result<(u16, JoinHandle<()>)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Ok((port, task))
    }

    async fn said_through(wire: &Wire, words: &[u8]) -> Result<Vec<u8>> {
        let mut client = TcpStream::connect(("127.0.0.1", wire.port)).await?;
        client.write_all(words).await?;
        let mut heard = vec![0; words.len()];
        let mut length = 0;
        while length < words.len() {
            match client.read(&mut heard[length..]).await {
                Ok(count @ 1..) => length += count,
                _ => break,
            }
        }
        heard.truncate(length);
        Ok(heard)
    }

    #[tokio::test]
    async fn it_is_cut_at_the_byte_and_stalls_there() -> Result<()> {
        let (port, _echo) = echo().await?;
        let wire = Wire::to(port).await?;
        assert_eq!(said_through(&wire, b"0123456789").await?, b"0123456789");
        wire.cut_after(4);
        assert_eq!(said_through(&wire, b"0123456789").await?, b"0123");
        wire.stall_after(4, Duration::from_millis(1));
        assert_eq!(said_through(&wire, b"0123456789").await?, b"0123456789");
        wire.refuse(true);
        assert!(said_through(&wire, b"01").await.is_ok_and(|heard| heard.is_empty()));
        wire.welcome();
        wire.limit(1, 7);
        let heard = said_through(&wire, &[b'x'; 60]).await?;
        assert!(String::from_utf8_lossy(&heard).contains("429"));
        assert_eq!(said_through(&wire, b"0123456789").await?, b"0123456789");
        assert_eq!(wire.counts(), WireCounts { cut: 1, stalled: 1, refused: 1, limited: 1 });
        Ok(())
    }

    #[tokio::test]
    async fn a_node_is_reached_through_it() -> Result<()> {
        let (node, _) = FakeNode::start(7).await?;
        let wire = Wire::to(node.port()).await?;
        let (mut socket, _) = tokio_tungstenite::client_async(
            wire.ws_url(),
            TcpStream::connect(("127.0.0.1", wire.port)).await?,
        )
        .await?;
        let request = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
        futures_util::SinkExt::send(&mut socket, request.into()).await?;
        let answer = futures_util::StreamExt::next(&mut socket).await.context("an answer")??;
        assert!(answer.to_text()?.contains("0x7"));
        Ok(())
    }
}
