//! Tokens as small EVM programs, ordinary and hostile ones: a balance stands in the slot that is its owner's address.

use alloy_primitives::{Address, Bytes, U256};

/// What a token does beside moving what it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Nothing.
    Ordinary,
    /// Says nothing about whether a transfer succeeded, as some old tokens do.
    Silent,
    /// Keeps so many parts per million of every transfer.
    Fee(u32),
    /// Keeps them of what goes to one address.
    FeeTo(Address, u32),
    /// Lets nobody but one address send.
    OnlyFrom(Address),
    /// Lets one transfer through, ever.
    Once,
    /// Runs for ever.
    Endless,
    /// Reverts with this much data.
    Verbose(u32),
    /// Says that every transfer failed.
    Denies,
    /// Everybody holds one unit more with every transfer.
    Grows,
    /// Moves nothing, and says that it did.
    Pretends,
    /// Says that everybody holds twice of what he does.
    Flatters,
    /// Everybody holds one unit more with every second.
    Accrues,
    /// Everybody holds one unit less with every second, of `2^34` that he was given at the beginning of all times.
    Decays,
}

/// What everybody holds of a token of [`Habit::Decays`] at the Unix epoch: more than there have been seconds since.
const GIVEN: u64 = 1 << 34;

/// What such a token says that somebody holds for whom `held` is written down; [`Habit::Grows`] before its first transfer.
pub fn said(habit: Habit, held: U256, timestamp: u64) -> U256 {
    match habit {
        Habit::Flatters => held * U256::from(2),
        Habit::Accrues => held + U256::from(timestamp),
        Habit::Decays => held + U256::from(GIVEN - timestamp),
        _ => held,
    }
}

/// Slot of the number of transfers.
const COUNT: [u8; 33] = [0x7f; 33];

/// The code of a token.
pub fn token(habit: Habit) -> Bytes {
    let mut code = Code::default();
    // selector
    code.raw(&[0x60, 0x00, 0x35, 0x60, 0xe0, 0x1c]);
    let balance_of = code.jump_if_selector([0x70, 0xa0, 0x82, 0x31]);
    let transfer = code.jump_if_selector([0xa9, 0x05, 0x9c, 0xbb]);
    code.raw(&[0x60, 0x00, 0x60, 0x00, 0xfd]);

    code.land(balance_of);
    code.raw(&[0x60, 0x04, 0x35, 0x54]); // SLOAD(owner)
    if habit == Habit::Grows {
        code.raw(&COUNT);
        code.raw(&[0x54, 0x01]);
    }
    if habit == Habit::Flatters {
        code.raw(&[0x60, 0x02, 0x02]);
    }
    if habit == Habit::Accrues {
        code.raw(&[0x42, 0x01]); // TIMESTAMP ADD
    }
    if habit == Habit::Decays {
        code.raw(&[0x42, 0x64]);
        code.raw(&GIVEN.to_be_bytes()[3..]);
        code.raw(&[0x03, 0x01]); // GIVEN - TIMESTAMP, ADD
    }
    code.return_top();

    code.land(transfer);
    if habit == Habit::Pretends {
        code.raw(&[0x60, 0x01]);
        code.return_top();
    }
    let mut fails = Vec::new();
    match habit {
        Habit::Once => {
            code.raw(&COUNT);
            code.raw(&[0x54]);
            fails.push(code.jump_if());
        }
        Habit::OnlyFrom(address) => {
            code.push_address(address);
            code.raw(&[0x33, 0x14, 0x15]); // CALLER EQ ISZERO
            fails.push(code.jump_if());
        }
        Habit::Endless => {
            let here = u16::try_from(code.0.len()).expect("a short program").to_be_bytes();
            code.raw(&[0x5b, 0x61, here[0], here[1], 0x56]);
        }
        Habit::Verbose(bytes) => {
            code.raw(&[0x63]);
            code.raw(&bytes.to_be_bytes());
            code.raw(&[0x60, 0x00, 0xfd]);
        }
        _ => {}
    }
    if matches!(habit, Habit::Once | Habit::Grows) {
        code.raw(&[0x60, 0x01]);
        code.raw(&COUNT);
        code.raw(&[0x54, 0x01]);
        code.raw(&COUNT);
        code.raw(&[0x55]);
    }
    // [value, balance], fail if balance < value
    code.raw(&[0x60, 0x24, 0x35, 0x33, 0x54, 0x81, 0x81, 0x10]);
    fails.push(code.jump_if());
    // SSTORE(caller, balance - value)
    code.raw(&[0x81, 0x90, 0x03, 0x33, 0x55]);
    match habit {
        Habit::Fee(ppm) => code.take_fee(ppm, None),
        Habit::FeeTo(address, ppm) => code.take_fee(ppm, Some(address)),
        _ => {}
    }
    // SSTORE(to, SLOAD(to) + value)
    code.raw(&[0x60, 0x04, 0x35, 0x54, 0x01, 0x60, 0x04, 0x35, 0x55]);
    match habit {
        Habit::Silent => code.raw(&[0x00]),
        Habit::Denies => {
            code.raw(&[0x60, 0x00]);
            code.return_top();
        }
        _ => {
            code.raw(&[0x60, 0x01]);
            code.return_top();
        }
    }
    for fail in fails {
        code.land(fail);
    }
    code.raw(&[0x60, 0x00, 0x60, 0x00, 0xfd]);
    code.0.into()
}

/// Where the balance of an account stands.
pub fn balance_slot(owner: Address) -> U256 {
    U256::from_be_bytes(owner.into_word().0)
}

#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn push_address(&mut self, address: Address) {
        self.raw(&[0x73]);
        self.raw(address.as_slice());
    }

    /// `[selector] → [selector]`
    fn jump_if_selector(&mut self, selector: [u8; 4]) -> usize {
        self.raw(&[0x80, 0x63]);
        self.raw(&selector);
        self.raw(&[0x14]);
        self.jump_if()
    }

    /// Where the destination is still to be written.
    fn jump_if(&mut self) -> usize {
        self.raw(&[0x61, 0x00, 0x00, 0x57]);
        self.0.len() - 3
    }

    fn land(&mut self, operand: usize) {
        let here = u16::try_from(self.0.len()).expect("a short program");
        self.0[operand..operand + 2].copy_from_slice(&here.to_be_bytes());
        self.raw(&[0x5b]);
    }

    fn return_top(&mut self) {
        self.raw(&[0x60, 0x00, 0x52, 0x60, 0x20, 0x60, 0x00, 0xf3]);
    }

    /// `[value] → [value − value · ppm / 10^6]`; only where it goes to an address, if there is one.
    fn take_fee(&mut self, ppm: u32, only_to: Option<Address>) {
        self.raw(&[0x80, 0x63]);
        self.raw(&ppm.to_be_bytes());
        self.raw(&[0x02]);
        if let Some(address) = only_to {
            self.push_address(address);
            self.raw(&[0x60, 0x04, 0x35, 0x14, 0x02]);
        }
        self.raw(&[0x62, 0x0f, 0x42, 0x40, 0x90, 0x04, 0x90, 0x03]);
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::keccak256;

    use super::*;
    use crate::evm::{Evm, Message, Parameters};

    const TOKEN: Address = Address::repeat_byte(0x70);
    const A: Address = Address::repeat_byte(0xa);
    const B: Address = Address::repeat_byte(0xb);

    /// What both hold after a transfer of 1,000 of 5,000 and one of 500 back; `None` where the last of them failed.
    fn check(habit: Habit, expected: Option<(u64, u64)>) {
        let mut evm = Evm::new(&Parameters::default());
        evm.place(TOKEN, token(habit));
        evm.set_storage(TOKEN, balance_slot(A), U256::from(5_000));
        let mut succeeded = true;
        for (from, to, value) in [(A, B, 1_000u64), (B, A, 500)] {
            let words = [balance_slot(to), U256::from(value)].map(|word| word.to_be_bytes::<32>()).concat();
            let data = [&keccak256("transfer(address,uint256)")[..4], &words].concat().into();
            succeeded = evm.transact(&Message { from, to: TOKEN, value: U256::ZERO, data }).is_ok();
        }
        let held = |owner| evm.storage(TOKEN, balance_slot(owner)).to::<u64>();
        assert_eq!(succeeded.then(|| (held(A), held(B))), expected, "{habit:?}");
    }

    #[test]
    fn a_balance_is_what_is_said_of_it() {
        for habit in [Habit::Ordinary, Habit::Flatters, Habit::Accrues, Habit::Decays] {
            let mut evm = Evm::new(&Parameters::default());
            evm.place(TOKEN, token(habit));
            evm.set_storage(TOKEN, balance_slot(A), U256::from(5_000));
            for _ in 0..2 {
                let data =
                    [&keccak256("balanceOf(address)")[..4], &balance_slot(A).to_be_bytes::<32>()].concat();
                let message = Message { from: B, to: TOKEN, value: U256::ZERO, data: data.into() };
                let answer = evm.call(&message).expect("it answers").output;
                let expected = said(habit, U256::from(5_000), evm.block().timestamp);
                assert_eq!(U256::from_be_slice(&answer), expected, "{habit:?}");
                evm.advance(86_400);
            }
        }
    }

    #[test]
    fn a_token_does_what_its_habit_says() {
        for habit in [
            Habit::Ordinary,
            Habit::Silent,
            Habit::Denies,
            Habit::Grows,
            Habit::Flatters,
            Habit::Accrues,
            Habit::Decays,
        ] {
            check(habit, Some((4_500, 500)));
        }
        check(Habit::Fee(0), Some((4_500, 500)));
        check(Habit::Pretends, Some((5_000, 0)));
        check(Habit::Fee(10_000), Some((4_495, 490)));
        check(Habit::FeeTo(A, 10_000), Some((4_495, 500)));
        for habit in [Habit::Once, Habit::OnlyFrom(A), Habit::Endless, Habit::Verbose(64)] {
            check(habit, None);
        }
    }
}
