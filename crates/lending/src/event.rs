use alloy_primitives::{Address, U256};

use crate::{EModeCategory, Reserve, ReserveId};

/// What a contract of the protocol said, reduced to what liquidations depend on. Amounts are as the event has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LendingEvent {
    /// `IPool.ReserveDataUpdated`.
    ReserveDataUpdated(Rates),
    /// `IScaledBalanceToken.Mint` of a supply token, whatever it was emitted for.
    SupplyMinted(Scaling),
    /// `IScaledBalanceToken.Burn` of a supply token.
    SupplyBurned(Scaling),
    /// `IAToken.BalanceTransfer`.
    SupplyTransferred {
        /// Of which supply token.
        reserve: ReserveId,
        /// Who gave it.
        from: Address,
        /// Who has it.
        to: Address,
        /// Scaled; not yet in V2, where it is smallest units of this moment.
        value: U256,
    },
    /// `IScaledBalanceToken.Mint` of a variable debt token.
    DebtMinted(Scaling),
    /// `IScaledBalanceToken.Burn` of a variable debt token.
    DebtBurned(Scaling),
    /// `IStableDebtToken.Mint`; 2 and 3.0.
    StableDebtMinted {
        /// Of which debt token.
        reserve: ReserveId,
        /// Who owes it.
        account: Address,
        /// Interest included; in V2 only where it is less than that, and repays a part of it.
        amount: U256,
        /// The interest since the last change.
        balance_increase: U256,
        /// Rays a year, over all that the account owes.
        new_rate: U256,
        /// What all owe then.
        supply: StableSupply,
    },
    /// `IStableDebtToken.Burn`; 2 and 3.0.
    StableDebtBurned {
        /// Of which debt token.
        reserve: ReserveId,
        /// Who owed it.
        account: Address,
        /// Interest taken off.
        amount: U256,
        /// What all owe then.
        supply: StableSupply,
    },
    /// `IPool.ReserveUsedAsCollateralEnabled` and `ReserveUsedAsCollateralDisabled`.
    CollateralUseChanged {
        /// Which asset.
        reserve: ReserveId,
        /// Whose.
        account: Address,
        /// Whether it is collateral now.
        enabled: bool,
    },
    /// `IPool.UserEModeSet`.
    EModeSet {
        /// Whose.
        account: Address,
        /// Zero for none.
        category: u8,
    },
    /// `IPool.LiquidationCall`. Its amounts are in the tokens' events; a collateral that stays in the pool accrues
    /// without an event of its own from 3.1 on.
    Liquidated {
        /// Seized.
        collateral: ReserveId,
        /// Whether the collateral stayed in the pool.
        receive_a_token: bool,
    },
    /// `IPoolConfigurator.ReserveInitialized`, with what the node was asked for. Boxed, because it is rare and large.
    ReserveListed(Box<Reserve>),
    /// `IPoolConfigurator.ReserveDropped`.
    ReserveDropped(ReserveId),
    /// `IPoolConfigurator.CollateralConfigurationChanged`.
    CollateralConfigurationChanged(CollateralTerms),
    /// `IPoolConfigurator.LiquidationProtocolFeeChanged`.
    LiquidationProtocolFeeChanged {
        /// Whose.
        reserve: ReserveId,
        /// Basis points of the bonus.
        fee: u16,
    },
    /// `IPoolConfigurator.ReserveActive`.
    ReserveActive(ReserveId, bool),
    /// `IPoolConfigurator.ReserveFrozen`.
    ReserveFrozen(ReserveId, bool),
    /// `IPoolConfigurator.ReservePaused`.
    ReservePaused(ReserveId, bool),
    /// `ILendingPool.Paused` and `Unpaused`; 2 only.
    PoolPaused(bool),
    /// `IPoolConfigurator.LiquidationGracePeriodChanged`; zero for `LiquidationGracePeriodDisabled`. From 3.1 on.
    GracePeriodChanged {
        /// Whose.
        reserve: ReserveId,
        /// Seconds since 1970.
        until: u64,
    },
    /// `IPoolConfigurator.EModeCategoryAdded`, which also changes one. Bitmaps stay what they were.
    EModeCategoryAdded(u8, EModeCategory),
    /// `IPoolConfigurator.EModeAssetCategoryChanged`; 3.0 only.
    EModeAssetCategoryChanged {
        /// Which asset.
        reserve: ReserveId,
        /// Zero for none.
        category: u8,
    },
    /// `IPoolConfigurator.AssetCollateralInEModeChanged`; from 3.2 on.
    AssetCollateralInEModeChanged {
        /// Which asset.
        reserve: ReserveId,
        /// Which category.
        category: u8,
        /// Whether it is collateral there.
        collateral: bool,
    },
    /// `IPoolConfigurator.AssetLtvzeroInEModeChanged`; from 3.6 on.
    AssetLtvZeroInEModeChanged {
        /// Which asset.
        reserve: ReserveId,
        /// Which category.
        category: u8,
        /// Whether nothing is lent against it there.
        ltv_zero: bool,
    },
    /// What `AaveOracle.getAssetPrice` says from now on; the oracle itself emits nothing, its aggregators do.
    PriceChanged {
        /// The asset, or a category's price source.
        source: Address,
        /// Base currency for one token.
        price: U256,
    },
    /// What `PriceOracleSentinel.isLiquidationAllowed` says from now on.
    LiquidationAllowed(bool),
}

/// `IPool.ReserveDataUpdated`: the indices of this moment, and the rates from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Whose.
    pub reserve: ReserveId,
    /// Rays a year.
    pub liquidity_rate: U256,
    /// Rays a year.
    pub variable_borrow_rate: U256,
    /// Rays.
    pub liquidity_index: U256,
    /// Rays.
    pub variable_borrow_index: U256,
}

/// What all who owe at rates of their own owe behind a `Mint` or a `Burn`, as the event has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StableSupply {
    /// Smallest units.
    pub total: U256,
    /// Rays a year.
    pub average_rate: U256,
}

/// `Mint` or `Burn` of a token that scales its balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// Of which token.
    pub reserve: ReserveId,
    /// Whose balance.
    pub account: Address,
    /// What changed, the interest since the last change included; without it in V2.
    pub value: U256,
    /// The interest since the last change; zero in V2, which does not say it.
    pub balance_increase: U256,
    /// Rays.
    pub index: U256,
}

/// `IPoolConfigurator.CollateralConfigurationChanged`, in basis points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollateralTerms {
    /// Whose.
    pub reserve: ReserveId,
    /// What may be borrowed against it.
    pub ltv: u16,
    /// From where on it is liquidated.
    pub liquidation_threshold: u16,
    /// The whole included.
    pub liquidation_bonus: u16,
}
