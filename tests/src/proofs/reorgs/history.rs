//! Random histories: blocks of a small world of pools, growth, reorganisations, branches that come back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use headwater_reference::fake_node::{
    Announcing, BlockBuilder, FakeBlock, FakeLog, FakeTransaction, HeadFault, V2Pair, V2World,
};
use headwater_reference::scratch::Known;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The hash of no creation code in particular.
pub(super) const INIT_CODE_HASH: B256 = B256::repeat_byte(0x1c);
pub(super) const FACTORIES: [Address; 2] = [Address::repeat_byte(0xfa), Address::repeat_byte(0xfb)];
/// The wrapped native token.
pub(super) const WETH: Address = Address::repeat_byte(0x77);
/// Tokens whose pools are loaded at the start.
pub(super) const LISTED: [Address; 4] = [
    Address::repeat_byte(0x21),
    Address::repeat_byte(0x22),
    Address::repeat_byte(0x93),
    Address::repeat_byte(0xb1),
];
/// A token of pools that are found as they trade.
const UNLISTED: Address = Address::repeat_byte(0x88);
/// Tokens that only created pools have; the last one is none.
const NEW: [Address; 2] = [Address::repeat_byte(0x44), Address::repeat_byte(0xb2)];
/// Contracts that emit `Sync` and are no pools.
const IMPOSTORS: [Address; 2] = [Address::repeat_byte(0xe1), Address::repeat_byte(0xe2)];
const ETHER: u128 = 1_000_000_000_000_000_000;
/// How many blocks can be undone.
pub(super) const HORIZON: u64 = 64;

/// One thing that happens to the node.
#[derive(Debug)]
pub(super) struct Step {
    /// The blocks that come, oldest first; the last of them is the head then.
    pub branch: Vec<FakeBlock>,
    pub faults: Vec<HeadFault>,
    /// Whether to wait until all has arrived before the next step.
    pub is_awaited: bool,
}

/// A tree of blocks with one canonical branch, as it grows.
pub(super) struct History {
    pub announcing: Announcing,
    /// The canonical blocks; the market is loaded at the first.
    pub chain: Vec<FakeBlock>,
    /// Every block there ever was.
    pub all: HashMap<B256, FakeBlock>,
    loaded: Vec<V2Pair>,
    found: Vec<V2Pair>,
    creatable: Vec<V2Pair>,
    /// The branch that was left last.
    left: Vec<FakeBlock>,
    highest: u64,
    salt: u64,
    random: ChaCha8Rng,
}

impl History {
    pub(super) fn new(announcing: Announcing, seed: u64) -> Self {
        let anchor = BlockBuilder::first(1_000).build();
        let [one, two, three, bad] = LISTED;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut pairs = |pairs: &[(usize, Address, Address)]| -> Vec<V2Pair> {
            pairs.iter().map(|(factory, a, b)| pair(FACTORIES[*factory], *a, *b, &mut random)).collect()
        };
        Self {
            announcing,
            all: [(anchor.hash(), anchor.clone())].into(),
            highest: anchor.number(),
            chain: vec![anchor],
            loaded: pairs(&[
                (0, WETH, one),
                (1, WETH, one),
                (0, WETH, two),
                (0, one, two),
                (0, WETH, bad),
                (1, two, three),
            ]),
            found: pairs(&[(0, WETH, UNLISTED), (1, one, UNLISTED)]),
            creatable: pairs(&[
                (0, WETH, three),
                (1, WETH, two),
                (0, WETH, NEW[0]),
                (1, one, NEW[0]),
                (0, WETH, NEW[1]),
            ]),
            left: Vec::new(),
            salt: 0,
            random,
        }
    }

    /// What the contracts answer; those that blocks create only where they have.
    pub(super) fn contracts(&self) -> V2World {
        let world = FACTORIES.into_iter().fold(V2World::default(), V2World::factory);
        let tokens = [WETH, LISTED[0], LISTED[1], LISTED[2], UNLISTED, NEW[0]];
        let world = tokens.into_iter().fold(world, |world, token| world.token(token, 18, "TKN"));
        let world = self.loaded.iter().chain(&self.found).fold(world, |world, pair| world.pair(*pair));
        self.creatable.iter().fold(world, |world, pair| world.creatable(*pair))
    }

    /// What there is to know beside the blocks, once all of it was learnt.
    pub(super) fn known(&self) -> Known {
        Known {
            factories: FACTORIES.map(|factory| (factory, 3_000)).into(),
            wrapped_native: WETH,
            min_base_reserve: U256::from(ETHER),
            loaded: self.loaded.clone(),
            found: self.found.clone(),
            refused: [LISTED[3], NEW[1]].into(),
            judged: LISTED.into_iter().chain(NEW).chain([WETH, UNLISTED]).collect(),
        }
    }

    /// Tokens whose prices also depend on when something was learnt about their pools.
    pub(super) fn learnt_tokens() -> BTreeSet<Address> {
        [UNLISTED, LISTED[3], NEW[0], NEW[1]].into()
    }

    pub(super) fn head(&self) -> &FakeBlock {
        self.chain.last().expect("the first block stays")
    }

    /// The canonical blocks above the first.
    pub(super) fn blocks(&self) -> &[FakeBlock] {
        &self.chain[1..]
    }

    /// The last block that two branches have in common.
    pub(super) fn common_ancestor(&self, one: B256, other: B256) -> Option<&FakeBlock> {
        let (mut one, mut other) = (self.all.get(&one)?, self.all.get(&other)?);
        while one.hash() != other.hash() {
            let higher = if one.number() > other.number() { &mut one } else { &mut other };
            *higher = self.all.get(&higher.parent_hash())?;
        }
        Some(one)
    }

    /// Random steps with one reorganisation of at least `depth` blocks, unless that is beyond the horizon.
    pub(super) fn grow_towards(&mut self, depth: u64) -> Step {
        let missing = depth.saturating_sub(self.head().number() - self.chain[0].number());
        let more = self.random.random_range(0..12);
        let mut step = self.grow(missing + more + 1);
        step.is_awaited = true;
        step
    }

    /// So many blocks on top of the head.
    pub(super) fn grow(&mut self, count: u64) -> Step {
        let branch = self.branch(self.chain.len() - 1, count);
        self.step(self.chain.len(), branch)
    }

    /// Replaces the last `depth` blocks.
    pub(super) fn reorganise(&mut self, depth: u64) -> Step {
        let kept = self.chain.len() - usize::try_from(depth).expect("not so deep");
        let length = match self.random.random_range(0..4) {
            0 => self.random.random_range(1..=depth),
            _ => depth + self.random.random_range(1..=3),
        };
        let branch = self.branch(kept - 1, length);
        self.step(kept, branch)
    }

    /// Something, anywhere within the horizon.
    pub(super) fn anything(&mut self) -> Step {
        let floor = self.highest.saturating_sub(HORIZON).max(self.chain[0].number());
        let deepest = self.head().number() - floor;
        match self.random.random_range(0..8) {
            0..3 if deepest > 0 => {
                let depth = self.random.random_range(1..=deepest.min(9));
                self.reorganise(depth)
            }
            3..5 => self.come_back(floor),
            _ => {
                let count = self.random.random_range(1..=6);
                self.grow(count)
            }
        }
    }

    /// The branch that was left last is canonical again, and grows.
    fn come_back(&mut self, floor: u64) -> Step {
        let parent = self.left.first().map(FakeBlock::parent_hash);
        let ancestor = self.chain.iter().position(|block| Some(block.hash()) == parent);
        let Some(ancestor) = ancestor.filter(|at| self.chain[*at].number() >= floor) else {
            return self.grow(2);
        };
        let branch = std::mem::take(&mut self.left);
        self.step(ancestor + 1, branch)
    }

    /// A block in which every pool trades, so that the node is asked about whatever is not known of them yet.
    pub(super) fn touch_all(&mut self) -> Step {
        let pools: Vec<Address> = self.existing(&self.chain).keys().copied().collect();
        // A pool that holds nothing of a token cannot have it tried out.
        let logs = pools.into_iter().map(|pool| {
            let [reserve0, reserve1] = [(); 2].map(|()| amount(&mut self.random));
            FakeLog::sync(pool, reserve0, reserve1)
        });
        let logs = logs.collect();
        self.one_more(logs)
    }

    /// A block in which nothing happens, so that nothing new is there to be learnt about.
    pub(super) fn rest(&mut self) -> Step {
        self.one_more(Vec::new())
    }

    fn one_more(&mut self, logs: Vec<FakeLog>) -> Step {
        let block = self.build(&self.head().clone(), logs);
        let step = self.step(self.chain.len(), vec![block]);
        Step { is_awaited: true, faults: Vec::new(), ..step }
    }

    /// The tokens of the pools that there are.
    pub(super) fn tokens(&self) -> BTreeSet<Address> {
        self.existing(&self.chain).values().flat_map(|pair| [pair.token0, pair.token1]).collect()
    }

    /// Pools that no block created and that are not loaded at the start.
    pub(super) fn found(&self) -> &[V2Pair] {
        &self.found
    }

    fn step(&mut self, kept: usize, branch: Vec<FakeBlock>) -> Step {
        let left = self.chain.split_off(kept);
        if !left.is_empty() {
            self.left = left;
        }
        self.all.extend(branch.iter().map(|block| (block.hash(), block.clone())));
        self.chain.extend(branch.iter().cloned());
        self.highest = self.highest.max(self.head().number());
        let is_awaited = self.random.random_bool(0.7);
        Step { branch, faults: self.faults(), is_awaited }
    }

    fn faults(&mut self) -> Vec<HeadFault> {
        let row = self.random.random_range(2..=5);
        match self.random.random_range(0..10) {
            0 => vec![HeadFault::Twice],
            1 => vec![HeadFault::OutOfOrder(row)],
            2 => vec![HeadFault::Skipping(row)],
            3 => vec![HeadFault::Late],
            4 => vec![HeadFault::Skipping(2), HeadFault::OutOfOrder(row), HeadFault::Twice, HeadFault::Late],
            _ => Vec::new(),
        }
    }

    /// New blocks on top of the canonical one at `parent`.
    fn branch(&mut self, parent: usize, count: u64) -> Vec<FakeBlock> {
        let mut chain = self.chain[..=parent].to_vec();
        for _ in 0..count {
            let logs = self.logs(&chain);
            chain.push(self.build(&chain[chain.len() - 1].clone(), logs));
        }
        chain.split_off(parent + 1)
    }

    fn build(&mut self, parent: &FakeBlock, logs: Vec<FakeLog>) -> FakeBlock {
        self.salt += 1;
        let transactions = logs.chunks(2).map(|logs| FakeTransaction::emitting(logs.to_vec()));
        BlockBuilder::child_of(parent).salt(self.salt).transactions(transactions).build()
    }

    /// The pools after these blocks.
    fn existing(&self, chain: &[FakeBlock]) -> BTreeMap<Address, V2Pair> {
        let created: BTreeSet<Address> = chain
            .iter()
            .flat_map(FakeBlock::logs)
            .filter(|log| log["topics"][0] == serde_json::json!(pair_created_topic()))
            .filter(|log| FACTORIES.iter().any(|factory| log["address"] == serde_json::json!(factory)))
            .filter_map(|log| serde_json::from_value::<Bytes>(log["data"].clone()).ok())
            .map(|data| Address::from_slice(&data[12..32]))
            .collect();
        let created = self.creatable.iter().filter(|pair| created.contains(&pair.address));
        self.loaded.iter().chain(&self.found).chain(created).map(|pair| (pair.address, *pair)).collect()
    }

    /// What happens in a block: some pools trade, now and then one is created, or somebody lies.
    fn logs(&mut self, chain: &[FakeBlock]) -> Vec<FakeLog> {
        let mut logs = Vec::new();
        let existing = self.existing(chain);
        let mut pools: Vec<Address> = existing.keys().copied().collect();
        let index = self.random.random_range(0..self.creatable.len());
        let new = self.creatable[index];
        if self.random.random_bool(0.1) && !existing.contains_key(&new.address) {
            logs.push(pair_created(new.factory, &new));
            pools.push(new.address);
        }
        for _ in 0..self.random.random_range(0..4) {
            let pool = pools[self.random.random_range(0..pools.len())];
            logs.push(self.sync(pool));
        }
        match self.random.random_range(0..20) {
            0 => logs.push(FakeLog::sync(IMPOSTORS[index % 2], 5 * ETHER, ETHER)),
            1 => logs.push(pair_created(IMPOSTORS[0], &new)),
            2 => logs.push(FakeLog::sync(pools[0], 1 << 112, ETHER)),
            _ => {}
        }
        logs
    }

    /// A pool says that it holds something else; now and then too little for a price, or nothing.
    fn sync(&mut self, pool: Address) -> FakeLog {
        if self.random.random_bool(0.02) {
            return FakeLog::sync(pool, 0, 0);
        }
        FakeLog::sync(pool, amount(&mut self.random), amount(&mut self.random))
    }
}

fn amount(random: &mut ChaCha8Rng) -> u128 {
    ETHER / 1_000 * random.random_range(500..50_000)
}

fn pair(factory: Address, a: Address, b: Address, random: &mut ChaCha8Rng) -> V2Pair {
    let (token0, token1) = if a < b { (a, b) } else { (b, a) };
    let salt = keccak256([token0.as_slice(), token1.as_slice()].concat());
    let address = factory.create2(salt, INIT_CODE_HASH);
    V2Pair { address, factory, token0, token1, reserve0: amount(random), reserve1: amount(random) }
}

fn pair_created_topic() -> B256 {
    keccak256("PairCreated(address,address,address,uint256)")
}

fn pair_created(factory: Address, pair: &V2Pair) -> FakeLog {
    let topics = vec![pair_created_topic(), pair.token0.into_word(), pair.token1.into_word()];
    let data = [pair.address.into_word(), B256::with_last_byte(1)].concat().into();
    FakeLog { address: factory, topics, data }
}
