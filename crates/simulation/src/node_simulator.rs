use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use headwater_events::{AsOf, Behind, Opportunity, Plan, Simulated};
use headwater_node::{NodeError, Redial};
use serde_json::json;
use tokio::sync::Mutex;

use crate::pinned::{Limits, PinnedState};
use crate::{NodeState, SimulationError, Simulator, flash_swap, simulate_behind};

/// Simulates on the state of a node.
#[derive(Clone, Debug)]
pub struct NodeSimulator {
    node: Redial,
    timeout: Duration,
    behind: Option<Executing>,
}

/// What a finding behind a pending transaction is executed with: a node's `eth_call` knows but one transaction.
#[derive(Clone, Debug)]
struct Executing {
    limits: Limits,
    state: Arc<Mutex<Option<PinnedState>>>,
}

/// What every transaction costs before its first instruction (yellow paper, appendix G, `Gtransaction`).
const TRANSACTION_GAS: u64 = 21_000;

impl NodeSimulator {
    /// Gives a request up after `timeout`.
    pub fn new(node: Redial, timeout: Duration) -> Self {
        Self { node, timeout, behind: None }
    }

    /// Executes findings behind pending transactions as well.
    pub fn with_pending(self, limits: Limits) -> Self {
        Self { behind: Some(Executing { limits, state: Arc::default() }), ..self }
    }

    async fn behind(&self, as_of: AsOf, behind: &Behind) -> Result<Simulated, SimulationError> {
        let Some(Executing { limits, state }) = &self.behind else {
            return Err(SimulationError::NotWhole("pending transactions are not executed".to_owned()));
        };
        let reader = NodeState::new(self.node.clone(), self.timeout);
        let mut pinned = state.lock().await;
        if pinned.as_ref().is_none_or(|state| state.as_of().hash != as_of.hash) {
            *pinned = Some(PinnedState::behind(&reader, as_of, *limits).await?);
        }
        match pinned.as_mut() {
            Some(state) => simulate_behind(&reader, state, behind, fresh_address(&as_of)).await,
            None => Err(SimulationError::Unavailable),
        }
    }
}

impl Simulator for NodeSimulator {
    const HAS_STATE: bool = true;

    async fn simulate(&self, opportunity: &Opportunity) -> Result<Simulated, SimulationError> {
        let steps = match &opportunity.plan {
            Plan::Swaps(steps) => steps,
            Plan::Behind(behind) => return self.behind(opportunity.as_of, behind).await,
            Plan::Liquidate(_) => return Err(SimulationError::Unsupported("a liquidation")),
            Plan::Mixed(_) => {
                return Err(SimulationError::Unsupported("swaps through concentrated liquidity"));
            }
            Plan::Inform => return Err(SimulationError::Unsupported("the plan says nothing to execute")),
        };
        let caller = fresh_address(&opportunity.as_of);
        let code = flash_swap(caller, steps)?;
        let params = (
            json!({ "to": caller }),
            // EIP-1898: by hash, and refused if the block is no longer canonical.
            json!({ "blockHash": opportunity.as_of.hash, "requireCanonical": true }),
            json!({ caller.to_string(): { "code": code } }),
        );
        let node = self.node.node().await?;
        let reply = node.request_within(self.timeout, "eth_call", params).await?;
        answer(&reply.parse::<Bytes>()?)
    }
}

/// An address that holds nothing, because nobody could know it before the block was made.
fn fresh_address(as_of: &AsOf) -> Address {
    let seed: B256 = keccak256([b"headwater simulation".as_slice(), as_of.hash.as_slice()].concat());
    Address::from_word(seed)
}

/// What a program of [`flash_swap`] answers.
pub(crate) fn answer(bytes: &[u8]) -> Result<Simulated, SimulationError> {
    let [profit, gas] = bytes.as_chunks::<32>().0 else {
        let reason = format!("{} bytes in place of two words", bytes.len());
        return Err(NodeError::Decode { reason }.into());
    };
    let gas = U256::from_be_bytes(*gas).saturating_to::<u64>();
    Ok(Simulated {
        profit: U256::from_be_bytes(*profit),
        gas_used: Some(gas.saturating_add(TRANSACTION_GAS)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_balance_and_the_gas() {
        let bytes = [U256::from(7).to_be_bytes::<32>(), U256::from(150_000).to_be_bytes()].concat();
        let simulated = Simulated { profit: U256::from(7), gas_used: Some(171_000) };
        assert_eq!(answer(&bytes), Ok(simulated));
    }

    #[test]
    fn an_answer_of_another_length_is_no_profit() {
        for length in [0, 32, 96] {
            assert!(matches!(answer(&vec![1; length]), Err(SimulationError::Node(_))), "{length}");
        }
    }

    #[test]
    fn every_block_has_a_caller_of_its_own() {
        let at = |byte| fresh_address(&AsOf { hash: B256::repeat_byte(byte), ..AsOf::GENESIS });
        assert_ne!(at(1), at(2));
    }
}
