use std::sync::Arc;

use alloy_primitives::BlockHash;
use headwater_events::{AsOf, DecodedBlock};

use crate::concentrated::ConcentratedId;
use crate::pools::PoolId;
use crate::prices::PriceSnapshot;
use crate::snapshot::{Changes, MarketSnapshot};

/// All that is known as of one block: what a detector evaluates. Its parts are never of different blocks.
#[derive(Clone, Debug)]
pub struct WholeView {
    market: Arc<MarketSnapshot>,
    prices: Arc<PriceSnapshot>,
    decoded: Arc<DecodedBlock>,
    touched: Touched,
    touched_concentrated: Touched<ConcentratedId>,
}

/// The pools that changed since the view that a detector evaluated before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched<Id = PoolId> {
    /// Any of them may have.
    All,
    /// These, ascending and without repetition.
    Pools(Vec<Id>),
}

/// Parts of a view that are not of the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parts of different blocks: actions of {decoded}, market of {market}, prices of {prices}")]
pub struct MixedBlocks {
    /// Block of the actions.
    pub decoded: BlockHash,
    /// Block of the market.
    pub market: BlockHash,
    /// Block of the prices.
    pub prices: BlockHash,
}

impl WholeView {
    /// Puts the parts together. Any pool with concentrated liquidity may have changed, unless
    /// [`WholeView::with_touched_concentrated`] says otherwise.
    ///
    /// # Errors
    ///
    /// [`MixedBlocks`] when their block hashes differ.
    pub fn new(
        market: Arc<MarketSnapshot>,
        prices: Arc<PriceSnapshot>,
        decoded: Arc<DecodedBlock>,
        touched: Touched,
    ) -> Result<Self, MixedBlocks> {
        let whole = market.as_of.same_block(&prices.as_of) && market.as_of.same_block(&decoded.as_of);
        if !whole {
            let (decoded, market, prices) = (decoded.as_of.hash, market.as_of.hash, prices.as_of.hash);
            return Err(MixedBlocks { decoded, market, prices });
        }
        Ok(Self { market, prices, decoded, touched, touched_concentrated: Touched::All })
    }

    /// The same with what changed of the pools with concentrated liquidity.
    pub fn with_touched_concentrated(self, touched_concentrated: Touched<ConcentratedId>) -> Self {
        Self { touched_concentrated, ..self }
    }

    /// The block.
    pub fn as_of(&self) -> AsOf {
        self.market.as_of
    }

    /// Head, fees and pools.
    pub fn market(&self) -> &MarketSnapshot {
        &self.market
    }

    /// Prices.
    pub fn prices(&self) -> &PriceSnapshot {
        &self.prices
    }

    /// What the block did.
    pub fn decoded(&self) -> &DecodedBlock {
        &self.decoded
    }

    /// What changed since the detector's previous view.
    pub fn touched(&self) -> &Touched {
        &self.touched
    }

    /// The same of pools with concentrated liquidity.
    pub fn touched_concentrated(&self) -> &Touched<ConcentratedId> {
        &self.touched_concentrated
    }
}

impl Touched {
    /// What changed from the snapshot `since` to `now`, as the window (oldest first) tells; everything, if it does not
    /// lead back to it.
    pub fn between(window: &[Arc<MarketSnapshot>], since: Option<AsOf>, now: &MarketSnapshot) -> Self {
        Self::of_changes(window, since, now, |snapshot| &snapshot.changes)
    }
}

impl Touched<ConcentratedId> {
    /// As [`Touched::between`], of pools with concentrated liquidity.
    pub fn concentrated_between(
        window: &[Arc<MarketSnapshot>],
        since: Option<AsOf>,
        now: &MarketSnapshot,
    ) -> Self {
        Self::of_changes(window, since, now, |snapshot| &snapshot.concentrated_changes)
    }
}

impl<Id: Copy + Ord> Touched<Id> {
    fn of_changes(
        window: &[Arc<MarketSnapshot>],
        since: Option<AsOf>,
        now: &MarketSnapshot,
        changes: fn(&MarketSnapshot) -> &Changes<Id>,
    ) -> Self {
        let Some(since) = since else { return Self::All };
        let mut touched = Vec::new();
        let mut current = now;
        loop {
            let (Changes::Pools(pools), Some(parent)) = (changes(current), current.parent) else {
                return Self::All;
            };
            touched.extend_from_slice(pools);
            if parent == since {
                break;
            }
            match window.iter().find(|snapshot| snapshot.as_of == parent) {
                Some(parent) => current = parent,
                None => return Self::All,
            }
        }
        touched.sort_unstable();
        touched.dedup();
        Self::Pools(touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Head, PoolTable};

    fn as_of(seq: u8) -> AsOf {
        AsOf { seq: seq.into(), number: seq.into(), hash: [seq; 32].into() }
    }

    fn snapshot(seq: u8, changes: Option<&[u32]>) -> Arc<MarketSnapshot> {
        let head = Head { timestamp: 0, base_fee_per_gas: None, gas_used: 0, gas_limit: 0 };
        let of = |ids: &[u32]| Changes::Pools(ids.iter().copied().map(PoolId).collect());
        Arc::new(MarketSnapshot {
            parent: Some(as_of(seq - 1)),
            changes: changes.map_or(Changes::All, of),
            concentrated_changes: changes.map_or(Changes::All, |ids| {
                Changes::Pools(ids.iter().map(|id| ConcentratedId(id + 100)).collect())
            }),
            ..MarketSnapshot::of_pools(as_of(seq), head, PoolTable::default())
        })
    }

    fn check(changes: &[Option<&[u32]>], since: Option<u8>, expected: Option<&[u32]>) {
        let window: Vec<_> = (2..).zip(changes).map(|(seq, changes)| snapshot(seq, *changes)).collect();
        let now = window.last().expect("a case has a snapshot");
        let expected =
            expected.map_or(Touched::All, |ids| Touched::Pools(ids.iter().copied().map(PoolId).collect()));
        let touched = Touched::between(&window, since.map(as_of), now);
        assert_eq!(touched, expected);
        let concentrated = match touched {
            Touched::All => Touched::All,
            Touched::Pools(ids) => Touched::Pools(ids.iter().map(|id| ConcentratedId(id.0 + 100)).collect()),
        };
        assert_eq!(Touched::concentrated_between(&window, since.map(as_of), now), concentrated);
    }

    #[test]
    fn the_touched_sets_of_skipped_blocks_are_united() {
        check(&[Some(&[1]), Some(&[5, 9]), Some(&[2, 5])], Some(3), Some(&[2, 5]));
        check(&[Some(&[1]), Some(&[5, 9]), Some(&[2, 5])], Some(2), Some(&[2, 5, 9]));
        check(&[Some(&[1]), Some(&[]), Some(&[])], Some(1), Some(&[1]));
    }

    #[test]
    fn what_does_not_lead_back_means_everything() {
        check(&[Some(&[1]), Some(&[5])], None, None);
        check(&[Some(&[1]), Some(&[5])], Some(9), None);
        check(&[Some(&[1]), None, Some(&[5])], Some(2), None);
    }

    #[test]
    fn parts_of_different_blocks_make_no_view() {
        let view = |market: u8, prices: u8, decoded: u8| {
            let quote = Default::default();
            let prices = PriceSnapshot {
                as_of: as_of(prices),
                quote,
                prices: Default::default(),
                sources: Default::default(),
            };
            let as_of = as_of(decoded);
            let decoded = DecodedBlock {
                as_of,
                actions: Vec::new(),
                unknown_logs: 0,
                unknown_calls: 0,
                malformed: 0,
                set_aside: false,
            };
            WholeView::new(snapshot(market, None), Arc::new(prices), Arc::new(decoded), Touched::All)
        };
        assert!(view(3, 3, 3).is_ok());
        // The same block as it was published again.
        let again = AsOf { seq: 9, ..as_of(3) };
        assert!(!again.same_block(&as_of(3)));
        for (market, prices, decoded) in [(2, 3, 3), (3, 2, 3), (3, 3, 2)] {
            assert!(view(market, prices, decoded).is_err(), "{market} {prices} {decoded}");
        }
    }
}
