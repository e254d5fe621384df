//! Histories with reorganisations: what is re-examined after one, and that nothing else has to be.

use headwater_bus::WINDOW;
use headwater_events::{MarketLoaded, PoolLoaded, PoolProof};
use headwater_market::{PoolUpdate, RolledBack};

use super::*;
use crate::Examined;
use crate::backrun::view;

const FACTORY: Address = Address::repeat_byte(0xfa);

/// Both books on a chain that turns, and their snapshots as state publishes them.
struct Chain {
    plain: PoolBook,
    ranged: ConcentratedBook,
    /// Those that stand, oldest first; the first is the one below all that can be undone.
    blocks: Vec<BlockRef>,
    seq: u64,
    /// As the watch holds them.
    window: Vec<Arc<MarketSnapshot>>,
}

impl Chain {
    /// Of pools that were loaded.
    fn new(pools: &[Pool]) -> Self {
        let mut market = ResolvedMarket {
            concentrated_factories: factories().collect(),
            ..ResolvedMarket::resolve(&MarketConfig::default(), 1).expect("the default")
        };
        market.factories.truncate(1);
        market.factories[0].address = FACTORY;
        market.factories[0].init_code_hash = None;
        let genesis = BlockRef { number: 0, hash: B256::ZERO, parent_hash: B256::ZERO };
        let (mut plain, mut ranged) = (PoolBook::new(&market), ConcentratedBook::new(&market));
        let loaded = MarketLoaded { number: 0, hash: genesis.hash, chain_id: 1, pools: 0 };
        plain.market_loaded(&loaded);
        ranged.market_loaded(&loaded);
        let mut chain = Self { plain, ranged, blocks: vec![genesis], seq: 0, window: Vec::new() };
        pools.iter().for_each(|pool| chain.load(pool, Some((pool.reserve0, pool.reserve1))));
        pools.iter().flat_map(|pool| [pool.token0, pool.token1]).for_each(|token| chain.judge(token, true));
        chain
    }

    fn load(&mut self, pool: &Pool, reserves: Option<(u128, u128)>) {
        let Pool { address: pool, token0, token1, fee_ppm, .. } = *pool;
        let (factory, protocol, proof) = (FACTORY, Protocol::UniswapV2, PoolProof::FactoryAnswer);
        let (block_number, block_hash) = (0, self.blocks[0].hash);
        self.plain.pool_loaded(&PoolLoaded {
            pool,
            factory,
            protocol,
            token0,
            token1,
            fee_ppm,
            reserves,
            block_number,
            block_hash,
            proof,
        });
    }

    /// As state has its books take a verdict.
    fn judge(&mut self, token: Address, is_good: bool) {
        let before = self.plain.refused().contains(&token);
        if is_good {
            let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
            self.plain.token_judged(&TokenJudged { token, verdict });
        } else {
            self.plain.refuse_token(token);
        }
        if self.plain.refused().contains(&token) != before {
            self.ranged.note_token(&token);
        }
    }

    fn quarantine(&mut self, pool: &Address) {
        self.plain.quarantine(pool);
        self.ranged.quarantine(pool);
    }

    fn block(&mut self, plain: Vec<PoolUpdate>, ranged: Vec<ConcentratedUpdate>) {
        self.seq += 1;
        let below = *self.blocks.last().expect("the first");
        let (number, hash) = (below.number + 1, B256::from(U256::from(self.seq)));
        let block = BlockRef { number, hash, parent_hash: below.hash };
        self.plain.apply_block(block, plain).expect("it stands on the head");
        self.ranged.apply_block(block, ranged);
        self.blocks.push(block);
        let as_of = AsOf { seq: self.seq, number, hash };
        let head = Head { timestamp: 0, base_fee_per_gas: None, gas_used: 0, gas_limit: 0 };
        let snapshot = MarketSnapshot {
            parent: self.window.last().map(|last| last.as_of),
            changes: self.plain.take_changes(),
            concentrated: self.ranged.table().clone(),
            concentrated_changes: self.ranged.take_changes(),
            refused: self.plain.refused(),
            ..MarketSnapshot::of_pools(as_of, head, self.plain.table().clone())
        };
        self.window.push(Arc::new(snapshot));
        let past = self.window.len().saturating_sub(WINDOW);
        self.window.drain(..past);
    }

    fn reorg(&mut self, depth: usize) {
        self.seq += 1;
        self.blocks.truncate(self.blocks.len() - depth);
        let ancestor = self.blocks.last().expect("the first").hash;
        assert_eq!(self.plain.roll_back_by_touch(ancestor), RolledBack::Undone(depth));
        assert_eq!(self.ranged.roll_back(ancestor), RolledBack::Undone(depth));
    }

    fn head(&self) -> &Arc<MarketSnapshot> {
        self.window.last().expect("there was a block")
    }

    fn undoable(&self) -> usize {
        self.plain.undoable().min(self.ranged.undoable())
    }

    /// The last block, for whoever looked at the market last as of `since`.
    fn view(&self, since: Option<AsOf>) -> WholeView {
        let market = self.head();
        let concentrated = Touched::concentrated_between(&self.window, since, market);
        let touched = Touched::between(&self.window, since, market);
        self.view_with(touched).with_touched_concentrated(concentrated)
    }

    fn view_with(&self, touched: Touched) -> WholeView {
        let as_of = self.head().as_of;
        let (quote, prices, sources) = Default::default();
        let prices = PriceSnapshot { as_of, quote, prices, sources };
        view(self.head(), &Arc::new(prices), touched).expect("one block")
    }
}

fn sync(pool: &Pool) -> PoolUpdate {
    let reserves = Reserves { reserve0: pool.reserve0, reserve1: pool.reserve1 };
    PoolUpdate::Sync { emitter: pool.address, reserves }
}

/// The same pool after somebody traded.
fn moved(pool: &Pool, random: &mut impl Rng) -> Pool {
    Pool { reserve1: pool.reserve1 / 1_000 * random.random_range(980..1_020) + 1, ..*pool }
}

/// What may happen to a market within a block, and between two of them.
struct World {
    chain: Chain,
    /// Loaded at the start, except for the last few, which trade unknown until they are.
    plain: Vec<Pool>,
    /// Created and undone and created anew, of the same tokens or others.
    created: Vec<Pool>,
    ranged: Vec<Pool>,
}

impl World {
    fn new(seed: u64) -> Self {
        let pools = Market::new(seed, 44).pools;
        let (plain, rest) = pools.split_at(22);
        let (created, ranged) = rest.split_at(4);
        let ranged: Vec<_> = ranged.iter().enumerate().map(|(at, pool)| placed(at, pool)).collect();
        let mut chain = Chain::new(&plain[..18]);
        chain.block(Vec::new(), ranged.iter().take(12).flat_map(creation).collect());
        Self { chain, plain: plain.to_vec(), created: created.to_vec(), ranged }
    }

    fn block(&mut self, random: &mut impl Rng) {
        let (mut plain, mut ranged) = (Vec::new(), Vec::new());
        for pool in &self.plain {
            if random.random_range(0..8) == 0 {
                plain.push(sync(&moved(pool, random)));
            }
        }
        for at in 0..self.created.len() {
            if random.random_range(0..10) == 0 {
                plain.extend(self.trade_created(at, random));
            }
        }
        for pool in &self.ranged {
            let is_there = self.chain.ranged.proven(&pool.address).is_some();
            match random.random_range(0..10) {
                0 if is_there => ranged.push(traded(&moved(pool, random), liquidity(pool))),
                1 if !is_there => ranged.extend(creation(pool)),
                _ => {}
            }
        }
        self.chain.block(plain, ranged);
    }

    fn trade_created(&mut self, at: usize, random: &mut impl Rng) -> Vec<PoolUpdate> {
        if self.chain.plain.proven(&self.created[at].address).is_some() {
            return vec![sync(&moved(&self.created[at], random))];
        }
        if random.random() {
            let Pool { token0, token1, reserve0, reserve1, .. } = self.plain[random.random_range(0..18)];
            self.created[at] = Pool { token0, token1, reserve0, reserve1, ..self.created[at] };
        }
        let Pool { address: pair, token0, token1, .. } = self.created[at];
        vec![PoolUpdate::PairCreated { emitter: FACTORY, token0, token1, pair }, sync(&self.created[at])]
    }

    /// What is learnt from the node, which no reorganisation undoes.
    fn learn(&mut self, random: &mut impl Rng) {
        let pool = self.plain[random.random_range(0..self.plain.len())];
        match random.random_range(0..8) {
            0 => self.chain.load(&pool, None),
            1 => self.chain.judge(pool.token1, false),
            2..=4 => self.chain.judge(pool.token1, true),
            5 => {
                let all: Vec<_> = self.plain.iter().chain(&self.created).chain(&self.ranged).collect();
                self.chain.quarantine(&all[random.random_range(0..all.len())].address);
            }
            _ => {}
        }
    }

    fn reorganise(&mut self, random: &mut impl Rng) -> bool {
        let deepest = if random.random_range(0..4) == 0 { 40 } else { 4 };
        let depth = random.random_range(0..=self.chain.undoable().min(deepest));
        if depth > 0 {
            self.chain.reorg(depth);
        }
        depth > 0
    }
}

#[test]
fn after_a_reorganisation_what_is_re_examined_gives_what_a_fresh_detector_finds() {
    let (mut findings, mut reorgs, mut partly) = (0, 0, 0);
    for seed in 0..4 {
        let (mut random, mut world) = (ChaCha8Rng::seed_from_u64(seed), World::new(seed));
        let fresh = || Arbitrage::new(gross(), Market::new(seed, 0).bases);
        let (mut detector, mut last) = (fresh(), None);
        for _ in 0..150 {
            if random.random_range(0..3) == 0 {
                world.learn(&mut random);
            }
            let is_reorg = random.random_range(0..6) == 0 && world.reorganise(&mut random);
            if random.random_range(0..3) == 0 {
                world.learn(&mut random);
            }
            world.block(&mut random);
            // Now and then a block is skipped, on whatever branch it is.
            if random.random_range(0..5) == 0 {
                continue;
            }
            let view = world.chain.view(last);
            let found = detector.evaluate(&view);
            let all = fresh().evaluate(&world.chain.view(None));
            assert_eq!(found, all, "seed {seed}, event {}", world.chain.seq);
            last = Some(view.as_of());
            findings += found.len();
            reorgs += usize::from(is_reorg);
            partly += usize::from(is_reorg && *view.touched() != Touched::All);
        }
    }
    assert!(findings > 3_000, "{findings} findings");
    assert!(
        reorgs > 40 && partly == reorgs,
        "{reorgs} reorganisations, {partly} of them re-examined in part"
    );
}

/// A market of many pools of which each block touches these, by their places.
struct Many {
    chain: Chain,
    pools: Vec<Pool>,
    detector: Arbitrage,
    last: Option<AsOf>,
}

impl Many {
    fn new() -> Self {
        let market = Market::new(3, 200);
        let detector = Arbitrage::new(gross(), market.bases);
        Self { chain: Chain::new(&market.pools), pools: market.pools, detector, last: None }
    }

    fn block(&mut self, touched: &[usize]) {
        let moved = touched.iter().map(|at| {
            let pool = self.pools[*at];
            sync(&Pool { reserve1: pool.reserve1 / 100 * 101, ..pool })
        });
        let updates = moved.collect();
        self.chain.block(updates, Vec::new());
    }

    /// What an evaluation examined, and what was touched for it.
    fn evaluate(&mut self) -> (Examined, Touched) {
        let view = self.chain.view(self.last.replace(self.chain.head().as_of));
        self.detector.evaluate(&view);
        (self.detector.examined(), view.touched().clone())
    }
}

#[test]
fn after_a_reorganisation_only_cycles_through_what_was_undone_new_or_pending_are_examined() {
    let mut many = Many::new();
    many.block(&[]);
    let (all, _) = many.evaluate();
    assert!(all.ways > 150 && all.cycles > 3_000, "{all:?}");
    many.block(&[5]);
    many.evaluate();
    many.block(&[7]);
    many.evaluate();
    // Not evaluated before it is undone, so that it is pending.
    many.block(&[40]);
    many.chain.reorg(2);
    many.block(&[90]);
    let (examined, touched) = many.evaluate();
    let expected = Touched::Pools([7, 40, 90].map(PoolId).to_vec());
    assert_eq!(touched, expected);
    assert!(examined.ways > 0 && examined.ways * 4 < all.ways, "{examined:?} of {all:?}");
    assert!(examined.cycles > 0 && examined.cycles * 10 < all.cycles, "{examined:?} of {all:?}");
    // Exactly what a detector examines that is told of these.
    many.detector.evaluate(&many.chain.view_with(expected).with_touched_concentrated(Touched::Pools(vec![])));
    assert_eq!(many.detector.examined(), examined);

    // Where nothing was touched, nothing is examined.
    many.block(&[]);
    many.evaluate();
    many.chain.reorg(1);
    many.block(&[]);
    assert_eq!(many.evaluate(), (Examined::default(), Touched::Pools(vec![])));
}

#[test]
fn what_is_not_known_is_examined_whole() {
    let mut many = Many::new();
    many.block(&[]);
    let (all, _) = many.evaluate();
    // A restart, or so many skipped blocks that the window does not lead back.
    many.last = None;
    assert_eq!(many.evaluate(), (all, Touched::All));
    many.chain.reorg(1);
    (0..=WINDOW).for_each(|_| many.block(&[]));
    assert_eq!(many.evaluate(), (all, Touched::All));
}
