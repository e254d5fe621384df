//! A pending transaction and what follows it, executed one after the other.

use alloy_primitives::{Address, Bytes};
use headwater_events::{Behind, Leg, Simulated, SwapStep};

use crate::pinned::{Ended, PinnedState, StateReader};
use crate::{SimulationError, flash_swap};

/// Executes the transaction and then, by a program at `program`, the swaps; both as the first of the next block. The profit is
/// what the program has left of the first token.
///
/// # Errors
///
/// [`SimulationError::NotWhole`] where the transaction does not succeed, [`SimulationError::Reverted`] where only the swaps do
/// not, [`SimulationError::Unsupported`] where they go through concentrated liquidity.
pub async fn simulate_behind<R: StateReader>(
    reader: &R,
    state: &mut PinnedState,
    behind: &Behind,
    program: Address,
) -> Result<Simulated, SimulationError> {
    if behind.is_mixed() {
        return Err(SimulationError::Unsupported("swaps through concentrated liquidity"));
    }
    let steps: Vec<SwapStep> = behind.swaps().iter().map(|step| step.swap.clone()).collect();
    state.place(program, flash_swap(program, &steps)?)?;
    let mut calls = Vec::with_capacity(2);
    for leg in behind.in_order() {
        calls.push(match leg {
            Leg::Theirs(pending) => state.their_call(pending)?,
            Leg::Ours(_) => state.our_call(program, Bytes::new()),
        });
    }
    let ended = state.run(reader, calls).await?;
    match ended.as_slice() {
        [Ended::Done { .. }, Ended::Done { output, .. }] => crate::node_simulator::answer(output),
        [Ended::Done { .. }, Ended::Failed(reason)] => Err(SimulationError::Reverted(reason.clone())),
        [.., Ended::Failed(reason) | Ended::Impossible(reason)] => {
            Err(SimulationError::NotWhole(reason.clone()))
        }
        _ => Err(SimulationError::NotWhole("only a part of it was executed".to_owned())),
    }
}
