//! The contracts' interfaces, as far as a world needs them: `IPool`, `IPoolConfigurator` and the tokens of
//! `@aave/core-v3` and `@aave-dao/aave-v3-origin`; the same of `@aave/protocol-v2`.
#![expect(clippy::too_many_arguments, reason = "how many there are is the contracts' business")]

use alloy_sol_types::sol;

sol! {
    interface Provider {
        function setACLAdmin(address newAclAdmin) external;
        function setACLManager(address newAclManager) external;
        function setPoolImpl(address newPoolImpl) external;
        function setPoolConfiguratorImpl(address newPoolConfiguratorImpl) external;
        function setPriceOracle(address newPriceOracle) external;
        function setPriceOracleSentinel(address newPriceOracleSentinel) external;
        function getPool() external view returns (address);
        function getPoolConfigurator() external view returns (address);
    }

    interface AccessControl {
        function addPoolAdmin(address admin) external;
        function addEmergencyAdmin(address admin) external;
        function addRiskAdmin(address admin) external;
    }

    interface Pool {
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

        function POOL_REVISION() external view returns (uint256);
        function supply(address asset, uint256 amount, address onBehalfOf, uint16 referralCode) external;
        function withdraw(address asset, uint256 amount, address to) external returns (uint256);
        function borrow(address asset, uint256 amount, uint256 interestRateMode, uint16 referralCode, address onBehalfOf) external;
        function repay(address asset, uint256 amount, uint256 interestRateMode, address onBehalfOf) external returns (uint256);
        function repayWithATokens(address asset, uint256 amount, uint256 interestRateMode) external returns (uint256);
        function swapBorrowRateMode(address asset, uint256 interestRateMode) external;
        function setUserUseReserveAsCollateral(address asset, bool useAsCollateral) external;
        function setUserEMode(uint8 categoryId) external;
        function mintToTreasury(address[] calldata assets) external;
        function liquidationCall(address collateralAsset, address debtAsset, address user, uint256 debtToCover, bool receiveAToken) external;
        function getUserAccountData(address user) external view returns (uint256 totalCollateralBase, uint256 totalDebtBase, uint256 availableBorrowsBase, uint256 currentLiquidationThreshold, uint256 ltv, uint256 healthFactor);
        function getReserveData(address asset) external view returns (ReserveData memory);
        function getReservesList() external view returns (address[] memory);
        function getUserConfiguration(address user) external view returns (uint256);
        function getUserEMode(address user) external view returns (uint256);
        function getEModeCategoryData(uint8 id) external view returns (EModeCategory memory);
        function getEModeCategoryCollateralBitmap(uint8 id) external view returns (uint128);
        function getEModeCategoryLtvzeroBitmap(uint8 id) external view returns (uint128);
        function getLiquidationGracePeriod(address asset) external view returns (uint40);

        event ReserveDataUpdated(address indexed reserve, uint256 liquidityRate, uint256 stableBorrowRate, uint256 variableBorrowRate, uint256 liquidityIndex, uint256 variableBorrowIndex);
        event ReserveUsedAsCollateralEnabled(address indexed reserve, address indexed user);
        event ReserveUsedAsCollateralDisabled(address indexed reserve, address indexed user);
        event UserEModeSet(address indexed user, uint8 categoryId);
        event LiquidationCall(address indexed collateralAsset, address indexed debtAsset, address indexed user, uint256 debtToCover, uint256 liquidatedCollateralAmount, address liquidator, bool receiveAToken);
        event DeficitCreated(address indexed user, address indexed debtAsset, uint256 amountCreated);
    }

    interface Configurator {
        struct InitReserveInput {
            address aTokenImpl;
            address stableDebtTokenImpl;
            address variableDebtTokenImpl;
            uint8 underlyingAssetDecimals;
            address interestRateStrategyAddress;
            address underlyingAsset;
            address treasury;
            address incentivesController;
            string aTokenName;
            string aTokenSymbol;
            string variableDebtTokenName;
            string variableDebtTokenSymbol;
            string stableDebtTokenName;
            string stableDebtTokenSymbol;
            bytes params;
        }

        function initReserves(InitReserveInput[] calldata input) external;
        function configureReserveAsCollateral(address asset, uint256 ltv, uint256 liquidationThreshold, uint256 liquidationBonus) external;
        function setReserveBorrowing(address asset, bool enabled) external;
        function setReserveStableRateBorrowing(address asset, bool enabled) external;
        function setReserveFreeze(address asset, bool freeze) external;
        function setReservePause(address asset, bool paused) external;
        function setReserveFactor(address asset, uint256 newReserveFactor) external;
        function setLiquidationProtocolFee(address asset, uint256 newFee) external;
        function setAssetEModeCategory(address asset, uint8 newCategoryId) external;
        function setEModeCategory(uint8 categoryId, uint16 ltv, uint16 liquidationThreshold, uint16 liquidationBonus, address oracle, string calldata label) external;

        event CollateralConfigurationChanged(address indexed asset, uint256 ltv, uint256 liquidationThreshold, uint256 liquidationBonus);
        event ReserveActive(address indexed asset, bool active);
        event ReserveFrozen(address indexed asset, bool frozen);
        event ReservePaused(address indexed asset, bool paused);
        event LiquidationProtocolFeeChanged(address indexed asset, uint256 oldFee, uint256 newFee);
        event EModeAssetCategoryChanged(address indexed asset, uint8 oldCategoryId, uint8 newCategoryId);
        event EModeCategoryAdded(uint8 indexed categoryId, uint256 ltv, uint256 liquidationThreshold, uint256 liquidationBonus, address oracle, string label);
    }

    interface ConfiguratorV3_6 {
        struct InitReserveInput {
            address aTokenImpl;
            address variableDebtTokenImpl;
            address underlyingAsset;
            string aTokenName;
            string aTokenSymbol;
            string variableDebtTokenName;
            string variableDebtTokenSymbol;
            bytes params;
            bytes interestRateData;
        }

        struct InterestRateData {
            uint16 optimalUsageRatio;
            uint32 baseVariableBorrowRate;
            uint32 variableRateSlope1;
            uint32 variableRateSlope2;
        }

        function initReserves(InitReserveInput[] calldata input) external;
        function setReservePause(address asset, bool paused, uint40 gracePeriod) external;
        function disableLiquidationGracePeriod(address asset) external;
        function setAssetBorrowableInEMode(address asset, uint8 categoryId, bool borrowable) external;
        function setAssetCollateralInEMode(address asset, uint8 categoryId, bool collateral) external;
        function setAssetLtvzeroInEMode(address asset, uint8 categoryId, bool ltvzero) external;
        function setEModeCategory(uint8 categoryId, uint16 ltv, uint16 liquidationThreshold, uint16 liquidationBonus, string calldata label) external;

        event LiquidationGracePeriodChanged(address indexed asset, uint40 gracePeriodUntil);
        event LiquidationGracePeriodDisabled(address indexed asset);
        event AssetCollateralInEModeChanged(address indexed asset, uint8 categoryId, bool collateral);
        event AssetLtvzeroInEModeChanged(address indexed asset, uint8 categoryId, bool ltvzero);
    }

    interface ProviderV2 {
        function setPoolAdmin(address admin) external;
        function setEmergencyAdmin(address admin) external;
        function setLendingPoolImpl(address pool) external;
        function setLendingPoolConfiguratorImpl(address configurator) external;
        function setLendingPoolCollateralManager(address manager) external;
        function setPriceOracle(address priceOracle) external;
        function setLendingRateOracle(address lendingRateOracle) external;
        function getLendingPool() external view returns (address);
        function getLendingPoolConfigurator() external view returns (address);
        function getLendingRateOracle() external view returns (address);
    }

    interface PoolV2 {
        struct ReserveData {
            uint256 configuration;
            uint128 liquidityIndex;
            uint128 variableBorrowIndex;
            uint128 currentLiquidityRate;
            uint128 currentVariableBorrowRate;
            uint128 currentStableBorrowRate;
            uint40 lastUpdateTimestamp;
            address aTokenAddress;
            address stableDebtTokenAddress;
            address variableDebtTokenAddress;
            address interestRateStrategyAddress;
            uint8 id;
        }

        function LENDINGPOOL_REVISION() external view returns (uint256);
        function paused() external view returns (bool);
        function deposit(address asset, uint256 amount, address onBehalfOf, uint16 referralCode) external;
        function rebalanceStableBorrowRate(address asset, address user) external;
        function getReserveData(address asset) external view returns (ReserveData memory);

        event Paused();
        event Unpaused();
    }

    interface ConfiguratorV2 {
        function initReserve(address aTokenImpl, address stableDebtTokenImpl, address variableDebtTokenImpl, uint8 underlyingAssetDecimals, address interestRateStrategyAddress) external;
        function enableBorrowingOnReserve(address asset, bool stableBorrowRateEnabled) external;
        function activateReserve(address asset) external;
        function deactivateReserve(address asset) external;
        function freezeReserve(address asset) external;
        function unfreezeReserve(address asset) external;
        function setPoolPause(bool val) external;

        event ReserveActivated(address indexed asset);
        event ReserveDeactivated(address indexed asset);
        event ReserveFrozen(address indexed asset);
        event ReserveUnfrozen(address indexed asset);
    }

    interface RateOracle {
        function setMarketBorrowRate(address asset, uint256 rate) external;
    }

    interface SupplyTokenV2 {
        event Mint(address indexed from, uint256 value, uint256 index);
        event Burn(address indexed from, address indexed target, uint256 value, uint256 index);
    }

    interface DebtTokenV2 {
        event Mint(address indexed from, address indexed onBehalfOf, uint256 value, uint256 index);
        event Burn(address indexed user, uint256 amount, uint256 index);
    }

    interface StableTokenV2 {
        function getSupplyData() external view returns (uint256 principal, uint256 total, uint256 averageRate, uint40 lastUpdate);
    }

    interface Oracle {
        function getAssetPrice(address asset) external view returns (uint256);
        function setAssetSources(address[] calldata assets, address[] calldata sources) external;
    }

    interface Aggregator {
        function latestAnswer() external view returns (int256);
    }

    interface Sentinel {
        function isLiquidationAllowed() external view returns (bool);
    }

    interface Sequencer {
        function setAnswer(bool isDown, uint256 timestamp) external;
    }

    interface Token {
        function mint(address account, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function transfer(address to, uint256 value) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
    }

    interface ScaledToken {
        function scaledBalanceOf(address user) external view returns (uint256);
        function scaledTotalSupply() external view returns (uint256);

        event Mint(address indexed caller, address indexed onBehalfOf, uint256 value, uint256 balanceIncrease, uint256 index);
        event Burn(address indexed from, address indexed target, uint256 value, uint256 balanceIncrease, uint256 index);
        event BalanceTransfer(address indexed from, address indexed to, uint256 value, uint256 index);
    }

    interface StableToken {
        function principalBalanceOf(address user) external view returns (uint256);
        function getUserStableRate(address user) external view returns (uint256);
        function getUserLastUpdated(address user) external view returns (uint40);

        event Mint(address indexed user, address indexed onBehalfOf, uint256 amount, uint256 currentBalance, uint256 balanceIncrease, uint256 newRate, uint256 avgStableRate, uint256 newTotalSupply);
        event Burn(address indexed from, uint256 amount, uint256 currentBalance, uint256 balanceIncrease, uint256 avgStableRate, uint256 newTotalSupply);
    }

    /// What a liquidation is refused with from 3.4 on (`Errors.sol`).
    #[derive(Debug)]
    interface Errors {
        error SelfLiquidation();
        error ReserveInactive();
        error ReservePaused();
        error PriceOracleSentinelCheckFailed();
        error LiquidationGraceSentinelCheckFailed();
        error HealthFactorNotBelowThreshold();
        error CollateralCannotBeLiquidated();
        error SpecifiedCurrencyNotBorrowedByUser();
        error MustNotLeaveDust();
        error InvalidBurnAmount();
    }
}
