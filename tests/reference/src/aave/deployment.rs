//! Everything from the addresses provider to the last reserve, in the order in which the contracts need each other.

use alloy_primitives::{Address, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use anyhow::Context;

use super::contracts::{AccessControl, Configurator, ConfiguratorV3_6, Oracle, Pool, Provider};
use super::{Contracts, Release, Site, World};
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

pub(super) struct Builder<'a> {
    pub(super) evm: Evm,
    contracts: &'a Contracts,
    release: Release,
    pub(super) admin: Address,
    pub(super) treasury: Address,
    pub(super) provider: Address,
}

impl World {
    /// Deploys everything, with the reserves of [`RESERVES`] and the categories of [`CATEGORIES`].
    ///
    /// # Errors
    /// A contract that is missing, or one that reverts.
    pub fn deploy(release: Release, contracts: &Contracts) -> anyhow::Result<Self> {
        let block = Block { number: 1, timestamp: 1_700_000_000, base_fee_per_gas: 0 };
        let parameters = Parameters { block, unlimited_code_size: true, ..Parameters::default() };
        let evm = Evm::new(&parameters);
        let (admin, treasury) = (named("admin"), named("treasury"));
        let mut builder = Builder { evm, contracts, release, admin, treasury, provider: Address::ZERO };
        if release == Release::V2 {
            return builder.second();
        }
        builder.provide()?;
        let (pool, configurator, oracle) = builder.pool()?;
        let (sequencer, sentinel) = builder.sentinel()?;
        let mut world = Self {
            evm: Evm::new(&parameters),
            release,
            admin,
            treasury,
            pool,
            configurator,
            oracle,
            sentinel,
            sequencer,
            reserves: Vec::new(),
            category_source: None,
            dollar: U256::from(100_000_000),
        };
        for terms in &RESERVES {
            let site = builder.list(terms, &world)?;
            world.reserves.push(site);
        }
        world.category_source = builder.categories(&world)?;
        world.evm = builder.evm;
        Ok(world)
    }
}

impl Builder<'_> {
    pub(super) fn deploy(&mut self, name: &str, arguments: Vec<u8>) -> anyhow::Result<Address> {
        let mut artifact = self.contracts.named(name)?.clone();
        let libraries: Vec<String> = artifact.unlinked().into_iter().map(str::to_owned).collect();
        for library in libraries {
            let address = self.deploy(&library, Vec::new())?;
            artifact.link(&library, address)?;
        }
        let code = artifact.creation_code()?;
        self.evm.deploy(self.admin, &code, &arguments).with_context(|| format!("deploying {name}"))
    }

    pub(super) fn send<C: SolCall>(&mut self, to: Address, call: &C) -> anyhow::Result<C::Return> {
        self.evm.send(self.admin, to, call)
    }

    fn provide(&mut self) -> anyhow::Result<()> {
        let arguments = ("judge".to_owned(), self.admin).abi_encode_params();
        self.provider = self.deploy("PoolAddressesProvider", arguments)?;
        let admin = self.admin;
        self.send(self.provider, &Provider::setACLAdminCall { newAclAdmin: admin })?;
        let access = self.deploy("ACLManager", self.provider.abi_encode())?;
        self.send(self.provider, &Provider::setACLManagerCall { newAclManager: access })?;
        self.send(access, &AccessControl::addPoolAdminCall { admin })?;
        self.send(access, &AccessControl::addEmergencyAdminCall { admin })?;
        self.send(access, &AccessControl::addRiskAdminCall { admin })?;
        Ok(())
    }

    fn pool(&mut self) -> anyhow::Result<(Address, Address, Address)> {
        let provider = self.provider;
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
        let unit = U256::from(100_000_000);
        let arguments = (provider, nothing.clone(), nothing, Address::ZERO, Address::ZERO, unit);
        let oracle = self.deploy("AaveOracle", arguments.abi_encode_params())?;
        self.send(provider, &Provider::setPriceOracleCall { newPriceOracle: oracle })?;
        let pool = self.evm.read(provider, &Provider::getPoolCall {})?;
        let configurator = self.evm.read(provider, &Provider::getPoolConfiguratorCall {})?;
        Ok((pool, configurator, oracle))
    }

    fn sentinel(&mut self) -> anyhow::Result<(Address, Address)> {
        let sequencer = self.deploy("SequencerOracle", self.admin.abi_encode())?;
        let arguments = (self.provider, sequencer, U256::from(SENTINEL_GRACE)).abi_encode_params();
        let sentinel = self.deploy("PriceOracleSentinel", arguments)?;
        let call = Provider::setPriceOracleSentinelCall { newPriceOracleSentinel: sentinel };
        self.send(self.provider, &call)?;
        Ok((sequencer, sentinel))
    }

    fn aggregator(&mut self, source: Address, price: u64, oracle: Address) -> anyhow::Result<Address> {
        let aggregator = self.deploy("MockAggregator", U256::from(price).abi_encode())?;
        let call = Oracle::setAssetSourcesCall { assets: vec![source], sources: vec![aggregator] };
        self.send(oracle, &call)?;
        Ok(aggregator)
    }

    fn list(&mut self, terms: &Terms, world: &World) -> anyhow::Result<Site> {
        let symbol = terms.symbol.to_owned();
        let arguments = (symbol.clone(), symbol, U256::from(terms.decimals)).abi_encode_params();
        let asset = self.deploy("MintableERC20", arguments)?;
        let aggregator = self.aggregator(asset, terms.price, world.oracle)?;
        match self.release {
            Release::V3_0 => self.init_reserve(terms, asset, world)?,
            Release::V2 | Release::V3_6 => self.init_reserve_v3_6(terms, asset, world)?,
        }
        let configurator = world.configurator;
        self.send(
            configurator,
            &Configurator::configureReserveAsCollateralCall {
                asset,
                ltv: U256::from(terms.ltv),
                liquidationThreshold: U256::from(terms.threshold),
                liquidationBonus: U256::from(terms.bonus),
            },
        )?;
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
        let data = self.evm.read(world.pool, &Pool::getReserveDataCall { asset })?;
        Ok(Site {
            asset,
            a_token: data.aTokenAddress,
            variable_debt: data.variableDebtTokenAddress,
            stable_debt: data.stableDebtTokenAddress,
            aggregator,
            decimals: terms.decimals,
        })
    }

    /// Rates that make weeks count: twenty percent at rest, three hundred above four fifths of usage.
    fn init_reserve(&mut self, terms: &Terms, asset: Address, world: &World) -> anyhow::Result<()> {
        let ray = |percent: u64| U256::from(10).pow(U256::from(25)) * U256::from(percent);
        let arguments =
            (self.provider, ray(80), ray(20), ray(4), ray(300), ray(5), ray(300), ray(2), ray(8), ray(20));
        let strategy = self.deploy("DefaultReserveInterestRateStrategy", arguments.abi_encode_params())?;
        let input = Configurator::InitReserveInput {
            aTokenImpl: self.deploy("AToken", world.pool.abi_encode())?,
            stableDebtTokenImpl: self.deploy("StableDebtToken", world.pool.abi_encode())?,
            variableDebtTokenImpl: self.deploy("VariableDebtToken", world.pool.abi_encode())?,
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
        self.send(world.configurator, &Configurator::initReservesCall { input: vec![input] }).map(drop)
    }

    fn init_reserve_v3_6(&mut self, terms: &Terms, asset: Address, world: &World) -> anyhow::Result<()> {
        let rates = ConfiguratorV3_6::InterestRateData {
            optimalUsageRatio: 8_000,
            baseVariableBorrowRate: 2_000,
            variableRateSlope1: 400,
            variableRateSlope2: 30_000,
        };
        let supply = (world.pool, Address::ZERO, self.treasury).abi_encode_params();
        let input = ConfiguratorV3_6::InitReserveInput {
            aTokenImpl: self.deploy("ATokenInstance", supply)?,
            variableDebtTokenImpl: self
                .deploy("VariableDebtTokenInstance", (world.pool, Address::ZERO).abi_encode_params())?,
            underlyingAsset: asset,
            aTokenName: terms.symbol.to_owned(),
            aTokenSymbol: terms.symbol.to_owned(),
            variableDebtTokenName: terms.symbol.to_owned(),
            variableDebtTokenSymbol: terms.symbol.to_owned(),
            params: vec![0x10].into(),
            interestRateData: rates.abi_encode().into(),
        };
        self.send(world.configurator, &ConfiguratorV3_6::initReservesCall { input: vec![input] }).map(drop)
    }

    fn categories(&mut self, world: &World) -> anyhow::Result<Option<(Address, Address)>> {
        let source = named("the price of category 1");
        let mut own = None;
        for category in &CATEGORIES {
            let members = RESERVES.iter().zip(&world.reserves);
            let members: Vec<Address> = members
                .filter(|(terms, _)| terms.category == category.id)
                .map(|(_, site)| site.asset)
                .collect();
            match self.release {
                Release::V3_0 => {
                    let has_price = category.id == 1;
                    let oracle = if has_price { source } else { Address::ZERO };
                    if has_price {
                        own = Some((source, self.aggregator(source, 100_000_000, world.oracle)?));
                    }
                    self.category(category, &members, oracle, world)?;
                }
                Release::V2 | Release::V3_6 => self.category_v3_6(category, &members, world)?,
            }
        }
        Ok(own)
    }

    fn category(
        &mut self,
        category: &Category,
        members: &[Address],
        oracle: Address,
        world: &World,
    ) -> anyhow::Result<()> {
        self.send(
            world.configurator,
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
            self.send(world.configurator, &call)?;
        }
        Ok(())
    }

    fn category_v3_6(
        &mut self,
        category: &Category,
        members: &[Address],
        world: &World,
    ) -> anyhow::Result<()> {
        let id = category.id;
        self.send(
            world.configurator,
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
            self.send(world.configurator, &collateral)?;
            let borrowable =
                ConfiguratorV3_6::setAssetBorrowableInEModeCall { asset, categoryId: id, borrowable: true };
            self.send(world.configurator, &borrowable)?;
        }
        Ok(())
    }
}
