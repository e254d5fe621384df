//! Aave V3 and V2: what their contracts say in logs that liquidations depend on, and what they are asked.
//!
//! Sources: `IPool.sol`, `IPoolConfigurator.sol`, `IScaledBalanceToken.sol`, `IAToken.sol`, `IStableDebtToken.sol`,
//! `IAaveOracle.sol` and `IPriceOracleSentinel.sol` of `@aave/core-v3` 1.19.3 and `@aave-dao/aave-v3-origin` 3.6.0. What V2 has
//! otherwise stands in `second`.

#![expect(clippy::too_many_arguments, reason = "how many there are is the contracts' business")]

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent, sol};
use headwater_events::{LendingLog, Log, ScaledChange};

mod second;

use crate::Malformed;
use crate::logs::{
    AAVE_COLLATERAL_DISABLED, AAVE_COLLATERAL_ENABLED, AAVE_LIQUIDATION_CALL, AAVE_RESERVE_DATA_UPDATED,
    AAVE_USER_E_MODE_SET, AGGREGATOR_CONFIRMED, ANSWER_UPDATED,
};

sol! {
    interface IPool {
        struct ReserveData {
            uint256 configuration;
            uint128 liquidityIndex;
            uint128 currentLiquidityRate;
            uint128 variableBorrowIndex;
            uint128 currentVariableBorrowRate;
            uint128 currentStableBorrowRate;
            uint40 lastUpdateTimestamp;
            uint16 id;
            address aTokenAddress;
            address stableDebtTokenAddress;
            address variableDebtTokenAddress;
            address interestRateStrategyAddress;
            uint128 accruedToTreasury;
            uint128 unbacked;
            uint128 isolationModeTotalDebt;
        }

        struct EModeCategory {
            uint16 ltv;
            uint16 liquidationThreshold;
            uint16 liquidationBonus;
            address priceSource;
            string label;
        }

        event ReserveDataUpdated(address indexed reserve, uint256 liquidityRate, uint256 stableBorrowRate, uint256 variableBorrowRate, uint256 liquidityIndex, uint256 variableBorrowIndex);
        event ReserveUsedAsCollateralEnabled(address indexed reserve, address indexed user);
        event ReserveUsedAsCollateralDisabled(address indexed reserve, address indexed user);
        event UserEModeSet(address indexed user, uint8 categoryId);
        event LiquidationCall(address indexed collateralAsset, address indexed debtAsset, address indexed user, uint256 debtToCover, uint256 liquidatedCollateralAmount, address liquidator, bool receiveAToken);

        function POOL_REVISION() external view returns (uint256);
        function ADDRESSES_PROVIDER() external view returns (address);
        function getReservesList() external view returns (address[] memory);
        function getReserveData(address asset) external view returns (ReserveData memory);
        function getLiquidationGracePeriod(address asset) external view returns (uint40);
        function getEModeCategoryData(uint8 id) external view returns (EModeCategory memory);
        function getEModeCategoryCollateralBitmap(uint8 id) external view returns (uint128);
        function getEModeCategoryLtvzeroBitmap(uint8 id) external view returns (uint128);
        function getUserConfiguration(address user) external view returns (uint256);
        function getUserEMode(address user) external view returns (uint256);
        function getUserAccountData(address user) external view returns (uint256 totalCollateralBase, uint256 totalDebtBase, uint256 availableBorrowsBase, uint256 currentLiquidationThreshold, uint256 ltv, uint256 healthFactor);
    }

    interface IConfigurator {
        event ReserveInitialized(address indexed asset, address indexed aToken, address stableDebtToken, address variableDebtToken, address interestRateStrategyAddress);
        event ReserveDropped(address indexed asset);
        event CollateralConfigurationChanged(address indexed asset, uint256 ltv, uint256 liquidationThreshold, uint256 liquidationBonus);
        event ReserveActive(address indexed asset, bool active);
        event ReserveFrozen(address indexed asset, bool frozen);
        event ReservePaused(address indexed asset, bool paused);
        event LiquidationProtocolFeeChanged(address indexed asset, uint256 oldFee, uint256 newFee);
        event LiquidationGracePeriodChanged(address indexed asset, uint40 gracePeriodUntil);
        event LiquidationGracePeriodDisabled(address indexed asset);
        event EModeAssetCategoryChanged(address indexed asset, uint8 oldCategoryId, uint8 newCategoryId);
        event EModeCategoryAdded(uint8 indexed categoryId, uint256 ltv, uint256 liquidationThreshold, uint256 liquidationBonus, address oracle, string label);
        event AssetCollateralInEModeChanged(address indexed asset, uint8 categoryId, bool collateral);
        event AssetLtvzeroInEModeChanged(address indexed asset, uint8 categoryId, bool ltvzero);
    }

    interface IScaledToken {
        event Mint(address indexed caller, address indexed onBehalfOf, uint256 value, uint256 balanceIncrease, uint256 index);
        event Burn(address indexed from, address indexed target, uint256 value, uint256 balanceIncrease, uint256 index);
        event BalanceTransfer(address indexed from, address indexed to, uint256 value, uint256 index);

        function scaledBalanceOf(address user) external view returns (uint256);
        function scaledTotalSupply() external view returns (uint256);
    }

    interface IStableToken {
        event Mint(address indexed user, address indexed onBehalfOf, uint256 amount, uint256 currentBalance, uint256 balanceIncrease, uint256 newRate, uint256 avgStableRate, uint256 newTotalSupply);
        event Burn(address indexed from, uint256 amount, uint256 currentBalance, uint256 balanceIncrease, uint256 avgStableRate, uint256 newTotalSupply);

        function principalBalanceOf(address user) external view returns (uint256);
        function getUserStableRate(address user) external view returns (uint256);
        function getUserLastUpdated(address user) external view returns (uint40);
    }

    interface IProvider {
        event PriceOracleUpdated(address indexed oldAddress, address indexed newAddress);
        event PriceOracleSentinelUpdated(address indexed oldAddress, address indexed newAddress);
        event AddressSet(bytes32 indexed id, address indexed oldAddress, address indexed newAddress);
        event AddressSetAsProxy(bytes32 indexed id, address indexed proxyAddress, address oldImplementationAddress, address indexed newImplementationAddress);

        function getPoolConfigurator() external view returns (address);
        function getPriceOracle() external view returns (address);
        function getPriceOracleSentinel() external view returns (address);
    }

    interface IOracle {
        event AssetSourceUpdated(address indexed asset, address indexed source);
        event FallbackOracleUpdated(address indexed fallbackOracle);

        function getAssetPrice(address asset) external view returns (uint256);
        function getSourceOfAsset(address asset) external view returns (address);
    }

    interface ISentinel {
        event SequencerOracleUpdated(address newSequencerOracle);
        event GracePeriodUpdated(uint256 newGracePeriod);

        function isLiquidationAllowed() external view returns (bool);
        function getSequencerOracle() external view returns (address);
        function getGracePeriod() external view returns (uint256);
    }

    interface IProxy {
        event Upgraded(address indexed implementation);
    }

    interface IAggregator {
        event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);
    }
}

/// The first topics of all logs that are read here and not decoded as actions.
pub const TOPICS: [B256; V3_TOPICS.len() + second::TOPICS.len()] = {
    let mut all = [B256::ZERO; V3_TOPICS.len() + second::TOPICS.len()];
    let mut next = 0;
    while next < all.len() {
        let own = next < V3_TOPICS.len();
        all[next] = if own { V3_TOPICS[next] } else { second::TOPICS[next - V3_TOPICS.len()] };
        next += 1;
    }
    all
};

const V3_TOPICS: [B256; 26] = [
    IScaledToken::Mint::SIGNATURE_HASH,
    IScaledToken::Burn::SIGNATURE_HASH,
    IScaledToken::BalanceTransfer::SIGNATURE_HASH,
    IStableToken::Mint::SIGNATURE_HASH,
    IStableToken::Burn::SIGNATURE_HASH,
    IConfigurator::ReserveInitialized::SIGNATURE_HASH,
    IConfigurator::ReserveDropped::SIGNATURE_HASH,
    IConfigurator::CollateralConfigurationChanged::SIGNATURE_HASH,
    IConfigurator::ReserveActive::SIGNATURE_HASH,
    IConfigurator::ReserveFrozen::SIGNATURE_HASH,
    IConfigurator::ReservePaused::SIGNATURE_HASH,
    IConfigurator::LiquidationProtocolFeeChanged::SIGNATURE_HASH,
    IConfigurator::LiquidationGracePeriodChanged::SIGNATURE_HASH,
    IConfigurator::LiquidationGracePeriodDisabled::SIGNATURE_HASH,
    IConfigurator::EModeAssetCategoryChanged::SIGNATURE_HASH,
    IConfigurator::EModeCategoryAdded::SIGNATURE_HASH,
    IConfigurator::AssetCollateralInEModeChanged::SIGNATURE_HASH,
    IConfigurator::AssetLtvzeroInEModeChanged::SIGNATURE_HASH,
    IProvider::PriceOracleUpdated::SIGNATURE_HASH,
    IProvider::PriceOracleSentinelUpdated::SIGNATURE_HASH,
    IProvider::AddressSetAsProxy::SIGNATURE_HASH,
    IOracle::AssetSourceUpdated::SIGNATURE_HASH,
    IOracle::FallbackOracleUpdated::SIGNATURE_HASH,
    ISentinel::SequencerOracleUpdated::SIGNATURE_HASH,
    ISentinel::GracePeriodUpdated::SIGNATURE_HASH,
    IProxy::Upgraded::SIGNATURE_HASH,
];

/// The first topics of the logs that name who has something in a pool, as its tokens emit them.
pub const HOLDERS: [B256; 5] = [
    IScaledToken::Mint::SIGNATURE_HASH,
    IScaledToken::BalanceTransfer::SIGNATURE_HASH,
    IStableToken::Mint::SIGNATURE_HASH,
    second::SUPPLY_MINTED,
    second::DEBT_MINTED,
];

/// What a log of a pool's contracts says; `None` where a liquidation does not depend on it. Only logs of contracts that are
/// known to belong to a pool are to be asked about: anybody can emit these shapes.
///
/// # Errors
///
/// [`Malformed`] when it carries a known topic with arguments that do not belong to it.
pub fn log(log: &Log) -> Result<Option<LendingLog>, Malformed> {
    let Some(topic) = log.topics.first() else { return Ok(None) };
    Ok(Some(match *topic {
        AAVE_RESERVE_DATA_UPDATED => rates(log)?,
        AAVE_COLLATERAL_ENABLED => {
            let IPool::ReserveUsedAsCollateralEnabled { reserve, user } = read(log)?;
            LendingLog::CollateralUse { asset: reserve, account: user, enabled: true }
        }
        AAVE_COLLATERAL_DISABLED => {
            let IPool::ReserveUsedAsCollateralDisabled { reserve, user } = read(log)?;
            LendingLog::CollateralUse { asset: reserve, account: user, enabled: false }
        }
        AAVE_USER_E_MODE_SET => {
            let IPool::UserEModeSet { user, categoryId } = read(log)?;
            LendingLog::EModeSet { account: user, category: categoryId }
        }
        AAVE_LIQUIDATION_CALL => {
            let IPool::LiquidationCall { collateralAsset, receiveAToken, .. } = read(log)?;
            LendingLog::Liquidated { collateral: collateralAsset, receive_a_token: receiveAToken }
        }
        ANSWER_UPDATED => {
            let IAggregator::AnswerUpdated { current, updatedAt, .. } = read(log)?;
            LendingLog::Answered { answer: current, updated_at: updatedAt }
        }
        AGGREGATOR_CONFIRMED => LendingLog::Reshaped,
        _ => {
            let said = of_token(log, topic)?.or(of_configurator(log, topic)?).or(of_others(topic));
            return Ok(said.or(second::log(log, topic)?));
        }
    }))
}

fn read<E: SolEvent>(log: &Log) -> Result<E, Malformed> {
    let event = E::decode_raw_log_validate(log.topics.iter().copied(), &log.data)?;
    let (expected, found) = (event.encode_data().len(), log.data.len());
    if expected != found {
        return Err(Malformed::DataLength { expected, found });
    }
    Ok(event)
}

fn rates(log: &Log) -> Result<LendingLog, Malformed> {
    let told: IPool::ReserveDataUpdated = read(log)?;
    Ok(LendingLog::RatesUpdated {
        asset: told.reserve,
        liquidity_rate: told.liquidityRate,
        variable_borrow_rate: told.variableBorrowRate,
        liquidity_index: told.liquidityIndex,
        variable_borrow_index: told.variableBorrowIndex,
    })
}

fn of_token(log: &Log, topic: &B256) -> Result<Option<LendingLog>, Malformed> {
    Ok(Some(match *topic {
        IScaledToken::Mint::SIGNATURE_HASH => {
            let IScaledToken::Mint { onBehalfOf: account, value, balanceIncrease, index, .. } = read(log)?;
            LendingLog::Minted(ScaledChange { account, value, balance_increase: balanceIncrease, index })
        }
        IScaledToken::Burn::SIGNATURE_HASH => {
            let IScaledToken::Burn { from: account, value, balanceIncrease, index, .. } = read(log)?;
            LendingLog::Burned(ScaledChange { account, value, balance_increase: balanceIncrease, index })
        }
        IScaledToken::BalanceTransfer::SIGNATURE_HASH => {
            let IScaledToken::BalanceTransfer { from, to, value, .. } = read(log)?;
            LendingLog::Transferred { from, to, value }
        }
        IStableToken::Mint::SIGNATURE_HASH => {
            let told: IStableToken::Mint = read(log)?;
            LendingLog::StableMinted {
                account: told.onBehalfOf,
                amount: told.amount,
                balance_increase: told.balanceIncrease,
                new_rate: told.newRate,
                total_supply: told.newTotalSupply,
                average_rate: told.avgStableRate,
            }
        }
        IStableToken::Burn::SIGNATURE_HASH => {
            let told: IStableToken::Burn = read(log)?;
            LendingLog::StableBurned {
                account: told.from,
                amount: told.amount,
                total_supply: told.newTotalSupply,
                average_rate: told.avgStableRate,
            }
        }
        _ => return Ok(None),
    }))
}

fn of_configurator(log: &Log, topic: &B256) -> Result<Option<LendingLog>, Malformed> {
    Ok(Some(match *topic {
        IConfigurator::CollateralConfigurationChanged::SIGNATURE_HASH => {
            let told: IConfigurator::CollateralConfigurationChanged = read(log)?;
            LendingLog::CollateralTerms {
                asset: told.asset,
                ltv: basis_points(told.ltv)?,
                liquidation_threshold: basis_points(told.liquidationThreshold)?,
                liquidation_bonus: basis_points(told.liquidationBonus)?,
            }
        }
        IConfigurator::LiquidationProtocolFeeChanged::SIGNATURE_HASH => {
            let IConfigurator::LiquidationProtocolFeeChanged { asset, newFee, .. } = read(log)?;
            LendingLog::ProtocolFee { asset, fee: basis_points(newFee)? }
        }
        IConfigurator::ReserveActive::SIGNATURE_HASH => {
            let IConfigurator::ReserveActive { asset, active } = read(log)?;
            LendingLog::Active(asset, active)
        }
        IConfigurator::ReserveFrozen::SIGNATURE_HASH => {
            let IConfigurator::ReserveFrozen { asset, frozen } = read(log)?;
            LendingLog::Frozen(asset, frozen)
        }
        IConfigurator::ReservePaused::SIGNATURE_HASH => {
            let IConfigurator::ReservePaused { asset, paused } = read(log)?;
            LendingLog::Paused(asset, paused)
        }
        IConfigurator::LiquidationGracePeriodChanged::SIGNATURE_HASH => {
            let IConfigurator::LiquidationGracePeriodChanged { asset, gracePeriodUntil } = read(log)?;
            LendingLog::GracePeriod { asset, until: gracePeriodUntil.to() }
        }
        IConfigurator::LiquidationGracePeriodDisabled::SIGNATURE_HASH => {
            let IConfigurator::LiquidationGracePeriodDisabled { asset } = read(log)?;
            LendingLog::GracePeriod { asset, until: 0 }
        }
        _ => return of_categories(log, topic),
    }))
}

fn of_categories(log: &Log, topic: &B256) -> Result<Option<LendingLog>, Malformed> {
    Ok(Some(match *topic {
        IConfigurator::EModeCategoryAdded::SIGNATURE_HASH => {
            let told: IConfigurator::EModeCategoryAdded = read(log)?;
            LendingLog::EModeCategory {
                category: told.categoryId,
                ltv: basis_points(told.ltv)?,
                liquidation_threshold: basis_points(told.liquidationThreshold)?,
                liquidation_bonus: basis_points(told.liquidationBonus)?,
                price_source: told.oracle,
            }
        }
        IConfigurator::EModeAssetCategoryChanged::SIGNATURE_HASH => {
            let IConfigurator::EModeAssetCategoryChanged { asset, newCategoryId, .. } = read(log)?;
            LendingLog::EModeAssetCategory { asset, category: newCategoryId }
        }
        IConfigurator::AssetCollateralInEModeChanged::SIGNATURE_HASH => {
            let IConfigurator::AssetCollateralInEModeChanged { asset, categoryId, collateral } = read(log)?;
            LendingLog::CollateralInEMode { asset, category: categoryId, collateral }
        }
        IConfigurator::AssetLtvzeroInEModeChanged::SIGNATURE_HASH => {
            let IConfigurator::AssetLtvzeroInEModeChanged { asset, categoryId, ltvzero } = read(log)?;
            LendingLog::LtvZeroInEMode { asset, category: categoryId, ltv_zero: ltvzero }
        }
        _ => return Ok(None),
    }))
}

/// What only the node can tell the consequences of.
fn of_others(topic: &B256) -> Option<LendingLog> {
    let reshapes = [
        IConfigurator::ReserveInitialized::SIGNATURE_HASH,
        IConfigurator::ReserveDropped::SIGNATURE_HASH,
        IProvider::PriceOracleUpdated::SIGNATURE_HASH,
        IProvider::PriceOracleSentinelUpdated::SIGNATURE_HASH,
        IProvider::AddressSetAsProxy::SIGNATURE_HASH,
        IOracle::AssetSourceUpdated::SIGNATURE_HASH,
        IOracle::FallbackOracleUpdated::SIGNATURE_HASH,
        ISentinel::SequencerOracleUpdated::SIGNATURE_HASH,
        ISentinel::GracePeriodUpdated::SIGNATURE_HASH,
        IProxy::Upgraded::SIGNATURE_HASH,
    ];
    reshapes.contains(topic).then_some(LendingLog::Reshaped)
}

fn basis_points(value: U256) -> Result<u16, Malformed> {
    u16::try_from(value).map_err(|_| Malformed::OutOfRange("uint16"))
}

/// Who has something in a token of a pool behind a log of [`HOLDERS`]; nobody where it is none.
pub fn holders(topics: &[B256]) -> impl Iterator<Item = Address> {
    let (first, second) = (topics.get(1).copied(), topics.get(2).copied());
    // A supplier of V2 stands alone.
    let moved = [IScaledToken::BalanceTransfer::SIGNATURE_HASH, second::SUPPLY_MINTED];
    first
        .filter(|_| topics.first().is_some_and(|topic| moved.contains(topic)))
        .into_iter()
        .chain(second)
        .map(Address::from_word)
}

/// Pool: which release it runs.
pub fn pool_revision() -> Bytes {
    IPool::POOL_REVISIONCall {}.abi_encode().into()
}

/// Pool of V2: which release it runs.
pub fn lending_pool_revision() -> Bytes {
    second::revision()
}

/// Pool of V2: where the other contracts are registered.
pub fn lending_pool_provider() -> Bytes {
    second::provider()
}

/// Pool of V2: whether all of it is paused.
pub fn lending_pool_paused() -> Bytes {
    second::paused()
}

/// Provider of V2: the configurator.
pub fn lending_pool_configurator() -> Bytes {
    second::configurator()
}

/// Oracle of V2: of which token the price is one ether.
pub fn oracle_weth() -> Bytes {
    second::weth()
}

/// Stable debt token of V2: what all owe.
pub fn stable_supply() -> Bytes {
    second::supply_data()
}

/// The answer of [`stable_supply`]: principal, average rate and when it changed last.
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_stable_supply(answer: &[u8]) -> Result<(U256, U256, u64), Malformed> {
    second::decode_supply_data(answer)
}

/// The answer of [`reserve_data`] of a pool of V2.
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_reserve_data_v2(answer: &[u8]) -> Result<ReserveData, Malformed> {
    second::decode_reserve_data(answer)
}

/// The answer of [`lending_pool_paused`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_paused(answer: &[u8]) -> Result<bool, Malformed> {
    second::decode_paused(answer)
}

/// Pool: where the other contracts are registered.
pub fn addresses_provider() -> Bytes {
    IPool::ADDRESSES_PROVIDERCall {}.abi_encode().into()
}

/// Pool: its assets, in the order of their places.
pub fn reserves_list() -> Bytes {
    IPool::getReservesListCall {}.abi_encode().into()
}

/// Pool: an asset.
pub fn reserve_data(asset: Address) -> Bytes {
    IPool::getReserveDataCall { asset }.abi_encode().into()
}

/// Pool: until when an asset's liquidations rest.
pub fn grace_period(asset: Address) -> Bytes {
    IPool::getLiquidationGracePeriodCall { asset }.abi_encode().into()
}

/// Pool: an e-mode category.
pub fn e_mode_category(id: u8) -> Bytes {
    IPool::getEModeCategoryDataCall { id }.abi_encode().into()
}

/// Pool: what is collateral in a category.
pub fn e_mode_collateral(id: u8) -> Bytes {
    IPool::getEModeCategoryCollateralBitmapCall { id }.abi_encode().into()
}

/// Pool: what nothing is lent against in a category.
pub fn e_mode_ltv_zero(id: u8) -> Bytes {
    IPool::getEModeCategoryLtvzeroBitmapCall { id }.abi_encode().into()
}

/// Pool: what an account uses.
pub fn user_configuration(account: Address) -> Bytes {
    IPool::getUserConfigurationCall { user: account }.abi_encode().into()
}

/// Pool: an account's category.
pub fn user_e_mode(account: Address) -> Bytes {
    IPool::getUserEModeCall { user: account }.abi_encode().into()
}

/// Pool: an account in six numbers.
pub fn user_account_data(account: Address) -> Bytes {
    IPool::getUserAccountDataCall { user: account }.abi_encode().into()
}

/// Provider: the configurator.
pub fn pool_configurator() -> Bytes {
    IProvider::getPoolConfiguratorCall {}.abi_encode().into()
}

/// Provider: the oracle.
pub fn price_oracle() -> Bytes {
    IProvider::getPriceOracleCall {}.abi_encode().into()
}

/// Provider: the sentinel; the zero address where there is none.
pub fn price_oracle_sentinel() -> Bytes {
    IProvider::getPriceOracleSentinelCall {}.abi_encode().into()
}

/// Oracle: the price of an asset or a category's price source.
pub fn asset_price(asset: Address) -> Bytes {
    IOracle::getAssetPriceCall { asset }.abi_encode().into()
}

/// Oracle: who is asked for that price.
pub fn source_of_asset(asset: Address) -> Bytes {
    IOracle::getSourceOfAssetCall { asset }.abi_encode().into()
}

/// Sentinel: who is asked about the sequencer.
pub fn sequencer_oracle() -> Bytes {
    ISentinel::getSequencerOracleCall {}.abi_encode().into()
}

/// Sentinel: seconds until liquidations go on.
pub fn sentinel_grace_period() -> Bytes {
    ISentinel::getGracePeriodCall {}.abi_encode().into()
}

/// Scaled token: a balance without its interest.
pub fn scaled_balance(account: Address) -> Bytes {
    IScaledToken::scaledBalanceOfCall { user: account }.abi_encode().into()
}

/// Scaled token: all of them.
pub fn scaled_total_supply() -> Bytes {
    IScaledToken::scaledTotalSupplyCall {}.abi_encode().into()
}

/// Stable debt token: a debt as of its last change.
pub fn principal_balance(account: Address) -> Bytes {
    IStableToken::principalBalanceOfCall { user: account }.abi_encode().into()
}

/// Stable debt token: an account's rate.
pub fn stable_rate(account: Address) -> Bytes {
    IStableToken::getUserStableRateCall { user: account }.abi_encode().into()
}

/// Stable debt token: when a debt changed last.
pub fn stable_last_update(account: Address) -> Bytes {
    IStableToken::getUserLastUpdatedCall { user: account }.abi_encode().into()
}

/// What `getReserveData` says, as far as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReserveData {
    /// `ReserveConfiguration`, as it is stored.
    pub configuration: U256,
    /// Rays.
    pub liquidity_index: U256,
    /// Rays a year.
    pub liquidity_rate: U256,
    /// Rays.
    pub variable_borrow_index: U256,
    /// Rays a year.
    pub variable_borrow_rate: U256,
    /// Seconds since the Unix epoch.
    pub last_update: u64,
    /// The place in the pool's list.
    pub id: u16,
    /// What suppliers hold.
    pub a_token: Address,
    /// What borrowers at rates of their own hold; absent from 3.2 on.
    pub stable_debt: Option<Address>,
    /// What borrowers hold.
    pub variable_debt: Address,
}

/// The answer of [`reserve_data`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_reserve_data(answer: &[u8]) -> Result<ReserveData, Malformed> {
    let told = IPool::getReserveDataCall::abi_decode_returns_validate(answer)?;
    Ok(ReserveData {
        configuration: told.configuration,
        liquidity_index: U256::from(told.liquidityIndex),
        liquidity_rate: U256::from(told.currentLiquidityRate),
        variable_borrow_index: U256::from(told.variableBorrowIndex),
        variable_borrow_rate: U256::from(told.currentVariableBorrowRate),
        last_update: told.lastUpdateTimestamp.to(),
        id: told.id,
        a_token: told.aTokenAddress,
        stable_debt: Some(told.stableDebtTokenAddress).filter(|token| !token.is_zero()),
        variable_debt: told.variableDebtTokenAddress,
    })
}

/// What `getEModeCategoryData` says, as far as it is needed: threshold, bonus and the rest in basis points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CategoryData {
    /// What may be borrowed.
    pub ltv: u16,
    /// From where on it is liquidated.
    pub liquidation_threshold: u16,
    /// The whole included.
    pub liquidation_bonus: u16,
    /// Where the price of all its assets is asked for.
    pub price_source: Option<Address>,
}

/// The answer of [`e_mode_category`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_e_mode_category(answer: &[u8]) -> Result<CategoryData, Malformed> {
    let told = IPool::getEModeCategoryDataCall::abi_decode_returns_validate(answer)?;
    Ok(CategoryData {
        ltv: told.ltv,
        liquidation_threshold: told.liquidationThreshold,
        liquidation_bonus: told.liquidationBonus,
        price_source: Some(told.priceSource).filter(|source| !source.is_zero()),
    })
}

/// The answer of [`reserves_list`].
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_addresses(answer: &[u8]) -> Result<Vec<Address>, Malformed> {
    Ok(IPool::getReservesListCall::abi_decode_returns_validate(answer)?)
}

/// The answer of [`user_account_data`], in the order of the contract.
///
/// # Errors
///
/// [`Malformed`] when it is none.
pub fn decode_user_account_data(answer: &[u8]) -> Result<[U256; 6], Malformed> {
    let told = IPool::getUserAccountDataCall::abi_decode_returns_validate(answer)?;
    Ok([
        told.totalCollateralBase,
        told.totalDebtBase,
        told.availableBorrowsBase,
        told.currentLiquidationThreshold,
        told.ltv,
        told.healthFactor,
    ])
}

#[cfg(test)]
mod tests {
    use headwater_events::Topics;

    use super::*;

    fn check(event: impl SolEvent, expected: Option<LendingLog>) {
        let encoded = event.encode_log_data();
        let log = Log {
            address: Address::ZERO,
            topics: encoded.topics().iter().copied().collect::<Topics>(),
            data: encoded.data,
            transaction_index: 0,
            log_index: 0,
        };
        assert_eq!(super::log(&log), Ok(expected.clone()));
        let longer = Log { data: [&log.data[..], &[1]].concat().into(), ..log.clone() };
        let reshapes = expected == Some(LendingLog::Reshaped);
        assert!(super::log(&longer).is_err() || reshapes || expected.is_none(), "{expected:?}");
        assert!(logs_pushed(&log) || expected.is_none(), "{expected:?} would not be pushed");
    }

    fn logs_pushed(log: &Log) -> bool {
        log.topics.first().is_some_and(|topic| crate::logs::FOLLOWED.contains(topic))
    }

    fn word(number: u64) -> U256 {
        U256::from(number)
    }

    #[test]
    fn a_log_of_a_token_says_whose_balance_changed() {
        let [one, other] = [1, 2].map(Address::repeat_byte);
        let change =
            ScaledChange { account: other, value: word(3), balance_increase: word(4), index: word(5) };
        let mint = IScaledToken::Mint {
            caller: one,
            onBehalfOf: other,
            value: word(3),
            balanceIncrease: word(4),
            index: word(5),
        };
        check(mint, Some(LendingLog::Minted(change)));
        let burn = IScaledToken::Burn {
            from: other,
            target: one,
            value: word(3),
            balanceIncrease: word(4),
            index: word(5),
        };
        check(burn, Some(LendingLog::Burned(change)));
        let moved = IScaledToken::BalanceTransfer { from: one, to: other, value: word(3), index: word(5) };
        check(moved, Some(LendingLog::Transferred { from: one, to: other, value: word(3) }));
    }

    #[test]
    fn a_change_of_terms_says_which() {
        let asset = Address::repeat_byte(7);
        check(IConfigurator::ReservePaused { asset, paused: true }, Some(LendingLog::Paused(asset, true)));
        let until = alloy_primitives::Uint::from(9);
        check(
            IConfigurator::LiquidationGracePeriodChanged { asset, gracePeriodUntil: until },
            Some(LendingLog::GracePeriod { asset, until: 9 }),
        );
        check(
            IConfigurator::LiquidationGracePeriodDisabled { asset },
            Some(LendingLog::GracePeriod { asset, until: 0 }),
        );
        check(
            IConfigurator::AssetLtvzeroInEModeChanged { asset, categoryId: 2, ltvzero: true },
            Some(LendingLog::LtvZeroInEMode { asset, category: 2, ltv_zero: true }),
        );
        check(IConfigurator::ReserveDropped { asset }, Some(LendingLog::Reshaped));
        check(IProxy::Upgraded { implementation: asset }, Some(LendingLog::Reshaped));
    }

    #[test]
    fn more_basis_points_than_a_configuration_holds_are_refused() {
        let told = IConfigurator::LiquidationProtocolFeeChanged {
            asset: Address::ZERO,
            oldFee: U256::ZERO,
            newFee: word(65_536),
        };
        let encoded = told.encode_log_data();
        let log = Log {
            address: Address::ZERO,
            topics: encoded.topics().iter().copied().collect(),
            data: encoded.data,
            transaction_index: 0,
            log_index: 0,
        };
        assert_eq!(super::log(&log), Err(Malformed::OutOfRange("uint16")));
    }

    #[test]
    fn who_holds_something_stands_in_the_topics() {
        let [one, other] = [1, 2].map(Address::repeat_byte);
        let moved = IScaledToken::BalanceTransfer { from: one, to: other, value: word(3), index: word(5) };
        assert_eq!(holders(moved.encode_log_data().topics()).collect::<Vec<_>>(), [one, other]);
        let mint = IScaledToken::Mint {
            caller: one,
            onBehalfOf: other,
            value: word(3),
            balanceIncrease: word(4),
            index: word(5),
        };
        assert_eq!(holders(mint.encode_log_data().topics()).collect::<Vec<_>>(), [other]);
    }

    #[test]
    fn no_topic_is_listed_twice() {
        let mut topics = crate::logs::FOLLOWED.to_vec();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), crate::logs::FOLLOWED.len());
    }
}
