//! Reports that are pending for aggregators: which there are, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, TxHash};
use headwater_abi::calldata::{self, Input, Limits, ReadCall};
use headwater_abi::{Malformed, logs};
use headwater_events::{
    Action, BlockEvent, Call, ChainlinkAction, PendingTxEvent, ReorgEvent, Transaction, Transmission,
    TransmitKind,
};
use headwater_market::{PendingPool, PendingReport, PoolCounts, PoolLimits, ReportSender, positive_answer};
use serde::Serialize;

mod actor;

pub use actor::{TransmissionActor, TransmissionMessage, TransmissionObserved, TransmissionWiring};

/// Senders of an aggregator that are remembered: twice as many as it has oracles.
const MOST_SENDERS: usize = 62;

/// The pending reports for the aggregators that are followed.
///
/// A report is there from when its transaction is seen until that is mined, replaced by whatever has its sender and nonce, forgotten
/// for its age, or overtaken: an aggregator refuses a report of an epoch and round that is not beyond the last one it took. It
/// changes no price; whoever wants to know what it will do asks for it by name.
#[derive(Debug)]
pub struct Transmissions {
    pool: PendingPool,
    reports: BTreeMap<TxHash, Report>,
    heard: BTreeMap<Address, Heard>,
    counts: TransmissionCounts,
}

/// What became of the calls that bring reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransmissionCounts {
    /// Reports that were taken up.
    pub taken: u64,
    /// Reports for contracts that nobody here reads from.
    pub foreign: u64,
    /// Reports whose epoch and round the aggregator has passed, when they were seen or later.
    pub stale: u64,
    /// Reports that are no price.
    pub impossible: u64,
    /// Calls with the selector of one that do not decode.
    pub malformed: u64,
    /// Their transactions.
    pub pool: PoolCounts,
}

#[derive(Debug)]
struct Report {
    told: PendingReport,
    caller: Address,
    epoch_and_round: u64,
}

/// What an aggregator said of the reports that it took.
#[derive(Debug, Default)]
struct Heard {
    senders: BTreeSet<Address>,
    epoch_and_round: u64,
}

impl Transmissions {
    /// Nothing is pending.
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            pool: PendingPool::new(limits),
            reports: BTreeMap::new(),
            heard: BTreeMap::new(),
            counts: TransmissionCounts::default(),
        }
    }

    /// A transaction was seen; says whether the reports changed. `is_followed`: whether an aggregator is one that somebody reads from.
    pub fn see(
        &mut self,
        pending: &Arc<PendingTxEvent>,
        is_followed: impl Fn(&Address) -> bool,
        now: Duration,
    ) -> bool {
        let before = self.hashes();
        let report = self.read(pending, is_followed);
        if report.is_some() || self.is_in_the_way(&pending.transaction) {
            self.pool.see(Arc::clone(pending), now);
        }
        self.reports.extend(report.map(|report| (pending.transaction.hash, report)));
        self.prune();
        self.hashes() != before
    }

    /// A block became canonical: what it mined is gone, and what it overtook.
    pub fn mine(&mut self, block: &BlockEvent, is_followed: impl Fn(&Address) -> bool, now: Duration) {
        for log in block.logs.iter().filter(|log| is_followed(&log.address)) {
            let Ok(Some(Action::Chainlink { emitter, action, .. })) = logs::action(log) else { continue };
            let ChainlinkAction::NewTransmission { transmitter, .. } = action else { continue };
            let heard = self.heard.entry(emitter).or_default();
            if heard.senders.len() < MOST_SENDERS {
                heard.senders.insert(transmitter);
            }
            let transaction = block.transactions.get(log.transaction_index as usize);
            let landed = transaction.and_then(|transaction| call_of(transaction).ok().flatten());
            if let Some(landed) = landed.filter(|landed| landed.aggregator == emitter) {
                heard.epoch_and_round = heard.epoch_and_round.max(landed.transmission.epoch_and_round);
            }
        }
        self.pool.mine(block, now);
        self.prune();
        let heard = &self.heard;
        let before = self.reports.len();
        self.reports.retain(|_, report| !report.is_stale(heard.get(&report.told.aggregator)));
        self.counts.stale += (before - self.reports.len()) as u64;
        for report in self.reports.values_mut() {
            report.told.sender = sender(heard.get(&report.told.aggregator), &report.caller);
        }
    }

    /// Blocks are canonical no longer: what they had mined is pending again, and what they overtook may be taken after all.
    pub fn undo(&mut self, reorg: &ReorgEvent, is_followed: impl Fn(&Address) -> bool, now: Duration) {
        self.pool.undo(reorg, now);
        self.heard.values_mut().for_each(|heard| heard.epoch_and_round = 0);
        let all: Vec<_> = self.pool.newest().cloned().collect();
        for pending in all {
            let hash = pending.transaction.hash;
            if !self.reports.contains_key(&hash)
                && let Some(report) = self.read(&pending, &is_followed)
            {
                self.reports.insert(hash, report);
            }
        }
        self.prune();
    }

    /// The reports, the first seen first.
    pub fn reports(&self) -> Arc<[PendingReport]> {
        let newest = self.pool.newest().filter_map(|pending| self.reports.get(&pending.transaction.hash));
        let mut reports: Vec<_> = newest.map(|report| report.told.clone()).collect();
        reports.reverse();
        reports.into()
    }

    /// In figures.
    pub fn counts(&self) -> TransmissionCounts {
        TransmissionCounts { pool: self.pool.counts(), ..self.counts }
    }

    fn read(
        &mut self,
        pending: &Arc<PendingTxEvent>,
        is_followed: impl Fn(&Address) -> bool,
    ) -> Option<Report> {
        let called = match call_of(&pending.transaction) {
            Ok(called) => called?,
            Err(_) => {
                self.counts.malformed += 1;
                return None;
            }
        };
        let Called { aggregator, caller, transmission } = called;
        let Transmission { kind, answer, observations_timestamp, epoch_and_round, .. } = transmission;
        if !is_followed(&aggregator) || kind == TransmitKind::Ocr2Secondary {
            self.counts.foreign += 1;
            return None;
        }
        if positive_answer(answer).is_none() {
            self.counts.impossible += 1;
            return None;
        }
        let heard = self.heard.get(&aggregator);
        let told = PendingReport {
            pending: Arc::clone(pending),
            aggregator,
            answer,
            observed_at: observations_timestamp,
            sender: sender(heard, &caller),
        };
        let report = Report { told, caller, epoch_and_round };
        if report.is_stale(heard) {
            self.counts.stale += 1;
            return None;
        }
        self.counts.taken += 1;
        Some(report)
    }

    /// Whether it has sender and nonce of a report: one of them will not be mined.
    fn is_in_the_way(&self, transaction: &Transaction) -> bool {
        self.reports.values().any(|report| {
            let own = &report.told.pending.transaction;
            (own.from, own.nonce) == (transaction.from, transaction.nonce)
        })
    }

    fn prune(&mut self) {
        let pool = &self.pool;
        self.reports.retain(|hash, _| pool.get(hash).is_some());
    }

    fn hashes(&self) -> Vec<TxHash> {
        self.reports.keys().copied().collect()
    }
}

impl Report {
    fn is_stale(&self, heard: Option<&Heard>) -> bool {
        heard.is_some_and(|heard| self.epoch_and_round <= heard.epoch_and_round && heard.epoch_and_round > 0)
    }
}

fn sender(heard: Option<&Heard>, caller: &Address) -> ReportSender {
    let is_known = heard.is_some_and(|heard| heard.senders.contains(caller));
    if is_known { ReportSender::Known } else { ReportSender::Unknown }
}

/// A call that brings a report.
#[derive(Debug)]
struct Called {
    aggregator: Address,
    /// Whom the aggregator takes for its transmitter.
    caller: Address,
    transmission: Transmission,
}

fn call_of(transaction: &Transaction) -> Result<Option<Called>, Malformed> {
    let Some(input) = Input::of(transaction) else { return Ok(None) };
    if let Some(transmission) = calldata::report(&input)? {
        let (aggregator, caller) = (input.contract, transaction.from);
        return Ok(Some(Called { aggregator, caller, transmission }));
    }
    let forwarded = calldata::forwarder(&input, &Reports, &mut Limits::default())?;
    let Some(Call::Forward { to, call }) = forwarded else { return Ok(None) };
    Ok(match *call {
        Call::Transmit(transmission) => Some(Called { aggregator: to, caller: input.contract, transmission }),
        _ => None,
    })
}

/// Knows the calls of aggregators and no others.
struct Reports;

impl ReadCall for Reports {
    fn read(&self, input: &Input<'_>, _: &mut Limits) -> Result<Option<Call>, Malformed> {
        Ok(calldata::report(input)?.map(Call::Transmit))
    }
}

#[cfg(test)]
mod tests;
