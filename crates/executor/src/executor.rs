use std::collections::{BTreeSet, VecDeque};

use alloy_primitives::{BlockHash, I256, TxHash};
use headwater_events::{
    AsOf, BusEvent, Opportunity, OpportunitySet, Plan, Refusal, ReorgEvent, Simulated, Verdict,
};
use headwater_simulation::SimulationError;
use serde::Serialize;

use crate::ExecutorConfig;

/// Follows the chain and judges findings. It has no runtime and asks nobody.
#[derive(Clone, Debug)]
pub struct Executor {
    min_net_profit: I256,
    max_simulations: usize,
    head: Option<AsOf>,
    /// The greatest sequence number of anything that was heard of, handled or still waiting.
    newest: u64,
    /// Blocks that were undone, with the event that undid them: what comes after it may have the same hash.
    orphaned: VecDeque<(BlockHash, u64)>,
    counted: Counted,
}

/// What can be seen of the executor: what this incarnation has judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The newest block that it knows of.
    pub head: Option<AsOf>,
    /// Sets received.
    pub sets: u64,
    /// Of those, such that were no longer of the newest block when their turn came.
    pub late_sets: u64,
    /// Findings in them.
    pub found: u64,
    /// Simulated and worth it.
    pub would_send: u64,
    /// Not to be acted upon.
    pub refused: u64,
    /// Their block was no longer the head.
    pub expired: u64,
    /// There was no state to simulate on.
    pub unsimulated: u64,
}

/// What is to be done with a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is judged.
    Judged(Verdict),
    /// The simulation decides.
    Simulate,
}

/// What the judgement depends on besides the finding and the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether there is state to simulate on.
    pub has_state: bool,
    /// Whether the journal does not keep up.
    pub journal_stalled: bool,
    /// Whether a part of the system was given up.
    pub ending: bool,
}

/// Orphaned blocks that are remembered: more than any finding can be old.
const ORPHANS: usize = 1024;

impl Executor {
    /// Knows nothing of the chain yet.
    pub fn new(config: &ExecutorConfig) -> Self {
        Self {
            min_net_profit: config.min_net_profit_wei,
            max_simulations: usize::try_from(config.max_simulations_per_block.get()).unwrap_or(usize::MAX),
            head: None,
            newest: 0,
            orphaned: VecDeque::new(),
            counted: Counted::default(),
        }
    }

    /// Follows the chain.
    pub fn apply(&mut self, seq: u64, event: &BusEvent) {
        match event {
            BusEvent::NewBlock(block) => {
                self.move_to(AsOf { seq, number: block.header.number, hash: block.header.hash });
            }
            BusEvent::Reorg(reorg) => self.roll_back(seq, reorg),
            _ => {}
        }
    }

    /// Hears of a change of the head whose turn has not come yet.
    pub fn foresee(&mut self, seq: u64) {
        self.newest = self.newest.max(seq);
    }

    /// Forgets the chain.
    pub fn forget(&mut self) {
        self.head = None;
        self.orphaned.clear();
    }

    /// Leaves out an event that changed the chain: until the next one, nothing is its head.
    pub fn lose_track(&mut self, seq: u64) {
        self.foresee(seq);
        self.head = None;
    }

    /// Judges the findings of a set as far as that can be done without a simulation, in their order.
    pub fn receive(&mut self, set: &OpportunitySet, circumstances: Circumstances) -> Vec<Next> {
        // A set of a block proves the block, even where the executor has been restarted since.
        if self.head.is_none_or(|head| head.seq < set.as_of.seq) && !self.is_orphaned(&set.as_of) {
            self.move_to(set.as_of);
        }
        self.counted.sets += 1;
        self.counted.late_sets += u64::from(!self.is_head(&set.as_of));
        self.counted.found += set.items.len() as u64;
        let mut simulations = 0;
        set.items
            .iter()
            .map(|finding| match self.judge(finding, circumstances) {
                Next::Simulate if simulations == self.max_simulations => refused(Refusal::TooMany),
                Next::Simulate => {
                    simulations += 1;
                    Next::Simulate
                }
                judged => judged,
            })
            .collect()
    }

    /// As [`Executor::receive`], for what was found behind pending transactions; `standing`: those that still are.
    pub fn receive_behind(
        &mut self,
        set: &OpportunitySet,
        circumstances: Circumstances,
        standing: &BTreeSet<TxHash>,
    ) -> Vec<Next> {
        let next = self.receive(set, circumstances);
        let stands = |finding: &Opportunity| finding.follows().is_some_and(|hash| standing.contains(&hash));
        let judged = next.into_iter().zip(&set.items).map(|(next, finding)| match next {
            Next::Simulate if !stands(finding) => refused(Refusal::TransactionGone),
            next => next,
        });
        judged.collect()
    }

    fn judge(&self, finding: &Opportunity, circumstances: Circumstances) -> Next {
        if finding.plan == Plan::Inform {
            return refused(Refusal::NothingToDo);
        }
        if matches!(finding.plan, Plan::Liquidate(_) | Plan::Mixed(_)) {
            return refused(Refusal::NotExecutable);
        }
        match finding.net_profit_wei {
            None => return refused(Refusal::NoNetProfit),
            Some(profit) if profit < self.min_net_profit => return refused(Refusal::BelowMinimum),
            Some(_) => {}
        }
        // What follows depends on the moment. Without state there is nothing to act on, so the moment does not matter.
        if !circumstances.has_state {
            return Next::Judged(Verdict::Unsimulated);
        }
        if self.is_orphaned(&finding.as_of) {
            return refused(Refusal::Orphaned);
        }
        if !self.is_head(&finding.as_of) {
            return Next::Judged(Verdict::Expired);
        }
        if circumstances.ending {
            return refused(Refusal::Ending);
        }
        if circumstances.journal_stalled {
            return refused(Refusal::JournalStalled);
        }
        Next::Simulate
    }

    /// Judges a finding by its simulation.
    pub fn conclude(finding: &Opportunity, result: Result<Simulated, SimulationError>) -> Verdict {
        match result {
            Ok(simulated) if simulated.profit < finding.profit => {
                Verdict::Refused(Refusal::ProfitDiffers { simulated: simulated.profit })
            }
            Ok(_) => Verdict::WouldSend,
            Err(SimulationError::Reverted(reason)) => Verdict::Refused(Refusal::Reverted(reason)),
            Err(SimulationError::NotWhole(reason)) => Verdict::Refused(Refusal::NotWhole(reason)),
            Err(SimulationError::Unavailable) => Verdict::Unsimulated,
            Err(error) => Verdict::Refused(Refusal::SimulationFailed(error.to_string())),
        }
    }

    /// Counts a verdict.
    pub fn count(&mut self, verdict: &Verdict) {
        *match verdict {
            Verdict::WouldSend => &mut self.counted.would_send,
            Verdict::Refused(_) => &mut self.counted.refused,
            Verdict::Expired => &mut self.counted.expired,
            Verdict::Unsimulated => &mut self.counted.unsimulated,
        } += 1;
    }

    /// What can be seen from outside.
    pub fn counted(&self) -> Counted {
        Counted { head: self.head, ..self.counted }
    }

    /// Whether a block was undone since it was published. It can become canonical again, as another event.
    fn is_orphaned(&self, as_of: &AsOf) -> bool {
        self.orphaned.iter().any(|(hash, undone_at)| *hash == as_of.hash && as_of.seq < *undone_at)
    }

    fn is_head(&self, as_of: &AsOf) -> bool {
        self.head.is_some_and(|head| head.same_block(as_of) && self.newest <= head.seq)
    }

    fn move_to(&mut self, head: AsOf) {
        self.newest = self.newest.max(head.seq);
        self.head = Some(head);
    }

    fn roll_back(&mut self, seq: u64, reorg: &ReorgEvent) {
        self.orphaned.extend(reorg.undone.iter().map(|hash| (*hash, seq)));
        let excess = self.orphaned.len().saturating_sub(ORPHANS);
        self.orphaned.drain(..excess);
        self.move_to(AsOf { seq, number: reorg.ancestor_number, hash: reorg.ancestor_hash });
    }
}

fn refused(reason: Refusal) -> Next {
    Next::Judged(Verdict::Refused(reason))
}

#[cfg(test)]
pub(crate) mod tests;
