use alloy_primitives::{Address, BlockHash, BlockNumber, I256, U256};
use serde::{Deserialize, Serialize};

use crate::envelope::of_vec;

/// What a contract of Aave V2 or V3, or an aggregator that its oracle reads, said in a log; reduced to what liquidations depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LendingLog {
    /// `IPool.ReserveDataUpdated`: the indices of this moment, and the rates from now on.
    RatesUpdated {
        /// The asset.
        asset: Address,
        /// Rays a year.
        liquidity_rate: U256,
        /// Rays a year.
        variable_borrow_rate: U256,
        /// Rays.
        liquidity_index: U256,
        /// Rays.
        variable_borrow_index: U256,
    },
    /// `IPool.ReserveUsedAsCollateralEnabled` and `ReserveUsedAsCollateralDisabled`.
    CollateralUse {
        /// The asset.
        asset: Address,
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
    /// `IPool.LiquidationCall`; its amounts are in the tokens' logs.
    Liquidated {
        /// What was seized.
        collateral: Address,
        /// Whether it stayed in the pool.
        receive_a_token: bool,
    },
    /// `IScaledBalanceToken.Mint`.
    Minted(ScaledChange),
    /// `IScaledBalanceToken.Burn`.
    Burned(ScaledChange),
    /// `IAToken.BalanceTransfer`.
    Transferred {
        /// Who gave it.
        from: Address,
        /// Who has it.
        to: Address,
        /// Scaled in V3; smallest units in V2.
        value: U256,
    },
    /// `IStableDebtToken.Mint`.
    StableMinted {
        /// Who owes it.
        account: Address,
        /// As the token has it; interest is included in V3.
        amount: U256,
        /// The interest since the last change.
        balance_increase: U256,
        /// Rays a year.
        new_rate: U256,
        /// What all owe then.
        total_supply: U256,
        /// Rays a year, over all that all owe.
        average_rate: U256,
    },
    /// `IStableDebtToken.Burn`.
    StableBurned {
        /// Who owed it.
        account: Address,
        /// Interest taken off.
        amount: U256,
        /// What all owe then.
        total_supply: U256,
        /// Rays a year, over all that all owe.
        average_rate: U256,
    },
    /// `IPoolConfigurator.CollateralConfigurationChanged`, in basis points.
    CollateralTerms {
        /// The asset.
        asset: Address,
        /// What may be borrowed against it.
        ltv: u16,
        /// From where on it is liquidated.
        liquidation_threshold: u16,
        /// The whole included.
        liquidation_bonus: u16,
    },
    /// `IPoolConfigurator.LiquidationProtocolFeeChanged`, in basis points of the bonus.
    ProtocolFee {
        /// The asset.
        asset: Address,
        /// The new one.
        fee: u16,
    },
    /// `IPoolConfigurator.ReserveActive`; in V2 `ReserveActivated` and `ReserveDeactivated`.
    Active(Address, bool),
    /// `IPoolConfigurator.ReserveFrozen`; in V2 also `ReserveUnfrozen`.
    Frozen(Address, bool),
    /// `IPoolConfigurator.ReservePaused`.
    Paused(Address, bool),
    /// `IPoolConfigurator.LiquidationGracePeriodChanged`; zero for `LiquidationGracePeriodDisabled`.
    GracePeriod {
        /// The asset.
        asset: Address,
        /// Seconds since the Unix epoch.
        until: u64,
    },
    /// `IPoolConfigurator.EModeCategoryAdded`, in basis points.
    EModeCategory {
        /// Its number.
        category: u8,
        /// What may be borrowed.
        ltv: u16,
        /// From where on it is liquidated.
        liquidation_threshold: u16,
        /// The whole included.
        liquidation_bonus: u16,
        /// Where the price of all its assets is asked for; the zero address for nowhere.
        price_source: Address,
    },
    /// `IPoolConfigurator.EModeAssetCategoryChanged`; 3.0 and 3.1.
    EModeAssetCategory {
        /// The asset.
        asset: Address,
        /// Zero for none.
        category: u8,
    },
    /// `IPoolConfigurator.AssetCollateralInEModeChanged`; from 3.2 on.
    CollateralInEMode {
        /// The asset.
        asset: Address,
        /// The category.
        category: u8,
        /// Whether it is collateral there.
        collateral: bool,
    },
    /// `IPoolConfigurator.AssetLtvzeroInEModeChanged`; from 3.6 on.
    LtvZeroInEMode {
        /// The asset.
        asset: Address,
        /// The category.
        category: u8,
        /// Whether nothing is lent against it there.
        ltv_zero: bool,
    },
    /// `AnswerUpdated` of an aggregator: a price, or whether a sequencer is down.
    Answered {
        /// With the decimals of the pool's base currency; 1 for a sequencer that is down.
        answer: I256,
        /// Seconds since the Unix epoch.
        updated_at: U256,
    },
    /// What the pool is made of has changed, and only the node can tell into what: a reserve was listed or dropped, a
    /// contract was replaced, a price comes from somewhere else.
    Reshaped,
    /// `ILendingPool.Paused` and `Unpaused`; V2 only.
    PoolPaused(bool),
}

/// `Mint` or `Burn` of a token that scales its balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaledChange {
    /// Whose balance.
    pub account: Address,
    /// What changed, the interest since the last change included; without it in V2.
    pub value: U256,
    /// The interest since the last change; zero in V2, which does not say it.
    pub balance_increase: U256,
    /// Rays.
    pub index: U256,
}

/// The mathematics that a lending pool follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LendingProtocol {
    /// Aave V2, in the revision that is proven.
    AaveV2,
    /// Aave V3, in the revisions that are proven.
    AaveV3,
}

impl LendingProtocol {
    /// As the configuration has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AaveV2 => "aave-v2",
            Self::AaveV3 => "aave-v3",
        }
    }
}

/// Everything about a lending pool as of one block: its contracts, its terms, its prices and all its accounts. Later blocks
/// go on from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingLoaded {
    /// The pool: what the configuration names.
    pub pool: Address,
    /// Height of the block that the answers are true for.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: BlockHash,
    /// Whose mathematics it is.
    pub protocol: LendingProtocol,
    /// `POOL_REVISION`, or `LENDINGPOOL_REVISION` in V2.
    pub revision: u64,
    /// Whether all of it is paused; V2 only.
    pub paused: bool,
    /// What else emits logs that concern it.
    pub contracts: LendingContracts,
    /// What says whether liquidations are allowed; absent where the pool asks nobody.
    pub sequencer: Option<Sequencer>,
    /// In the order of the pool's list.
    pub reserves: Vec<LendingReserve>,
    /// What all who borrow at rates of their own owe, where somebody does; V2 only.
    pub stable_supplies: Vec<LendingStableSupply>,
    /// The categories that are not empty, by number.
    pub categories: Vec<LendingCategory>,
    /// Of every asset and every category that has a price of its own.
    pub prices: Vec<LendingPrice>,
    /// Everybody who has something in the pool, by address.
    pub accounts: Vec<LendingAccount>,
}

impl LendingLoaded {
    pub(crate) fn on_heap(&self) -> usize {
        let Self { reserves, stable_supplies, categories, prices, accounts, .. } = self;
        let holdings: usize = accounts.iter().map(|account| of_vec(&account.holdings)).sum();
        let terms = of_vec(reserves) + of_vec(stable_supplies) + of_vec(categories) + of_vec(prices);
        terms + of_vec(accounts) + holdings
    }
}

/// The contracts beside the pool and its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingContracts {
    /// `PoolAddressesProvider`: says when one of the others is replaced.
    pub provider: Address,
    /// `PoolConfigurator`.
    pub configurator: Address,
    /// `AaveOracle`.
    pub oracle: Address,
}

/// What a `PriceOracleSentinel` asks: no liquidation of what is healthier than 0.95 while a rollup's sequencer is down, and
/// for a while behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequencer {
    /// Which aggregator emits its answers; absent where nobody does, and then nothing is allowed.
    pub feed: Option<Address>,
    /// Whether it is down.
    pub is_down: bool,
    /// Since when, in seconds since the Unix epoch.
    pub since: u64,
    /// Seconds after it is up again.
    pub grace_period: u64,
}

/// One asset of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingReserve {
    /// Its place in the pool's list.
    pub id: u16,
    /// The underlying token.
    pub asset: Address,
    /// What suppliers hold.
    pub a_token: Address,
    /// What borrowers owe at the variable rate.
    pub variable_debt: Address,
    /// What borrowers owe at rates of their own; absent where the revision has no such thing.
    pub stable_debt: Option<Address>,
    /// `ReserveConfiguration`, as the pool stores it.
    pub configuration: U256,
    /// Rays; as of `last_update`.
    pub liquidity_index: U256,
    /// Rays; as of `last_update`.
    pub variable_borrow_index: U256,
    /// Rays a year.
    pub liquidity_rate: U256,
    /// Rays a year.
    pub variable_borrow_rate: U256,
    /// Seconds since the Unix epoch.
    pub last_update: u64,
    /// What all borrowers owe, scaled.
    pub scaled_variable_debt: U256,
    /// Seconds since the Unix epoch; zero where there is none.
    pub grace_period_until: u64,
}

/// `StableDebtToken.getSupplyData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingStableSupply {
    /// Place of the reserve.
    pub reserve: u16,
    /// Smallest units, as of `last_update`.
    pub principal: U256,
    /// Rays a year, over all of it.
    pub average_rate: U256,
    /// Seconds since the Unix epoch.
    pub last_update: u64,
}

/// An e-mode category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingCategory {
    /// Its number.
    pub id: u8,
    /// Basis points.
    pub ltv: u16,
    /// Basis points.
    pub liquidation_threshold: u16,
    /// Basis points, the whole included.
    pub liquidation_bonus: u16,
    /// Where the price of all its assets is asked for.
    pub price_source: Option<Address>,
    /// Bit `n` is reserve `n`.
    pub collateral_bitmap: u128,
    /// Bit `n` is reserve `n`.
    pub ltv_zero_bitmap: u128,
}

/// What the pool's oracle says of an asset or a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingPrice {
    /// The asset, or the category's price source.
    pub source: Address,
    /// Base currency for one token.
    pub price: U256,
    /// Whom the oracle asks: itself about what is always one ether in V2.
    pub proxy: Address,
    /// Which aggregator's answers are this price from now on; the oracle, which never says anything, where it stays what it is;
    /// absent where no log tells how it goes on.
    pub feed: Option<Address>,
}

/// What an account has in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingAccount {
    /// Whose.
    pub account: Address,
    /// Zero for none.
    pub e_mode: u8,
    /// By place of the reserve.
    pub holdings: Vec<LendingHolding>,
}

/// What an account has in one reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendingHolding {
    /// Place of the reserve.
    pub reserve: u16,
    /// Supplied, scaled by the liquidity index.
    pub scaled_supply: U256,
    /// Owed at the variable rate, scaled by the variable borrow index.
    pub scaled_debt: U256,
    /// Owed at a rate of its own, as of `stable_last_update`.
    pub stable_principal: U256,
    /// Rays a year.
    pub stable_rate: U256,
    /// Seconds since the Unix epoch.
    pub stable_last_update: u64,
    /// Whether the supply is used as collateral.
    pub collateral: bool,
}
