//! The second version: other contracts, in another order, with prices in ether.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolValue;

use super::contracts::{Configurator, ConfiguratorV2, Oracle, PoolV2, ProviderV2, RateOracle};
use super::deployment::{Builder, terms};
use super::{RESERVES, Release, Site, Terms, World};
use crate::evm::{Evm, Parameters};

/// Frozen from the beginning, so that nobody has anything of it, and it may be inactive.
const IDLE: Terms = terms("IDL", 18, 100_000_000, [5_000, 6_000, 10_500, 0], 0);

/// All of this reserve's interest goes to the treasury: while suppliers earn nothing, its borrow index stands still.
const GREEDY: &str = "ODD";

fn ray(percent: u64) -> U256 {
    U256::from(10).pow(U256::from(25)) * U256::from(percent)
}

impl Builder<'_> {
    /// Everything from the addresses provider to the last reserve.
    pub(super) fn second(mut self) -> anyhow::Result<World> {
        let admin = self.admin;
        self.provider = self.deploy("LendingPoolAddressesProvider", "judge".to_owned().abi_encode())?;
        let provider = self.provider;
        self.send(provider, &ProviderV2::setPoolAdminCall { admin })?;
        self.send(provider, &ProviderV2::setEmergencyAdminCall { admin })?;
        let pool = self.deploy("LendingPool", Vec::new())?;
        self.send(provider, &ProviderV2::setLendingPoolImplCall { pool })?;
        let pool = self.evm.read(provider, &ProviderV2::getLendingPoolCall {})?;
        let configurator = self.deploy("LendingPoolConfigurator", Vec::new())?;
        self.send(provider, &ProviderV2::setLendingPoolConfiguratorImplCall { configurator })?;
        let configurator = self.evm.read(provider, &ProviderV2::getLendingPoolConfiguratorCall {})?;
        let manager = self.deploy("LendingPoolCollateralManager", Vec::new())?;
        self.send(provider, &ProviderV2::setLendingPoolCollateralManagerCall { manager })?;
        let rates = self.deploy("LendingRateOracle", Vec::new())?;
        self.send(provider, &ProviderV2::setLendingRateOracleCall { lendingRateOracle: rates })?;
        let mut assets = Vec::new();
        for terms in RESERVES.iter().chain([&IDLE]) {
            let symbol = terms.symbol.to_owned();
            let arguments = (symbol.clone(), symbol, U256::from(terms.decimals)).abi_encode_params();
            assets.push(self.deploy("MintableERC20", arguments)?);
        }
        let nothing: Vec<Address> = Vec::new();
        let arguments = (nothing.clone(), nothing, Address::ZERO, assets[0]).abi_encode_params();
        let oracle = self.deploy("AaveOracle", arguments)?;
        self.send(provider, &ProviderV2::setPriceOracleCall { priceOracle: oracle })?;
        let mut world = World {
            evm: Evm::new(&Parameters::default()),
            release: Release::V2,
            admin,
            treasury: self.treasury,
            pool,
            configurator,
            oracle,
            sentinel: Address::ZERO,
            sequencer: Address::ZERO,
            reserves: Vec::new(),
            category_source: None,
            // Where the first asset, ether, is worth two thousand dollars.
            dollar: U256::from(500_000_000_000_000u64),
        };
        for (terms, asset) in RESERVES.iter().chain([&IDLE]).zip(assets) {
            let rate = RateOracle::setMarketBorrowRateCall { asset, rate: ray(9) };
            self.send(rates, &rate)?;
            let site = self.list_second(terms, asset, &world)?;
            world.reserves.push(site);
        }
        let asset = world.reserves[RESERVES.len()].asset;
        self.send(configurator, &ConfiguratorV2::freezeReserveCall { asset })?;
        self.send(configurator, &ConfiguratorV2::deactivateReserveCall { asset })?;
        world.evm = self.evm;
        Ok(world)
    }

    /// Rates as those of the other releases.
    fn list_second(&mut self, terms: &Terms, asset: Address, world: &World) -> anyhow::Result<Site> {
        let price = U256::from(terms.price) * world.dollar / U256::from(100_000_000);
        let aggregator = self.deploy("MockAggregator", price.abi_encode())?;
        let sources = Oracle::setAssetSourcesCall { assets: vec![asset], sources: vec![aggregator] };
        self.send(world.oracle, &sources)?;
        let arguments = (self.provider, ray(80), ray(20), ray(4), ray(300), ray(5), ray(200));
        let strategy = self.deploy("DefaultReserveInterestRateStrategy", arguments.abi_encode_params())?;
        let (pool, treasury, symbol) = (world.pool, self.treasury, terms.symbol.to_owned());
        let supply =
            (pool, asset, treasury, symbol.clone(), symbol.clone(), Address::ZERO).abi_encode_params();
        let debt = (pool, asset, symbol.clone(), symbol, Address::ZERO).abi_encode_params();
        let call = ConfiguratorV2::initReserveCall {
            aTokenImpl: self.deploy("AToken", supply)?,
            stableDebtTokenImpl: self.deploy("StableDebtToken", debt.clone())?,
            variableDebtTokenImpl: self.deploy("VariableDebtToken", debt)?,
            underlyingAssetDecimals: terms.decimals,
            interestRateStrategyAddress: strategy,
        };
        let configurator = world.configurator;
        self.send(configurator, &call)?;
        self.send(
            configurator,
            &Configurator::configureReserveAsCollateralCall {
                asset,
                ltv: U256::from(terms.ltv),
                liquidationThreshold: U256::from(terms.threshold),
                liquidationBonus: U256::from(terms.bonus),
            },
        )?;
        let borrowing = ConfiguratorV2::enableBorrowingOnReserveCall { asset, stableBorrowRateEnabled: true };
        self.send(configurator, &borrowing)?;
        let factor = U256::from(if terms.symbol == GREEDY { 10_000 } else { 1_500 });
        let factor = Configurator::setReserveFactorCall { asset, newReserveFactor: factor };
        self.send(configurator, &factor)?;
        let data = self.evm.read(pool, &PoolV2::getReserveDataCall { asset })?;
        Ok(Site {
            asset,
            a_token: data.aTokenAddress,
            variable_debt: data.variableDebtTokenAddress,
            stable_debt: data.stableDebtTokenAddress,
            aggregator,
            decimals: terms.decimals,
        })
    }
}
