//! What the connections of a fake node share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{B256, Bytes as CallData};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Calls;
use super::answer::{Answer, Known};
use super::chain::{Chain, LogFilter, Stored, StoredLog};
use super::encode::encode;
use super::heads::LogFault;
use super::script::{Fault, RpcErr, Script};
use super::server::{Mark, Outgoing};

/// One request that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Its parameters.
    pub params: Value,
    /// When the node had read it.
    pub at: Instant,
    /// Whether it came in a batch.
    pub in_batch: bool,
}

pub(super) struct Shared {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

pub(super) struct State {
    pub chain: Chain,
    pub chain_id: u64,
    pub calls: Arc<Calls>,
    pub script: Script,
    pub asked: Vec<Asked>,
    pub connections: HashMap<u64, Connection>,
    pub accepted: Vec<Instant>,
    pub pongs: usize,
    pub sent: HashMap<B256, HashMap<&'static str, Instant>>,
    next_subscription: u64,
}

pub(super) struct Connection {
    pub outgoing: mpsc::Sender<Outgoing>,
    subscriptions: Vec<Subscription>,
}

struct Subscription {
    id: String,
    kind: Kind,
}

enum Kind {
    NewHeads,
    Logs(LogFilter),
    Pending { full: bool },
}

/// What is to be done about a request.
pub(super) enum Reaction {
    /// Send this response object.
    Respond {
        response: Bytes,
        after: Option<std::time::Duration>,
        mark: Option<Mark>,
    },
    /// Send this text instead of a response.
    Text(String),
    /// Answer with this HTTP status, and with `Retry-After` where seconds are given.
    HttpStatus(u16, Option<u64>),
    Nothing,
    Drop,
}

impl Shared {
    pub(super) fn new(chain_id: u64) -> Self {
        let state = State {
            chain: Chain::default(),
            chain_id,
            calls: Arc::new(|_| Ok(CallData::new())),
            script: Script::default(),
            asked: Vec::new(),
            connections: HashMap::new(),
            accepted: Vec::new(),
            pongs: 0,
            sent: HashMap::new(),
            next_subscription: 1,
        };
        Self { state: Mutex::new(state), version: watch::Sender::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes those who wait for a change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.version.send_modify(|version| *version += 1);
        result
    }

    /// Returns at once unless the node is half open.
    pub(super) async fn until_it_reads(&self) {
        let mut changes = self.changes();
        while self.lock().script.half_open {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

impl Connection {
    pub(super) fn new(outgoing: mpsc::Sender<Outgoing>) -> Self {
        Self { outgoing, subscriptions: Vec::new() }
    }

    fn push(&self, subscription: &Subscription, result: &Bytes, mark: Option<Mark>) {
        let head = format!(
            r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{{"subscription":"{}","result":"#,
            subscription.id
        );
        let text = [head.as_bytes(), result, b"}}"].concat();
        self.send(Outgoing::Text { text: text.into(), mark });
    }

    /// A connection that is gone takes nothing any more; one whose client has stopped reading is a test gone wrong.
    fn send(&self, outgoing: Outgoing) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.outgoing.try_send(outgoing) {
            panic!("the queue of a connection is full: the client does not read");
        }
    }
}

impl State {
    pub(super) fn announce(&mut self, hash: B256) {
        let block = self.chain.by_hash(hash).expect("an announced block is known").clone();
        if self.script.log_fault == Some(LogFault::BeforeHead) {
            self.push_logs(&block);
            return self.announce_head(hash);
        }
        self.announce_head(hash);
        self.push_logs(&block);
    }

    fn push_logs(&self, block: &Stored) {
        if self.script.pushes_nothing() {
            return;
        }
        let Some(fault) = self.script.log_fault else {
            return self.connections.values().for_each(|connection| connection.push_logs(block, false));
        };
        let parent = self.chain.by_hash(block.block.parent_hash());
        for connection in self.connections.values() {
            connection.push_faulty_logs(block, parent.map(|parent| &**parent), fault);
        }
    }

    pub(super) fn announce_head(&mut self, hash: B256) {
        let block = self.chain.by_hash(hash).expect("an announced block is known").clone();
        if self.script.pushes_nothing() {
            return;
        }
        for connection in self.connections.values() {
            for subscription in &connection.subscriptions {
                if let Kind::NewHeads = subscription.kind {
                    connection.push(
                        subscription,
                        &block.header_json,
                        Some(Mark { block: hash, what: "newHeads" }),
                    );
                }
            }
        }
    }

    /// Pushes a log as it is to those whose filter takes it.
    pub(super) fn push_log(&mut self, log: &Value) {
        if self.script.pushes_nothing() {
            return;
        }
        let log = StoredLog::new(log);
        for connection in self.connections.values() {
            for subscription in &connection.subscriptions {
                if let Kind::Logs(filter) = &subscription.kind
                    && filter.takes(&log)
                {
                    connection.push(subscription, &log.json, None);
                }
            }
        }
    }

    pub(super) fn announce_removed(&mut self, orphan: &Stored) {
        if self.script.pushes_nothing() {
            return;
        }
        for connection in self.connections.values() {
            connection.push_logs(orphan, true);
        }
    }

    pub(super) fn push_pending(&mut self, transaction: &Value) {
        if self.script.pushes_nothing() {
            return;
        }
        let whole = Bytes::from(encode(transaction));
        let hash = Bytes::from(encode(&transaction["hash"]));
        for connection in self.connections.values() {
            for subscription in &connection.subscriptions {
                if let Kind::Pending { full } = subscription.kind {
                    connection.push(subscription, if full { &whole } else { &hash }, None);
                }
            }
        }
    }

    pub(super) fn send_to_all(&mut self, outgoing: Outgoing) {
        for connection in self.connections.values() {
            connection.send(outgoing.clone());
        }
    }

    pub(super) fn subscriptions(&self, kind: &str) -> usize {
        let all = self.connections.values().flat_map(|connection| &connection.subscriptions);
        all.filter(|subscription| subscription.kind.name() == kind).count()
    }

    /// Takes one request object of a connection (`None`: HTTP) and says what to do.
    pub(super) fn take(&mut self, connection: Option<u64>, request: &Value, in_batch: bool) -> Reaction {
        let (id, params) = (&request["id"], &request["params"]);
        let Some(method) = request["method"].as_str() else {
            return respond(id, Err(RpcErr::new(-32600, "invalid request")), None);
        };
        let asked = Asked { method: method.to_owned(), params: params.clone(), at: Instant::now(), in_batch };
        self.asked.push(asked);
        if self.script.silent {
            return Reaction::Nothing;
        }
        let fault = self.script.strike(method);
        match fault {
            Some(Fault::Silence) => return Reaction::Nothing,
            Some(Fault::DropConnection) => return Reaction::Drop,
            Some(Fault::Text(text)) => return Reaction::Text(text),
            Some(Fault::HttpStatus(status)) => return Reaction::HttpStatus(status, None),
            Some(Fault::TooManyRequests(seconds)) => return Reaction::HttpStatus(429, Some(seconds)),
            Some(Fault::Error(error)) => return respond(id, Err(error), None),
            Some(Fault::Result(result)) => {
                return respond(id, Ok(Answer { json: encode(&result).into(), block: None }), None);
            }
            Some(Fault::Delay(_) | Fault::FirstItems(_)) | None => {}
        }
        let mut answer = self.answer(connection, method, params);
        if let (Some(Fault::FirstItems(count)), Ok(whole)) = (&fault, &mut answer) {
            whole.json = first_items(&whole.json, *count);
        }
        let after = if let Some(Fault::Delay(after)) = fault { Some(after) } else { None };
        let mark =
            answer.as_ref().ok().and_then(|answer| answer.block).and_then(|block| Mark::of(block, method));
        match respond(id, answer, mark) {
            Reaction::Respond { response, mark, .. } => Reaction::Respond { response, after, mark },
            other => other,
        }
    }

    fn answer(&mut self, connection: Option<u64>, method: &str, params: &Value) -> Result<Answer, RpcErr> {
        match method {
            "eth_subscribe" => self.subscribe(connection, params),
            "eth_unsubscribe" => Ok(self.unsubscribe(connection, &params[0])),
            _ => {
                let known = Known { chain: &self.chain, chain_id: self.chain_id, calls: self.calls.as_ref() };
                known.answer(method, params)
            }
        }
    }

    fn subscribe(&mut self, connection: Option<u64>, params: &Value) -> Result<Answer, RpcErr> {
        let connection = connection.and_then(|number| self.connections.get_mut(&number));
        let connection = connection.ok_or_else(|| RpcErr::new(-32601, "notifications not supported"))?;
        let kind = Kind::parse(params).ok_or_else(|| RpcErr::new(-32602, "no such subscription"))?;
        let id = format!("{:#x}", 0x9000 + self.next_subscription);
        self.next_subscription += 1;
        let json = encode(&json!(id)).into();
        connection.subscriptions.push(Subscription { id, kind });
        Ok(Answer { json, block: None })
    }

    fn unsubscribe(&mut self, connection: Option<u64>, id: &Value) -> Answer {
        let connection = connection.and_then(|number| self.connections.get_mut(&number));
        let found = connection.is_some_and(|connection| {
            let before = connection.subscriptions.len();
            connection.subscriptions.retain(|subscription| id != subscription.id.as_str());
            connection.subscriptions.len() < before
        });
        Answer { json: encode(&Value::from(found)).into(), block: None }
    }
}

impl Connection {
    fn push_logs(&self, block: &Stored, removed: bool) {
        for subscription in &self.subscriptions {
            let Kind::Logs(filter) = &subscription.kind else { continue };
            for log in block.logs.iter().filter(|log| filter.takes(log)) {
                let text = if removed { &log.removed_json } else { &log.json };
                let mark = (!removed).then_some(Mark { block: block.hash, what: "logs" });
                self.push(subscription, text, mark);
            }
        }
    }
}

impl Connection {
    fn push_faulty_logs(&self, block: &Stored, parent: Option<&Stored>, fault: LogFault) {
        for subscription in &self.subscriptions {
            let Kind::Logs(filter) = &subscription.kind else { continue };
            let taken = |block: &Stored, text: fn(&StoredLog) -> &Bytes| -> Vec<Bytes> {
                block.logs.iter().filter(|log| filter.takes(log)).map(|log| text(log).clone()).collect()
            };
            let (logs, removed) = (taken(block, |log| &log.json), taken(block, |log| &log.removed_json));
            let of_parent = parent.map(|parent| taken(parent, |log| &log.json)).unwrap_or_default();
            for text in fault.distort(&logs, &removed, &of_parent) {
                self.push(subscription, &text, None);
            }
        }
    }
}

impl Kind {
    fn parse(params: &Value) -> Option<Self> {
        match params[0].as_str()? {
            "newHeads" => Some(Self::NewHeads),
            "logs" => LogFilter::parse(&params[1]).map(Self::Logs),
            "newPendingTransactions" => Some(Self::Pending { full: params[1].as_bool().unwrap_or(false) }),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::NewHeads => "newHeads",
            Self::Logs(_) => "logs",
            Self::Pending { .. } => "newPendingTransactions",
        }
    }
}

fn respond(id: &Value, answer: Result<Answer, RpcErr>, mark: Option<Mark>) -> Reaction {
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"#);
    let response = match answer {
        Ok(answer) => [head.as_bytes(), b"\"result\":", &answer.json, b"}"].concat(),
        Err(error) => [head.as_bytes(), b"\"error\":", encode(&error.json()).as_bytes(), b"}"].concat(),
    };
    Reaction::Respond { response: response.into(), after: None, mark }
}

fn first_items(list: &Bytes, count: usize) -> Bytes {
    match serde_json::from_slice(list) {
        Ok(Value::Array(mut items)) => {
            items.truncate(count);
            encode(&Value::Array(items)).into()
        }
        _ => list.clone(),
    }
}
