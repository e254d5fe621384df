//! Events for the tests: plain ones, and arbitrary ones.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bloom, Bytes, U256, keccak256};
use headwater_events::{
    AsOf, BlockEvent, BusEvent, ConcentratedEffect, ConcentratedLoaded, ConcentratedState, Difference,
    Envelope, FeedResolved, FeedRound, FeedVerdict, Grade, Header, LendingAccount, LendingCategory,
    LendingContracts, LendingHolding, LendingLoaded, LendingPrice, LendingProtocol, LendingReserve,
    LendingStableSupply, LoadedTick, Log, MarketLoaded, MarketResynced, PendingEffect, PendingTxEvent,
    PoolLoaded, PoolProof, PoolQuarantined, Protocol, Reconnected, ReorgEvent, RunId, Sequencer, SourceGap,
    TokenJudged, TokenVerdict, Topics, Transaction, V4Loaded, V4Quarantined,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A small source event that is different for each sequence number.
pub(crate) fn envelope(seq: u64) -> Arc<Envelope> {
    wrap(seq, BusEvent::Reconnected(Reconnected { epoch: seq, endpoint: 1 }))
}

pub(crate) fn envelopes(seqs: impl IntoIterator<Item = u64>) -> Vec<Arc<Envelope>> {
    seqs.into_iter().map(envelope).collect()
}

pub(crate) fn wrap(seq: u64, event: BusEvent) -> Arc<Envelope> {
    Arc::new(Envelope { run_id: RunId(7), seq, received_at: 1_000_000_000 + seq, derived: None, event })
}

/// Bytes that look random and are not: hashes cannot be compressed.
fn noise(seed: &str, number: u64, index: u64) -> B256 {
    keccak256(format!("{seed} {number} {index}"))
}

fn account(kind: &str, index: u64) -> Address {
    Address::from_slice(&noise(kind, 0, index)[12..])
}

/// A block as the devnet makes them: 7 router swaps through 16 pools of 6 tokens, 30 logs.
pub(crate) fn devnet_block(number: u64) -> BlockEvent {
    let amount = |index: u64| U256::from_be_slice(&noise("amount", number, index)[..9]);
    let transactions = (0..7).map(|index| {
        let mut input = vec![0x38, 0xed, 0x17, 0x39];
        let path = [index % 6, (index + number) % 6].map(|token| account("token", token).into_word().into());
        let words = [amount(index), amount(index + 50), U256::from(160), U256::from(number), U256::from(2)];
        words.iter().chain(&path).for_each(|word: &U256| input.extend(word.to_be_bytes::<32>()));
        Transaction {
            hash: noise("tx", number, index),
            from: account("trader", (number + index) % 20),
            to: Some(account("router", index % 2)),
            value: U256::ZERO,
            input: input.into(),
            nonce: number,
            gas_limit: 300_000,
        }
    });
    let logs = (0..30u32).map(|index| {
        let (pool, kind) = ((number + u64::from(index / 4)) % 16, u64::from(index % 4));
        let words = if kind == 3 { 4 } else { 1 + kind % 2 };
        let data: Vec<u8> =
            (0..words).flat_map(|word| amount(u64::from(index) * 8 + word).to_be_bytes::<32>()).collect();
        let parties = [account("trader", pool), account("pool", pool)].map(|party| party.into_word());
        Log {
            address: if kind < 2 { account("token", pool % 6) } else { account("pool", pool) },
            topics: [noise("event", 0, kind)].into_iter().chain(parties).collect(),
            data: data.into(),
            transaction_index: index / 4,
            log_index: index,
        }
    });
    let mut block = BlockEvent {
        header: Header {
            number,
            hash: noise("block", number, 0),
            parent_hash: noise("block", number.wrapping_sub(1), 0),
            timestamp: 1_700_000_000 + number,
            base_fee_per_gas: Some(1_000_000_000 + number),
            gas_used: 1_400_000 + number,
            gas_limit: 30_000_000,
            beneficiary: Address::ZERO,
            logs_bloom: Bloom::ZERO,
        },
        transactions: transactions.collect(),
        logs: logs.collect(),
        grade: Grade::Matched,
    };
    for log in &block.logs {
        block.header.logs_bloom.accrue_raw_log(log.address, &log.topics);
    }
    block
}

prop_compose! {
    fn header()(
        numbers in any::<[u64; 4]>(),
        hashes in any::<[[u8; 32]; 2]>(),
        base_fee_per_gas in any::<Option<u64>>(),
        beneficiary in any::<[u8; 20]>(),
        bloom in vec(any::<u8>(), 256),
    ) -> Header {
        let [number, timestamp, gas_used, gas_limit] = numbers;
        Header {
            number,
            hash: hashes[0].into(),
            parent_hash: hashes[1].into(),
            timestamp,
            base_fee_per_gas,
            gas_used,
            gas_limit,
            beneficiary: beneficiary.into(),
            logs_bloom: Bloom::from_slice(&bloom),
        }
    }
}

prop_compose! {
    fn transaction()(
        hash in any::<[u8; 32]>(),
        from in any::<[u8; 20]>(),
        to in option::of(any::<[u8; 20]>()),
        value in any::<[u64; 4]>(),
        input in vec(any::<u8>(), 0..200),
        nonce in any::<u64>(),
        gas_limit in any::<u64>(),
    ) -> Transaction {
        Transaction {
            hash: hash.into(),
            from: from.into(),
            to: to.map(Address::from),
            value: U256::from_limbs(value),
            input: input.into(),
            nonce,
            gas_limit,
        }
    }
}

prop_compose! {
    fn log()(
        address in any::<[u8; 20]>(),
        topics in vec(any::<[u8; 32]>(), 0..=4),
        data in vec(any::<u8>(), 0..200),
        transaction_index in any::<u32>(),
        log_index in any::<u32>(),
    ) -> Log {
        let topics: Topics = topics.into_iter().map(B256::from).collect();
        Log { address: address.into(), topics, data: Bytes::from(data), transaction_index, log_index }
    }
}

fn grade() -> impl Strategy<Value = Grade> {
    prop_oneof![Just(Grade::Assumed), Just(Grade::Matched), Just(Grade::Proven)]
}

fn block() -> impl Strategy<Value = BusEvent> {
    (header(), vec(transaction(), 0..6), vec(log(), 0..12), grade()).prop_map(
        |(header, transactions, logs, grade)| {
            BusEvent::NewBlock(BlockEvent { header, transactions, logs, grade })
        },
    )
}

fn pool() -> impl Strategy<Value = BusEvent> {
    let addresses = any::<[[u8; 20]; 4]>();
    (addresses, any::<u32>(), any::<Option<(u128, u128)>>(), any::<(u64, [u8; 32], bool)>()).prop_map(
        |([pool, factory, token0, token1], fee_ppm, reserves, (block_number, hash, is_derived))| {
            let init_code_hash = B256::from(hash);
            BusEvent::PoolLoaded(PoolLoaded {
                pool: pool.into(),
                factory: factory.into(),
                protocol: Protocol::UniswapV2,
                token0: token0.into(),
                token1: token1.into(),
                fee_ppm,
                reserves,
                block_number,
                block_hash: init_code_hash,
                proof: if is_derived {
                    PoolProof::Create2 { init_code_hash }
                } else {
                    PoolProof::FactoryAnswer
                },
            })
        },
    )
}

fn token() -> impl Strategy<Value = BusEvent> {
    let verdict = prop_oneof![
        (any::<u8>(), ".{0,12}").prop_map(|(decimals, symbol)| TokenVerdict::Accepted { decimals, symbol }),
        ".{0,40}".prop_map(TokenVerdict::Refused),
    ];
    (any::<[u8; 20]>(), verdict)
        .prop_map(|(token, verdict)| BusEvent::TokenJudged(TokenJudged { token: token.into(), verdict }))
}

fn reorg() -> impl Strategy<Value = BusEvent> {
    (any::<u64>(), any::<[[u8; 32]; 3]>(), vec(any::<[u8; 32]>(), 0..20)).prop_map(
        |(ancestor_number, [ancestor, old, new], undone)| {
            BusEvent::Reorg(ReorgEvent {
                ancestor_number,
                ancestor_hash: ancestor.into(),
                undone: undone.into_iter().map(B256::from).collect(),
                old_head: old.into(),
                new_head: new.into(),
            })
        },
    )
}

fn feed() -> impl Strategy<Value = BusEvent> {
    let round = (any::<[u8; 20]>(), any::<(u16, u8, u8)>(), any::<(u64, u64)>(), any::<Option<[u64; 4]>>());
    let accepted =
        round.prop_map(|(aggregator, (phase, decimals, token_decimals), (round, updated_at), answer)| {
            FeedVerdict::Accepted(FeedRound {
                aggregator: aggregator.into(),
                phase,
                decimals,
                token_decimals,
                round,
                answer: answer.map(U256::from_limbs),
                updated_at,
            })
        });
    let verdict = prop_oneof![accepted, ".{0,40}".prop_map(FeedVerdict::Refused)];
    (any::<[u8; 20]>(), any::<(u64, [u8; 32])>(), verdict).prop_map(|(proxy, (number, hash), verdict)| {
        BusEvent::FeedResolved(FeedResolved { proxy: proxy.into(), number, hash: hash.into(), verdict })
    })
}

fn concentrated() -> impl Strategy<Value = BusEvent> {
    let ticks = vec(any::<(i32, i128, u128)>(), 0..20);
    let state = option::of((any::<[u64; 4]>(), any::<(i32, u128)>(), ticks));
    let block = any::<(u64, [u8; 32])>();
    (any::<[[u8; 20]; 4]>(), any::<(u32, i32)>(), block, state).prop_map(
        |([pool, factory, token0, token1], (fee, tick_spacing), (number, hash), state)| {
            let tick = |(index, liquidity_net, liquidity_gross)| LoadedTick {
                index,
                liquidity_net,
                liquidity_gross,
            };
            BusEvent::ConcentratedLoaded(ConcentratedLoaded {
                pool: pool.into(),
                factory: factory.into(),
                protocol: Protocol::UniswapV3,
                token0: token0.into(),
                token1: token1.into(),
                fee,
                tick_spacing,
                number,
                hash: hash.into(),
                proof: PoolProof::Create2 { init_code_hash: hash.into() },
                state: state.map(|(price, (at, liquidity), ticks)| ConcentratedState {
                    sqrt_price: U256::from_limbs(price),
                    tick: at,
                    liquidity,
                    ticks: ticks.into_iter().map(tick).collect(),
                }),
            })
        },
    )
}

prop_compose! {
    fn reserve()(
        id in any::<u16>(),
        [asset, a_token, variable_debt] in any::<[[u8; 20]; 3]>(),
        stable_debt in any::<Option<[u8; 20]>>(),
        numbers in any::<[[u64; 4]; 6]>(),
        (last_update, grace_period_until) in any::<(u64, u64)>(),
    ) -> LendingReserve {
        let [configuration, liquidity_index, variable_borrow_index, liquidity_rate, rate, scaled] =
            numbers.map(U256::from_limbs);
        LendingReserve {
            id,
            asset: asset.into(),
            a_token: a_token.into(),
            variable_debt: variable_debt.into(),
            stable_debt: stable_debt.map(Address::from),
            configuration,
            liquidity_index,
            variable_borrow_index,
            liquidity_rate,
            variable_borrow_rate: rate,
            last_update,
            scaled_variable_debt: scaled,
            grace_period_until,
        }
    }
}

prop_compose! {
    fn lending_account()(
        account in any::<[u8; 20]>(),
        e_mode in any::<u8>(),
        held in vec(any::<(u16, [[u64; 4]; 4], u64, bool)>(), 0..3),
    ) -> LendingAccount {
        let holdings = held.into_iter().map(|(reserve, numbers, stable_last_update, collateral)| {
            let [scaled_supply, scaled_debt, stable_principal, stable_rate] = numbers.map(U256::from_limbs);
            LendingHolding {
                reserve,
                scaled_supply,
                scaled_debt,
                stable_principal,
                stable_rate,
                stable_last_update,
                collateral,
            }
        });
        LendingAccount { account: account.into(), e_mode, holdings: holdings.collect() }
    }
}

prop_compose! {
    fn lending()(
        [pool, provider, configurator, oracle] in any::<[[u8; 20]; 4]>(),
        (number, hash, revision, [is_v2, paused]) in any::<(u64, [u8; 32], u64, [bool; 2])>(),
        stable in vec(any::<(u16, [[u64; 4]; 2], u64)>(), 0..3),
        sequencer in any::<Option<(Option<[u8; 20]>, bool, u64, u64)>>(),
        reserves in vec(reserve(), 0..3),
        categories in vec(any::<(u8, [u16; 3], Option<[u8; 20]>, [u128; 2])>(), 0..3),
        prices in vec(any::<([u8; 20], [u64; 4], [u8; 20], Option<[u8; 20]>)>(), 0..3),
        accounts in vec(lending_account(), 0..3),
    ) -> BusEvent {
        let category = |(id, [ltv, threshold, bonus], source, [collateral, ltv_zero]): (u8, [u16; 3], Option<[u8; 20]>, [u128; 2])| {
            LendingCategory {
                id,
                ltv,
                liquidation_threshold: threshold,
                liquidation_bonus: bonus,
                price_source: source.map(Address::from),
                collateral_bitmap: collateral,
                ltv_zero_bitmap: ltv_zero,
            }
        };
        let supply = |(reserve, numbers, last_update): (u16, [[u64; 4]; 2], u64)| {
            let [principal, average_rate] = numbers.map(U256::from_limbs);
            LendingStableSupply { reserve, principal, average_rate, last_update }
        };
        let price = |(source, price, proxy, feed): ([u8; 20], [u64; 4], [u8; 20], Option<[u8; 20]>)| LendingPrice {
            source: source.into(),
            price: U256::from_limbs(price),
            proxy: proxy.into(),
            feed: feed.map(Address::from),
        };
        let sequencer = sequencer.map(|(feed, is_down, since, grace_period)| {
            Sequencer { feed: feed.map(Address::from), is_down, since, grace_period }
        });
        let (provider, configurator, oracle) = (provider.into(), configurator.into(), oracle.into());
        BusEvent::LendingLoaded(Box::new(LendingLoaded {
            pool: pool.into(),
            number,
            hash: hash.into(),
            protocol: if is_v2 { LendingProtocol::AaveV2 } else { LendingProtocol::AaveV3 },
            revision,
            paused,
            contracts: LendingContracts { provider, configurator, oracle },
            sequencer,
            reserves,
            stable_supplies: stable.into_iter().map(supply).collect(),
            categories: categories.into_iter().map(category).collect(),
            prices: prices.into_iter().map(price).collect(),
            accounts,
        }))
    }
}

fn quarantined() -> impl Strategy<Value = BusEvent> {
    let difference = prop_oneof![
        Just(Difference::MissedEvent),
        Just(Difference::Gone),
        Just(Difference::Nonsense),
        Just(Difference::ProtocolFee),
    ];
    let id = any::<Option<[u8; 32]>>();
    (any::<([u8; 20], u64, [u8; 32])>(), id, difference, any::<[String; 2]>()).prop_map(
        |((pool, number, hash), id, difference, [ours, theirs])| {
            let (pool, protocol, hash) = (pool.into(), Protocol::UniswapV2, hash.into());
            if let Some(id) = id {
                let (manager, id) = (pool, id.into());
                let event = V4Quarantined { manager, id, number, hash, difference, ours, theirs };
                return BusEvent::V4Quarantined(Box::new(event));
            }
            let event = PoolQuarantined { pool, protocol, number, hash, difference, ours, theirs };
            BusEvent::PoolQuarantined(Box::new(event))
        },
    )
}

prop_compose! {
    fn v4()(
        [manager, currency0, currency1] in any::<[[u8; 20]; 3]>(),
        [id, hash] in any::<[[u8; 32]; 2]>(),
        (fee, tick_spacing, protocol_fee, number) in any::<(u32, i32, u32, u64)>(),
        state in state(),
    ) -> BusEvent {
        BusEvent::V4Loaded(V4Loaded {
            manager: manager.into(),
            id: id.into(),
            currency0: currency0.into(),
            currency1: currency1.into(),
            fee,
            tick_spacing,
            number,
            hash: hash.into(),
            protocol_fee,
            state,
        })
    }
}

prop_compose! {
    fn state()(
        (price, tick, liquidity) in any::<([u64; 4], i32, u128)>(),
        ticks in vec(any::<(i32, i128, u128)>(), 0..20),
    ) -> ConcentratedState {
        let tick_of = |(index, liquidity_net, liquidity_gross)| LoadedTick {
            index,
            liquidity_net,
            liquidity_gross,
        };
        ConcentratedState {
            sqrt_price: U256::from_limbs(price),
            tick,
            liquidity,
            ticks: ticks.into_iter().map(tick_of).collect(),
        }
    }
}

prop_compose! {
    fn effect()(
        ([seq, number], hash, transaction) in (any::<[u64; 2]>(), any::<[u8; 32]>(), transaction()),
        (max_fee_per_gas, max_priority_fee_per_gas) in any::<(u128, Option<u128>)>(),
        reserves in vec(any::<([u8; 20], (u128, u128))>(), 0..4),
        concentrated in vec((any::<([u8; 20], Option<[u8; 32]>)>(), state()), 0..3),
    ) -> BusEvent {
        let pool = |((pool, id), state): (([u8; 20], Option<[u8; 32]>), _)| ConcentratedEffect {
            pool: pool.into(),
            id: id.map(Into::into),
            state,
        };
        BusEvent::PendingEffect(Box::new(PendingEffect {
            behind: AsOf { seq, number, hash: hash.into() },
            pending: PendingTxEvent { transaction, max_fee_per_gas, max_priority_fee_per_gas },
            reserves: reserves.into_iter().map(|(pool, reserves)| (pool.into(), reserves)).collect(),
            concentrated: concentrated.into_iter().map(pool).collect(),
        }))
    }
}

/// Any source event.
pub(crate) fn source_event() -> impl Strategy<Value = BusEvent> {
    let gap =
        any::<[u64; 3]>().prop_map(|[from, to, filled]| BusEvent::SourceGap(SourceGap { from, to, filled }));
    let reconnected = any::<(u64, u32)>()
        .prop_map(|(epoch, endpoint)| BusEvent::Reconnected(Reconnected { epoch, endpoint }));
    let loaded = any::<([u64; 3], [u8; 32])>().prop_map(|([number, chain_id, pools], hash)| {
        BusEvent::MarketLoaded(MarketLoaded { number, hash: hash.into(), chain_id, pools })
    });
    let held = vec(any::<([u8; 20], Option<(u128, u128)>)>(), 0..20);
    let resynced = (any::<(u64, [u8; 32])>(), held).prop_map(|((number, hash), held)| {
        let reserves = held.into_iter().map(|(pool, held)| (pool.into(), held)).collect();
        BusEvent::MarketResynced(MarketResynced { number, hash: hash.into(), reserves })
    });
    prop_oneof![
        block(),
        pool(),
        token(),
        reorg(),
        gap,
        reconnected,
        loaded,
        resynced,
        feed(),
        concentrated(),
        lending(),
        quarantined(),
        v4(),
        effect()
    ]
}
