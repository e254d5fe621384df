//! Events for the tests of this crate.

use alloy_primitives::{Address, B256, Bloom, Bytes, I256, U256};
use headwater_events::{
    AsOf, BlockEvent, BusEvent, Grade, Header, Kind, Log, Opportunity, OpportunityId, Outcome, Plan,
    Simulated, Verdict,
};

use crate::ndjson::SWAPS;

pub(crate) fn hash(name: u64) -> B256 {
    B256::repeat_byte(u8::try_from(name).expect("a small name"))
}

/// A block of that height with two logs, one of them a swap.
pub(crate) fn block(number: u64) -> BusEvent {
    let log = |topic, log_index| Log {
        address: Address::repeat_byte(7),
        topics: [topic].into_iter().collect(),
        data: Bytes::new(),
        transaction_index: 0,
        log_index,
    };
    BusEvent::NewBlock(BlockEvent {
        header: Header {
            number,
            hash: hash(number),
            parent_hash: hash(number - 1),
            timestamp: 0,
            base_fee_per_gas: None,
            gas_used: 0,
            gas_limit: 0,
            beneficiary: Address::ZERO,
            logs_bloom: Bloom::ZERO,
        },
        transactions: vec![],
        logs: vec![log(SWAPS[0], 0), log(B256::ZERO, 1)],
        grade: Grade::Matched,
    })
}

pub(crate) fn as_of(number: u64) -> AsOf {
    AsOf { seq: number, number, hash: hash(number) }
}

pub(crate) fn opportunity(number: u64) -> Opportunity {
    Opportunity {
        kind: Kind::Arbitrage,
        as_of: as_of(number),
        path: vec![Address::repeat_byte(0xAB), Address::repeat_byte(0xCD)],
        tokens: vec![Address::repeat_byte(0xEF), Address::repeat_byte(0x01), Address::repeat_byte(0xEF)],
        amount_in: U256::from(10).pow(U256::from(18)),
        amount_out: U256::from(10).pow(U256::from(18)) + U256::from(5),
        profit: U256::from(5),
        gas: 200_000,
        net_profit_wei: Some(I256::unchecked_from(-7)),
        valid_until: number + 1,
        plan: Plan::Inform,
    }
}

pub(crate) fn outcome(number: u64, verdict: Verdict, simulated: Option<Simulated>) -> BusEvent {
    let opportunity = OpportunityId { as_of: as_of(number), detector: "arbitrage".into(), index: 3 };
    BusEvent::OutcomeRecorded(Outcome { opportunity, verdict, simulated })
}
