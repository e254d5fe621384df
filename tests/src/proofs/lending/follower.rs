//! What Headwater knows: a market that was loaded once and follows events, and the index over it.

use std::collections::VecDeque;

use alloy_primitives::Log;
use anyhow::{Context, ensure};
use headwater_lending::{LendingEvent, LiquidationIndex, Market, Undo};
use headwater_reference::aave::World;

use super::logs;
use super::play::Turn;

/// How many blocks can be taken back.
const DEPTH: usize = 12;

pub(super) struct Follower {
    pub(super) market: Market,
    pub(super) index: LiquidationIndex,
    history: VecDeque<Block>,
}

/// A block that can be taken back, and followed again.
struct Block {
    before: Market,
    timestamp: u64,
    events: Vec<LendingEvent>,
    undo: Vec<Undo>,
}

impl Follower {
    pub(super) fn new(market: Market, timestamp: u64) -> Self {
        let index = LiquidationIndex::new(&market, timestamp);
        Self { market, index, history: VecDeque::new() }
    }

    pub(super) fn follow(&mut self, world: &mut World, turn: &Turn) -> anyhow::Result<usize> {
        let mut events = events(world, &turn.logs)?;
        events.extend(
            turn.prices
                .iter()
                .map(|(source, price)| LendingEvent::PriceChanged { source: *source, price: *price }),
        );
        let allowed = world.liquidation_allowed()?;
        events.push(LendingEvent::LiquidationAllowed(allowed));
        let count = events.len();
        self.follow_events(events, world.evm.block().timestamp)?;
        Ok(count)
    }

    fn follow_events(&mut self, events: Vec<LendingEvent>, timestamp: u64) -> anyhow::Result<()> {
        let before = self.market.clone();
        let mut undo = Vec::new();
        for event in &events {
            let left = self.market.apply(event, timestamp).with_context(|| format!("{event:?}"))?;
            self.index.follow(left.touches(), &self.market, timestamp);
            undo.push(left);
        }
        if self.history.len() == DEPTH {
            self.history.pop_front();
        }
        self.history.push_back(Block { before, timestamp, events, undo });
        Ok(())
    }

    /// Takes back this many blocks, each of which has to leave what was there before it, and follows them again.
    pub(super) fn reorganise(&mut self, depth: usize) -> anyhow::Result<usize> {
        let now = self.market.clone();
        let keep = self.history.len().saturating_sub(depth);
        let undone: Vec<Block> = self.history.drain(keep..).collect();
        for block in undone.iter().rev() {
            for undo in block.undo.iter().rev() {
                let touches: Vec<_> = undo.touches().collect();
                self.market.revert(undo.clone());
                self.index.follow(touches.into_iter(), &self.market, block.timestamp);
            }
            ensure!(self.market == block.before, "what was taken back left something else");
        }
        let depth = undone.len();
        for block in undone {
            self.follow_events(block.events, block.timestamp)?;
        }
        ensure!(self.market == now, "what was followed again is not what it was");
        Ok(depth)
    }
}

pub(super) fn events(world: &World, logs: &[Log]) -> anyhow::Result<Vec<LendingEvent>> {
    let mut events = Vec::new();
    for log in logs {
        events.extend(logs::event(world, log)?);
    }
    Ok(events)
}
