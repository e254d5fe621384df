//! The pending transactions that are known, as a state machine: what comes twice, goes, is replaced or comes back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, BlockHash, TxHash};
use headwater_events::{BlockEvent, PendingTxEvent, ReorgEvent};
use serde::Serialize;

/// What the pool may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// The most transactions.
    pub transactions: usize,
    /// The most bytes of them all, calldata included.
    pub bytes: usize,
    /// How long one is kept that nothing is heard of.
    pub age: Duration,
}

/// Pending transactions: each once, one for each nonce of a sender, none that was mined; bounded in number and bytes.
///
/// Time is what the caller says it is, as long since a moment of its own choice.
#[derive(Debug)]
pub struct PendingPool {
    limits: PoolLimits,
    entries: HashMap<TxHash, Entry>,
    by_sender: HashMap<Address, BTreeMap<u64, TxHash>>,
    /// By arrival.
    order: BTreeMap<u64, TxHash>,
    arrivals: u64,
    bytes: usize,
    /// What the last blocks mined of what was pending, so that a reorganisation brings it back.
    mined: VecDeque<(BlockHash, Vec<Arc<PendingTxEvent>>)>,
    counts: PoolCounts,
}

#[derive(Debug)]
struct Entry {
    pending: Arc<PendingTxEvent>,
    arrival: u64,
    seen_at: Duration,
}

/// What became of the transactions. `seen + returned = pending + duplicates + outbid + mined + replaced + aged + crowded_out`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolCounts {
    /// Handed in.
    pub seen: u64,
    /// Of these, such as were there already.
    pub duplicates: u64,
    /// Of these, such as pay no more than the one of the same sender and nonce.
    pub outbid: u64,
    /// Brought back by a reorganisation.
    pub returned: u64,
    /// Gone, because they, or others with their nonce, were mined.
    pub mined: u64,
    /// Gone, because another with their sender and nonce pays more.
    pub replaced: u64,
    /// Gone, because they were too old.
    pub aged: u64,
    /// Gone, because there was no room.
    pub crowded_out: u64,
    /// There now.
    pub pending: u64,
}

/// What became of a transaction that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is pending now.
    New,
    /// It is pending now, in the place of another.
    Replacing(TxHash),
    /// It was there already.
    Duplicate,
    /// One of the same sender and nonce pays as much.
    Outbid,
}

/// Blocks whose transactions can come back: as many as a reorganisation that state survives.
const REMEMBERED: usize = crate::HORIZON;

impl PendingPool {
    /// Nothing is pending.
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            entries: HashMap::default(),
            by_sender: HashMap::default(),
            order: BTreeMap::new(),
            arrivals: 0,
            bytes: 0,
            mined: VecDeque::new(),
            counts: PoolCounts::default(),
        }
    }

    /// A transaction was seen at `now`.
    pub fn see(&mut self, pending: Arc<PendingTxEvent>, now: Duration) -> Arrival {
        self.counts.seen += 1;
        self.forget_old(now);
        self.insert(pending, now)
    }

    /// A block became canonical: what it mined is gone, and what it made impossible.
    pub fn mine(&mut self, block: &BlockEvent, now: Duration) {
        self.forget_old(now);
        let mut gone = Vec::new();
        for transaction in &block.transactions {
            while let Some(hash) = self.oldest_nonce(transaction.from, transaction.nonce) {
                gone.extend(self.remove(&hash));
                self.counts.mined += 1;
            }
        }
        if self.mined.len() == REMEMBERED {
            self.mined.pop_front();
        }
        self.mined.push_back((block.header.hash, gone));
    }

    /// Blocks are canonical no longer: what they had mined is pending again.
    pub fn undo(&mut self, reorg: &ReorgEvent, now: Duration) {
        for hash in &reorg.undone {
            let Some(place) = self.mined.iter().rposition(|(mined, _)| mined == hash) else { continue };
            for pending in self.mined.remove(place).into_iter().flat_map(|(_, gone)| gone) {
                self.counts.returned += 1;
                self.insert(pending, now);
            }
        }
    }

    /// The transaction, while it is pending.
    pub fn get(&self, hash: &TxHash) -> Option<&Arc<PendingTxEvent>> {
        self.entries.get(hash).map(|entry| &entry.pending)
    }

    /// All of them, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Arc<PendingTxEvent>> {
        self.order.values().rev().filter_map(|hash| self.get(hash))
    }

    /// What became of all of them.
    pub fn counts(&self) -> PoolCounts {
        PoolCounts { pending: self.entries.len() as u64, ..self.counts }
    }

    /// Bytes of all that is pending.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn insert(&mut self, pending: Arc<PendingTxEvent>, now: Duration) -> Arrival {
        let (hash, from, nonce) =
            (pending.transaction.hash, pending.transaction.from, pending.transaction.nonce);
        if self.entries.contains_key(&hash) {
            self.counts.duplicates += 1;
            return Arrival::Duplicate;
        }
        let earlier = self.by_sender.get(&from).and_then(|nonces| nonces.get(&nonce)).copied();
        if let Some(earlier) = earlier {
            if self.get(&earlier).is_some_and(|earlier| pending.max_fee_per_gas <= earlier.max_fee_per_gas) {
                self.counts.outbid += 1;
                return Arrival::Outbid;
            }
            self.remove(&earlier);
            self.counts.replaced += 1;
        }
        self.arrivals += 1;
        self.bytes += weight(&pending);
        self.order.insert(self.arrivals, hash);
        self.by_sender.entry(from).or_default().insert(nonce, hash);
        self.entries.insert(hash, Entry { pending, arrival: self.arrivals, seen_at: now });
        self.make_room();
        earlier.map_or(Arrival::New, Arrival::Replacing)
    }

    /// The oldest goes first.
    fn make_room(&mut self) {
        while self.entries.len() > self.limits.transactions || self.bytes > self.limits.bytes {
            let Some(oldest) = self.order.values().next().copied() else { break };
            self.remove(&oldest);
            self.counts.crowded_out += 1;
        }
    }

    fn forget_old(&mut self, now: Duration) {
        while let Some(oldest) = self.order.values().next().copied() {
            let is_old = self
                .entries
                .get(&oldest)
                .is_none_or(|entry| now.saturating_sub(entry.seen_at) > self.limits.age);
            if !is_old {
                break;
            }
            self.remove(&oldest);
            self.counts.aged += 1;
        }
    }

    /// The one with the lowest nonce of the sender, if that is not above `nonce`.
    fn oldest_nonce(&self, sender: Address, nonce: u64) -> Option<TxHash> {
        let (lowest, hash) = self.by_sender.get(&sender)?.first_key_value()?;
        (*lowest <= nonce).then_some(*hash)
    }

    fn remove(&mut self, hash: &TxHash) -> Option<Arc<PendingTxEvent>> {
        let Entry { pending, arrival, .. } = self.entries.remove(hash)?;
        self.order.remove(&arrival);
        self.bytes -= weight(&pending);
        let from = pending.transaction.from;
        if let Some(nonces) = self.by_sender.get_mut(&from) {
            nonces.remove(&pending.transaction.nonce);
            if nonces.is_empty() {
                self.by_sender.remove(&from);
            }
        }
        Some(pending)
    }
}

fn weight(pending: &PendingTxEvent) -> usize {
    size_of::<PendingTxEvent>() + pending.transaction.input.len()
}

#[cfg(test)]
mod tests;
