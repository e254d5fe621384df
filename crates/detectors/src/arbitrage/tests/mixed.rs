//! Pools with concentrated liquidity among the others, and cycles of four pools.

use alloy_primitives::{B256, U256};
use headwater_amm::{PoolKey, tick_at_sqrt_price};
use headwater_events::{PendingTxEvent, TokenJudged, TokenVerdict, Transaction};
use headwater_market::{
    BlockRef, Changes, ConcentratedBook, ConcentratedEvent, ConcentratedFactory, ConcentratedManager,
    ConcentratedPrice, ConcentratedUpdate, MarketConfig, PoolBook, ResolvedMarket,
};
use headwater_simulation::{Effect, Means};

use super::*;
use crate::MaxHops;

mod reorgs;

const MANAGER: Address = Address::repeat_byte(0xf4);
/// Of V4.
const NATIVE: u8 = 0;
const FEE: u32 = 500;
/// More than any market here has.
const TOKENS: u8 = 32;

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
        let manager = ConcentratedManager { name: "v4".into(), address: MANAGER };
        let market = ResolvedMarket {
            concentrated_factories: factories().collect(),
            concentrated_managers: vec![manager],
            ..ResolvedMarket::resolve(&MarketConfig::default(), 1).expect("the default")
        };
        let (book, verdicts) = (ConcentratedBook::new(&market), PoolBook::new(&market));
        let mut mixed = Self { pools: table(plain), book, verdicts, number: 0 };
        mixed.block(concentrated.iter().flat_map(creation).collect());
        let held = concentrated.iter().flat_map(|pool| [pool.token0, pool.token1]);
        (1..TOKENS).map(token).chain(held).for_each(|token| mixed.accept(token));
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

/// The same as one of V4, with this spacing, by which it is told from another one; the pool's own address is not used.
fn v4_creation(pool: &Pool, tick_spacing: i32) -> [ConcentratedUpdate; 2] {
    let key = v4_key(pool, tick_spacing);
    let delta = i128::try_from(liquidity(pool)).expect("it fits");
    let edge = 887_272 / tick_spacing * tick_spacing;
    let event = ConcentratedEvent::LiquidityChanged { lower: -edge, upper: edge, delta };
    let (manager, id) = (MANAGER, key.id());
    [
        ConcentratedUpdate::V4Initialized { manager, id, key, price: price(pool) },
        ConcentratedUpdate::V4 { manager, id, event, charged: None },
    ]
}

fn v4_key(pool: &Pool, tick_spacing: i32) -> PoolKey {
    let (currency0, currency1, hooks) = (pool.token0, pool.token1, Address::ZERO);
    PoolKey { currency0, currency1, fee: FEE, tick_spacing, hooks }
}

fn steps(found: &[Opportunity]) -> &[headwater_events::MixedStep] {
    let [found] = found else { panic!("one finding, not {found:?}") };
    let Plan::Mixed(steps) = &found.plan else { panic!("mixed, not {:?}", found.plan) };
    steps
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
fn two_pools_of_one_manager_are_told_apart_by_their_ids() {
    let ether = 10u128.pow(18);
    let [even, dear] = [1_000, 1_100].map(|price| pool(1, 1, 2, 1_000 * ether, price * ether));
    let mut mixed = Mixed::new(&[], &[]);
    mixed.block([v4_creation(&even, 10), v4_creation(&dear, 60)].concat());
    let found = mixed.evaluate(ArbitrageConfig::default());
    let named: Vec<_> =
        steps(&found).iter().map(|step| (step.protocol, step.pool_id, step.zero_for_one)).collect();
    let [even, dear] = [v4_key(&even, 10).id(), v4_key(&dear, 60).id()];
    let v4 = Protocol::UniswapV4;
    assert_eq!(named, [(v4, Some(dear), true), (v4, Some(even), false)]);
    assert_eq!(found[0].path, [MANAGER; 2]);
    // 40,000 and twice 120,000.
    assert_eq!((found[0].gas, found[0].tokens.len()), (280_000, 3));
}

#[test]
fn a_pool_of_v4_closes_a_cycle_with_those_of_v2_and_v3() {
    let plain = pool(1, 1, 2, M, M);
    let (ranged, managed) = (placed(0, &pool(2, 2, 3, M, M)), pool(3, 1, 3, M + M / 10, M));
    let mut mixed = Mixed::new(&[plain], &[ranged]);
    mixed.block(v4_creation(&managed, 60).to_vec());
    let found = mixed.evaluate(gross());
    let named: Vec<_> = steps(&found).iter().map(|step| (step.protocol, step.swap.pool)).collect();
    assert_eq!(
        named,
        [
            (Protocol::UniswapV2, plain.address),
            (Protocol::UniswapV3, ranged.address),
            (Protocol::UniswapV4, MANAGER)
        ]
    );
    assert_eq!(steps(&found)[2].pool_id, Some(v4_key(&managed, 60).id()));
}

#[test]
fn the_native_token_is_not_the_wrapped_one() {
    // Token 1 is where cycles begin: the wrapped one. A pool of the native one at twice the price does not meet it.
    let (wrapped, native) = (pool(1, 1, 2, M, M), pool(2, NATIVE, 2, M, 2 * M));
    let mut mixed = Mixed::new(&[wrapped], &[]);
    mixed.block(v4_creation(&native, 60).to_vec());
    assert_eq!(mixed.evaluate(gross()), []);
    let between = pool(3, NATIVE, 1, M, M);
    mixed.block(v4_creation(&between, 60).to_vec());
    let found = mixed.evaluate(gross());
    assert_eq!(found[0].tokens, [1, NATIVE, 2, 1].map(token));
}

#[test]
fn what_the_protocol_begins_to_take_closes_a_cycle() {
    // Fees of 0.3 % and 0.05 % on a gap of 0.4 %; the protocol may take 0.1 % more.
    let (plain, managed) = (pool(1, 1, 2, M, M), pool(2, 1, 2, M, M + M / 250));
    let mut mixed = Mixed::new(&[plain], &[]);
    mixed.block(v4_creation(&managed, 60).to_vec());
    let mut detector = Arbitrage::new(gross(), vec![token(1)]);
    let found = detector.evaluate(&mixed.view(Touched::All));
    assert!(steps(&found)[0].zero_for_one);
    for (protocol, findings) in [(1_000, 0), (0, 1), (1_000 << 12, 1)] {
        let event = ConcentratedEvent::ProtocolFeeChanged(protocol);
        let id = v4_key(&managed, 60).id();
        mixed.block(vec![ConcentratedUpdate::V4 { manager: MANAGER, id, event, charged: None }]);
        assert_eq!(detector.evaluate(&mixed.view(Touched::Pools(vec![]))).len(), findings, "{protocol}");
    }
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

#[test]
fn behind_a_transaction_a_moved_pool_is_searched_and_afterwards_it_is_back_where_it_was() {
    let ether = 10u128.pow(18);
    let [plain, ranged] = [1, 2].map(|number| pool(number, 1, 2, 1_000 * ether, 1_000 * ether));
    let ranged = placed(0, &ranged);
    let view = Mixed::new(&[plain], &[ranged]).view(Touched::All);
    let (market, prices) = (Arc::new(view.market().clone()), Arc::new(view.prices().clone()));
    let mut backruns = crate::Backruns::new(Arbitrage::new(gross(), vec![token(1)]));
    backruns
        .stand_behind(Arc::clone(&market), prices, Touched::All, Touched::All)
        .expect("market and prices of one block");

    let id = market.concentrated.find(&ranged.address).expect("it is followed");
    let mut moved = market.concentrated.pool(id).expect("it is known").as_ref().clone();
    let other = Pool { reserve1: 1_100 * ether, ..ranged };
    let event = ConcentratedEvent::Swapped { price: price(&other), liquidity: moved.liquidity() };
    moved.apply(&event).expect("a swap");
    let means = Means::Executed;
    let effect = Effect { reserves: Vec::new(), concentrated: vec![(id, Arc::new(moved))], means };
    let pending = pending(7);
    let found = backruns.behind(&pending, &effect).expect("of one block");
    let [finding] = &found[..] else { panic!("one finding, not {found:?}") };
    assert_eq!((&finding.kind, finding.follows()), (&Kind::Backrun, Some(pending.transaction.hash)));
    let Plan::Behind(behind) = &finding.plan else { panic!("behind, not {:?}", finding.plan) };
    assert!(behind.is_mixed());
    assert_eq!(finding.path, [ranged.address, plain.address]);

    let held = market.pools.reserves(PoolId(0)).expect("it is known");
    let nothing = Effect { reserves: vec![(PoolId(0), held)], concentrated: Vec::new(), means };
    assert_eq!(backruns.behind(&pending, &nothing), Ok(Vec::new()));
    assert_eq!(backruns.behind(&pending, &effect), Ok(found));
}

fn pending(hash: u8) -> PendingTxEvent {
    let transaction = Transaction {
        hash: B256::repeat_byte(hash),
        from: Address::ZERO,
        to: None,
        value: U256::ZERO,
        input: Default::default(),
        nonce: 0,
        gas_limit: 0,
    };
    PendingTxEvent { transaction, max_fee_per_gas: 1, max_priority_fee_per_gas: None }
}
