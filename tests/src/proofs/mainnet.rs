//! Real blocks over a socket, through the whole bot, against known opportunities and the exhaustive search.
//!
//! The directory that `HEADWATER_MAINNET` names holds, beside what [`mainnet_swaps`] reads, `truth/arb_<n>.json` (cycles
//! that were open) and `registry.json` (pools, tokens, reserves at the start of a block).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::{Address, I256, U256};
use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use headwater_market::{Preset, PresetTables};
use headwater_reference::arbitrage::Pool;
use headwater_reference::fake_node::{
    BlockBuilder, FakeBlock, FakeLog, FakeNode, FakeTransaction, V2Pair, V2World, quantity,
};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::mainnet_swaps;
use crate::devnet;
use crate::exhaustive::Exhaustive;
use crate::follower::{Follower, FoundLine, Results, research};
use crate::proof::{Proof, ProofArgs, Report};

/// The bot on real blocks.
pub const MAINNET: Proof = Proof {
    name: "mainnet",
    about: "eight real blocks over a socket, whole and cut after each Sync; 200 perturbations (HEADWATER_MAINNET)",
    full_duration: "10 s",
    run,
};

/// Ethereum mainnet.
const CHAIN_ID: u64 = 1;

/// What must be found at least at 99.9 % of its profit, in wei: more than 0.0001 WETH.
const WORTH_FINDING: u128 = 100_000_000_000_000;

/// A bot that takes longer for a block is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is examined.
struct Size {
    /// Whether blocks are cut after each `Sync`, or only where a cycle is known.
    every_cut: bool,
    perturbations: u64,
    floor: u64,
}

const FULL: Size = Size { every_cut: true, perturbations: 200, floor: 280 };
const QUICK: Size = Size { every_cut: false, perturbations: 20, floor: 35 };

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let Some(directory) = directory(args) else {
        devnet::write_skip("HEADWATER_MAINNET is not set", "the proof on real blocks")?;
        return Ok(Report { skipped: 1, seed: args.seed, ..Report::default() });
    };
    let size = if args.quick { QUICK } else { FULL };
    let data = Data::read(&directory)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let swaps = mainnet_swaps::compare(&directory)?;
    let mut judge = Judge { data: &data, exhaustive: Exhaustive::default(), tally: Tally::default() };
    runtime.block_on(async {
        for recorded in &data.blocks {
            let whole = judge.examine_block(recorded, &size).await;
            whole.with_context(|| format!("block {}", recorded.number))?;
        }
        judge.perturb(args.seed, size.perturbations).await.context("perturbations")
    })?;
    let Tally { blocks, cuts, known, cycles, perturbed, perturbed_cycles, swaps: counted } = judge.tally;
    let expected = data.blocks.iter().map(Recorded::expected).sum::<u64>();
    ensure!(known == expected && known > 0, "{known} of {expected} known cycles were compared");
    ensure!(counted == swaps.checked, "{counted} swaps in the results, {} in the truth", swaps.checked);
    Ok(Report {
        checked: blocks + cuts + perturbed,
        floor: size.floor,
        skipped: 0,
        seed: args.seed,
        lines: vec![
            format!("{blocks} blocks whole and {cuts} cut after a Sync, each served to a bot of its own"),
            format!("{counted} swaps of V2 and V3, block by block as many as in the truth"),
            format!("{known} known cycles above 0.0001 WETH found at 99.9 % of their profit or more"),
            format!(
                "{cycles} cycles of the exhaustive search on the same reserves: all found, none invented"
            ),
            format!("{perturbed} perturbations with {perturbed_cycles} cycles: all found, none invented"),
        ],
    })
}

/// The data: what was passed to the proof, or what the environment names.
pub(super) fn directory(args: &ProofArgs) -> Option<PathBuf> {
    let named = || devnet::read_variable("HEADWATER_MAINNET").filter(|path| !path.is_empty());
    args.rest.first().cloned().or_else(named).map(PathBuf::from)
}

#[derive(Debug, Default)]
struct Tally {
    blocks: u64,
    cuts: u64,
    known: u64,
    cycles: u64,
    perturbed: u64,
    perturbed_cycles: u64,
    swaps: u64,
}

struct Judge<'a> {
    data: &'a Data,
    exhaustive: Exhaustive,
    tally: Tally,
}

impl Judge<'_> {
    /// The block as it was, and cut after its `Sync`s.
    async fn examine_block(&mut self, recorded: &Recorded, size: &Size) -> anyhow::Result<()> {
        let Arbitrages { end_of_block, after_each_sync, .. } = &recorded.arbitrages;
        let start = self.data.reserves_at_start(recorded.number);
        let swaps = self.serve(recorded, &start, None, end_of_block.iter().collect()).await?;
        ensure!(swaps == recorded.swaps, "{swaps} swaps, but {} in the truth", recorded.swaps);
        self.tally.blocks += 1;
        self.tally.swaps += swaps;
        for sync in &recorded.syncs {
            let known: Vec<_> = after_each_sync
                .iter()
                .filter(|cycle| cycle.after_log_index == Some(sync.log_index))
                .collect();
            if size.every_cut || !known.is_empty() {
                let cut = self.serve(recorded, &start, Some(sync.log_index), known).await;
                cut.with_context(|| format!("cut after log {}", sync.log_index))?;
                self.tally.cuts += 1;
            }
        }
        Ok(())
    }

    /// The block cut after each `Sync` for which a cycle is known, for a bot that knows no reserves before: of each pool a unit, so that
    /// its tokens can be tried out, and nothing can be gained.
    async fn examine_from_nothing(&mut self, recorded: &Recorded) -> anyhow::Result<()> {
        let start: Holdings =
            self.data.reserves_of_all_times().into_keys().map(|pool| (pool, (1, 1))).collect();
        for sync in &recorded.syncs {
            let known = recorded.arbitrages.after_syncs_alone.iter();
            let known: Vec<_> = known.filter(|cycle| cycle.after_log_index == Some(sync.log_index)).collect();
            if !known.is_empty() {
                let cut = self.serve(recorded, &start, Some(sync.log_index), known).await;
                cut.with_context(|| format!("cut after log {}, from nothing", sync.log_index))?;
                self.tally.cuts += 1;
            }
        }
        Ok(())
    }

    /// Serves the block to a bot; says how many swaps it saw in it.
    async fn serve(
        &mut self,
        recorded: &Recorded,
        start: &Holdings,
        last_log: Option<u64>,
        known: Vec<&KnownCycle>,
    ) -> anyhow::Result<u64> {
        let parent = recorded.parent();
        let block = recorded.served(&parent, last_log)?;
        let results = self.follow(start, &parent, std::slice::from_ref(&block)).await?;
        ensure!(results.blocks.len() == 1 && results.blocks[0].hash == block.hash(), "another block");
        let found = results.found_in(block.hash());
        let mut holdings = start.clone();
        let served = |sync: &&SyncLog| last_log.is_none_or(|last| sync.log_index <= last);
        for SyncLog { pool, reserve0, reserve1, .. } in recorded.syncs.iter().filter(served) {
            holdings.insert(*pool, (*reserve0, *reserve1));
        }
        for cycle in known.into_iter().filter(|cycle| cycle.is_expected()) {
            cycle.ensure_found(found)?;
            self.tally.known += 1;
        }
        self.tally.cycles += self.exhaustive.compare(found, &self.data.pools(&holdings), &bases())?;
        Ok(results.blocks[0].swaps)
    }

    /// A chain of blocks that shift reserves; each is evaluated before the next one comes.
    async fn perturb(&mut self, seed: u64, count: u64) -> anyhow::Result<()> {
        let start = self.data.reserves_of_all_times();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let parent = BlockBuilder::first(20_000_000).build();
        let (mut holdings, mut blocks, mut states) = (start.clone(), Vec::new(), Vec::new());
        for _ in 0..count {
            let logs = shift(&mut holdings, &mut random);
            let builder = BlockBuilder::child_of(blocks.last().unwrap_or(&parent));
            blocks.push(builder.transaction(FakeTransaction::emitting(logs)).build());
            states.push(holdings.clone());
        }
        let results = self.follow(&start, &parent, &blocks).await?;
        ensure!(results.blocks.len() == blocks.len(), "{} of {count} blocks", results.blocks.len());
        for (block, holdings) in results.blocks.iter().zip(&states) {
            ensure!(block.was_evaluated(), "block {} was passed over", block.number);
            let (found, pools) = (results.found_in(block.hash), self.data.pools(holdings));
            let compared = self.exhaustive.compare(found, &pools, &bases());
            self.tally.perturbed_cycles += compared.with_context(|| format!("block {}", block.number))?;
            self.tally.perturbed += 1;
        }
        Ok(())
    }

    /// A bot that starts at `parent` and is served `blocks` one after another.
    async fn follow(
        &self,
        start: &Holdings,
        parent: &FakeBlock,
        blocks: &[FakeBlock],
    ) -> anyhow::Result<Results> {
        let (node, url) = FakeNode::start(CHAIN_ID).await?;
        node.answer_v2(self.data.world(start));
        node.push_block(parent.clone());
        let mut config = research();
        // The fake node has no contracts to simulate on.
        config.executor.min_net_profit_wei = I256::MAX;
        let followed = async {
            let mut follower = Follower::start(config, &url).await?;
            node.until_subscribed("newHeads", 1).await;
            for block in blocks {
                node.push_block(block.clone());
                follower.until_found_in(block.hash()).await?;
            }
            follower.finish().await
        };
        let results = tokio::time::timeout(PATIENCE * (1 + blocks.len() as u32 / 10), followed).await;
        let results = results.context("the bot is stuck")??;
        results.ensure_conserved()?;
        ensure!(results.gaps == 0, "{} gaps", results.gaps);
        Ok(results)
    }
}

/// Moves the prices of some pools, each by up to a tenth.
fn shift(holdings: &mut Holdings, random: &mut ChaCha8Rng) -> Vec<FakeLog> {
    let pools: Vec<Address> = holdings.keys().copied().collect();
    let count = random.random_range(1..=5);
    let chosen: Vec<Address> = pools.sample(random, count).copied().collect();
    let mut shift = |pool: &Address| {
        let held = holdings.get_mut(pool).expect("one of the keys");
        let permille = random.random_range(900..1_100);
        *held = (held.0 * permille / 1_000 + 1, held.1 * 1_000 / permille + 1);
        FakeLog::sync(*pool, held.0, held.1)
    };
    chosen.iter().map(&mut shift).collect()
}

pub(super) fn preset() -> PresetTables {
    Preset::Mainnet.tables().expect("mainnet is a chain")
}

fn bases() -> Vec<Address> {
    preset().base_tokens
}

/// Reserves by pool.
type Holdings = BTreeMap<Address, (u128, u128)>;

/// Everything that the directory holds, as far as it is needed here.
struct Data {
    blocks: Vec<Recorded>,
    registry: Registry,
}

/// A block and what is known about it.
struct Recorded {
    number: u64,
    json: Value,
    /// Swaps of Uniswap V2 and V3.
    swaps: u64,
    syncs: Vec<SyncLog>,
    arbitrages: Arbitrages,
}

#[derive(Deserialize)]
struct Registry {
    pools: BTreeMap<Address, RegisteredPool>,
    tokens: BTreeMap<Address, RegisteredToken>,
    start_reserves: BTreeMap<u64, BTreeMap<Address, [Decimal; 2]>>,
}

#[derive(Deserialize)]
struct RegisteredPool {
    r#type: String,
    factory: Option<String>,
    #[serde(default)]
    token0: Address,
    #[serde(default)]
    token1: Address,
}

#[derive(Deserialize)]
struct RegisteredToken {
    decimals: Option<u8>,
    #[serde(default)]
    symbol: String,
}

#[derive(Deserialize)]
struct SyncLog {
    log_index: u64,
    pool: Address,
    #[serde(deserialize_with = "decimal")]
    reserve0: u128,
    #[serde(deserialize_with = "decimal")]
    reserve1: u128,
}

#[derive(Deserialize)]
struct Arbitrages {
    end_of_block: Vec<KnownCycle>,
    #[serde(rename = "after_each_sync__with_start_of_block_reserves")]
    after_each_sync: Vec<KnownCycle>,
    /// The same for one who knows no reserves but those that the block says.
    #[serde(default, rename = "after_each_sync__sync_state_only")]
    after_syncs_alone: Vec<KnownCycle>,
}

/// What [`open_cycles`] compared.
pub(super) struct OpenCycles {
    /// Blocks, whole and cut.
    pub(super) served: u64,
    /// Cycles that are known, found at 99.9 % of their profit.
    pub(super) known: u64,
    /// Cycles that are known, and rightly refused or worth less than 0.0001 WETH.
    pub(super) set_aside: u64,
    /// Cycles of the exhaustive search on the same reserves.
    pub(super) searched: u64,
}

/// The cycles that were open at the end of a block and after each `Sync` for which any is known, with the reserves of its start
/// and without: found by bots that are served the blocks, and nothing that the exhaustive search does not find.
pub(super) async fn open_cycles(directory: &Path) -> anyhow::Result<OpenCycles> {
    let data = Data::read(directory)?;
    let mut judge = Judge { data: &data, exhaustive: Exhaustive::default(), tally: Tally::default() };
    let (mut all, mut expected) = (0, 0);
    for recorded in &data.blocks {
        let of_block = async {
            judge.examine_block(recorded, &QUICK).await?;
            judge.examine_from_nothing(recorded).await
        };
        of_block.await.with_context(|| format!("block {}", recorded.number))?;
        let Arbitrages { end_of_block, after_each_sync, after_syncs_alone } = &recorded.arbitrages;
        all += (end_of_block.len() + after_each_sync.len() + after_syncs_alone.len()) as u64;
        let alone = after_syncs_alone.iter().filter(|cycle| cycle.is_expected()).count();
        expected += recorded.expected() + alone as u64;
    }
    let Tally { blocks, cuts, known, cycles, .. } = judge.tally;
    ensure!(known == expected, "{known} of {expected} known cycles were compared");
    Ok(OpenCycles { served: blocks + cuts, known, set_aside: all - known, searched: cycles })
}

#[derive(Debug, Deserialize)]
struct KnownCycle {
    after_log_index: Option<u64>,
    pools: Vec<Address>,
    tokens: Vec<Address>,
    #[serde(deserialize_with = "decimal")]
    profit: u128,
    #[serde(deserialize_with = "decimal")]
    profit_weth_wei: u128,
    fee_on_transfer_token: bool,
    exotic_factory: bool,
}

/// A number in a decimal string.
#[derive(Clone, Copy, Deserialize)]
struct Decimal(#[serde(deserialize_with = "decimal")] u128);

pub(super) fn decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl KnownCycle {
    /// Where a token takes a fee or the factory is not ours, a refusal is the right answer.
    fn is_expected(&self) -> bool {
        !self.fee_on_transfer_token && !self.exotic_factory && self.profit_weth_wei > WORTH_FINDING
    }

    fn ensure_found(&self, found: &[FoundLine]) -> anyhow::Result<()> {
        let found = found.iter().find(|found| found.path == self.pools && found.tokens == self.tokens);
        let found = found.with_context(|| format!("not found: {self:?}"))?;
        let (ours, known) = (found.profit * U256::from(1_000), U256::from(self.profit) * U256::from(999));
        ensure!(ours >= known, "only {} of {self:?}", found.profit);
        Ok(())
    }
}

impl Recorded {
    fn read(directory: &Path, number: u64) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct TruthFile {
            own: Truth,
        }
        #[derive(Deserialize)]
        struct Truth {
            swaps: Vec<IgnoredAny>,
            syncs: Vec<SyncLog>,
        }
        let block = File::open(directory.join(format!("blocks/{number}.json.gz")))?;
        let truth: TruthFile = read_json(&directory.join(format!("truth/{number}.json")))?;
        Ok(Self {
            number,
            json: serde_json::from_reader(GzDecoder::new(block)).context("the block")?,
            swaps: truth.own.swaps.len() as u64,
            syncs: truth.own.syncs,
            arbitrages: read_json(&directory.join(format!("truth/arb_{number}.json")))?,
        })
    }

    /// How many known cycles must be found.
    fn expected(&self) -> u64 {
        let Arbitrages { end_of_block, after_each_sync, .. } = &self.arbitrages;
        end_of_block.iter().chain(after_each_sync).filter(|cycle| cycle.is_expected()).count() as u64
    }

    /// An empty block before this one.
    fn parent(&self) -> FakeBlock {
        let header = &self.json["block"];
        BlockBuilder::first(self.number - 1)
            .timestamp(quantity(&header["timestamp"]) - 12)
            .base_fee_per_gas(header.get("baseFeePerGas").filter(|fee| fee.is_string()).map(quantity))
            .gas_limit(quantity(&header["gasLimit"]))
            .build()
    }

    /// The block behind `parent`, with the logs up to `last_log`, or all of them.
    fn served(&self, parent: &FakeBlock, last_log: Option<u64>) -> anyhow::Result<FakeBlock> {
        let mut block = FakeBlock::from_recorded(&self.json)?.chained_to(parent);
        if let Some(last) = last_log {
            for logs in block.receipts.iter_mut().filter_map(|receipt| receipt["logs"].as_array_mut()) {
                logs.retain(|log| quantity(&log["logIndex"]) <= last);
            }
            block = block.rehashed(last);
        }
        Ok(block.with_logs_bloom())
    }
}

impl Data {
    fn read(directory: &Path) -> anyhow::Result<Self> {
        let registry = read_json(&directory.join("registry.json"))?;
        let mut numbers = mainnet_swaps::block_numbers(&directory.join("blocks"))?;
        numbers.sort_unstable();
        let blocks = numbers
            .into_iter()
            .map(|number| Recorded::read(directory, number).with_context(|| format!("block {number}")));
        Ok(Self { blocks: blocks.collect::<Result<_, _>>()?, registry })
    }

    /// The pools of Uniswap's and SushiSwap's factories.
    fn tracked(&self) -> impl Iterator<Item = (&Address, &RegisteredPool, Address)> {
        let factories = preset().factories;
        self.registry.pools.iter().filter_map(move |(address, pool)| {
            let name = match pool.factory.as_deref() {
                Some("uniswap_v2") => "uniswap",
                Some("sushiswap") => "sushi",
                _ => return None,
            };
            let factory = factories.iter().find(|factory| factory.name == name)?;
            (pool.r#type == "v2").then_some((address, pool, factory.address))
        })
    }

    fn reserves_at_start(&self, block: u64) -> Holdings {
        let known = self.registry.start_reserves.get(&block).into_iter().flatten();
        known.map(|(pool, [reserve0, reserve1])| (*pool, (reserve0.0, reserve1.0))).collect()
    }

    /// The last reserves that are known of each pool, whenever that was.
    fn reserves_of_all_times(&self) -> Holdings {
        let mut holdings = Holdings::new();
        for recorded in &self.blocks {
            holdings.extend(self.reserves_at_start(recorded.number));
            let syncs = recorded.syncs.iter();
            holdings.extend(syncs.map(|sync| (sync.pool, (sync.reserve0, sync.reserve1))));
        }
        let tracked: Vec<_> = self.tracked().map(|(address, ..)| *address).collect();
        holdings.retain(|pool, _| tracked.contains(pool));
        holdings
    }

    /// The contracts of a fake node; those of foreign factories are there as well.
    fn world(&self, holdings: &Holdings) -> V2World {
        let mut world = V2World::default();
        for factory in preset().factories {
            world = world.factory(factory.address);
        }
        for (address, pool, factory) in self.tracked() {
            world = world.pair(pair(*address, pool, factory, holdings));
        }
        let foreign = self.registry.pools.iter();
        let foreign = foreign.filter(|(_, pool)| pool.r#type == "v2" && self.is_foreign(pool));
        for (address, pool) in foreign {
            world = world.pair(pair(*address, pool, Address::repeat_byte(0x5b), holdings));
        }
        for (token, RegisteredToken { decimals, symbol }) in &self.registry.tokens {
            world = world.token(*token, decimals.unwrap_or(18), symbol);
        }
        world
    }

    fn is_foreign(&self, pool: &RegisteredPool) -> bool {
        !matches!(pool.factory.as_deref(), Some("uniswap_v2" | "sushiswap"))
    }

    /// What the exhaustive search is to know.
    fn pools(&self, holdings: &Holdings) -> Vec<Pool> {
        let tracked = self.tracked().map(|(address, pool, _)| {
            let (reserve0, reserve1) = holdings.get(address).copied().unwrap_or_default();
            let RegisteredPool { token0, token1, .. } = *pool;
            Pool { address: *address, token0, token1, reserve0, reserve1, fee_ppm: 3_000 }
        });
        tracked.collect()
    }
}

fn pair(address: Address, pool: &RegisteredPool, factory: Address, holdings: &Holdings) -> V2Pair {
    let (reserve0, reserve1) = holdings.get(&address).copied().unwrap_or_default();
    V2Pair { address, factory, token0: pool.token0, token1: pool.token1, reserve0, reserve1 }
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use alloy_primitives::address;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use headwater_reference::arbitrage::search;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    const NUMBER: u64 = 15_000_000;
    const OTHER: Address = address!("1000000000000000000000000000000000000001");

    /// Two pools of one pair of tokens; the first holds this at the start, and each has a `Sync` in the block.
    fn pools() -> [Pool; 2] {
        let weth = preset().wrapped_native;
        let [first, second] =
            [0, 1].map(|index| preset().factories[index].derive(weth, OTHER).expect("derivable"));
        let ether = 10u128.pow(18);
        let pool = |address, reserve0, reserve1| Pool {
            address,
            token0: OTHER,
            token1: weth,
            reserve0: reserve0 * ether,
            reserve1: reserve1 * ether,
            fee_ppm: 3_000,
        };
        [pool(first, 2_000, 100), pool(second, 2_100, 100)]
    }

    /// A directory with one block, in which a cycle is known to be open whose profit is `permille` of the true one.
    fn directory(permille: u128) -> anyhow::Result<TempDir> {
        let [first, second] = pools();
        let cycle = search(&pools(), &bases(), 2).remove(0);
        let profit = (cycle.profit * permille / 1_000).to_string();
        let known = json!({
            "pools": cycle.path, "tokens": cycle.tokens, "profit": profit, "profit_weth_wei": profit,
            "fee_on_transfer_token": false, "exotic_factory": false,
        });
        let mut after_sync = known.clone();
        after_sync["after_log_index"] = json!(1);
        let syncs = [first, second].map(|pool| FakeLog::sync(pool.address, pool.reserve0, pool.reserve1));
        let block =
            BlockBuilder::first(NUMBER).transaction(FakeTransaction::emitting(syncs.to_vec())).build();
        let sync = |index: usize, pool: Pool| {
            json!({ "log_index": index, "pool": pool.address, "reserve0": pool.reserve0.to_string(),
                    "reserve1": pool.reserve1.to_string() })
        };
        let registered = |pool: Pool, factory| {
            (
                pool.address.to_string(),
                json!({ "type": "v2", "factory": factory, "token0": pool.token0, "token1": pool.token1 }),
            )
        };
        let registry = json!({
            "pools": serde_json::Map::from_iter([registered(first, "uniswap_v2"), registered(second, "sushiswap")]),
            "tokens": { OTHER.to_string(): {}, second.token1.to_string(): { "decimals": 18, "symbol": "WETH" } },
            "start_reserves": { NUMBER.to_string(): { first.address.to_string(): ["2000000", "100000"] } },
        });

        let directory = tempfile::tempdir()?;
        for folder in ["blocks", "truth"] {
            fs::create_dir(directory.path().join(folder))?;
        }
        let write = |name: &str, value: &Value| fs::write(directory.path().join(name), value.to_string());
        write("registry.json", &registry)?;
        write(
            &format!("truth/{NUMBER}.json"),
            &json!({ "own": { "swaps": [], "syncs": [sync(0, first), sync(1, second)] } }),
        )?;
        write(
            &format!("truth/arb_{NUMBER}.json"),
            &json!({ "end_of_block": [known], "after_each_sync__with_start_of_block_reserves": [after_sync] }),
        )?;
        let file = File::create(directory.path().join(format!("blocks/{NUMBER}.json.gz")))?;
        let mut file = GzEncoder::new(file, Compression::fast());
        file.write_all(json!({ "block": block.block, "receipts": block.receipts }).to_string().as_bytes())?;
        file.finish()?;
        Ok(directory)
    }

    async fn examine(mut data: Data, tamper: impl FnOnce(&mut Recorded)) -> anyhow::Result<Tally> {
        tamper(&mut data.blocks[0]);
        let mut judge = Judge { data: &data, exhaustive: Exhaustive::default(), tally: Tally::default() };
        judge.examine_block(&data.blocks[0], &FULL).await?;
        judge.perturb(1, 5).await?;
        Ok(judge.tally)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_block_is_served_whole_and_cut_and_its_cycle_found() -> anyhow::Result<()> {
        let tally = examine(Data::read(directory(1_000)?.path())?, |_| {}).await?;
        assert_eq!((tally.blocks, tally.cuts, tally.known, tally.cycles), (1, 2, 2, 2));
        assert_eq!(tally.perturbed, 5);
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_profit_that_is_missed_by_more_than_a_thousandth_is_a_failure() -> anyhow::Result<()> {
        let failure = examine(Data::read(directory(1_002)?.path())?, |_| {}).await;
        let failure = failure.expect_err("too small").to_string();
        assert!(failure.starts_with("only "), "{failure}");
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_block_that_is_not_what_the_truth_says_is_a_failure() -> anyhow::Result<()> {
        let fails = async |tamper: fn(&mut Recorded), words: &str| -> anyhow::Result<()> {
            let examined = examine(Data::read(directory(1_000)?.path())?, tamper).await;
            let failure = examined.expect_err("tampered with").to_string();
            assert!(failure.contains(words), "{failure}");
            Ok(())
        };
        fails(|recorded| recorded.syncs[0].reserve0 += 1_000_000_000_000, "more than any input gains")
            .await?;
        fails(|recorded| recorded.swaps += 1, "0 swaps, but 1").await?;
        Ok(())
    }
}
