//! Headwater's part: the state's world, fed with blocks, and the detector that looks at it.

use std::sync::Arc;

use alloy_primitives::{Address, I256, U256, U512};
use anyhow::{Context, bail, ensure};
use headwater_detectors::{Detector, LiquidationConfig, Liquidations};
use headwater_events::{
    AsOf, BlockEvent, BusEvent, DecodedBlock, Envelope, LendingLoaded, MarketLoaded, Opportunity, Price,
    Protocol, ReorgEvent, RunId, TokenJudged, TokenVerdict,
};
use headwater_market::{
    FactoryConfig, LendingConfig, LendingPool, LendingProtocol, MarketConfig, MarketSnapshot, Preset,
    PriceSnapshot, ResolvedMarket, TokenPrice, Touched, WholeView,
};
use headwater_reference::aave::{Release, World as Contracts};
use headwater_state::{LendingScan, LoadError, World};
use rand::{Rng, RngExt};

use super::chain::{Chain, load, load_as};
use super::venues::{FACTORY, FACTORY_V3, INIT_CODE_HASH, MANAGER};

/// State and detectors.
pub(super) struct Bot {
    market: ResolvedMarket,
    world: World,
    /// Of everything that may be liquidated.
    detector: Liquidations,
    /// The same, and it sees some blocks only.
    skipping: Liquidations,
    scan: LendingScan,
    seq: u64,
    last: Option<Arc<MarketSnapshot>>,
}

fn all() -> LiquidationConfig {
    LiquidationConfig { profit_after_gas: false, ..LiquidationConfig::default() }
}

impl Bot {
    /// Loads pools and positions as of the chain's last block.
    pub(super) fn start(contracts: &mut Contracts, chain: &Chain) -> anyhow::Result<Self> {
        let mut bot = Self::without_positions(contracts, chain)?;
        bot.reload(contracts, chain)?;
        Ok(bot)
    }

    /// The same where the lending pool says that it is of another revision: its positions are refused, by the pool's name and the
    /// revision, and for good.
    pub(super) fn start_refused(
        revision: u64,
        contracts: &mut Contracts,
        chain: &Chain,
    ) -> anyhow::Result<Self> {
        let mut bot = Self::without_positions(contracts, chain)?;
        let error = match load_as(revision, contracts, chain, &mut bot.scan)? {
            Ok(_) => bail!("a pool of revision {revision} is loaded"),
            Err(error) => error,
        };
        let name = &bot.market.lending.first().context("no lending pool")?.name;
        let is_it = matches!(&error, LoadError::Unproven { pool, .. } if pool == name);
        ensure!(is_it && !error.is_retryable(), "a pool of revision {revision}: {error:?}");
        let said = error.to_string();
        let is_said = said.contains(name) && said.contains(&format!("revision {revision} "));
        ensure!(is_said, "neither pool nor revision {revision}: {said}");
        Ok(bot)
    }

    /// Loads pools as of the chain's last block.
    fn without_positions(contracts: &Contracts, chain: &Chain) -> anyhow::Result<Self> {
        let market = market(contracts)?;
        let lending = market.lending.first().cloned().context("no lending pool")?;
        let mut bot = Self {
            world: World::new(&market),
            market,
            detector: Liquidations::new(all()),
            skipping: Liquidations::new(all()),
            scan: LendingScan::new(LendingPool { from_block: 0, ..lending }),
            seq: 0,
            last: None,
        };
        let (number, hash) = (chain.head().number, chain.head().hash);
        for pool in chain.pools() {
            bot.apply(pool.loaded(chain.head()))?;
        }
        for site in &contracts.reserves {
            let verdict = TokenVerdict::Accepted { decimals: site.decimals, symbol: String::new() };
            bot.apply(BusEvent::TokenJudged(TokenJudged { token: site.asset, verdict }))?;
        }
        bot.apply(BusEvent::MarketLoaded(MarketLoaded { number, hash, chain_id: 1, pools: 0 }))?;
        Ok(bot)
    }

    /// What is found in a block; in every manner in which the detector may have come to it.
    pub(super) fn block(
        &mut self,
        block: &BlockEvent,
        random: &mut impl Rng,
    ) -> anyhow::Result<Vec<Opportunity>> {
        if random.random_range(0..10) == 0 {
            // As after a restart.
            self.world = World::of_image(&self.market, self.world.image())?;
        }
        let snapshot =
            self.apply(BusEvent::NewBlock(block.clone()))?.context("a block without a snapshot")?;
        let is_followed = snapshot.concentrated.iter().all(|(_, _, pool)| pool.is_some());
        ensure!(is_followed, "a pool of V3 or V4 is not followed any longer");
        let view = self.view(&snapshot)?;
        let found = self.detector.evaluate(&view);
        ensure!(self.detector.unsearched() == 0, "a sale was not searched to the end");
        if random.random_range(0..4) == 0 {
            ensure!(
                self.skipping.evaluate(&view) == found,
                "a detector that skips blocks finds something else"
            );
        }
        if random.random_range(0..10) == 0 {
            ensure!(Liquidations::new(all()).evaluate(&view) == found, "a new detector finds something else");
            let worth_it = Liquidations::new(LiquidationConfig::default()).evaluate(&view);
            let wanted =
                found.iter().filter(|found| found.net_profit_wei.is_some_and(|net| net.is_positive()));
            ensure!(worth_it.iter().eq(wanted), "what is worth it is not what gains");
        }
        self.last = Some(snapshot);
        Ok(found)
    }

    pub(super) fn reorganise(&mut self, reorg: &ReorgEvent) -> anyhow::Result<()> {
        self.apply(BusEvent::Reorg(reorg.clone())).map(drop)
    }

    /// Loads the lending pool as of the chain's last block.
    pub(super) fn reload(&mut self, contracts: &mut Contracts, chain: &Chain) -> anyhow::Result<()> {
        let loaded = self.load(contracts, chain)?;
        self.apply(BusEvent::LendingLoaded(Box::new(loaded))).map(drop)
    }

    /// What the loader learns.
    pub(super) fn load(&mut self, contracts: &mut Contracts, chain: &Chain) -> anyhow::Result<LendingLoaded> {
        Ok(load(contracts, chain, &mut self.scan)??)
    }

    /// Whether what was followed is what a load as of the last block gives.
    pub(super) fn ensure_same(&self, loaded: &LendingLoaded) -> anyhow::Result<()> {
        let mut fresh = World::new(&self.market);
        let event = |seq, event| Envelope { run_id: RunId(1), seq, received_at: 0, derived: None, event };
        let (number, hash) = (loaded.number, loaded.hash);
        let begin = MarketLoaded { number, hash, chain_id: 1, pools: 0 };
        fresh.apply(&event(1, BusEvent::MarketLoaded(begin)))?;
        fresh.apply(&event(2, BusEvent::LendingLoaded(Box::new(loaded.clone()))))?;
        let pools = |world: &World| {
            let table = world.lending();
            table.iter().map(|lending| (lending.pool, (*lending.market).clone())).collect::<Vec<_>>()
        };
        let (mut followed, loaded) = (pools(&self.world), pools(&fresh));
        // Whether the sentinel allows anything is asked block by block.
        for (_, market) in &mut followed {
            market.set_liquidation_allowed(true);
        }
        ensure!(followed == loaded, "a second load differs from what was followed");
        Ok(())
    }

    pub(super) fn is_following(&self) -> bool {
        !self.world.lending().is_empty()
    }

    pub(super) fn looked_at(&self) -> u64 {
        self.detector.looked_at()
    }

    pub(super) fn borrowers(&self) -> usize {
        let table = self.world.lending();
        table.iter().map(|lending| lending.market.accounts().count()).sum()
    }

    fn apply(&mut self, event: BusEvent) -> anyhow::Result<Option<Arc<MarketSnapshot>>> {
        self.seq += 1;
        let envelope = Envelope { run_id: RunId(1), seq: self.seq, received_at: 0, derived: None, event };
        Ok(self.world.apply(&envelope)?.map(|applied| applied.snapshot))
    }

    /// Market and prices as of the last block, if the pool is followed.
    pub(super) fn standing(&self) -> Option<(Arc<MarketSnapshot>, Arc<PriceSnapshot>)> {
        let market = self.last.clone().filter(|market| !market.lending.is_empty())?;
        let prices = self.prices(&market);
        Some((market, Arc::new(prices)))
    }

    /// How many accounts a detector looks at that has just seen the last block, when an aggregator says something else, and all else
    /// stays as it is; `None` where nobody reads it.
    pub(super) fn looked_at_behind(
        &self,
        (market, prices): (&Arc<MarketSnapshot>, &Arc<PriceSnapshot>),
        aggregator: Address,
        answer: I256,
    ) -> anyhow::Result<Option<u64>> {
        let Some(lending) = market.lending.behind(&aggregator, answer, market.head.timestamp) else {
            return Ok(None);
        };
        let behind = Arc::new(MarketSnapshot { lending, ..MarketSnapshot::clone(market) });
        let mut detector = Liquidations::new(all());
        for market in [market, &behind] {
            let decoded = Arc::new(nothing(market.as_of));
            let view = WholeView::new(Arc::clone(market), Arc::clone(prices), decoded, Touched::All)?;
            detector.evaluate(&view);
        }
        Ok(Some(detector.looked_at()))
    }

    fn prices(&self, market: &MarketSnapshot) -> PriceSnapshot {
        let as_of = market.as_of;
        let quote = self.market.wrapped_native;
        let mut prices =
            PriceSnapshot { as_of, quote, prices: Default::default(), sources: Default::default() };
        for lending in market.lending.iter() {
            for (token, price) in wei_prices(&lending.market, quote) {
                let known =
                    TokenPrice { price, source: Address::ZERO, changed_at: as_of.number, changed_at_s: 0 };
                let place = prices.prices.place(token);
                prices.prices.set(place, Some(known));
            }
        }
        prices
    }

    fn view(&self, market: &Arc<MarketSnapshot>) -> anyhow::Result<WholeView> {
        let (decoded, prices) = (Arc::new(nothing(market.as_of)), Arc::new(self.prices(market)));
        Ok(WholeView::new(Arc::clone(market), prices, decoded, Touched::All)?)
    }
}

/// A block without actions.
fn nothing(as_of: AsOf) -> DecodedBlock {
    DecodedBlock {
        as_of,
        actions: Vec::new(),
        unknown_logs: 0,
        unknown_calls: 0,
        malformed: 0,
        set_aside: false,
    }
}

/// Of this asset, by its place, no price in wei is known.
pub(super) const UNPRICED: usize = 4;

/// By the pool's own prices.
fn wei_prices(market: &headwater_lending::Market, quote: Address) -> Vec<(Address, Price)> {
    let price = |token| market.price(token).ok();
    let Some(native) = market.reserve_of(quote).and_then(|_| price(quote)) else { return Vec::new() };
    let assets = market.reserves().filter(|reserve| usize::from(reserve.id.0) != UNPRICED);
    let told = assets.filter_map(|reserve| {
        let mantissa = mantissa(price(reserve.asset)?, native, reserve.decimals);
        Some((reserve.asset, Price { quote, mantissa }))
    });
    told.collect()
}

/// Wei for one smallest unit, times 10^36.
pub(super) fn mantissa(price: U256, native: U256, decimals: u8) -> U256 {
    let ten = |digits: u8| U512::from(10u8).pow(U512::from(digits));
    let wide = U512::from(price) * ten(36) * ten(18) / ten(decimals) / U512::from(native);
    wide.to()
}

fn factory(protocol: Protocol, address: Address) -> FactoryConfig {
    FactoryConfig {
        protocol,
        name: None,
        address: address.to_string(),
        init_code_hash: None,
        deployer: None,
        fee_ppm: 3_000,
    }
}

fn market(contracts: &Contracts) -> anyhow::Result<ResolvedMarket> {
    let config = MarketConfig {
        preset: Some(Preset::None),
        wrapped_native: Some(contracts.reserves[0].asset.to_string()),
        factories: vec![
            factory(Protocol::UniswapV2, FACTORY),
            FactoryConfig {
                init_code_hash: Some(INIT_CODE_HASH.to_string()),
                ..factory(Protocol::UniswapV3, FACTORY_V3)
            },
            factory(Protocol::UniswapV4, MANAGER),
        ],
        lending: vec![LendingConfig {
            protocol: match contracts.release {
                Release::V2 => LendingProtocol::AaveV2,
                Release::V3_0 | Release::V3_6 => LendingProtocol::AaveV3,
            },
            pool: contracts.pool.to_string(),
            name: None,
            from_block: 0,
            log_range: std::num::NonZeroU64::new(7).context("not zero")?,
        }],
        ..MarketConfig::default()
    };
    Ok(ResolvedMarket::resolve(&config, 1)?)
}
