//! Real blocks: everything that is known to have happened in them, against what Headwater says of them.
//!
//! The truth is that of two classifiers that know nothing of Headwater: one reads logs (`own`), the other one call traces
//! (`inspect`); `agreement` counts where they differ, and `arbitrages` is what both together stand by. A log that the README of the
//! data calls an estimate (price, tick and liquidity of rebuilt swaps of V3) is compared in its amounts alone.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use alloy_primitives::{Address, B256, I256, U256};
use anyhow::{Context, ensure};
use headwater_amm::{Fee, Hop, quote_cycle, size_cycle};
use headwater_events::{
    AaveAction, Action, AsOf, CompoundAction, MixedStep, Protocol, V2Action, V3Action, V4Action,
};
use headwater_market::{
    BlockRef, ConcentratedBook, ConcentratedUpdate, Head, MarketConfig, MarketSnapshot, PoolMeta, PoolTable,
    ResolvedMarket, TakenCycle, taken_cycles,
};
use serde::Deserialize;

use super::mainnet::{decimal, directory, open_cycles, preset, read_json};
use super::mainnet_swaps::{Compared, block_numbers, compare_block};
use crate::devnet;
use crate::proof::{Proof, ProofArgs, Report};

/// The whole truth about the blocks.
pub const MAINNET_MARKET: Proof = Proof {
    name: "mainnet-market",
    about: "eight real blocks: every swap, liquidation, answer, pool and arbitrage, taken or open, that others saw in them \
            (HEADWATER_MAINNET)",
    full_duration: "5 s",
    run,
};

/// What the eight blocks hold; fewer prove less than is claimed. There is none of V4 in them: it is younger.
const FLOORS: Counts = Counts {
    v2_swaps: 74,
    v3_swaps: 17,
    traced_swaps: 74,
    syncs: 76,
    liquidations: 4,
    traced_liquidations: 4,
    answers: 3,
    pools: 71,
    taken: 9,
    traced_taken: 6,
    sized: 5,
    open: 13,
};

/// What was compared, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    v2_swaps: u64,
    v3_swaps: u64,
    /// Of call traces.
    traced_swaps: u64,
    syncs: u64,
    liquidations: u64,
    traced_liquidations: u64,
    answers: u64,
    /// Proven by their factories.
    pools: u64,
    /// Arbitrages.
    taken: u64,
    traced_taken: u64,
    /// Of those the ones through V2, sized on the reserves before them.
    sized: u64,
    /// Arbitrages that were there to be taken.
    open: u64,
}

impl Counts {
    fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("swaps of V2", self.v2_swaps),
            ("swaps of V3", self.v3_swaps),
            ("swaps by call traces", self.traced_swaps),
            ("syncs", self.syncs),
            ("liquidations", self.liquidations),
            ("liquidations by call traces", self.traced_liquidations),
            ("answers of oracles", self.answers),
            ("pools", self.pools),
            ("arbitrages taken", self.taken),
            ("arbitrages by call traces", self.traced_taken),
            ("arbitrages sized anew", self.sized),
            ("open arbitrages", self.open),
        ]
    }

    /// # Errors
    /// A kind of which there is less than in the floors.
    fn reach(&self, floors: &Self) -> anyhow::Result<()> {
        for ((name, count), (_, floor)) in self.named().into_iter().zip(floors.named()) {
            ensure!(count >= floor, "only {count} {name}, below the floor of {floor}");
        }
        Ok(())
    }

    fn sum(&self) -> u64 {
        self.named().into_iter().map(|(_, count)| count).sum()
    }
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let Some(directory) = directory(args) else {
        devnet::write_skip("HEADWATER_MAINNET is not set", "the market of real blocks")?;
        return Ok(Report { skipped: 1, seed: args.seed, ..Report::default() });
    };
    let mut counts = Counts::default();
    let mut numbers = block_numbers(&directory.join("blocks"))?;
    numbers.sort_unstable();
    for number in &numbers {
        examine(&directory, *number, &mut counts).with_context(|| format!("block {number}"))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let open = runtime.block_on(open_cycles(&directory))?;
    counts.open = open.known;
    counts.reach(&FLOORS)?;
    let named = counts.named().map(|(name, count)| format!("{count} {name}"));
    Ok(Report {
        checked: counts.sum(),
        floor: FLOORS.sum(),
        skipped: 0,
        seed: args.seed,
        lines: vec![
            format!("{} blocks: {}: as in the truth, none missing, none invented", numbers.len(), named.join(", ")),
            format!(
                "open arbitrages at 99.9 % of their profit or more, {} others worth nothing or rightly refused; {} cycles of the exhaustive \
                 search in {} blocks, whole and cut, all found and no others",
                open.set_aside, open.searched, open.served
            ),
            "no swap of V4 is in these blocks, and call traces are there of six of them; not compared: price, tick and liquidity of rebuilt logs (estimates), sandwiches, and what \
             contracts answered within calls (oracle reads, account health)"
                .to_owned(),
        ],
    })
}

fn examine(directory: &Path, number: u64, counts: &mut Counts) -> anyhow::Result<()> {
    // Every log that both sides read, with place and amounts.
    let compared = compare_block(directory, number)?;
    count_logs(&compared, counts)?;
    let truth: Truth = read_json(&directory.join(format!("truth/{number}.json")))?;
    let market = truth.market(counts)?;
    let block = Block::new(&compared, &market);
    truth.compare_taken(&block, counts)?;
    if let (Some(inspect), Some(agreement)) = (&truth.inspect, &truth.agreement.swaps) {
        inspect.compare_swaps(&block, agreement, counts)?;
        inspect.compare_liquidations(&block, counts)?;
        inspect.compare_arbitrages(&block, counts)?;
    }
    let opened: Opened = read_json(&directory.join(format!("truth/arb_{number}.json")))?;
    for taken in &opened.taken_v2_arbs {
        taken.compare(&block).with_context(|| format!("{taken:?}"))?;
        counts.sized += 1;
    }
    Ok(())
}

fn count_logs(compared: &Compared, counts: &mut Counts) -> anyhow::Result<()> {
    for action in &compared.decoded.actions {
        match action {
            Action::V2 { action: V2Action::Swap { .. }, .. } => counts.v2_swaps += 1,
            Action::V3 { action: V3Action::Swap { .. }, .. } => counts.v3_swaps += 1,
            Action::V4 { action: V4Action::Swap { .. }, .. } => {
                anyhow::bail!("nothing is known of {action:?}")
            }
            Action::Aave { action: AaveAction::LiquidationCall { .. }, .. }
            | Action::Compound { action: CompoundAction::LiquidateBorrow { .. }, .. } => {
                counts.liquidations += 1
            }
            _ => {}
        }
    }
    counts.syncs += compared.syncs;
    counts.answers += compared.answers as u64;
    Ok(())
}

/// What Headwater makes of a block.
struct Block<'a> {
    compared: &'a Compared,
    taken: Vec<TakenCycle>,
    market: &'a MarketSnapshot,
}

impl<'a> Block<'a> {
    fn new(compared: &'a Compared, market: &'a MarketSnapshot) -> Self {
        let taken = taken_cycles(&compared.block, &compared.decoded, market);
        Self { compared, taken, market }
    }

    fn hash(&self, transaction_index: u32) -> anyhow::Result<B256> {
        let transaction = self.compared.block.transactions.get(transaction_index as usize);
        transaction.map(|transaction| transaction.hash).context("a transaction that is not there")
    }

    /// The transaction of each log.
    fn transactions(&self) -> HashMap<u32, B256> {
        let logs = self.compared.block.logs.iter();
        logs.filter_map(|log| Some((log.log_index, self.hash(log.transaction_index).ok()?))).collect()
    }

    /// What was swapped, by transaction and pool.
    fn swaps(&self) -> Vec<((B256, Address), Swapped)> {
        let transactions = self.transactions();
        let actions = self.compared.decoded.actions.iter();
        let swaps = actions.filter_map(|action| {
            let (log_index, pool, swapped) = Swapped::of(action, self.market)?;
            Some(((*transactions.get(&log_index)?, pool), swapped))
        });
        swaps.collect()
    }

    /// Reserves of a pair of V2 before a transaction's first log about it, by the pair's own logs.
    fn reserves_before(&self, transaction_index: u32, pair: Address) -> anyhow::Result<[u128; 2]> {
        let of_transaction = |index: u32| {
            let mut logs = self.compared.block.logs.iter();
            logs.any(|log| log.log_index == index && log.transaction_index == transaction_index)
        };
        let mut after = None;
        for action in &self.compared.decoded.actions {
            let Action::V2 { log_index, emitter, action } = action else { continue };
            if *emitter != pair || !of_transaction(*log_index) {
                continue;
            }
            match (action, after) {
                (V2Action::Sync { reserve0, reserve1 }, _) => after = Some([*reserve0, *reserve1]),
                (V2Action::Swap { amount0_in, amount1_in, amount0_out, amount1_out, .. }, Some(after)) => {
                    let [reserve0, reserve1] = after.map(U256::from);
                    let before = [reserve0 + amount0_out - amount0_in, reserve1 + amount1_out - amount1_in];
                    return Ok(before.map(|reserve| reserve.to()));
                }
                _ => {}
            }
        }
        anyhow::bail!("{pair} did not trade in transaction {transaction_index}")
    }
}

/// A swap as call traces tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Swapped {
    token_in: Address,
    amount_in: U256,
    token_out: Address,
    amount_out: U256,
}

impl Swapped {
    fn of(action: &Action, market: &MarketSnapshot) -> Option<(u32, Address, Self)> {
        let (log_index, pool, tokens, [amount0, amount1]) = match action {
            Action::V2 {
                log_index,
                emitter,
                action: V2Action::Swap { amount0_in, amount1_in, amount0_out, amount1_out, .. },
            } => {
                let meta = market.pools.meta(market.pools.find(emitter)?)?;
                // Of a token that takes a fee, dust of the other one may go in as well.
                let [in0, in1, out0, out1] =
                    [amount0_in, amount1_in, amount0_out, amount1_out].map(|amount| I256::from_raw(*amount));
                let amounts = if out0.is_zero() { [in0, -out1] } else { [-out0, in1] };
                (*log_index, *emitter, [meta.token0, meta.token1], amounts)
            }
            Action::V3 { log_index, emitter, action: V3Action::Swap { amount0, amount1, .. } } => {
                let meta = market.concentrated.meta(market.concentrated.find(emitter)?)?;
                (*log_index, *emitter, [meta.token0, meta.token1], [*amount0, *amount1])
            }
            _ => return None,
        };
        let [token0, token1] = tokens;
        let (into, out) = if amount0.is_positive() {
            ((token0, amount0), (token1, amount1))
        } else {
            ((token1, amount1), (token0, amount0))
        };
        let swapped = Self {
            token_in: into.0,
            amount_in: into.1.into_raw(),
            token_out: out.0,
            amount_out: out.1.unsigned_abs(),
        };
        Some((log_index, pool, swapped))
    }
}

#[derive(Deserialize)]
struct Truth {
    pools_from_logs: BTreeMap<Address, TruePool>,
    arbitrages: Vec<TrueArbitrage>,
    inspect: Option<Inspect>,
    agreement: Agreement,
}

#[derive(Deserialize)]
struct TruePool {
    token0: Address,
    token1: Address,
    factory: Option<String>,
    fee: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct TrueArbitrage {
    tx: B256,
    profit_token: Address,
    start_amount: U256,
    profit: I256,
    pools: Vec<Address>,
}

impl Truth {
    /// A market of the pools that the truth names, as far as their factories are known: each has to derive from its own.
    fn market(&self, counts: &mut Counts) -> anyhow::Result<MarketSnapshot> {
        let tables = preset();
        let resolved = ResolvedMarket::resolve(&MarketConfig::default(), 1)?;
        let (mut pools, mut concentrated) = (PoolTable::default(), ConcentratedBook::new(&resolved));
        let mut created = Vec::new();
        for (address, pool) in &self.pools_from_logs {
            let TruePool { token0, token1, .. } = *pool;
            let (factory, fee_ppm) = match (pool.factory.as_deref(), pool.fee) {
                (Some("uniswap_v3"), Some(fee)) => {
                    let factories = &resolved.concentrated_factories;
                    let own = factories.iter().find(|known| known.derive(token0, token1, fee) == *address);
                    let emitter = own.with_context(|| format!("{address} derives from no factory"))?.address;
                    let tick_spacing = spacing(fee)?;
                    let pool = *address;
                    created.push(ConcentratedUpdate::PoolCreated {
                        emitter,
                        token0,
                        token1,
                        fee,
                        tick_spacing,
                        pool,
                    });
                    counts.pools += 1;
                    continue;
                }
                (Some(name @ ("uniswap_v2" | "sushiswap")), _) => {
                    let name = if name == "sushiswap" { "sushi" } else { "uniswap" };
                    let own = tables.factories.iter().find(|known| known.name == name);
                    let own = own.with_context(|| format!("no factory {name}"))?;
                    ensure!(own.derive(token0, token1) == Some(*address), "{address} is not of {name}");
                    counts.pools += 1;
                    (own.address, own.fee_ppm)
                }
                // Not a factory of the preset: no factory may prove it.
                _ => {
                    let mut factories = tables.factories.iter();
                    let own = factories.find(|known| known.derive(token0, token1) == Some(*address));
                    ensure!(own.is_none(), "{address} derives from {own:?}");
                    (Address::ZERO, 3_000)
                }
            };
            let protocol = Protocol::UniswapV2;
            pools.insert(PoolMeta { address: *address, factory, protocol, token0, token1, fee_ppm }, true);
        }
        let block = BlockRef { number: 1, hash: B256::repeat_byte(1), parent_hash: B256::ZERO };
        concentrated.apply_block(block, created);
        ensure!(concentrated.counts() == Default::default(), "{:?}", concentrated.counts());
        let as_of = AsOf { seq: 1, number: 1, hash: block.hash };
        let head = Head { timestamp: 0, base_fee_per_gas: None, gas_used: 0, gas_limit: 0 };
        Ok(MarketSnapshot {
            concentrated: concentrated.table().clone(),
            ..MarketSnapshot::of_pools(as_of, head, pools)
        })
    }

    /// What both classifiers together stand by: transaction, pools in their order, token, input and gain.
    fn compare_taken(&self, block: &Block<'_>, counts: &mut Counts) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for taken in &block.taken {
            let pools: Vec<_> = taken.steps.iter().map(|step| step.swap.pool).collect();
            let hash = block.hash(taken.transaction_index)?;
            found.push((hash, pools, taken.token(), taken.amount_in(), taken.gain()));
        }
        let known = self.arbitrages.iter().map(|known| {
            (known.tx, known.pools.clone(), known.profit_token, known.start_amount, known.profit)
        });
        let mut known: Vec<_> = known.collect();
        found.sort_unstable();
        known.sort_unstable();
        ensure!(found == known, "the arbitrages differ: found {found:#?}, known {known:#?}");
        counts.taken += found.len() as u64;
        Ok(())
    }
}

/// `UniswapV3Factory`'s.
fn spacing(fee: u32) -> anyhow::Result<i32> {
    let known = [(100, 1), (500, 10), (3_000, 60), (10_000, 200)];
    let known = known.into_iter().find(|(of, _)| *of == fee);
    known.map(|(_, spacing)| spacing).with_context(|| format!("no pool has a fee of {fee}"))
}

/// What call traces show.
#[derive(Deserialize)]
struct Inspect {
    swaps: Vec<TracedSwap>,
    liquidations: Vec<TracedLiquidation>,
    arbitrages: Vec<TracedArbitrage>,
}

#[derive(Debug, Deserialize)]
struct TracedSwap {
    tx: B256,
    pool: Address,
    protocol: String,
    token_in: Address,
    amount_in: U256,
    token_out: Address,
    amount_out: U256,
}

#[derive(Debug, Deserialize)]
struct TracedLiquidation {
    tx: B256,
    liquidator: Address,
    user: Address,
    debt_amount: U256,
    collateral_token: Address,
    collateral_amount: U256,
}

#[derive(Debug, Deserialize)]
struct TracedArbitrage {
    tx: B256,
    start_amount: U256,
    end_amount: U256,
    path: Vec<TracedLeg>,
}

#[derive(Debug, Deserialize)]
struct TracedLeg {
    pool: Address,
    token_in: Address,
    amount_in: U256,
    token_out: Address,
    amount_out: U256,
}

#[derive(Deserialize)]
struct Agreement {
    swaps: Option<SwapAgreement>,
}

/// Where the two classifiers differ, resolved: tokens that take a fee, calls that were reverted, and traces that are missing.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct SwapAgreement {
    identical: u64,
    same_pool_other_amounts: u64,
    only_inspect: u64,
    only_own: u64,
    inspect_other_protocols: u64,
}

impl Inspect {
    /// Each traced swap is a decoded one, but for the differences that are known.
    fn compare_swaps(
        &self,
        block: &Block<'_>,
        agreement: &SwapAgreement,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        let mut decoded = block.swaps();
        let (mut identical, mut others, mut other_protocols) = (0, Vec::new(), 0);
        for traced in &self.swaps {
            if !matches!(traced.protocol.as_str(), "uniswap_v2" | "uniswap_v3") {
                other_protocols += 1;
                continue;
            }
            let (key, swapped) = ((traced.tx, traced.pool), traced.swapped());
            match decoded.iter().position(|decoded| *decoded == (key, swapped.clone())) {
                Some(at) => {
                    decoded.swap_remove(at);
                    identical += 1;
                }
                None => others.push(key),
            }
        }
        let (mut other_amounts, mut only_traced) = (0, 0);
        for key in others {
            match decoded.iter().position(|(of, _)| *of == key) {
                Some(at) => {
                    decoded.swap_remove(at);
                    other_amounts += 1;
                }
                None => only_traced += 1,
            }
        }
        let found = SwapAgreement {
            identical,
            same_pool_other_amounts: other_amounts,
            only_inspect: only_traced,
            only_own: decoded.len() as u64,
            inspect_other_protocols: other_protocols,
        };
        ensure!(found == *agreement, "{found:?}, the truth counts {agreement:?}");
        counts.traced_swaps += identical;
        Ok(())
    }

    fn compare_liquidations(&self, block: &Block<'_>, counts: &mut Counts) -> anyhow::Result<()> {
        let transactions = block.transactions();
        let mut decoded = Vec::new();
        for action in &block.compared.decoded.actions {
            decoded.extend(TracedLiquidation::of(action, &transactions));
        }
        let same = |one: &TracedLiquidation, other: &TracedLiquidation| one.key() == other.key();
        ensure!(decoded.len() == self.liquidations.len(), "{} liquidations", decoded.len());
        for traced in &self.liquidations {
            ensure!(decoded.iter().any(|decoded| same(decoded, traced)), "not decoded: {traced:?}");
            counts.traced_liquidations += 1;
        }
        Ok(())
    }

    /// Each leg with its amounts.
    fn compare_arbitrages(&self, block: &Block<'_>, counts: &mut Counts) -> anyhow::Result<()> {
        for traced in &self.arbitrages {
            let legs: Vec<_> = traced.path.iter().map(TracedLeg::key).collect();
            let is_it = |taken: &&TakenCycle| taken.steps.iter().map(leg).eq(legs.iter().copied());
            let taken = block.taken.iter().find(is_it).with_context(|| format!("not found: {traced:?}"))?;
            ensure!(block.hash(taken.transaction_index)? == traced.tx, "in another transaction: {traced:?}");
            let gain = I256::from_raw(traced.end_amount) - I256::from_raw(traced.start_amount);
            ensure!((taken.amount_in(), taken.gain()) == (traced.start_amount, gain), "{traced:?}");
            counts.traced_taken += 1;
        }
        Ok(())
    }
}

type Leg = (Address, Address, U256, Address, U256);

fn leg(step: &MixedStep) -> Leg {
    let swap = &step.swap;
    (swap.pool, swap.token_in, swap.amount_in, swap.token_out, swap.amount_out)
}

impl TracedLeg {
    fn key(&self) -> Leg {
        (self.pool, self.token_in, self.amount_in, self.token_out, self.amount_out)
    }
}

impl TracedSwap {
    fn swapped(&self) -> Swapped {
        let Self { token_in, amount_in, token_out, amount_out, .. } = *self;
        Swapped { token_in, amount_in, token_out, amount_out }
    }
}

impl TracedLiquidation {
    fn key(&self) -> (B256, Address, Address, U256, Address, U256) {
        (self.tx, self.liquidator, self.user, self.debt_amount, self.collateral_token, self.collateral_amount)
    }

    fn of(action: &Action, transactions: &HashMap<u32, B256>) -> Option<Self> {
        match action {
            Action::Aave {
                log_index,
                action:
                    AaveAction::LiquidationCall {
                        collateral_asset,
                        user,
                        debt_to_cover,
                        liquidated_collateral_amount,
                        liquidator,
                        ..
                    },
                ..
            } => Some(Self {
                tx: *transactions.get(log_index)?,
                liquidator: *liquidator,
                user: *user,
                debt_amount: *debt_to_cover,
                collateral_token: *collateral_asset,
                collateral_amount: *liquidated_collateral_amount,
            }),
            Action::Compound {
                log_index,
                action:
                    CompoundAction::LiquidateBorrow {
                        liquidator,
                        borrower,
                        repay_amount,
                        collateral,
                        seize_tokens,
                    },
                ..
            } => Some(Self {
                tx: *transactions.get(log_index)?,
                liquidator: *liquidator,
                user: *borrower,
                debt_amount: *repay_amount,
                collateral_token: *collateral,
                collateral_amount: *seize_tokens,
            }),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Opened {
    taken_v2_arbs: Vec<TakenV2>,
}

/// An arbitrage through pairs of V2 that was taken, and what it could have been.
#[derive(Debug, Deserialize)]
struct TakenV2 {
    tx_index: u32,
    pools: Vec<Address>,
    #[serde(deserialize_with = "decimal")]
    actual_input: u128,
    actual_profit: I256,
    #[serde(deserialize_with = "decimal")]
    optimal_profit: u128,
}

impl TakenV2 {
    /// On the reserves before it: what it made is what Headwater quotes for its input, and the best size is worth what the truth says.
    fn compare(&self, block: &Block<'_>) -> anyhow::Result<()> {
        let mut taken = block.taken.iter().filter(|taken| taken.transaction_index == self.tx_index);
        let is_it = |taken: &&TakenCycle| {
            taken.steps.iter().map(|step| step.swap.pool).eq(self.pools.iter().copied())
        };
        let taken = taken.find(is_it).context("not found")?;
        let mut hops = Vec::new();
        for step in &taken.steps {
            let [reserve0, reserve1] = block.reserves_before(self.tx_index, step.swap.pool)?;
            let (into, out) = if step.zero_for_one { (reserve0, reserve1) } else { (reserve1, reserve0) };
            hops.push(Hop::new(into, out, Fee::UNISWAP_V2)?);
        }
        let quoted = quote_cycle(&hops, self.actual_input);
        let gain =
            |out: u128| I256::from_raw(U256::from(out)) - I256::from_raw(U256::from(self.actual_input));
        let quoted = quoted.last().copied().map(gain);
        ensure!(quoted == Some(self.actual_profit), "{quoted:?} is quoted");
        let best = size_cycle(&hops).map_or(0, |sizing| sizing.profit);
        let best_is = self.optimal_profit..=self.optimal_profit.saturating_add(2);
        ensure!(best_is.contains(&best), "the best is {best}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_below_its_floor_fails_by_name() {
        assert!(FLOORS.reach(&FLOORS).is_ok());
        let fewer = Counts { taken: FLOORS.taken - 1, ..FLOORS };
        let failure = fewer.reach(&FLOORS).expect_err("one is missing").to_string();
        assert!(failure.contains("arbitrages taken"), "{failure}");
    }
}
