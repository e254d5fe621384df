//! Everything from the addresses provider to the last reserve, in the order in which the contracts need each other.

use alloy_primitives::{Address, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use anyhow::Context;

use super::contracts::{AccessControl, Configurator, ConfiguratorV3_6, Oracle, Pool, Provider};
use super::{Contracts, Ground, Release, Site, World, second};
use crate::evm::{Block, Evm, Parameters};

/// What a reserve is listed with.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The token's.
    pub symbol: &'static str,
    /// The token's.
    pub decimals: u8,
    /// Eight decimals.
    pub price: u64,
    /// Basis points.
    pub ltv: u16,
    /// Basis points.
    pub threshold: u16,
    /// Basis points, the whole included.
    pub bonus: u16,
    /// Basis points of the bonus.
    pub protocol_fee: u16,
    /// Zero for none.
    pub category: u8,
}

/// What a category is made with.
#[derive(Clone, Copy, Debug)]
pub struct Category {
    /// From one.
    pub id: u8,
    /// Basis points.
    pub ltv: u16,
    /// Basis points.
    pub threshold: u16,
    /// Basis points, the whole included.
    pub bonus: u16,
}

/// Decimals from 6 to 18, prices from a cent to a house, fees from nothing to a fifth.
pub const RESERVES: [Terms; 6] = [
    terms("ETH", 18, 200_000_000_000, [8_000, 8_250, 10_500, 1_000], 2),
    terms("USD", 6, 100_000_000, [7_700, 8_000, 10_450, 1_000], 1),
    terms("BTC", 8, 4_000_000_000_000, [7_000, 7_500, 11_000, 1_000], 0),
    terms("DAI", 18, 99_990_000, [7_500, 8_000, 10_500, 0], 1),
    terms("STE", 18, 232_112_345_678, [7_800, 8_100, 10_700, 1_500], 2),
    terms("ODD", 6, 1_234_567, [4_000, 5_001, 11_250, 2_000], 0),
];

/// One with a price of its own in 3.0, one without.
pub const CATEGORIES: [Category; 2] = [
    Category { id: 1, ltv: 9_700, threshold: 9_750, bonus: 10_100 },
    Category { id: 2, ltv: 9_000, threshold: 9_300, bonus: 10_233 },
];

/// A dollar in version 3: eight decimals.
const UNIT: u64 = 100_000_000;

/// Before the sentinel lets liquidations happen after the sequencer is up again. Seconds.
const SENTINEL_GRACE: u64 = 3_600;

pub(super) const fn terms(
    symbol: &'static str,
    decimals: u8,
    price: u64,
    [ltv, threshold, bonus, protocol_fee]: [u16; 4],
    category: u8,
) -> Terms {
    Terms { symbol, decimals, price, ltv, threshold, bonus, protocol_fee, category }
}

/// An address that nobody has the key of.
fn named(name: &str) -> Address {
    Address::from_word(keccak256(name))
}

/// A pool without reserves, and who governs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Knows the others.
    pub provider: Address,
    /// The pool's proxy.
    pub pool: Address,
    /// The configurator's proxy.
    pub configurator: Address,
    /// `AaveOracle`.
    pub oracle: Address,
}

/// Deploys pools and lists reserves, on whatever chain.
#[derive(Debug)]
pub struct Builder<'a, G> {
    pub(super) ground: G,
    contracts: &'a Contracts,
    release: Release,
    pub(super) admin: Address,
    pub(super) treasury: Address,
}

impl World {
    /// Deploys everything, with the reserves of [`RESERVES`] and the categories of [`CATEGORIES`].
    ///
    /// # Errors
    /// A contract that is missing, or one that reverts.
    pub fn deploy(release: Release, contracts: &Contracts) -> anyhow::Result<Self> {
        let block = Block { number: 1, timestamp: 1_700_000_000, base_fee_per_gas: 0 };
        let parameters = Parameters { block, unlimited_code_size: true, ..Parameters::default() };
        let (admin, treasury) = (named("admin"), named("treasury"));
        let mut evm = Evm::new(&parameters);
        let mut builder = Builder::new(&mut evm, contracts, release, admin, treasury);
        let (listed, dollar) = match release {
            Release::V2 => ([&RESERVES[..], &[second::IDLE]].concat(), second::DOLLAR),
            Release::V3_0 | Release::V3_6 => (RESERVES.to_vec(), U256::from(UNIT)),
        };
        let assets: Vec<Address> =
            listed.iter().map(|terms| builder.token(terms)).collect::<Result<_, _>>()?;
        let protocol = builder.protocol(assets[0])?;
        let mut reserves = Vec::new();
        for (terms, asset) in listed.iter().zip(assets) {
            let aggregator = builder.aggregator(U256::from(terms.price) * dollar / U256::from(UNIT))?;
            reserves.push(builder.list(&protocol, terms, asset, aggregator)?);
        }
        let (mut sequencer, mut sentinel, mut category_source) = (Address::ZERO, Address::ZERO, None);
        if release == Release::V2 {
            builder.put_aside(&protocol, reserves[RESERVES.len()].asset)?;
        } else {
            (sequencer, sentinel) = builder.sentinel(protocol.provider)?;
            category_source = builder.categories(&protocol, &reserves)?;
        }
        let Protocol { pool, configurator, oracle, .. } = protocol;
        Ok(Self {
            evm,
            release,
            admin,
            treasury,
            pool,
            configurator,
            oracle,
            sentinel,
            sequencer,
            reserves,
            category_source,
            dollar,
        })
    }
}

impl<'a, G: Ground> Builder<'a, G> {
    /// `admin` governs what is deployed, and deploys it; `treasury` receives its fees.
    pub fn new(
        ground: G,
        contracts: &'a Contracts,
        release: Release,
        admin: Address,
        treasury: Address,
    ) -> Self {
        Self { ground, contracts, release, admin, treasury }
    }

    /// Everything but reserves, and without a sentinel. `ether` is the token that version 2 counts in.
    ///
    /// # Errors
    /// A contract that is missing, or one that reverts.
    pub fn protocol(&mut self, ether: Address) -> anyhow::Result<Protocol> {
        if self.release == Release::V2 {
            return self.protocol_second(ether);
        }
        let provider = self.provide()?;
        let (pool, configurator, oracle) = self.pool(provider)?;
        Ok(Protocol { provider, pool, configurator, oracle })
    }

    pub(super) fn deploy(&mut self, name: &str, arguments: Vec<u8>) -> anyhow::Result<Address> {
        let mut artifact = self.contracts.named(name)?.clone();
        let libraries: Vec<String> = artifact.unlinked().into_iter().map(str::to_owned).collect();
        for library in libraries {
            let address = self.deploy(&library, Vec::new())?;
            artifact.link(&library, address)?;
        }
        let code = [&artifact.creation_code()?[..], &arguments].concat();
        self.ground.create(self.admin, &code).with_context(|| format!("deploying {name}"))
    }

    pub(super) fn send<C: SolCall>(&mut self, to: Address, call: &C) -> anyhow::Result<()> {
        self.ground.send(self.admin, to, call)
    }

    fn provide(&mut self) -> anyhow::Result<Address> {
        let arguments = ("judge".to_owned(), self.admin).abi_encode_params();
        let provider = self.deploy("PoolAddressesProvider", arguments)?;
        let admin = self.admin;
        self.send(provider, &Provider::setACLAdminCall { newAclAdmin: admin })?;
        let access = self.deploy("ACLManager", provider.abi_encode())?;
        self.send(provider, &Provider::setACLManagerCall { newAclManager: access })?;
        self.send(access, &AccessControl::addPoolAdminCall { admin })?;
        self.send(access, &AccessControl::addEmergencyAdminCall { admin })?;
        self.send(access, &AccessControl::addRiskAdminCall { admin })?;
        Ok(provider)
    }

    fn pool(&mut self, provider: Address) -> anyhow::Result<(Address, Address, Address)> {
        let (pool, configurator) = match self.release {
            Release::V3_0 => (self.deploy("Pool", provider.abi_encode())?, "PoolConfigurator"),
            Release::V2 | Release::V3_6 => {
                let strategy = self.deploy("DefaultReserveInterestRateStrategyV2", provider.abi_encode())?;
                let arguments = (provider, strategy).abi_encode_params();
                (self.deploy("PoolInstance", arguments)?, "PoolConfiguratorInstance")
            }
        };
        self.send(provider, &Provider::setPoolImplCall { newPoolImpl: pool })?;
        let implementation = self.deploy(configurator, Vec::new())?;
        let call = Provider::setPoolConfiguratorImplCall { newPoolConfiguratorImpl: implementation };
        self.send(provider, &call)?;
        let nothing: Vec<Address> = Vec::new();
        let arguments = (provider, nothing.clone(), nothing, Address::ZERO, Address::ZERO, U256::from(UNIT));
        let oracle = self.deploy("AaveOracle", arguments.abi_encode_params())?;
        self.send(provider, &Provider::setPriceOracleCall { newPriceOracle: oracle })?;
        let pool = self.ground.read(provider, &Provider::getPoolCall {})?;
        let configurator = self.ground.read(provider, &Provider::getPoolConfiguratorCall {})?;
        Ok((pool, configurator, oracle))
    }

    fn sentinel(&mut self, provider: Address) -> anyhow::Result<(Address, Address)> {
        let sequencer = self.deploy("SequencerOracle", self.admin.abi_encode())?;
        let arguments = (provider, sequencer, U256::from(SENTINEL_GRACE)).abi_encode_params();
        let sentinel = self.deploy("PriceOracleSentinel", arguments)?;
        let call = Provider::setPriceOracleSentinelCall { newPriceOracleSentinel: sentinel };
        self.send(provider, &call)?;
        Ok((sequencer, sentinel))
    }

    /// A token that anybody may mint.
    fn token(&mut self, terms: &Terms) -> anyhow::Result<Address> {
        let symbol = terms.symbol.to_owned();
        let arguments = (symbol.clone(), symbol, U256::from(terms.decimals)).abi_encode_params();
        self.deploy("MintableERC20", arguments)
    }

    fn aggregator(&mut self, price: U256) -> anyhow::Result<Address> {
        self.deploy("MockAggregator", price.abi_encode())
    }

    fn quote(&mut self, protocol: &Protocol, source: Address, aggregator: Address) -> anyhow::Result<()> {
        let call = Oracle::setAssetSourcesCall { assets: vec![source], sources: vec![aggregator] };
        self.send(protocol.oracle, &call)
    }

    /// Lists a token, whose price is what `aggregator` says; version 2 asks nobody for that of ether.
    ///
    /// # Errors
    /// As [`Builder::protocol`].
    pub fn list(
        &mut self,
        protocol: &Protocol,
        terms: &Terms,
        asset: Address,
        aggregator: Address,
    ) -> anyhow::Result<Site> {
        self.quote(protocol, asset, aggregator)?;
        match self.release {
            Release::V2 => self.init_reserve_second(terms, asset, protocol)?,
            Release::V3_0 => self.init_reserve(terms, asset, protocol)?,
            Release::V3_6 => self.init_reserve_v3_6(terms, asset, protocol)?,
        }
        let configurator = protocol.configurator;
        self.send(
            configurator,
            &Configurator::configureReserveAsCollateralCall {
                asset,
                ltv: U256::from(terms.ltv),
                liquidationThreshold: U256::from(terms.threshold),
                liquidationBonus: U256::from(terms.bonus),
            },
        )?;
        match self.release {
            Release::V2 => self.enable_borrowing_second(terms, asset, configurator)?,
            Release::V3_0 | Release::V3_6 => self.enable_borrowing(terms, asset, configurator)?,
        }
        let [a_token, stable_debt, variable_debt] = match self.release {
            Release::V2 => self.tokens_second(asset, protocol.pool)?,
            Release::V3_0 | Release::V3_6 => {
                let data = self.ground.read(protocol.pool, &Pool::getReserveDataCall { asset })?;
                [data.aTokenAddress, data.stableDebtTokenAddress, data.variableDebtTokenAddress]
            }
        };
        Ok(Site { asset, a_token, variable_debt, stable_debt, aggregator, decimals: terms.decimals })
    }

    fn enable_borrowing(
        &mut self,
        terms: &Terms,
        asset: Address,
        configurator: Address,
    ) -> anyhow::Result<()> {
        self.send(configurator, &Configurator::setReserveBorrowingCall { asset, enabled: true })?;
        let factor = Configurator::setReserveFactorCall { asset, newReserveFactor: U256::from(1_500) };
        self.send(configurator, &factor)?;
        let fee = U256::from(terms.protocol_fee);
        let fee = Configurator::setLiquidationProtocolFeeCall { asset, newFee: fee };
        self.send(configurator, &fee)?;
        if self.release == Release::V3_0 {
            let call = Configurator::setReserveStableRateBorrowingCall { asset, enabled: true };
            self.send(configurator, &call)?;
        }
        Ok(())
    }

    /// Rates that make weeks count: twenty percent at rest, three hundred above four fifths of usage.
    fn init_reserve(&mut self, terms: &Terms, asset: Address, protocol: &Protocol) -> anyhow::Result<()> {
        let ray = |percent: u64| U256::from(10).pow(U256::from(25)) * U256::from(percent);
        let provider = protocol.provider;
        let arguments =
            (provider, ray(80), ray(20), ray(4), ray(300), ray(5), ray(300), ray(2), ray(8), ray(20));
        let strategy = self.deploy("DefaultReserveInterestRateStrategy", arguments.abi_encode_params())?;
        let input = Configurator::InitReserveInput {
            aTokenImpl: self.deploy("AToken", protocol.pool.abi_encode())?,
            stableDebtTokenImpl: self.deploy("StableDebtToken", protocol.pool.abi_encode())?,
            variableDebtTokenImpl: self.deploy("VariableDebtToken", protocol.pool.abi_encode())?,
            underlyingAssetDecimals: terms.decimals,
            interestRateStrategyAddress: strategy,
            underlyingAsset: asset,
            treasury: self.treasury,
            incentivesController: Address::ZERO,
            aTokenName: terms.symbol.to_owned(),
            aTokenSymbol: terms.symbol.to_owned(),
            variableDebtTokenName: terms.symbol.to_owned(),
            variableDebtTokenSymbol: terms.symbol.to_owned(),
            stableDebtTokenName: terms.symbol.to_owned(),
            stableDebtTokenSymbol: terms.symbol.to_owned(),
            params: vec![0x10].into(),
        };
        self.send(protocol.configurator, &Configurator::initReservesCall { input: vec![input] })
    }

    fn init_reserve_v3_6(
        &mut self,
        terms: &Terms,
        asset: Address,
        protocol: &Protocol,
    ) -> anyhow::Result<()> {
        let rates = ConfiguratorV3_6::InterestRateData {
            optimalUsageRatio: 8_000,
            baseVariableBorrowRate: 2_000,
            variableRateSlope1: 400,
            variableRateSlope2: 30_000,
        };
        let supply = (protocol.pool, Address::ZERO, self.treasury).abi_encode_params();
        let input = ConfiguratorV3_6::InitReserveInput {
            aTokenImpl: self.deploy("ATokenInstance", supply)?,
            variableDebtTokenImpl: self
                .deploy("VariableDebtTokenInstance", (protocol.pool, Address::ZERO).abi_encode_params())?,
            underlyingAsset: asset,
            aTokenName: terms.symbol.to_owned(),
            aTokenSymbol: terms.symbol.to_owned(),
            variableDebtTokenName: terms.symbol.to_owned(),
            variableDebtTokenSymbol: terms.symbol.to_owned(),
            params: vec![0x10].into(),
            interestRateData: rates.abi_encode().into(),
        };
        self.send(protocol.configurator, &ConfiguratorV3_6::initReservesCall { input: vec![input] })
    }

    fn categories(
        &mut self,
        protocol: &Protocol,
        reserves: &[Site],
    ) -> anyhow::Result<Option<(Address, Address)>> {
        let source = named("the price of category 1");
        let mut own = None;
        for category in &CATEGORIES {
            let members = RESERVES.iter().zip(reserves);
            let members: Vec<Address> = members
                .filter(|(terms, _)| terms.category == category.id)
                .map(|(_, site)| site.asset)
                .collect();
            match self.release {
                Release::V3_0 => {
                    let has_price = category.id == 1;
                    let oracle = if has_price { source } else { Address::ZERO };
                    if has_price {
                        let aggregator = self.aggregator(U256::from(100_000_000))?;
                        self.quote(protocol, source, aggregator)?;
                        own = Some((source, aggregator));
                    }
                    self.category(category, &members, oracle, protocol)?;
                }
                Release::V2 | Release::V3_6 => self.category_v3_6(category, &members, protocol)?,
            }
        }
        Ok(own)
    }

    fn category(
        &mut self,
        category: &Category,
        members: &[Address],
        oracle: Address,
        protocol: &Protocol,
    ) -> anyhow::Result<()> {
        self.send(
            protocol.configurator,
            &Configurator::setEModeCategoryCall {
                categoryId: category.id,
                ltv: category.ltv,
                liquidationThreshold: category.threshold,
                liquidationBonus: category.bonus,
                oracle,
                label: category.id.to_string(),
            },
        )?;
        for asset in members.iter().copied() {
            let call = Configurator::setAssetEModeCategoryCall { asset, newCategoryId: category.id };
            self.send(protocol.configurator, &call)?;
        }
        Ok(())
    }

    fn category_v3_6(
        &mut self,
        category: &Category,
        members: &[Address],
        protocol: &Protocol,
    ) -> anyhow::Result<()> {
        let id = category.id;
        self.send(
            protocol.configurator,
            &ConfiguratorV3_6::setEModeCategoryCall {
                categoryId: id,
                ltv: category.ltv,
                liquidationThreshold: category.threshold,
                liquidationBonus: category.bonus,
                label: category.id.to_string(),
            },
        )?;
        for asset in members.iter().copied() {
            let collateral =
                ConfiguratorV3_6::setAssetCollateralInEModeCall { asset, categoryId: id, collateral: true };
            self.send(protocol.configurator, &collateral)?;
            let borrowable =
                ConfiguratorV3_6::setAssetBorrowableInEModeCall { asset, categoryId: id, borrowable: true };
            self.send(protocol.configurator, &borrowable)?;
        }
        Ok(())
    }
}
