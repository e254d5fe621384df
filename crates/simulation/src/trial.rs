//! A token tried out: three transfers on the state of a block, and what everybody holds before and after each; and what its pool holds
//! when nothing but time has gone by.

use alloy_primitives::{Address, B256, BlockHash, Bytes, U256, keccak256};
use headwater_node::CodeCall;

use crate::assembler::{Assembler, calldata};

/// `IERC20.transfer(address to, uint256 value)`
const TRANSFER: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];
/// `IERC20.balanceOf(address owner)`
const BALANCE_OF: [u8; 4] = [0x70, 0xa0, 0x82, 0x31];

/// Calls `target` with `payload`, where the calldata is `target ‖ payload`, and ends as that call ends: so whoever has this code
/// does what the trial asks of him. `PUSH0` is avoided, so that it runs on chains before Shanghai.
const OBEDIENT: [u8; 41] = [
    0x60, 0x20, 0x36, 0x03, 0x80, 0x60, 0x20, 0x60, 0x00, 0x37, 0x60, 0x00, 0x60, 0x00, 0x82, 0x60, 0x00,
    0x60, 0x00, 0x60, 0x00, 0x35, 0x5a, 0xf1, 0x3d, 0x60, 0x00, 0x60, 0x00, 0x3e, 0x60, 0x25, 0x57, 0x3d,
    0x60, 0x00, 0xfd, 0x5b, 0x3d, 0x60, 0x00,
];
/// `RETURN`, the end of [`OBEDIENT`].
const RETURN: u8 = 0xf3;

/// Above the longest calldata of a step.
const RECORDS_AT: usize = 0x100;
/// Success, gas, length of the answer, its first word.
const RECORD: usize = 4 * 32;
/// The time of the block, behind the records.
const WORD: usize = 32;

/// Seconds by which a second look comes later: interest of a hundredth of a percent a year on a million units shows.
const LATER: u64 = 30 * 24 * 60 * 60;

/// Units below which all that the holder has is moved, so that a fee of a millionth of it is still seen.
const FEW: u64 = 1_000_000;

/// Beside the transfers: calldata, records, the outermost call.
const OVERHEAD_GAS: u64 = 300_000;

/// A token that is to be tried out, as of a block: somebody who holds it sends of it to a stranger, the stranger most of that to
/// a second one, and that one all of it back.
///
/// The three do what the trial asks because their code is replaced for the one call; the strangers' addresses derive from the
/// block, so that nobody could prepare for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTrial {
    /// The token.
    pub token: Address,
    /// Who holds it: a pool.
    pub holder: Address,
    /// What it holds, as the token says; not zero.
    pub held: U256,
    /// The most gas that a transfer, or asking for a balance, may use.
    pub max_gas: u64,
}

/// A transfer of the trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// From the pool to a stranger.
    Out,
    /// From the stranger to a second one.
    On,
    /// From the second one to the pool.
    Back,
}

impl std::fmt::Display for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Out => "out of its pool",
            Self::On => "from one holder to the next",
            Self::Back => "back into its pool",
        })
    }
}

/// Why a token must not be quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// A transfer fails.
    #[error("transfer-fails: its transfer {0} fails")]
    Fails(Leg),
    /// A transfer, or asking for a balance, takes all the gas it is given.
    #[error("gas: it uses up {0} gas where a transfer has to do with less")]
    Gas(u64),
    /// A transfer says that it did not succeed, or nothing that can be read: a pool reverts then.
    #[error("no-success: its transfer {0} does not say that it succeeded")]
    NoSuccess(Leg),
    /// Other amounts arrive or leave than were sent.
    #[error("inexact: its transfer {0} does not move what was sent")]
    Inexact(Leg),
    /// A balance changes without a transfer of its owner's.
    #[error("rebases: its transfer {0} changes what others hold")]
    Rebases(Leg),
    /// A balance changes though nobody does anything.
    #[error("accrues: what its pool holds changes with time alone")]
    Accrues,
    /// A pool holds less than its reserve, which no transfer can bring about.
    #[error("shrunk: its pool holds less of it than its reserve says")]
    Shrunk,
    /// It does not say what somebody holds.
    #[error("no-balance: it does not say what is held")]
    NoBalance,
    /// The trial as a whole came to no end.
    #[error("no-end: the trial of its transfers comes to no end: {0}")]
    NoEnd(String),
}

impl TokenFault {
    /// A word for the reason.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fails(_) => "transfer-fails",
            Self::Gas(_) => "gas",
            Self::NoSuccess(_) => "no-success",
            Self::Inexact(_) => "inexact",
            Self::Rebases(_) => "rebases",
            Self::Accrues => "accrues",
            Self::Shrunk => "shrunk",
            Self::NoBalance => "no-balance",
            Self::NoEnd(_) => "no-end",
        }
    }
}

/// What a step of the trial told.
#[derive(Clone, Copy, Debug)]
struct Record {
    succeeded: bool,
    gas: U256,
    length: U256,
    word: U256,
}

#[derive(Clone, Copy, Debug)]
struct Amounts {
    out: U256,
    on: U256,
}

/// What is held by holder, stranger and second stranger.
type Balances = [U256; 3];

/// Who does what: three balances, then a transfer and three balances for each leg.
const STEPS: usize = 3 + 3 * (1 + 3);

impl TokenTrial {
    /// The question to the node.
    pub fn question(&self, block: BlockHash) -> CodeCall {
        let [driver, first, second, sender] =
            [b"driver".as_slice(), b"first", b"second", b"sender"].map(|role| self.stranger(block, role));
        let people = [self.holder, first, second];
        let Amounts { out, on } = self.amounts();
        let mut program = Assembler::default();
        let mut steps = Vec::with_capacity(STEPS);
        let balances = people.map(|who| (self.token, calldata(BALANCE_OF, &[word(who)])));
        let transfer = |from: Address, to: Address, amount| {
            let payload = calldata(TRANSFER, &[word(to), amount]);
            (from, [self.token.into_word().as_slice(), &payload].concat())
        };
        steps.extend(balances.clone());
        for (from, to, amount) in [(people[0], first, out), (first, second, on), (second, people[0], on)] {
            steps.push(transfer(from, to, amount));
            steps.extend(balances.clone());
        }
        let mut ends = Vec::with_capacity(STEPS);
        for (index, (target, data)) in steps.iter().enumerate() {
            ends.push(program.record_call(*target, data, self.max_gas, RECORDS_AT + index * RECORD));
        }
        ends.into_iter().for_each(|end| program.land(end));
        program.store_timestamp(RECORDS_AT + STEPS * RECORD);
        program.return_memory(RECORDS_AT, STEPS * RECORD + WORD);
        let code = people.map(|who| (who, obedient()));
        CodeCall {
            from: sender,
            to: driver,
            gas: OVERHEAD_GAS + self.max_gas.saturating_mul(STEPS as u64),
            code: code.into_iter().chain([(driver, program.finish())]).collect(),
            time: None,
        }
    }

    /// What the pool holds a month later, where nothing else is different; `answer` is the one to [`TokenTrial::question`].
    pub fn later(&self, block: BlockHash, answer: &[u8]) -> Later {
        let [driver, sender] = [b"driver".as_slice(), b"sender"].map(|role| self.stranger(block, role));
        let mut program = Assembler::default();
        let balance = calldata(BALANCE_OF, &[word(self.holder)]);
        let end = program.record_call(self.token, &balance, self.max_gas, RECORDS_AT);
        program.land(end);
        program.store_timestamp(RECORDS_AT + RECORD);
        program.return_memory(RECORDS_AT, RECORD + WORD);
        let now = answer.last_chunk::<WORD>().map_or(U256::ZERO, |word| U256::from_be_bytes(*word));
        let time = u64::try_from(now).unwrap_or(u64::MAX).saturating_add(LATER);
        let question = CodeCall {
            from: sender,
            to: driver,
            gas: OVERHEAD_GAS + self.max_gas,
            code: vec![(self.holder, obedient()), (driver, program.finish())],
            time: Some(time),
        };
        Later { question, held: self.held, time }
    }

    /// What the trial says of the token.
    ///
    /// # Errors
    ///
    /// Why it must not be quoted.
    pub fn verdict(&self, answer: &[u8]) -> Result<(), TokenFault> {
        let words: Vec<_> =
            answer.as_chunks::<32>().0.iter().map(|word| U256::from_be_bytes(*word)).collect();
        let records: Vec<_> = words.as_chunks::<4>().0.iter().map(Record::of).collect();
        if answer.len() != STEPS * RECORD + WORD {
            return Err(TokenFault::NoEnd(format!("{} bytes", answer.len())));
        }
        let mut before = self.balances(&records[..3])?;
        if before[0] != self.held {
            return Err(TokenFault::NoBalance);
        }
        let Amounts { out, on } = self.amounts();
        let legs = [(Leg::Out, out, 0, 1), (Leg::On, on, 1, 2), (Leg::Back, on, 2, 0)];
        for ((leg, amount, from, to), records) in legs.into_iter().zip(records[3..].chunks(4)) {
            self.transferred(leg, &records[0])?;
            let after = self.balances(&records[1..])?;
            let left = before[from].checked_sub(amount);
            let arrived = before[to].checked_add(amount);
            if left != Some(after[from]) || arrived != Some(after[to]) {
                return Err(TokenFault::Inexact(leg));
            }
            let bystander = 3 - from - to;
            if after[bystander] != before[bystander] {
                return Err(TokenFault::Rebases(leg));
            }
            before = after;
        }
        Ok(())
    }

    /// About a hundredth of what is held, or all of it where that is little; most of that goes on.
    fn amounts(&self) -> Amounts {
        let out = (self.held / U256::from(101) + U256::ONE).max(self.held.min(U256::from(FEW)));
        Amounts { out, on: out - out / U256::from(3) }
    }

    fn stranger(&self, block: BlockHash, role: &[u8]) -> Address {
        let seed: B256 =
            keccak256([b"trial".as_slice(), role, block.as_slice(), self.token.as_slice()].concat());
        Address::from_word(seed)
    }

    fn balances(&self, records: &[Record]) -> Result<Balances, TokenFault> {
        let mut balances = Balances::default();
        for (balance, record) in balances.iter_mut().zip(records) {
            if !record.succeeded {
                return Err(if self.is_spent(record) {
                    TokenFault::Gas(self.max_gas)
                } else {
                    TokenFault::NoBalance
                });
            }
            if record.length < U256::from(32) {
                return Err(TokenFault::NoBalance);
            }
            *balance = record.word;
        }
        Ok(balances)
    }

    fn transferred(&self, leg: Leg, record: &Record) -> Result<(), TokenFault> {
        if !record.succeeded {
            return Err(if self.is_spent(record) {
                TokenFault::Gas(self.max_gas)
            } else {
                TokenFault::Fails(leg)
            });
        }
        // As `UniswapV2Pair._safeTransfer` and v3-core's `TransferHelper` read it.
        let says_so =
            record.length.is_zero() || (record.length >= U256::from(32) && record.word == U256::ONE);
        if says_so { Ok(()) } else { Err(TokenFault::NoSuccess(leg)) }
    }

    /// What whoever is in between keeps for himself, a sixty-fourth (EIP-150), does not make it less.
    fn is_spent(&self, record: &Record) -> bool {
        record.gas >= U256::from(self.max_gas - self.max_gas / 32)
    }
}

/// A second look at a balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// The question to the node.
    pub question: CodeCall,
    held: U256,
    time: u64,
}

impl Later {
    /// Whether the look was one at that time: a node may take no notice of it.
    ///
    /// # Errors
    ///
    /// [`TokenFault::Accrues`]: another balance, or none.
    pub fn verdict(&self, answer: &[u8]) -> Result<bool, TokenFault> {
        let words: Vec<_> =
            answer.as_chunks::<WORD>().0.iter().map(|word| U256::from_be_bytes(*word)).collect();
        let Ok([succeeded, gas, length, word, time]) = <[U256; 5]>::try_from(words) else { return Ok(false) };
        if time != U256::from(self.time) {
            return Ok(false);
        }
        let Record { succeeded, length, word, .. } = Record::of(&[succeeded, gas, length, word]);
        let is_same = succeeded && length >= U256::from(WORD) && word == self.held;
        if is_same { Ok(true) } else { Err(TokenFault::Accrues) }
    }
}

impl Record {
    fn of([succeeded, gas, length, word]: &[U256; 4]) -> Self {
        Self { succeeded: !succeeded.is_zero(), gas: *gas, length: *length, word: *word }
    }
}

fn obedient() -> Bytes {
    [OBEDIENT.as_slice(), &[RETURN]].concat().into()
}

fn word(address: Address) -> U256 {
    U256::from_be_bytes(address.into_word().0)
}
