//! The second version: other contracts, in another order, with prices in ether.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolValue;

use super::contracts::{Configurator, ConfiguratorV2, PoolV2, ProviderV2, RateOracle};
use super::deployment::{Builder, Protocol, terms};
use super::{Ground, Terms};

/// In ether, of which the first asset's is worth two thousand dollars. Eighteen decimals.
pub(super) const DOLLAR: U256 = U256::from_limbs([500_000_000_000_000, 0, 0, 0]);

/// Frozen from the beginning, so that nobody has anything of it, and it may be inactive.
pub(super) const IDLE: Terms = terms("IDL", 18, 100_000_000, [5_000, 6_000, 10_500, 0], 0);

/// All of this reserve's interest goes to the treasury: while suppliers earn nothing, its borrow index stands still.
const GREEDY: &str = "ODD";

fn ray(percent: u64) -> U256 {
    U256::from(10).pow(U256::from(25)) * U256::from(percent)
}

impl<G: Ground> Builder<'_, G> {
    /// Everything but reserves.
    pub(super) fn protocol_second(&mut self, ether: Address) -> anyhow::Result<Protocol> {
        let admin = self.admin;
        let provider = self.deploy("LendingPoolAddressesProvider", "judge".to_owned().abi_encode())?;
        self.send(provider, &ProviderV2::setPoolAdminCall { admin })?;
        self.send(provider, &ProviderV2::setEmergencyAdminCall { admin })?;
        let pool = self.deploy("LendingPool", Vec::new())?;
        self.send(provider, &ProviderV2::setLendingPoolImplCall { pool })?;
        let pool = self.ground.read(provider, &ProviderV2::getLendingPoolCall {})?;
        let configurator = self.deploy("LendingPoolConfigurator", Vec::new())?;
        self.send(provider, &ProviderV2::setLendingPoolConfiguratorImplCall { configurator })?;
        let configurator = self.ground.read(provider, &ProviderV2::getLendingPoolConfiguratorCall {})?;
        let manager = self.deploy("LendingPoolCollateralManager", Vec::new())?;
        self.send(provider, &ProviderV2::setLendingPoolCollateralManagerCall { manager })?;
        let rates = self.deploy("LendingRateOracle", Vec::new())?;
        self.send(provider, &ProviderV2::setLendingRateOracleCall { lendingRateOracle: rates })?;
        let nothing: Vec<Address> = Vec::new();
        let arguments = (nothing.clone(), nothing, Address::ZERO, ether).abi_encode_params();
        let oracle = self.deploy("AaveOracle", arguments)?;
        self.send(provider, &ProviderV2::setPriceOracleCall { priceOracle: oracle })?;
        Ok(Protocol { provider, pool, configurator, oracle })
    }

    /// Rates as those of the other releases. The price is known by then.
    pub(super) fn init_reserve_second(
        &mut self,
        terms: &Terms,
        asset: Address,
        protocol: &Protocol,
    ) -> anyhow::Result<()> {
        let Protocol { provider, pool, configurator, .. } = *protocol;
        let rates = self.ground.read(provider, &ProviderV2::getLendingRateOracleCall {})?;
        self.send(rates, &RateOracle::setMarketBorrowRateCall { asset, rate: ray(9) })?;
        let arguments = (provider, ray(80), ray(20), ray(4), ray(300), ray(5), ray(200));
        let strategy = self.deploy("DefaultReserveInterestRateStrategy", arguments.abi_encode_params())?;
        let (treasury, symbol) = (self.treasury, terms.symbol.to_owned());
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
        self.send(configurator, &call)
    }

    pub(super) fn enable_borrowing_second(
        &mut self,
        terms: &Terms,
        asset: Address,
        configurator: Address,
    ) -> anyhow::Result<()> {
        let borrowing = ConfiguratorV2::enableBorrowingOnReserveCall { asset, stableBorrowRateEnabled: true };
        self.send(configurator, &borrowing)?;
        let factor = U256::from(if terms.symbol == GREEDY { 10_000 } else { 1_500 });
        self.send(configurator, &Configurator::setReserveFactorCall { asset, newReserveFactor: factor })
    }

    /// What a reserve's supply, stable and variable debt are told in.
    pub(super) fn tokens_second(&mut self, asset: Address, pool: Address) -> anyhow::Result<[Address; 3]> {
        let data = self.ground.read(pool, &PoolV2::getReserveDataCall { asset })?;
        Ok([data.aTokenAddress, data.stableDebtTokenAddress, data.variableDebtTokenAddress])
    }

    /// A reserve that is frozen and inactive.
    pub(super) fn put_aside(&mut self, protocol: &Protocol, asset: Address) -> anyhow::Result<()> {
        self.send(protocol.configurator, &ConfiguratorV2::freezeReserveCall { asset })?;
        self.send(protocol.configurator, &ConfiguratorV2::deactivateReserveCall { asset })
    }
}
