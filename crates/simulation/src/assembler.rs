//! Straight-line EVM code: calls that revert the whole when they fail, and one way to be called back.

use alloy_primitives::{Address, Bytes, U256};

const SUB: u8 = 0x03;
const ISZERO: u8 = 0x15;
const CALLDATASIZE: u8 = 0x36;
const RETURNDATASIZE: u8 = 0x3d;
const RETURNDATACOPY: u8 = 0x3e;
const TIMESTAMP: u8 = 0x42;
const MLOAD: u8 = 0x51;
const MSTORE: u8 = 0x52;
const JUMPI: u8 = 0x57;
const GAS: u8 = 0x5a;
const JUMPDEST: u8 = 0x5b;
/// `PUSHn` is `PUSH1 - 1 + n`. PUSH0 is avoided, so that the code runs on chains before Shanghai (EIP-3855).
const PUSH1: u8 = 0x60;
const PUSH2: u8 = 0x61;
const CALL: u8 = 0xf1;
const RETURN: u8 = 0xf3;
const REVERT: u8 = 0xfd;

/// Code under construction.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    code: Vec<u8>,
}

/// A jump whose destination is not written yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct Jump {
    operand: usize,
}

impl Assembler {
    /// Jumps, if the code was called with data.
    pub(crate) fn jump_if_called_with_data(&mut self) -> Jump {
        self.code.push(CALLDATASIZE);
        self.jump_if()
    }

    /// Here is where the jump goes.
    pub(crate) fn land(&mut self, jump: Jump) {
        let here = u16::try_from(self.code.len()).expect("a program of a few calls is below 64 KiB");
        self.code[jump.operand..jump.operand + 2].copy_from_slice(&here.to_be_bytes());
        self.code.push(JUMPDEST);
    }

    /// Calls `target` with `data`, all gas and no value; the first word of the answer goes to memory at `answer`. If
    /// the call fails, reverts with the callee's own data.
    pub(crate) fn call(&mut self, target: Address, data: &[u8], answer: Option<usize>) {
        self.store_data(data);
        self.push(if answer.is_some() { 32 } else { 0 });
        self.push(answer.unwrap_or(0));
        self.push(data.len());
        self.push(0);
        self.push(0);
        self.push_bytes(target.as_slice());
        self.code.extend([GAS, CALL]);
        let succeeded = self.jump_if();
        self.code.push(RETURNDATASIZE);
        self.push(0);
        self.push(0);
        self.code.extend([RETURNDATACOPY, RETURNDATASIZE]);
        self.push(0);
        self.code.push(REVERT);
        self.land(succeeded);
    }

    /// Calls `target` with `data`, so much gas at most and no value, and writes four words to memory at `record`: whether the call
    /// succeeded, the gas that it used, the length of its answer, and the answer's first word. Jumps if it did not succeed.
    pub(crate) fn record_call(&mut self, target: Address, data: &[u8], gas: u64, record: usize) -> Jump {
        self.store_data(data);
        self.store_gas(record + 32);
        self.push(32);
        self.push(record + 96);
        self.push(data.len());
        self.push(0);
        self.push(0);
        self.push_bytes(target.as_slice());
        self.push_bytes(&gas.to_be_bytes());
        self.code.push(CALL);
        self.push(record);
        self.code.push(MSTORE);
        self.store_gas_used(record + 32);
        self.code.push(RETURNDATASIZE);
        self.push(record + 64);
        self.code.push(MSTORE);
        self.push(record);
        self.code.extend([MLOAD, ISZERO]);
        self.jump_if()
    }

    /// Stores the gas that is left in memory at `place`.
    pub(crate) fn store_gas(&mut self, place: usize) {
        self.code.push(GAS);
        self.push(place);
        self.code.push(MSTORE);
    }

    /// Replaces the gas stored at `place` by what was used since.
    pub(crate) fn store_gas_used(&mut self, place: usize) {
        self.code.push(GAS);
        self.push(place);
        self.code.extend([MLOAD, SUB]);
        self.push(place);
        self.code.push(MSTORE);
    }

    /// Stores the time of the block in memory at `place`.
    pub(crate) fn store_timestamp(&mut self, place: usize) {
        self.code.push(TIMESTAMP);
        self.push(place);
        self.code.push(MSTORE);
    }

    /// Ends with `length` bytes of memory from `from` as the answer.
    pub(crate) fn return_memory(&mut self, from: usize, length: usize) {
        self.push(length);
        self.push(from);
        self.code.push(RETURN);
    }

    /// The code.
    pub(crate) fn finish(self) -> Bytes {
        self.code.into()
    }

    fn store_data(&mut self, data: &[u8]) {
        for (index, word) in data.chunks(32).enumerate() {
            let mut padded = [0; 32];
            padded[..word.len()].copy_from_slice(word);
            self.push_bytes(&padded);
            self.push(index * 32);
            self.code.push(MSTORE);
        }
    }

    fn jump_if(&mut self) -> Jump {
        self.code.push(PUSH2);
        let operand = self.code.len();
        self.code.extend([0, 0, JUMPI]);
        Jump { operand }
    }

    fn push(&mut self, value: usize) {
        let bytes = value.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        self.push_bytes(&bytes[zeros.min(bytes.len() - 1)..]);
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        let length = u8::try_from(bytes.len()).expect("at most a word is pushed");
        self.code.push(PUSH1 - 1 + length);
        self.code.extend(bytes);
    }
}

/// `selector ‖ words`: how the contract ABI encodes a call whose arguments are all words.
pub(crate) fn calldata(selector: [u8; 4], words: &[U256]) -> Vec<u8> {
    selector.into_iter().chain(words.iter().flat_map(U256::to_be_bytes::<32>)).collect()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;

    use super::*;

    fn check(build: impl FnOnce(&mut Assembler), expected: &str) {
        let mut assembler = Assembler::default();
        build(&mut assembler);
        assert_eq!(hex::encode(assembler.finish()), expected.replace(' ', ""));
    }

    #[test]
    fn the_bytes_are_golden() {
        check(|a| a.push(0), "6000");
        check(|a| a.push(0x1234), "611234");
        check(|a| a.store_gas(0x120), "5a 610120 52");
        check(|a| a.store_gas_used(0x120), "5a 610120 51 03 610120 52");
        check(|a| a.store_timestamp(0x120), "42 610120 52");
        check(|a| a.return_memory(0x100, 64), "6040 610100 f3");
    }

    #[test]
    fn a_call_passes_its_data_and_reverts_with_the_callees_reason() {
        let target = "9".repeat(40);
        check(
            |a| a.call(Address::repeat_byte(0x99), &[0xaa, 0xbb], Some(0x100)),
            &format!(
                "7f aabb{} 6000 52  6020 610100 6002 6000 6000 73{target} 5a f1  610054 57 \
                 3d 6000 6000 3e 3d 6000 fd 5b",
                "0".repeat(60)
            ),
        );
    }

    #[test]
    fn a_callback_lands_behind_the_main_part() {
        check(
            |a| {
                let callback = a.jump_if_called_with_data();
                a.return_memory(0, 0);
                a.land(callback);
            },
            "36 61000a 57 6000 6000 f3 5b",
        );
    }
}
