//! Reports on their way to aggregators: prices that are not there yet, and may never be.

use std::sync::Arc;

use alloy_primitives::{Address, I256, TxHash};
use headwater_events::{AsOf, PendingTxEvent, Price};

use crate::feeds::PendingAnswer;
use crate::prices::{PriceSnapshot, deviation_ppm};

/// A pending call that brings a report to an aggregator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingReport {
    /// The transaction.
    pub pending: Arc<PendingTxEvent>,
    /// The aggregator that it calls, directly or through a forwarder.
    pub aggregator: Address,
    /// The median of its observations: what the aggregator will answer if it takes the report.
    pub answer: I256,
    /// When the observations were made, in seconds since the Unix epoch; OCR1 does not tell.
    pub observed_at: Option<u32>,
    /// What is known of whoever calls the aggregator.
    pub sender: ReportSender,
}

/// What is known of whoever calls an aggregator. Anybody can send a report to the mempool; the aggregator refuses those of strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportSender {
    /// The aggregator has not taken a report of his in the blocks that were followed: one of its oracles, or a stranger.
    Unknown,
    /// The aggregator has taken one.
    Known,
}

impl PendingReport {
    /// As [`PriceSnapshot::pending`] asks for it.
    pub fn answer(&self) -> PendingAnswer {
        let (transaction, aggregator) = (self.pending.transaction.hash, self.aggregator);
        PendingAnswer { transaction, aggregator, median: self.answer }
    }
}

/// The reports that are pending behind a block, the first seen first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingReports {
    /// The block; `None` before the first and behind a reorganisation.
    pub as_of: Option<AsOf>,
    /// The reports.
    pub reports: Arc<[PendingReport]>,
}

/// A price that a pending report will give, if it lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingQuote {
    /// The transaction that will make it.
    pub transaction: TxHash,
    /// The proxy of the feed that it answers.
    pub proxy: Address,
    /// How much of the native token.
    pub price: Price,
    /// Seconds from its observations to the block; OCR1 does not tell.
    pub age_s: Option<u64>,
    /// By how many parts per million the furthest of the token's confirmed prices differs; `None` where there is none.
    pub deviation_ppm: Option<u64>,
    /// What is known of whoever sent it.
    pub sender: ReportSender,
}

impl PendingReports {
    /// The prices of a token that are pending, each as if its report were the only one. They are in none of the snapshot's own
    /// answers.
    pub fn quotes(&self, token: &Address, prices: &PriceSnapshot) -> Vec<PendingQuote> {
        let confirmed = prices.quotes(token);
        let mut quotes = Vec::new();
        for report in self.reports.iter() {
            let told = prices.pending(&report.answer()).unwrap_or_default();
            let told = told.into_iter().filter(|told| told.token == *token);
            quotes.extend(told.filter_map(|told| {
                let price = told.after?;
                let furthest = confirmed.iter().map(|quote| deviation_ppm(&price, &quote.price)).max();
                let now = prices.sources.timestamp;
                Some(PendingQuote {
                    transaction: told.transaction,
                    proxy: told.proxy,
                    price,
                    age_s: report.observed_at.map(|observed| now.saturating_sub(observed.into())),
                    deviation_ppm: furthest,
                    sender: report.sender,
                })
            }));
        }
        quotes
    }
}
