//! A cycle of swaps as one program that needs no money of its own.

use alloy_primitives::{Address, Bytes, U256};
use headwater_events::SwapStep;

use crate::SimulationError;
use crate::assembler::{Assembler, calldata};

/// `UniswapV2Pair.swap(uint256 amount0Out, uint256 amount1Out, address to, bytes data)`
const SWAP: [u8; 4] = [0x02, 0x2c, 0x0d, 0x9f];
/// `IERC20.transfer(address to, uint256 value)`
const TRANSFER: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];
/// `IERC20.balanceOf(address owner)`
const BALANCE_OF: [u8; 4] = [0x70, 0xa0, 0x82, 0x31];

/// Memory above the longest calldata, which nothing else writes to: a token without an answer has a balance of zero.
const BALANCE_AT: usize = 0x100;
const GAS_AT: usize = BALANCE_AT + 32;

/// The code of `caller` that runs a cycle of constant-product swaps without money of its own.
///
/// Called without data it asks the first pool for its output. That pool is given data, so it pays first and calls back
/// (`UniswapV2Pair.swap`, `IUniswapV2Callee.uniswapV2Call`); in the callback the output goes on through the other
/// pools, and the first one is paid `amount_in`. Answers with two words: the caller's balance of the first token, and the
/// gas used by the code.
///
/// # Errors
///
/// [`SimulationError::Unsupported`] where the steps are no cycle of at least two pools.
pub fn flash_swap(caller: Address, steps: &[SwapStep]) -> Result<Bytes, SimulationError> {
    let [first, rest @ ..] = steps else { return Err(NO_CYCLE) };
    let [second, ..] = rest else { return Err(NO_CYCLE) };
    if !is_cycle(steps) {
        return Err(NO_CYCLE);
    }
    let mut code = Assembler::default();
    let callback = code.jump_if_called_with_data();
    code.store_gas(GAS_AT);
    code.call(first.pool, &swap(first, caller, Callback::Wanted), None);
    code.call(first.token_in, &calldata(BALANCE_OF, &[word(caller)]), Some(BALANCE_AT));
    code.store_gas_used(GAS_AT);
    code.return_memory(BALANCE_AT, 64);

    code.land(callback);
    code.call(first.token_out, &transfer(second.pool, first.amount_out), None);
    for (step, next) in rest.iter().zip(rest.iter().skip(1).map(|next| next.pool).chain([caller])) {
        code.call(step.pool, &swap(step, next, Callback::None), None);
    }
    code.call(first.token_in, &transfer(first.pool, first.amount_in), None);
    code.return_memory(0, 0);
    Ok(code.finish())
}

const NO_CYCLE: SimulationError =
    SimulationError::Unsupported("the plan is no cycle of swaps through two or more pools");

/// Whether each step takes what the one before it gave, and the first what the last gave.
fn is_cycle(steps: &[SwapStep]) -> bool {
    steps.iter().zip(steps.iter().cycle().skip(1)).all(|(step, next)| step.token_out == next.token_in)
}

/// Whether the pool is to pay first and call back: it does if it is given any data.
#[derive(Clone, Copy)]
enum Callback {
    Wanted,
    None,
}

fn swap(step: &SwapStep, to: Address, callback: Callback) -> Vec<u8> {
    // The lower address is token 0 (`UniswapV2Factory.createPair`).
    let (amount0, amount1) = if step.token_in < step.token_out {
        (U256::ZERO, step.amount_out)
    } else {
        (step.amount_out, U256::ZERO)
    };
    let offset_of_data = U256::from(4 * 32);
    let mut words = vec![amount0, amount1, word(to), offset_of_data];
    match callback {
        Callback::Wanted => words.extend([U256::from(32), U256::ONE]),
        Callback::None => words.push(U256::ZERO),
    }
    calldata(SWAP, &words)
}

fn transfer(to: Address, amount: U256) -> Vec<u8> {
    calldata(TRANSFER, &[word(to), amount])
}

fn word(address: Address) -> U256 {
    U256::from_be_bytes(address.into_word().0)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{hex, keccak256};

    use super::*;

    const CALLER: Address = Address::repeat_byte(0xca);

    fn step(pool: u8, token_in: u8, token_out: u8) -> SwapStep {
        SwapStep {
            pool: Address::repeat_byte(pool),
            token_in: Address::repeat_byte(token_in),
            token_out: Address::repeat_byte(token_out),
            amount_in: U256::from(1000),
            amount_out: U256::from(2000),
        }
    }

    #[test]
    fn the_selectors_are_those_of_the_signatures() {
        for (selector, signature) in [
            (SWAP, "swap(uint256,uint256,address,bytes)"),
            (TRANSFER, "transfer(address,uint256)"),
            (BALANCE_OF, "balanceOf(address)"),
        ] {
            assert_eq!(selector, keccak256(signature)[..4], "{signature}");
        }
    }

    #[test]
    fn the_output_is_amount0_for_the_token_with_the_lower_address() {
        let up = swap(&step(9, 1, 2), CALLER, Callback::None);
        let down = swap(&step(9, 2, 1), CALLER, Callback::None);
        assert_eq!(hex::encode(&up[4..68]), format!("{:064x}{:064x}", 0, 2000));
        assert_eq!(hex::encode(&down[4..68]), format!("{:064x}{:064x}", 2000, 0));
    }

    #[test]
    fn only_a_closed_cycle_of_two_or_more_pools_is_assembled() {
        let check = |steps: &[SwapStep], accepted: bool| {
            assert_eq!(flash_swap(CALLER, steps).is_ok(), accepted, "{steps:?}");
        };
        check(&[step(8, 1, 2), step(9, 2, 1)], true);
        check(&[step(7, 1, 2), step(8, 2, 3), step(9, 3, 1)], true);
        check(&[], false);
        check(&[step(8, 1, 1)], false);
        check(&[step(8, 1, 2), step(9, 2, 3)], false);
        check(&[step(8, 1, 2), step(9, 3, 1)], false);
    }

    #[test]
    fn every_pool_pays_the_next_and_the_first_is_paid_back() {
        let code = flash_swap(CALLER, &[step(7, 1, 2), step(8, 2, 3), step(9, 3, 1)]).expect("a cycle");
        let code = hex::encode(code);
        let called = |byte: u8| {
            let call = format!("73{}5af1", hex::encode([byte; 20]));
            code.find(&call).unwrap_or_else(|| panic!("{byte} is not called"))
        };
        // Main part: the first pool, then the balance of token 1. Callback: token 2, the other pools, token 1.
        let order = [called(7), called(1), called(2), called(8), called(9)];
        assert!(order.is_sorted(), "{order:?}");
        assert_eq!(code.matches(&hex::encode(TRANSFER)).count(), 2);
    }
}
