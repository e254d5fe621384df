//! The findings of each block against the exhaustive search over the reserves that the recording says: those in pairs. What goes through
//! pools with concentrated liquidity, and liquidations, have judges of their own, and are counted here.

mod ranges;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use alloy_primitives::{Address, B256, I256, U256};
use anyhow::{Context, ensure};
use headwater_events::{BusEvent, Envelope, Kind, Leg, Opportunity, Plan, RunId};
use headwater_journal::Recording;
use headwater_market::ResolvedMarket;
use headwater_reference::arbitrage::{Best, Pool, Swap, best_input, net_profit, search_sized_by};
use headwater_reference::rebuild::{At, Rebuild};
use headwater_supervisor::Config;
use headwater_supervisor::commands::replay_parts;
use serde_json::{Value, json};

use self::ranges::Ranges;
use crate::proof::Report;
use crate::proofs::recall;
use crate::replayed::{Replayed, Setup, replay};

/// The documented defaults of `[detectors.arbitrage]`.
const GAS_BASE: u64 = 40_000;
const GAS_PER_HOP: u64 = 70_000;

#[derive(Debug, Default)]
struct Tally {
    cycles: recall::Tally,
    blocks: u64,
    /// Findings whose profit after gas was computed again.
    native: u64,
    /// Findings whose profit after gas lies between what the pools' prices say.
    converted: u64,
    /// Findings without a price.
    unpriced: u64,
    /// Cycles that gas eats up.
    too_small: u64,
    /// Backruns in pairs, quoted again behind the effect of the transaction that they follow.
    behind: u64,
}

/// Fewer than this prove nothing.
pub(super) struct Floor {
    /// Blocks that were searched exhaustively.
    pub(super) searched: u64,
    /// Cycles that the search found in them.
    pub(super) cycles: u64,
    /// Profits after gas that were computed again.
    pub(super) after_gas: u64,
    /// Backruns in pairs that were quoted again.
    pub(super) behind: u64,
}

/// Judges `plain`, and a replay that reports cycles whatever gas costs, at every `every`th block.
pub(super) fn judge(
    recording: &Recording,
    plain: &Replayed,
    every: usize,
    floor: &Floor,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut setup = Setup::default();
    setup.config.detectors.arbitrage.profit_after_gas = false;
    let gross = replay(recording, &setup, |_| ()).context("with profit_after_gas = false")?;
    gross.ensure_whole()?;
    let market = replay_parts(Config::default(), recording, RunId(0))?.market;
    let (gross, net) = (by_block(&gross.found), by_block(&plain.found));
    let effects = effects(recording)?;
    let behind = plain.found.iter().filter(|found| found.kind == Kind::Backrun);

    let factories = market.factories.iter().map(|factory| (factory.address, factory.fee_ppm));
    let (mut rebuild, mut ranges) = (Rebuild::new(factories), Ranges::default());
    let mut remembered: HashMap<Vec<Swap>, Option<Best>> = HashMap::new();
    let (mut tally, mut blocks) = (Tally::default(), BTreeSet::new());
    for record in recording.records(recording.first_seq()) {
        let envelope = record?.envelope;
        ranges.take(&envelope.event);
        let Some(at) = rebuild.take(&as_json(&envelope)?)? else { continue };
        blocks.insert(at.seq);
        let pools = rebuild.pools();
        let [gross, net] = [&gross, &net].map(|found| found.get(&at.seq).map_or(&[][..], Vec::as_slice));
        let block = Block { at, pools: &pools, ranges: &ranges, market: &market };
        block.judge_after_gas(gross, net, &mut tally).with_context(|| block.name())?;
        for found in behind.clone().filter(|found| found.as_of.seq == at.seq) {
            tally.behind += u64::from(block.judge_behind(found, &effects).with_context(|| block.name())?);
        }
        if blocks.len() % every == 0 {
            let mut size =
                |swaps: &[Swap]| *remembered.entry(swaps.to_vec()).or_insert_with(|| best_input(swaps));
            let truth = search_sized_by(&pools, &market.base_tokens, 3, &mut size);
            recall::compare(gross, &truth, &pools, &mut tally.cycles).with_context(|| block.name())?;
            tally.blocks += 1;
        }
    }
    ensure!(gross.keys().all(|seq| blocks.contains(seq)), "a finding is of no block");
    let Tally { cycles, blocks: judged, native, converted, unpriced, too_small, behind } = tally;
    for (what, count, least) in [
        ("blocks searched", judged, floor.searched),
        ("cycles found by the search", cycles.cycles, floor.cycles),
        ("profits after gas computed again", native + converted, floor.after_gas),
        ("backruns in pairs quoted again", behind, floor.behind),
    ] {
        ensure!(count >= least, "{count} {what}; at least {least} are due");
    }
    report.checked += cycles.cycles + native + converted + behind;
    report.skipped += cycles.unsettled;
    report.lines.extend([
        format!(
            "{judged} blocks searched exhaustively: all {} cycles found, and nothing beside them but {} of up to 2 units; \
             {} sized as well or better, the others within 2 units of the best",
            cycles.cycles, cycles.dust, cycles.exact
        ),
        format!(
            "{} blocks: reported is exactly what gains after gas ({too_small} cycles do not, {unpriced} have no price); \
             {native} profits after gas computed again to the wei, {converted} in other tokens within what the pools' \
             prices allow",
            blocks.len()
        ),
        format!("{behind} backruns in pairs quoted again on the block's reserves with the recorded effect in them"),
        "every amount in pairs quoted again on the reserves of the block that the finding names by its hash".to_owned(),
        judged_elsewhere(&plain.found)?,
    ]);
    Ok(())
}

/// An event as the reference reads it: reserves are more than a JSON value's numbers hold.
pub(crate) fn as_json(envelope: &Envelope) -> anyhow::Result<Value> {
    let mut envelope = envelope.clone();
    let reserves = match &mut envelope.event {
        BusEvent::PoolLoaded(loaded) => loaded.reserves.take(),
        // No judge reads it: the blocks say the same.
        BusEvent::MarketResynced(resynced) => {
            resynced.reserves.clear();
            None
        }
        // No judge of pairs reads these either.
        BusEvent::ConcentratedLoaded(_)
        | BusEvent::V4Loaded(_)
        | BusEvent::LendingLoaded(_)
        | BusEvent::PendingEffect(_) => {
            let name = envelope.event.name();
            return Ok(json!({ "seq": envelope.seq, "derived": null, "event": { name: null } }));
        }
        _ => None,
    };
    let mut event = serde_json::to_value(envelope)?;
    if let Some((reserve0, reserve1)) = reserves {
        event["event"]["PoolLoaded"]["reserves"] = json!([reserve0.to_string(), reserve1.to_string()]);
    }
    Ok(event)
}

/// What is not of pairs alone: the bundled recording has some of each.
fn judged_elsewhere(found: &[Opportunity]) -> anyhow::Result<String> {
    let mixed = found.iter().filter(|found| matches!(found.plan, Plan::Mixed(_))).count();
    let liquidations = found.iter().filter(|found| found.kind == Kind::Liquidation).count();
    let backruns = found.iter().filter(|found| found.kind == Kind::Backrun).count();
    let rest = found.iter().filter(|found| !is_in_pairs(found)).count() - mixed - liquidations - backruns;
    ensure!(rest == 0, "{rest} findings of a kind that nobody judges");
    Ok(format!(
        "not judged here, but for being the same each time: {mixed} cycles with pools of V3 or V4 (the proofs recall-mixed and \
         cycles do), {liquidations} liquidations (the proof liquidations), backruns through such pools (the proof backruns)"
    ))
}

fn is_in_pairs(found: &Opportunity) -> bool {
    found.kind == Kind::Arbitrage && matches!(found.plan, Plan::Swaps(_))
}

/// Those in pairs, by the sequence number of the block.
fn by_block(found: &[Opportunity]) -> BTreeMap<u64, Vec<Opportunity>> {
    let mut blocks: BTreeMap<u64, Vec<Opportunity>> = BTreeMap::new();
    for found in found.iter().filter(|found| is_in_pairs(found)) {
        blocks.entry(found.as_of.seq).or_default().push(found.clone());
    }
    blocks
}

/// What the pairs hold behind each pending transaction, by block and transaction.
type Effects = HashMap<(B256, B256), HashMap<Address, (u128, u128)>>;

fn effects(recording: &Recording) -> anyhow::Result<Effects> {
    let mut effects = Effects::new();
    for record in recording.records(recording.first_seq()) {
        if let BusEvent::PendingEffect(effect) = &record?.envelope.event {
            let reserves = effect.reserves.iter().copied().collect();
            effects.insert((effect.behind.hash, effect.pending.transaction.hash), reserves);
        }
    }
    Ok(effects)
}

/// A block as the reference knows it.
struct Block<'a> {
    at: At,
    pools: &'a [Pool],
    ranges: &'a Ranges,
    market: &'a ResolvedMarket,
}

impl Block<'_> {
    fn name(&self) -> String {
        format!("block {} ({})", self.at.number, self.at.hash)
    }

    /// Whether a backrun is in pairs alone; then every amount is what they give behind the transaction that it follows, and not what
    /// they give without it.
    fn judge_behind(&self, found: &Opportunity, effects: &Effects) -> anyhow::Result<bool> {
        let Plan::Behind(behind) = &found.plan else { anyhow::bail!("it follows nothing: {found:?}") };
        if behind.is_mixed() {
            return Ok(false);
        }
        let [_, Leg::Ours(swaps)] = behind.in_order() else { anyhow::bail!("it is in front: {found:?}") };
        let key = (self.at.hash, behind.pending().transaction.hash);
        let after = effects.get(&key).context("nobody recorded what it follows")?;
        let (token_in, amount_in) = (found.tokens[0], found.amount_in);
        let plan = Plan::Swaps(swaps.iter().map(|step| step.swap.clone()).collect());
        let ours = Opportunity { plan, ..found.clone() };
        let mut pools = self.pools.to_vec();
        ensure!(recall::quote_again(&ours, &pools).is_err(), "the transaction opens nothing: {found:?}");
        for pool in &mut pools {
            if let Some((reserve0, reserve1)) = after.get(&pool.address) {
                (pool.reserve0, pool.reserve1) = (*reserve0, *reserve1);
            }
        }
        recall::quote_again(&ours, &pools)?;
        ensure!(
            found.path.iter().any(|pool| after.contains_key(pool)),
            "no pool of its is changed: {found:?}"
        );
        ensure!(swaps[0].swap.token_in == token_in && swaps[0].swap.amount_in == amount_in, "{found:?}");
        Ok(true)
    }

    /// `gross`: whatever gains before gas. `net`: what the default configuration reports.
    fn judge_after_gas(
        &self,
        gross: &[Opportunity],
        net: &[Opportunity],
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        for found in gross {
            ensure!(found.as_of.hash == self.at.hash, "a finding of another block: {found:?}");
            recall::quote_again(found, self.pools)?;
            self.judge_net_profit(found, tally)?;
        }
        let gains = |found: &&Opportunity| found.net_profit_wei.is_some_and(|wei| wei > I256::ZERO);
        let expected: Vec<_> = gross.iter().filter(gains).collect();
        ensure!(net.iter().eq(expected), "what is reported is not what gains after gas");
        Ok(())
    }

    fn judge_net_profit(&self, found: &Opportunity, tally: &mut Tally) -> anyhow::Result<()> {
        let gas = GAS_BASE + GAS_PER_HOP * found.path.len() as u64;
        ensure!(found.gas == gas, "{} gas instead of {gas}: {found:?}", found.gas);
        let Some(told) = found.net_profit_wei else {
            tally.unpriced += 1;
            return Ok(());
        };
        tally.too_small += u64::from(told <= I256::ZERO);
        let profit: u128 = found.profit.to();
        let base = found.tokens[0];
        let one = U256::from(10u8).pow(U256::from(36u8));
        let after_gas =
            |price| net_profit(profit, Some(price), gas, self.at.next_base_fee()).context("too much");
        if base == self.market.wrapped_native {
            let due = after_gas(one)?;
            ensure!(told == due, "{told} wei after gas instead of {due}: {found:?}");
            tally.native += 1;
            return Ok(());
        }
        let prices = self.prices(base);
        let (least, most) = prices.first().zip(prices.last()).context("a price where no pool has one")?;
        let (least, most) = (after_gas(*least)?, after_gas(*most + U256::ONE)?);
        ensure!((least..=most).contains(&told), "{told} wei is not in {least} to {most}: {found:?}");
        tally.converted += 1;
        Ok(())
    }

    /// What each pool says that one unit of a token is worth in wei, times 10^36, ascending.
    fn prices(&self, token: Address) -> Vec<U256> {
        let native = self.market.wrapped_native;
        let price = |pool: &Pool| {
            let (native_reserve, reserve) = match (pool.token0, pool.token1) {
                (one, other) if one == native && other == token => (pool.reserve0, pool.reserve1),
                (one, other) if one == token && other == native => (pool.reserve1, pool.reserve0),
                _ => return None,
            };
            Some(U256::from(native_reserve) * U256::from(10u8).pow(U256::from(36u8)) / U256::from(reserve))
        };
        let in_ranges = self.ranges.prices(token, native);
        let mut prices: Vec<U256> = self.pools.iter().filter_map(price).chain(in_ranges).collect();
        prices.sort_unstable();
        prices
    }
}

#[cfg(test)]
mod tests {
    use headwater_events::{AsOf, Kind, Plan, SwapStep};
    use headwater_market::{DEVNET_CHAIN_ID, MarketConfig};
    use headwater_reference::arbitrage::search;

    use super::*;

    /// Ether.
    const ETHER: u128 = 1_000_000_000_000_000_000;

    fn pools(market: &ResolvedMarket) -> [Pool; 2] {
        let (token0, token1) = (market.base_tokens[0], market.base_tokens[1]);
        let pool = |n, reserve1| Pool {
            address: Address::repeat_byte(n),
            token0,
            token1,
            reserve0: 1_000 * ETHER,
            reserve1,
            fee_ppm: 3000,
        };
        [pool(1, 1_000 * ETHER), pool(2, 1_100 * ETHER)]
    }

    /// The one cycle that gains, as the detector would report it.
    fn finding(at: &At, pools: &[Pool], market: &ResolvedMarket) -> Opportunity {
        let cycle = search(pools, &market.base_tokens[..1], 2).remove(0);
        let mut amount_in = U256::from(cycle.amount_in);
        let steps = (0..2).map(|hop| {
            let amount_out = U256::from(cycle.amounts[hop]);
            let (token_in, token_out) = (cycle.tokens[hop], cycle.tokens[hop + 1]);
            let step = SwapStep { pool: cycle.path[hop], token_in, token_out, amount_in, amount_out };
            amount_in = amount_out;
            step
        });
        let plan = Plan::Swaps(steps.collect());
        let gas = GAS_BASE + 2 * GAS_PER_HOP;
        let one = U256::from(10u8).pow(U256::from(36u8));
        Opportunity {
            kind: Kind::Arbitrage,
            as_of: AsOf { seq: at.seq, number: at.number, hash: at.hash },
            path: cycle.path.clone(),
            tokens: cycle.tokens.clone(),
            amount_in: U256::from(cycle.amount_in),
            amount_out: amount_in,
            profit: U256::from(cycle.profit),
            gas,
            net_profit_wei: net_profit(cycle.profit, Some(one), gas, at.next_base_fee()),
            valid_until: at.number + 1,
            plan,
        }
    }

    #[test]
    fn a_wrong_wei_another_block_and_a_silence_are_seen() {
        let market = ResolvedMarket::resolve(&MarketConfig::default(), DEVNET_CHAIN_ID).expect("the preset");
        let (hash, parent_hash) = (Address::repeat_byte(7).into_word(), Address::ZERO.into_word());
        let (seq, number, base_fee_per_gas) = (3, 9, Some(1_000_000_000));
        let (gas_used, gas_limit) = (0, 30_000_000);
        let at = At { seq, number, hash, parent_hash, base_fee_per_gas, gas_used, gas_limit };
        let pools = pools(&market);
        let good = finding(&at, &pools, &market);
        let judge = |pools: &[Pool], gross: &Opportunity, net: &[Opportunity]| {
            let block = Block { at, pools, ranges: &Ranges::default(), market: &market };
            block.judge_after_gas(std::slice::from_ref(gross), net, &mut Tally::default()).is_ok()
        };
        let good_set = std::slice::from_ref(&good);
        assert!(judge(&pools, &good, good_set));
        assert!(!judge(&pools, &good, &[]), "what gains is not reported");

        let mut other = pools;
        other[0].reserve1 += ETHER;
        assert!(!judge(&other, &good, good_set), "amounts of another block");

        let check = |change: fn(&mut Opportunity)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(!judge(&pools, &bad, std::slice::from_ref(&bad)), "{bad:?}");
        };
        check(|bad| bad.as_of.hash.0[0] ^= 1);
        check(|bad| bad.net_profit_wei = bad.net_profit_wei.map(|wei| wei + I256::ONE));
        check(|bad| bad.gas += 1);
        check(|bad| bad.profit += U256::ONE);
        // What gas eats up must not be reported.
        check(|bad| bad.net_profit_wei = Some(-I256::ONE));
    }
}
