//! Pools with concentrated liquidity among the others, and cycles of four pools.

use alloy_primitives::{B256, U256};
use headwater_amm::tick_at_sqrt_price;
use headwater_events::{TokenJudged, TokenVerdict};
use headwater_market::{
    BlockRef, Changes, ConcentratedBook, ConcentratedEvent, ConcentratedFactory, ConcentratedPrice,
    ConcentratedUpdate, MarketConfig, PoolBook, ResolvedMarket,
};

use super::*;
use crate::MaxHops;

const FEE: u32 = 500;

/// Each has one pool, so that there may be several of the same tokens.
fn factories() -> impl Iterator<Item = ConcentratedFactory> {
    let factory = |number| ConcentratedFactory {
        name: "v3".into(),
        address: Address::repeat_byte(number),
        init_code_hash: B256::ZERO,
        deployer: None,
    };
    (0xc0..0xe0).map(factory)
}

/// The pool where the factory of this number puts it.
fn placed(number: usize, pool: &Pool) -> Pool {
    let factory = factories().nth(number).expect("as many factories as pools");
    Pool { address: factory.derive(pool.token0, pool.token1, FEE), ..*pool }
}

/// A market of both sorts of pools, block after block.
struct Mixed {
    pools: PoolTable,
    book: ConcentratedBook,
    verdicts: PoolBook,
    number: u64,
}

impl Mixed {
    /// `concentrated` of the pools have their liquidity over all prices.
    fn new(plain: &[Pool], concentrated: &[Pool]) -> Self {
        let market = ResolvedMarket {
            concentrated_factories: factories().collect(),
            ..ResolvedMarket::resolve(&MarketConfig::default(), 1).expect("the default")
        };
        let (book, verdicts) = (ConcentratedBook::new(&market), PoolBook::new(&market));
        let mut mixed = Self { pools: table(plain), book, verdicts, number: 0 };
        mixed.block(concentrated.iter().flat_map(creation).collect());
        for pool in concentrated {
            mixed.accept(pool.token0);
            mixed.accept(pool.token1);
        }
        mixed
    }

    fn accept(&mut self, token: Address) {
        let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
        self.verdicts.token_judged(&TokenJudged { token, verdict });
    }

    fn block(&mut self, updates: Vec<ConcentratedUpdate>) {
        let hash = |number: u64| B256::from(U256::from(number + 1));
        let parent_hash = self.number.checked_sub(1).map_or(B256::ZERO, hash);
        self.book
            .apply_block(BlockRef { number: self.number, hash: hash(self.number), parent_hash }, updates);
        assert_eq!(self.book.counts(), Default::default());
        self.number += 1;
    }

    fn view(&mut self, touched: Touched) -> WholeView {
        let (pools, number) = (&self.pools, self.number);
        let plain = view(number, pools, touched.clone(), Some(GWEI), &[(token(1), Price::unit(token(1)))]);
        let concentrated_changes = self.book.take_changes();
        let concentrated = match &concentrated_changes {
            Changes::All => Touched::All,
            Changes::Pools(ids) => Touched::Pools(ids.to_vec()),
        };
        let market = MarketSnapshot {
            concentrated: self.book.table().clone(),
            concentrated_changes,
            refused: self.verdicts.refused(),
            ..plain.market().clone()
        };
        let (prices, decoded) = (Arc::new(plain.prices().clone()), Arc::new(plain.decoded().clone()));
        let view = WholeView::new(Arc::new(market), prices, decoded, touched).expect("one block");
        view.with_touched_concentrated(concentrated)
    }

    fn evaluate(&mut self, config: ArbitrageConfig) -> Vec<Opportunity> {
        Arbitrage::new(config, vec![token(1)]).evaluate(&self.view(Touched::All))
    }
}

fn price(pool: &Pool) -> ConcentratedPrice {
    let ratio: U256 = (U256::from(pool.reserve1) << 128usize) / U256::from(pool.reserve0);
    let sqrt_price: U256 = ratio.root(2) << 32usize;
    ConcentratedPrice { sqrt_price, tick: tick_at_sqrt_price(sqrt_price).expect("a price") }
}

fn liquidity(pool: &Pool) -> u128 {
    (U256::from(pool.reserve0) * U256::from(pool.reserve1)).root(2).to()
}

fn creation(pool: &Pool) -> [ConcentratedUpdate; 3] {
    let made = |factory: &ConcentratedFactory| factory.derive(pool.token0, pool.token1, FEE) == pool.address;
    let created = ConcentratedUpdate::PoolCreated {
        emitter: factories().find(made).expect("it is placed").address,
        token0: pool.token0,
        token1: pool.token1,
        fee: FEE,
        tick_spacing: 10,
        pool: pool.address,
    };
    let delta = i128::try_from(liquidity(pool)).expect("it fits");
    let said = [
        ConcentratedEvent::Initialized(price(pool)),
        ConcentratedEvent::LiquidityChanged { lower: -887_270, upper: 887_270, delta },
    ];
    let [first, second] = said.map(|event| ConcentratedUpdate::Pool { emitter: pool.address, event });
    [created, first, second]
}

/// The pool has the price of another moment.
fn traded(pool: &Pool, liquidity: u128) -> ConcentratedUpdate {
    let event = ConcentratedEvent::Swapped { price: price(pool), liquidity };
    ConcentratedUpdate::Pool { emitter: pool.address, event }
}

fn hops(max_hops: MaxHops) -> ArbitrageConfig {
    ArbitrageConfig { max_hops, ..gross() }
}

#[test]
fn a_finding_names_each_pool_for_what_it_is() {
    let ether = 10u128.pow(18);
    let plain = pool(1, 1, 2, 1_000 * ether, 1_000 * ether);
    let ranged = placed(0, &pool(2, 1, 2, 1_000 * ether, 1_100 * ether));
    let found = Mixed::new(&[plain], &[ranged]).evaluate(ArbitrageConfig::default());
    let [found] = &found[..] else { panic!("one finding, not {found:?}") };
    let Plan::Mixed(steps) = &found.plan else { panic!("mixed, not {:?}", found.plan) };
    let named: Vec<_> = steps.iter().map(|step| (step.swap.pool, step.protocol, step.zero_for_one)).collect();
    assert_eq!(
        named,
        [(ranged.address, Protocol::UniswapV3, true), (plain.address, Protocol::UniswapV2, false)]
    );
    assert_eq!(found.path, [ranged.address, plain.address]);
    assert_eq!(
        (steps[0].swap.amount_in, steps[1].swap.amount_out),
        (found.amount_in, found.amount_in + found.profit)
    );
    assert_eq!(steps[0].swap.amount_out, steps[1].swap.amount_in);
    // 40,000 and 70,000 and 120,000.
    assert_eq!(found.gas, 230_000);
    let gas = I256::try_from(230_000 * GWEI).expect("it fits");
    assert_eq!(found.net_profit_wei, Some(I256::try_from(found.profit).expect("it fits") - gas));
}

#[test]
fn a_cycle_of_plain_pools_stays_one_that_can_be_carried_out() {
    let plain = [pool(1, 1, 2, M, M), pool(2, 2, 3, M, M), pool(3, 3, 4, M, M), pool(4, 1, 4, 2 * M, M)];
    for (max_hops, expected) in [(MaxHops::THREE, 0), (MaxHops::FOUR, 1)] {
        let found = Mixed::new(&plain, &[placed(0, &pool(5, 8, 9, M, M))]).evaluate(hops(max_hops));
        assert_eq!(found.len(), expected, "{found:?}");
        for found in found {
            assert_eq!(found.path, plain.map(|pool| pool.address));
            assert!(matches!(&found.plan, Plan::Swaps(steps) if steps.len() == 4), "{found:?}");
        }
    }
}

#[test]
fn a_pool_with_concentrated_liquidity_of_a_refused_token_is_not_quoted() {
    let mut mixed = Mixed::new(&[pool(1, 1, 2, M, M)], &[placed(0, &pool(2, 1, 2, M, M + M / 10))]);
    assert_eq!(mixed.evaluate(gross()).len(), 1);
    mixed.verdicts.refuse_token(token(3));
    assert_eq!(mixed.evaluate(gross()).len(), 1);
    mixed.verdicts.refuse_token(token(2));
    assert_eq!(mixed.evaluate(gross()), []);
}

#[test]
fn mixed_pools_re_examined_give_what_a_full_examination_gives() {
    let (mut findings, mut of_four) = (0, 0);
    for seed in 0..2 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let market = Market::new(seed, 36);
        let (plain, ranged) = market.pools.split_at(20);
        let ranged: Vec<Pool> = ranged.iter().enumerate().map(|(at, pool)| placed(at, pool)).collect();
        let mut mixed = Mixed::new(plain, &ranged);
        let fresh = || Arbitrage::new(hops(MaxHops::FOUR), market.bases.clone());
        let (mut incremental, mut touched) = (fresh(), Touched::All);
        for _ in 0..12 {
            let view = mixed.view(touched);
            let found = incremental.evaluate(&view);
            let whole = WholeView::new(
                Arc::new(view.market().clone()),
                Arc::new(view.prices().clone()),
                Arc::new(view.decoded().clone()),
                Touched::All,
            );
            assert_eq!(found, fresh().evaluate(&whole.expect("one block")), "seed {seed}, {}", mixed.number);
            findings += found.len();
            of_four += found.iter().filter(|found| found.path.len() == 4).count();
            touched = Touched::Pools(disturb(&mut mixed.pools, &mut Vec::new(), &mut random));
            let mut updates = Vec::new();
            for pool in &ranged {
                if random.random_range(0..6) == 0 {
                    let reserve1 = pool.reserve1 / 1_000 * random.random_range(980..1_020) + 1;
                    updates.push(traded(&Pool { reserve1, ..*pool }, liquidity(pool)));
                }
            }
            mixed.block(updates);
        }
    }
    assert!(findings > 300 && of_four > 100, "{findings} findings, {of_four} of four pools");
}
