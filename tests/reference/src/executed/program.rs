//! Straight-line EVM code for one cycle: every call with its data written out, and a revert where one fails.

use alloy_primitives::{Address, Bytes, U256, keccak256};
use anyhow::ensure;

use super::Cycle;

const STOP: u8 = 0x00;
const CALLDATASIZE: u8 = 0x36;
const MSTORE: u8 = 0x52;
const JUMPI: u8 = 0x57;
const GAS: u8 = 0x5a;
const JUMPDEST: u8 = 0x5b;
const PUSH0: u8 = 0x5f;
const PUSH2: u8 = 0x61;
const PUSH20: u8 = 0x73;
const PUSH32: u8 = 0x7f;
const CALL: u8 = 0xf1;
const REVERT: u8 = 0xfd;

/// The code of `caller`: called without data it starts the cycle, called back by the first pair it finishes it.
pub(super) fn assemble(caller: Address, cycle: &Cycle) -> anyhow::Result<Bytes> {
    let Cycle { pools, tokens, amounts } = cycle;
    let hops = pools.len();
    ensure!(hops >= 2, "a cycle of {hops} pools");
    ensure!(tokens.len() == hops + 1, "{hops} pools but {} tokens", tokens.len());
    ensure!(tokens[0] == tokens[hops], "a path from {} to {} is no cycle", tokens[0], tokens[hops]);
    ensure!(amounts.len() == hops + 1, "{hops} pools but {} amounts", amounts.len());

    let swap = |hop: usize, to: Address, data: &[u8]| {
        swap_data(tokens[hop], tokens[hop + 1], amounts[hop + 1], to, data)
    };
    let mut program = Program::default();
    let callback = program.jump_if_called_with_data();
    // A pair that is given data calls back, and so lends; without data it wants to have been paid already.
    program.call(pools[0], &swap(0, caller, &[1]));
    program.stop();
    program.land(callback);
    program.call(tokens[1], &transfer_data(pools[1], amounts[1]));
    for hop in 1..hops {
        let next = pools.get(hop + 1).copied().unwrap_or(caller);
        program.call(pools[hop], &swap(hop, next, &[]));
    }
    program.call(tokens[0], &transfer_data(pools[0], amounts[0]));
    program.stop();
    Ok(program.code.into())
}

/// A swap with the payer's own tokens, past every router.
pub(super) fn private_swap(payer: Address, pair: Address, tokens: [Address; 2], amounts: [U256; 2]) -> Bytes {
    let word = |address: Address| U256::from_be_bytes(address.into_word().0);
    let mut program = Program::default();
    let taken = encode("transferFrom(address,address,uint256)", &[word(payer), word(pair), amounts[0]]);
    program.call(tokens[0], &taken);
    program.call(pair, &swap_data(tokens[0], tokens[1], amounts[1], payer, &[]));
    program.stop();
    program.code.into()
}

#[derive(Default)]
struct Program {
    code: Vec<u8>,
}

/// Where a jump's destination is still to be written.
struct Jump {
    operand: usize,
}

impl Program {
    fn jump_if_called_with_data(&mut self) -> Jump {
        self.code.push(CALLDATASIZE);
        self.jump_if()
    }

    /// Writes the data to memory word by word, calls with all gas and no value, reverts if the call fails.
    fn call(&mut self, target: Address, data: &[u8]) {
        for (index, chunk) in data.chunks(32).enumerate() {
            let mut word = [0; 32];
            word[..chunk.len()].copy_from_slice(chunk);
            self.code.push(PUSH32);
            self.code.extend(word);
            self.push2(index * 32);
            self.code.push(MSTORE);
        }
        self.code.extend([PUSH0, PUSH0]); // no room for the answer
        self.push2(data.len());
        self.code.extend([PUSH0, PUSH0]); // data from the start of memory, no value
        self.code.push(PUSH20);
        self.code.extend(target);
        self.code.extend([GAS, CALL]);
        let succeeded = self.jump_if();
        self.code.extend([PUSH0, PUSH0, REVERT]);
        self.land(succeeded);
    }

    fn stop(&mut self) {
        self.code.push(STOP);
    }

    fn jump_if(&mut self) -> Jump {
        let operand = self.code.len() + 1;
        self.push2(0);
        self.code.push(JUMPI);
        Jump { operand }
    }

    fn land(&mut self, jump: Jump) {
        let here = u16::try_from(self.code.len()).expect("a program of a few calls stays below 64 KiB");
        self.code[jump.operand..jump.operand + 2].copy_from_slice(&here.to_be_bytes());
        self.code.push(JUMPDEST);
    }

    fn push2(&mut self, value: usize) {
        let value = u16::try_from(value).expect("offsets and lengths are a few hundred bytes");
        self.code.push(PUSH2);
        self.code.extend(value.to_be_bytes());
    }
}

/// `UniswapV2Pair.swap(uint256 amount0Out, uint256 amount1Out, address to, bytes data)`
fn swap_data(token_in: Address, token_out: Address, amount_out: U256, to: Address, data: &[u8]) -> Vec<u8> {
    let (out0, out1) = if token_in < token_out { (U256::ZERO, amount_out) } else { (amount_out, U256::ZERO) };
    let mut tail = data.to_vec();
    tail.resize(data.len().next_multiple_of(32), 0);
    let words =
        [out0, out1, U256::from_be_bytes(to.into_word().0), U256::from(4 * 32), U256::from(data.len())];
    let mut encoded = encode("swap(uint256,uint256,address,bytes)", &words);
    encoded.extend(tail);
    encoded
}

/// `IERC20.transfer(address to, uint256 value)`
fn transfer_data(to: Address, amount: U256) -> Vec<u8> {
    encode("transfer(address,uint256)", &[U256::from_be_bytes(to.into_word().0), amount])
}

fn encode(signature: &str, words: &[U256]) -> Vec<u8> {
    let mut data = keccak256(signature)[..4].to_vec();
    data.extend(words.iter().flat_map(U256::to_be_bytes::<32>));
    data
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;

    use super::*;

    #[test]
    fn calldata_is_what_the_contracts_expect() {
        let [low, high] = [Address::repeat_byte(1), Address::repeat_byte(2)];
        let data = swap_data(low, high, U256::from(7), Address::repeat_byte(3), &[1]);
        assert_eq!(hex::encode(&data[..4]), "022c0d9f");
        assert_eq!(data.len(), 4 + 6 * 32);
        assert_eq!(data[4 + 63], 7, "the higher token comes out as amount1");
        assert_eq!(
            swap_data(high, low, U256::from(7), low, &[])[4 + 31],
            7,
            "the lower token comes out as amount0"
        );
        assert_eq!(hex::encode(&transfer_data(low, U256::ONE)[..4]), "a9059cbb");
    }

    #[test]
    fn every_jump_lands_on_a_destination() {
        let mut program = Program::default();
        let callback = program.jump_if_called_with_data();
        program.stop();
        program.land(callback);
        program.call(Address::repeat_byte(9), &[1; 36]);
        let code = program.code;
        assert_eq!(code[..6], [CALLDATASIZE, PUSH2, 0, 6, JUMPI, STOP]);
        assert_eq!(code[6], JUMPDEST);
        assert_eq!(*code.last().expect("not empty"), JUMPDEST);
        let jump = code.len() - 8;
        let target = usize::from(u16::from_be_bytes([code[jump + 1], code[jump + 2]]));
        assert_eq!((code[jump], target), (PUSH2, code.len() - 1));
    }

    #[test]
    fn a_malformed_cycle_is_refused() {
        let [a, b] = [Address::repeat_byte(1), Address::repeat_byte(2)];
        let cycle = |pools: &[Address], tokens: &[Address], amounts: usize| Cycle {
            pools: pools.to_vec(),
            tokens: tokens.to_vec(),
            amounts: vec![U256::ONE; amounts],
        };
        assert!(assemble(a, &cycle(&[a, b], &[a, b, a], 3)).is_ok());
        assert!(assemble(a, &cycle(&[a], &[a, a], 2)).is_err());
        assert!(assemble(a, &cycle(&[a, b], &[a, b], 3)).is_err());
        assert!(assemble(a, &cycle(&[a, b], &[a, b, b], 3)).is_err());
        assert!(assemble(a, &cycle(&[a, b], &[a, b, a], 2)).is_err());
    }
}
