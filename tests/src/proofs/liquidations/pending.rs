//! Reports that are pending for the pool's aggregators: what they would make liquidatable is said before they land, and is what the
//! pool's own bytecode does right behind them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, I256, U256, keccak256};
use anyhow::{Context, ensure};
use headwater_detectors::{Crossings, LiquidationConfig};
use headwater_events::{BlockEvent, Kind, Opportunity, PendingTxEvent, Plan, Transaction};
use headwater_market::{PendingReport, PoolLimits};
use headwater_oracle::Transmissions;
use headwater_reference::aave::{Release, World};
use headwater_reference::calldata::{Abi, call, encode};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bot::Bot;
use super::chain::Chain;
use super::{Tally, judge};
use crate::proofs::lending::play::Play;
use crate::proofs::lending::reach::Move;

/// Seconds to the block that takes a report.
const BLOCK_TIME: u64 = 12;

/// A report is forgotten when nothing was heard of it for so long.
const AGE: Duration = Duration::from_secs(120);

const FORWARDER: Address = Address::repeat_byte(0xf0);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    reports: u64,
    pub(super) found: u64,
    /// Positions below one behind a report alone, and refused by the contract.
    refused: u64,
    landed: u64,
    replaced: u64,
    aged: u64,
    strange: u64,
}

impl Counts {
    pub(super) fn fates(&self) -> [u64; 4] {
        [self.landed, self.replaced, self.aged, self.strange]
    }

    pub(super) fn line(&self) -> String {
        let Self { reports, found, refused, landed, replaced, aged, strange } = self;
        format!(
            "  {reports} reports pending: {found} positions that only they make liquidatable, found before, each equal to getUserAccountData \
             and the liquidationCall right behind the answer, {refused} refused by the contract and not found; {landed} landed, {replaced} \
             replaced, {aged} forgotten, {strange} for other contracts"
        )
    }
}

/// Oracles, and the part of Headwater that listens to them.
pub(super) struct Reporter {
    random: ChaCha8Rng,
    transmissions: Transmissions,
    crossings: Crossings,
    now: Duration,
    made: u64,
}

/// What becomes of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lands,
    Replaced,
    Aged,
    /// It is for a contract that the pool does not read.
    Strange,
}

impl Reporter {
    pub(super) fn new(seed: u64) -> Self {
        let limits = PoolLimits { transactions: 64, bytes: 1 << 20, age: AGE };
        let everything = LiquidationConfig { profit_after_gas: false, ..LiquidationConfig::default() };
        Self {
            random: ChaCha8Rng::seed_from_u64(seed ^ 0x0c_12),
            transmissions: Transmissions::new(limits),
            crossings: Crossings::new(everything, BLOCK_TIME),
            now: Duration::ZERO,
            made: 0,
        }
    }

    /// Behind some blocks an oracle reports a price; what follows is judged, and the report meets its fate.
    pub(super) fn report(
        &mut self,
        world: &mut World,
        play: &Play,
        chain: &Chain,
        bot: &Bot,
        accounts: &[Address],
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        self.now += Duration::from_secs(BLOCK_TIME);
        let Some((market, prices)) = bot.standing().filter(|_| self.random.random_range(0..3) == 0) else {
            return Ok(());
        };
        ensure!(market.as_of.hash == chain.head().hash, "it stands behind another block");
        let fate = match self.random.random_range(0..8) {
            0 => Fate::Replaced,
            1 => Fate::Aged,
            2 => Fate::Strange,
            _ => Fate::Lands,
        };
        // The second version's oracle reads nothing for ether, which it counts in.
        let first = usize::from(world.release == Release::V2);
        let place = self.random.random_range(first..world.reserves.len());
        let aggregator = world.reserves[place].aggregator;
        let per_mille = self.random.random_range(700..1_250);
        let price = world.answer(aggregator)? * U256::from(per_mille) / U256::from(1_000) + U256::ONE;
        let to = if fate == Fate::Strange { Address::repeat_byte(0x66) } else { aggregator };
        let nonce = self.made;
        let (pending, answer) = self.transmit(to, price, nonce, 10)?;
        let feeds: Vec<_> = market.lending.iter().flat_map(|lending| lending.feeds.aggregators()).collect();
        let is_followed = |aggregator: &Address| feeds.contains(aggregator);
        self.transmissions.see(&pending, is_followed, self.now);
        let reported = Some(aggregator).filter(|_| fate != Fate::Strange);
        if let Some(looked_at) = reported
            .map(|aggregator| bot.looked_at_behind((&market, &prices), aggregator, I256::try_from(answer)?))
            .transpose()?
            .flatten()
        {
            let of = Move { place, before: world.answer(aggregator)?, after: answer };
            tally.reach.bound(world, accounts, &of, looked_at)?;
        }
        self.crossings.stand_behind(Arc::clone(&market), prices)?;
        tally.pending.reports += 1;
        let told = self.transmissions.reports();
        if fate == Fate::Strange {
            ensure!(told.is_empty(), "a report for a stranger is told of");
            tally.pending.strange += 1;
            return Ok(());
        }
        let [report] = &told[..] else { anyhow::bail!("{} reports are told of", told.len()) };
        ensure!(report.pending == pending && report.aggregator == aggregator, "another report: {report:?}");
        ensure!(report.answer == I256::try_from(answer)?, "its median is {answer}, not {}", report.answer);
        let found = self.crossings.behind(report)?;
        ensure!(self.crossings.behind(report)? == found, "the same report finds something else");
        let before = world.evm.snapshot();
        let behind = Behind { report, aggregator, answer, found: &found };
        behind.judge(world, play, chain, accounts, tally)?;
        world.evm.revert(&before)?;
        match fate {
            Fate::Lands => {
                let block = mined(chain, &pending);
                self.transmissions.mine(&block, is_followed, self.now);
                tally.pending.landed += 1;
            }
            Fate::Replaced => {
                let (other, _) = self.transmit(ORACLE, price, nonce, 11)?;
                self.transmissions.see(&other, is_followed, self.now);
                tally.pending.replaced += 1;
            }
            Fate::Aged | Fate::Strange => {
                self.now += AGE + Duration::from_secs(1);
                let empty = BlockEvent { transactions: Vec::new(), ..mined(chain, &pending) };
                self.transmissions.mine(&empty, is_followed, self.now);
                tally.pending.aged += 1;
            }
        }
        ensure!(self.transmissions.reports().is_empty(), "{fate:?}, and told of all the same");
        Ok(())
    }

    /// A report whose observations have a median near a price, by any of the functions that carry one, directly or through a forwarder;
    /// and the median.
    fn transmit(
        &mut self,
        to: Address,
        price: U256,
        nonce: u64,
        fee: u128,
    ) -> anyhow::Result<(Arc<PendingTxEvent>, U256)> {
        self.made += 1;
        let count = self.random.random_range(1..=15);
        let spread = |random: &mut ChaCha8Rng| {
            price * U256::from(random.random_range(995..1_005)) / U256::from(1_000) + U256::ONE
        };
        let mut observations: Vec<U256> = (0..count).map(|_| spread(&mut self.random)).collect();
        observations.sort_unstable();
        let median = observations[observations.len() / 2];
        let words = Abi::Array(observations.into_iter().map(Abi::from).collect());
        let (epoch_and_round, empty) = (Abi::from(self.made << 8), || Abi::Array(Vec::new()));
        let none = || Abi::from(0);
        let input = if self.random.random() {
            let report = Abi::Bytes(encode(&[epoch_and_round, none(), words]));
            call("transmit(bytes,bytes32[],bytes32[],bytes32)", &[report, empty(), empty(), none()])
        } else {
            let report = Abi::Bytes(encode(&[Abi::from(1_700_000_000), none(), words, none()]));
            let arguments = [none(), epoch_and_round, none(), report, empty(), empty(), none()];
            call("transmit(bytes32[3],bytes,bytes32[],bytes32[],bytes32)", &arguments)
        };
        let is_forwarded: bool = self.random.random();
        let (to, input) = if is_forwarded {
            let arguments = [Abi::Word(to.into_word()), Abi::Bytes(input)];
            (FORWARDER, call("forward(address,bytes)", &arguments))
        } else {
            (to, input)
        };
        let transaction = Transaction {
            hash: keccak256(format!("report {}", self.made)),
            from: ORACLE,
            to: Some(to),
            value: U256::ZERO,
            input: input.into(),
            nonce,
            gas_limit: 500_000,
        };
        let pending = PendingTxEvent { transaction, max_fee_per_gas: fee, max_priority_fee_per_gas: None };
        Ok((Arc::new(pending), median))
    }
}

/// Whoever sends the reports.
const ORACLE: Address = Address::repeat_byte(0x0c);

fn mined(chain: &Chain, pending: &PendingTxEvent) -> BlockEvent {
    let header = headwater_events::Header { hash: B256::repeat_byte(0x3d), ..chain.head().clone() };
    let transactions = vec![pending.transaction.clone()];
    BlockEvent { header, transactions, logs: Vec::new(), grade: headwater_events::Grade::Proven }
}

/// A report, and what is said to be found behind it.
struct Behind<'a> {
    report: &'a PendingReport,
    aggregator: Address,
    answer: U256,
    found: &'a [Opportunity],
}

impl Behind<'_> {
    /// In the next block: without the answer, and with it.
    fn judge(
        &self,
        world: &mut World,
        play: &Play,
        chain: &Chain,
        accounts: &[Address],
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        world.evm.advance(BLOCK_TIME);
        let without = judge::below(world, accounts)?;
        let mut worth = Vec::new();
        for found in self.found {
            let plan = judge::plan(found).context("no liquidation")?;
            if without.contains(&plan.borrower) {
                judge::not_found(world, play, plan.borrower, &mut Tally::default())
                    .with_context(|| format!("it may be liquidated without the report: {found:?}"))?;
            }
            worth.push(self.sold(world, chain, found)?);
        }
        world.set_price(self.aggregator, self.answer);
        let behind = judge::below(world, accounts)?;
        let mut crossed: BTreeSet<Address> = behind.difference(&without).copied().collect();
        for (found, net_profit) in self.found.iter().zip(worth) {
            let plan = judge::plan(found).context("no liquidation")?;
            ensure!(behind.contains(&plan.borrower), "healthy behind the report: {found:?}");
            crossed.remove(&plan.borrower);
            self.finding(world, play, chain, found).with_context(|| format!("{found:?}"))?;
            ensure!(found.net_profit_wei == net_profit, "worth {net_profit:?}: {found:?}");
            tally.pending.found += 1;
        }
        for borrower in crossed {
            judge::not_found(world, play, borrower, &mut Tally::default())
                .with_context(|| format!("{borrower} is not found behind the report"))?;
            tally.pending.refused += 1;
        }
        Ok(())
    }

    /// Health, and the call executed, to the wei.
    fn finding(
        &self,
        world: &mut World,
        play: &Play,
        chain: &Chain,
        found: &Opportunity,
    ) -> anyhow::Result<()> {
        let (plan, head) = (judge::plan(found).context("no plan")?, chain.head());
        let hash = self.report.pending.transaction.hash;
        ensure!(
            matches!(found.plan, Plan::LiquidateBehind(_)) && found.follows() == Some(hash),
            "it names no report"
        );
        ensure!(found.kind == Kind::Liquidation && found.as_of.hash == head.hash, "kind and block");
        ensure!(found.valid_until == head.number + 1 && plan.pool == world.pool, "pool and end");
        let health_factor = world.account_data(plan.borrower)?.healthFactor;
        ensure!(health_factor == plan.health_factor, "the contract says {health_factor}");
        let outcome = judge::attempt(world, play, plan, plan.debt_to_cover)?;
        let outcome = outcome.map_err(|revert| anyhow::anyhow!("the contract refuses it: {revert}"))?;
        ensure!((outcome.repaid, outcome.seized) == (plan.repay, plan.seize), "the contract did {outcome:?}");
        Ok(())
    }

    /// The best sale of what is seized, and what it leaves at the confirmed prices.
    fn sold(&self, world: &mut World, chain: &Chain, found: &Opportunity) -> anyhow::Result<Option<I256>> {
        let plan = judge::plan(found).context("no plan")?;
        let Some(out) = judge::sold(chain, found, plan)? else { return Ok(None) };
        judge::net_profit(world, chain, found, plan, out)
    }
}
