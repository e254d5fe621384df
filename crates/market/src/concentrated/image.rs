use std::collections::VecDeque;
use std::sync::Arc;

use alloy_primitives::{Address, B256, BlockHash, U256};
use headwater_amm::{ConcentratedError, ConcentratedPool, PoolEvent, PoolPrice};
use headwater_events::LoadedTick;
use serde::{Deserialize, Serialize};

use super::{
    ConcentratedBook, ConcentratedCounts, ConcentratedId, ConcentratedKey, ConcentratedMeta,
    ConcentratedTable, Heard, MOST_REFUSED, Record, Standing, Touch,
};
use crate::book::{BadImage, BlockRef, HORIZON};
use crate::config::ResolvedMarket;

/// A [`ConcentratedBook`] at a moment, undo records included, to be saved. Taking it shares everything with the book.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Saved", try_from = "Saved")]
pub struct ConcentratedImage {
    table: ConcentratedTable,
    standing: Vec<Standing>,
    records: VecDeque<Record>,
    base: Option<BlockHash>,
    changed: Vec<ConcentratedId>,
    all_changed: bool,
    counts: ConcentratedCounts,
    refused: imbl::OrdSet<(Address, B256)>,
}

/// What is written.
#[derive(Serialize, Deserialize)]
struct Saved {
    pools: Vec<SavedPool>,
    records: Vec<SavedRecord>,
    base: Option<BlockHash>,
    changed: Vec<ConcentratedId>,
    all_changed: bool,
    counts: ConcentratedCounts,
    /// Ascending.
    refused: Vec<(Address, B256)>,
}

#[derive(Serialize, Deserialize)]
struct SavedPool {
    meta: ConcentratedMeta,
    standing: Standing,
    state: Option<Moment>,
}

/// Where a pool stands, and all its ticks; or those that differ from another moment, with a gross of zero where it has none there.
#[derive(Serialize, Deserialize)]
struct Moment {
    price: Option<(U256, i32)>,
    liquidity: u128,
    ticks: Vec<LoadedTick>,
    /// V4's, in 24 bits.
    protocol_fee: u32,
}

#[derive(Serialize, Deserialize)]
struct SavedRecord {
    block: BlockRef,
    touches: Vec<SavedTouch>,
    heard: Vec<(ConcentratedKey, SavedEvent)>,
    is_cut: bool,
}

#[derive(Serialize, Deserialize)]
struct SavedTouch {
    id: ConcentratedId,
    /// Against the pool after the block; against an empty one where nothing is known of it then.
    before: Option<Moment>,
    created: bool,
}

#[derive(Serialize, Deserialize)]
enum SavedEvent {
    Initialized { sqrt_price: U256, tick: i32 },
    Swapped { sqrt_price: U256, tick: i32, liquidity: u128 },
    LiquidityChanged { lower: i32, upper: i32, delta: i128 },
    ProtocolFeeChanged(u32),
}

impl ConcentratedBook {
    /// The book as it is now, to be saved.
    pub fn image(&self) -> ConcentratedImage {
        ConcentratedImage {
            table: self.table.clone(),
            standing: self.standing.clone(),
            records: self.records.clone(),
            base: self.base,
            changed: self.changed.clone(),
            all_changed: self.all_changed,
            counts: self.counts,
            refused: self.refused.clone(),
        }
    }

    /// The book that an image was taken of; `market` is that of this book.
    ///
    /// # Errors
    ///
    /// [`BadImage`] where the parts of the image contradict each other.
    pub fn of_image(market: &ResolvedMarket, image: ConcentratedImage) -> Result<Self, BadImage> {
        let ConcentratedImage { table, standing, records, base, changed, all_changed, counts, refused } =
            image;
        let is_known = |id: &ConcentratedId| id.index() < table.len();
        let touched = records.iter().flat_map(|record| record.touches.iter().map(|touch| touch.id));
        let is_sound = standing.len() == table.len()
            && records.len() <= HORIZON
            && refused.len() <= MOST_REFUSED
            && changed.iter().all(is_known)
            && touched.into_iter().all(|id| is_known(&id));
        if !is_sound {
            return Err(BadImage);
        }
        let empty = Self::new(market);
        Ok(Self { table, standing, records, base, changed, all_changed, counts, refused, ..empty })
    }
}

impl Moment {
    fn of(pool: &ConcentratedPool, against: Option<&ConcentratedPool>) -> Self {
        let ticks = match against {
            Some(against) => pool.differing_ticks(against),
            None => pool.ticks().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross)).collect(),
        };
        let ticks = ticks.into_iter().map(|(index, liquidity_net, liquidity_gross)| LoadedTick {
            index,
            liquidity_net,
            liquidity_gross,
        });
        Self {
            price: pool.price().map(|price| (price.sqrt_price, price.tick)),
            liquidity: pool.liquidity(),
            ticks: ticks.collect(),
            protocol_fee: pool.fee().packed_protocol(),
        }
    }

    fn pool(
        self,
        meta: &ConcentratedMeta,
        against: Option<&ConcentratedPool>,
    ) -> Result<Arc<ConcentratedPool>, ConcentratedError> {
        let price = self.price.map(|(sqrt_price, tick)| PoolPrice { sqrt_price, tick });
        let ticks = self.ticks.into_iter().map(|tick| (tick.index, tick.liquidity_net, tick.liquidity_gross));
        // What the ticks of a pool that stands alone are told against has nothing in it.
        let mut pool = match against {
            Some(against) => against.at_another_moment(price, self.liquidity, ticks),
            None => meta.empty()?.at_another_moment(price, self.liquidity, ticks),
        }?;
        pool.apply(&PoolEvent::ProtocolFeeChanged(self.protocol_fee))?;
        Ok(Arc::new(pool))
    }
}

impl From<ConcentratedImage> for Saved {
    fn from(image: ConcentratedImage) -> Self {
        let ConcentratedImage { table, standing, records, base, changed, all_changed, counts, refused } =
            image;
        let mut current: Vec<_> = table.iter().map(|(.., pool)| pool.cloned()).collect();
        let pools = table.iter().zip(standing).map(|((_, meta, pool), standing)| SavedPool {
            meta: meta.clone(),
            standing,
            state: pool.map(|pool| Moment::of(pool, None)),
        });
        let pools = pools.collect();
        let mut saved: Vec<_> = records
            .iter()
            .rev()
            .map(|record| SavedRecord {
                block: record.block,
                touches: record.touches.iter().map(|touch| SavedTouch::of(touch, &mut current)).collect(),
                heard: record
                    .heard
                    .events
                    .iter()
                    .map(|(emitter, event)| (*emitter, (*event).into()))
                    .collect(),
                is_cut: record.heard.is_cut,
            })
            .collect();
        saved.reverse();
        let refused = refused.into_iter().collect();
        Self { pools, records: saved, base, changed, all_changed, counts, refused }
    }
}

impl SavedTouch {
    /// `current` are the pools after the block, and goes back to those before it.
    fn of(touch: &Touch, current: &mut [Option<Arc<ConcentratedPool>>]) -> Self {
        let Touch { id, before, created } = touch;
        let after = std::mem::replace(&mut current[id.index()], before.clone());
        let before = before.as_ref().map(|before| Moment::of(before, after.as_deref()));
        Self { id: *id, before, created: *created }
    }
}

impl TryFrom<Saved> for ConcentratedImage {
    type Error = &'static str;

    fn try_from(saved: Saved) -> Result<Self, Self::Error> {
        const NO_POOL: &str = "it holds what no pool can be";
        let Saved { pools, records, base, changed, all_changed, counts, refused } = saved;
        let (mut table, mut standings) = (ConcentratedTable::default(), Vec::new());
        for SavedPool { meta, standing, state } in pools {
            let pool = state.map(|state| state.pool(&meta, None)).transpose().map_err(|_| NO_POOL)?;
            let id = table.push(meta);
            table.set(id, pool);
            standings.push(standing);
        }
        table.settle();
        let mut current: Vec<_> = table.iter().map(|(.., pool)| pool.cloned()).collect();
        let mut restored = VecDeque::with_capacity(HORIZON + 1);
        for SavedRecord { block, touches, heard, is_cut } in records.into_iter().rev() {
            let mut before = Vec::with_capacity(touches.len());
            for SavedTouch { id, before: moment, created } in touches {
                let (Some(meta), Some(slot)) = (table.meta(id), current.get_mut(id.index())) else {
                    return Err("it undoes what is not there");
                };
                let pool = moment.map(|moment| moment.pool(meta, slot.as_deref()));
                *slot = pool.transpose().map_err(|_| NO_POOL)?;
                before.push(Touch { id, before: slot.clone(), created });
            }
            let events = heard.into_iter().map(|(emitter, event)| (emitter, event.into())).collect();
            let heard = Arc::new(Heard { events, is_cut });
            restored.push_front(Record { block, touches: Arc::new(before), heard });
        }
        let (standing, records, refused) = (standings, restored, refused.into_iter().collect());
        Ok(Self { table, standing, records, base, changed, all_changed, counts, refused })
    }
}

impl From<PoolEvent> for SavedEvent {
    fn from(event: PoolEvent) -> Self {
        match event {
            PoolEvent::Initialized(PoolPrice { sqrt_price, tick }) => Self::Initialized { sqrt_price, tick },
            PoolEvent::Swapped { price: PoolPrice { sqrt_price, tick }, liquidity } => {
                Self::Swapped { sqrt_price, tick, liquidity }
            }
            PoolEvent::LiquidityChanged { lower, upper, delta } => {
                Self::LiquidityChanged { lower, upper, delta }
            }
            PoolEvent::ProtocolFeeChanged(packed) => Self::ProtocolFeeChanged(packed),
        }
    }
}

impl From<SavedEvent> for PoolEvent {
    fn from(event: SavedEvent) -> Self {
        match event {
            SavedEvent::Initialized { sqrt_price, tick } => Self::Initialized(PoolPrice { sqrt_price, tick }),
            SavedEvent::Swapped { sqrt_price, tick, liquidity } => {
                Self::Swapped { price: PoolPrice { sqrt_price, tick }, liquidity }
            }
            SavedEvent::LiquidityChanged { lower, upper, delta } => {
                Self::LiquidityChanged { lower, upper, delta }
            }
            SavedEvent::ProtocolFeeChanged(packed) => Self::ProtocolFeeChanged(packed),
        }
    }
}
