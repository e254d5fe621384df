//! The judges' own node: JSON-RPC over WebSocket, HTTP and IPC from a chain in memory, which misbehaves on request.
//!
//! ```no_run
//! # async fn run() -> anyhow::Result<()> {
//! use headwater_reference::fake_node::{BlockBuilder, FakeNode};
//!
//! let (node, url) = FakeNode::start(1).await?;
//! let first = BlockBuilder::first(100).build();
//! node.push_block(first.clone());
//! // connect a client to `url`, then:
//! node.until_subscribed("newHeads", 1).await;
//! node.push_block(BlockBuilder::child_of(&first).build());
//! assert_eq!(node.requests("eth_subscribe"), 1);
//! # Ok(())
//! # }
//! ```

mod answer;
mod block;
mod chain;
mod encode;
mod heads;
mod script;
mod server;
mod state;
mod v2;
mod wire;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use anyhow::{Context, Result};
use serde_json::Value;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

pub use block::{
    BlockBuilder, FakeBlock, FakeLog, FakeTransaction, bytes, hex_quantity, logs_bloom, quantity, sync_topic,
};
pub use chain::{Chain, LogFilter, Stored, StoredLog};
pub use encode::encode;
pub use heads::{Announcing, HeadFault, LogFault};
pub use script::{Fault, RpcErr, Script, Times};
pub use state::Asked;
pub use v2::{OtherTimes, V2Pair, V2Token, V2World, address_word, string, word};
pub use wire::{Wire, WireCounts};

use server::Tasks;
use state::{Shared, State};

/// An `eth_call`.
#[derive(Debug)]
pub struct CallRequest<'a> {
    /// The caller; zero where none was given.
    pub from: Address,
    /// The callee; zero where none was given.
    pub to: Address,
    /// The calldata.
    pub data: Bytes,
    /// The block on whose state the call runs.
    pub block_number: u64,
    /// Its hash.
    pub block_hash: B256,
    /// Its timestamp, in seconds.
    pub timestamp: u64,
    /// The state overrides, or null.
    pub overrides: &'a Value,
    /// The block overrides, or null.
    pub block_overrides: &'a Value,
    /// All blocks.
    pub chain: &'a Chain,
}

/// Answers `eth_call`.
pub type Calls = dyn Fn(&CallRequest<'_>) -> Result<Bytes, RpcErr> + Send + Sync;

/// A running node. Dropping it ends its connections and frees its port.
pub struct FakeNode {
    shared: Arc<Shared>,
    tasks: Tasks,
    port: u16,
}

impl FakeNode {
    /// Starts a node without blocks on a free port of 127.0.0.1, and gives its WebSocket URL with it.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(chain_id: u64) -> Result<(Self, String)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("binding")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::new(chain_id));
        let tasks = Tasks::default();
        tasks.serve_tcp(listener, shared.clone());
        let node = Self { shared, tasks, port };
        let url = node.ws_url();
        Ok((node, url))
    }

    /// Also serves a local socket at this path.
    ///
    /// # Errors
    /// Where the path cannot be bound.
    pub fn serve_ipc(&self, path: &Path) -> Result<()> {
        let listener = UnixListener::bind(path).with_context(|| format!("binding {}", path.display()))?;
        self.tasks.serve_ipc(listener, self.shared.clone());
        Ok(())
    }

    /// The port of 127.0.0.1 that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `ws://127.0.0.1:PORT`.
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// `http://127.0.0.1:PORT`, on the same port.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers `eth_call` from now on. Without one every call returns nothing.
    pub fn answer_calls(
        &self,
        calls: impl Fn(&CallRequest<'_>) -> Result<Bytes, RpcErr> + Send + Sync + 'static,
    ) {
        self.shared.lock().calls = Arc::new(calls);
    }

    /// Answers `eth_call` from a table of V2 contracts.
    pub fn answer_v2(&self, world: V2World) {
        self.answer_calls(move |call| world.call(call));
    }

    /// Adds a block as the new head without telling anybody, and writes its answers, so that serving it later costs
    /// nothing.
    pub fn add_block(&self, block: FakeBlock) {
        self.shared.change(|state| drop(state.chain.add(block)));
    }

    /// Adds a block of another branch than the one on which the node stands.
    pub fn add_orphan(&self, block: FakeBlock) {
        self.shared.change(|state| state.chain.add_orphan(block));
    }

    /// Pushes a known block to the subscribers: the head, then its logs.
    ///
    /// # Panics
    /// Where the block is not known.
    pub fn announce(&self, hash: B256) {
        self.shared.change(|state| state.announce(hash));
    }

    /// Pushes only the head of a known block.
    ///
    /// # Panics
    /// Where the block is not known.
    pub fn announce_head(&self, hash: B256) {
        self.shared.change(|state| state.announce_head(hash));
    }

    /// Pushes a log, as it is, to the subscribers whose filter takes it.
    pub fn push_log(&self, log: &Value) {
        self.shared.change(|state| state.push_log(log));
    }

    /// From now on the logs of announced blocks are pushed with this fault, or without one.
    pub fn distort_logs(&self, fault: Option<LogFault>) {
        self.shared.change(|state| state.script.log_fault = fault);
    }

    /// Adds a block and announces it.
    pub fn push_block(&self, block: FakeBlock) {
        let hash = block.hash();
        self.add_block(block);
        self.announce(hash);
    }

    /// Replaces the chain from the first of these blocks on: the logs of the orphaned blocks are pushed as removed, then
    /// each new block is announced.
    pub fn reorg_to(&self, blocks: impl IntoIterator<Item = FakeBlock>) {
        for block in blocks {
            let hash = block.hash();
            self.shared.change(|state| {
                for orphan in state.chain.add(block) {
                    state.announce_removed(&orphan);
                }
                state.announce(hash);
            });
        }
    }

    /// Adds a branch as a whole, oldest block first, and then tells of it as `announcing` does and `faults` make of it. A
    /// branch on top of the head is announced block by block by all of them.
    pub fn push_branch(
        &self,
        branch: impl IntoIterator<Item = FakeBlock>,
        announcing: Announcing,
        faults: &[HeadFault],
    ) {
        let branch: Vec<FakeBlock> = branch.into_iter().collect();
        let hashes: Vec<B256> = branch.iter().map(FakeBlock::hash).collect();
        self.shared.change(|state| {
            let orphans = state.chain.add_branch(branch);
            let heads = if orphans.is_empty() { hashes } else { announcing.heads(&hashes) };
            let last_orphan = orphans.first().map(|orphan| orphan.hash);
            let heads = faults.iter().fold(heads, |heads, fault| fault.distort(&heads, last_orphan));
            if announcing == Announcing::Geth {
                orphans.iter().for_each(|orphan| state.announce_removed(orphan));
            }
            heads.into_iter().for_each(|head| state.announce(head));
        });
    }

    /// Pushes a transaction to the subscribers of `newPendingTransactions`: its hash, or all of it to those who asked
    /// for full ones.
    pub fn push_pending(&self, transaction: Value) {
        self.shared.change(|state| state.push_pending(&transaction));
    }

    /// Sends a text as it is to every WebSocket and IPC connection.
    pub fn send_text(&self, text: &str) {
        self.shared.change(|state| state.send_to_all(server::Outgoing::text(text)));
    }

    /// Sends a binary frame to every WebSocket connection.
    pub fn send_binary(&self, data: &[u8]) {
        self.shared.change(|state| state.send_to_all(server::Outgoing::Binary(data.to_vec())));
    }

    /// Sends a ping to every WebSocket connection; see [`FakeNode::pongs`].
    pub fn ping(&self) {
        self.shared.change(|state| state.send_to_all(server::Outgoing::Ping));
    }

    /// Ends all connections without a word.
    pub fn drop_connections(&self) {
        self.shared.change(|state| state.send_to_all(server::Outgoing::Drop));
    }

    /// Closes all connections in good order, with this close code on WebSockets.
    pub fn close_connections(&self, code: u16) {
        self.shared.change(|state| state.send_to_all(server::Outgoing::Close(code)));
    }

    /// New connections are dropped at once (`true`), or served again.
    pub fn refuse_connections(&self, refuse: bool) {
        self.shared.change(|state| state.script.refusing = refuse);
    }

    /// From now on requests are taken and not answered, and nothing is pushed.
    pub fn go_silent(&self) {
        self.shared.change(|state| state.script.silent = true);
    }

    /// From now on nothing is pushed; requests are answered, and the head moves as blocks are added.
    pub fn go_mute(&self) {
        self.shared.change(|state| state.script.mute = true);
    }

    /// From now on nothing is read and nothing is written, pongs included, as when the peer of a TCP connection is gone
    /// without a word. New connections are taken and not served.
    pub fn go_half_open(&self) {
        self.shared.change(|state| state.script.half_open = true);
    }

    /// Serves another chain id from now on.
    pub fn change_chain_id(&self, chain_id: u64) {
        self.shared.change(|state| state.chain_id = chain_id);
    }

    /// Ends a silence of any kind; what was not said stays unsaid.
    pub fn speak_again(&self) {
        self.shared.change(|state| {
            let script = &mut state.script;
            (script.silent, script.mute, script.half_open) = (false, false, false);
        });
    }

    /// Answers this method later, always.
    pub fn delay(&self, method: &str, duration: Duration) {
        self.inject(method, Fault::Delay(duration), Times::Always);
    }

    /// Answers the next `times` requests of this method with an error.
    pub fn answer_with_error(&self, method: &str, error: RpcErr, times: u64) {
        self.inject(method, Fault::Error(error), Times::Next(times));
    }

    /// Puts any fault on a method.
    pub fn inject(&self, method: &str, fault: Fault, times: Times) {
        self.shared.change(|state| state.script.inject(method, fault, times));
    }

    /// Lifts the faults of a method.
    pub fn mend(&self, method: &str) {
        self.shared.change(|state| state.script.mend(method));
    }

    /// How often a fault has struck a request of this method so far.
    pub fn struck(&self, method: &str) -> u64 {
        self.shared.lock().script.struck.get(method).copied().unwrap_or_default()
    }

    /// Forgets what stands more than `kept` blocks below the head; reserves stay known.
    pub fn forget_old(&self, kept: u64) {
        self.shared.change(|state| {
            state.chain.forget_old(kept);
            let State { chain, sent, asked, accepted, .. } = state;
            sent.retain(|block, _| chain.by_hash(*block).is_some());
            asked.clear();
            accepted.clear();
        });
    }

    /// Answers the members of batches in reverse order.
    pub fn reverse_batches(&self) {
        self.shared.change(|state| state.script.reversed_batches = true);
    }

    /// How often a method was asked for.
    pub fn requests(&self, method: &str) -> usize {
        self.shared.lock().asked.iter().filter(|asked| asked.method == method).count()
    }

    /// Everything that was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// Connections taken so far (over HTTP: each kept-alive connection).
    pub fn connections(&self) -> usize {
        self.shared.lock().accepted.len()
    }

    /// When each connection was taken, refused ones included.
    pub fn connected_at(&self) -> Vec<Instant> {
        self.shared.lock().accepted.clone()
    }

    /// WebSocket and IPC connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// Subscriptions of this kind that are open now.
    pub fn subscriptions(&self, kind: &str) -> usize {
        self.shared.lock().subscriptions(kind)
    }

    /// Pongs received.
    pub fn pongs(&self) -> usize {
        self.shared.lock().pongs
    }

    /// The canonical hashes, from the lowest block to the head.
    pub fn canonical_hashes(&self) -> Vec<B256> {
        self.shared.lock().chain.canonical_hashes()
    }

    /// When the last byte of what was sent about a block had been handed to a socket: `what` is the method
    /// (`eth_getLogs`, `eth_getBlockByHash`, …) or the kind of a subscription (`newHeads`, `logs`). The latest, if several.
    pub fn sent_at(&self, block: B256, what: &str) -> Option<Instant> {
        self.shared.lock().sent.get(&block)?.get(what).copied()
    }

    /// When the last byte of anything about a block had been handed to a socket.
    pub fn last_sent_at(&self, block: B256) -> Option<Instant> {
        self.shared.lock().sent.get(&block)?.values().max().copied()
    }

    /// Waits until the node is as described.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let mut changes = self.shared.changes();
        while !is_so(self) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until so many subscriptions of a kind are open.
    pub async fn until_subscribed(&self, kind: &str, count: usize) {
        self.until(|node| node.subscriptions(kind) >= count).await;
    }

    /// Waits until a method has been asked for so many times.
    pub async fn until_requested(&self, method: &str, count: usize) {
        self.until(|node| node.requests(method) >= count).await;
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.drop_connections();
        self.tasks.abort();
    }
}

impl fmt::Debug for FakeNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeNode").field("port", &self.port).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
