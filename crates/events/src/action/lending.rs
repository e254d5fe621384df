use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};

/// Events of the pools of Aave V2 (`ILendingPool.sol`) and V3 (`IPool.sol`). Which of the two a pool is, its address says:
/// `Withdraw` is the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AaveAction {
    /// An asset was supplied; `Deposit` in V2.
    Supply {
        /// The asset.
        reserve: Address,
        /// Who paid.
        user: Address,
        /// Whose collateral grew.
        on_behalf_of: Address,
        /// Smallest units.
        amount: U256,
        /// For the protocol's own accounting.
        referral_code: u16,
    },
    /// An asset was withdrawn.
    Withdraw {
        /// The asset.
        reserve: Address,
        /// Whose collateral shrank.
        user: Address,
        /// Recipient.
        to: Address,
        /// Smallest units.
        amount: U256,
    },
    /// An asset was borrowed.
    Borrow {
        /// The asset.
        reserve: Address,
        /// Who got it.
        user: Address,
        /// Whose debt grew.
        on_behalf_of: Address,
        /// Smallest units.
        amount: U256,
        /// 1 stable, 2 variable.
        rate_mode: U256,
        /// Rate, in ray a year.
        borrow_rate: U256,
        /// For the protocol's own accounting.
        referral_code: u16,
    },
    /// A debt was paid back.
    Repay {
        /// The asset.
        reserve: Address,
        /// Whose debt shrank.
        user: Address,
        /// Who paid.
        repayer: Address,
        /// Smallest units.
        amount: U256,
        /// Whether it was paid in collateral of the same asset; never in V2.
        use_atokens: bool,
    },
    /// A position was liquidated.
    LiquidationCall {
        /// The asset that was seized.
        collateral_asset: Address,
        /// The asset that was paid back.
        debt_asset: Address,
        /// Whose position it was.
        user: Address,
        /// Paid back, in smallest units.
        debt_to_cover: U256,
        /// Seized, in smallest units.
        liquidated_collateral_amount: U256,
        /// Who did it.
        liquidator: Address,
        /// Whether the collateral was taken as a claim on the pool.
        receive_atoken: bool,
    },
    /// The rates and indices of a reserve after whatever happened: absolute.
    ReserveDataUpdated {
        /// The asset.
        reserve: Address,
        /// In ray a year.
        liquidity_rate: U256,
        /// In ray a year.
        stable_borrow_rate: U256,
        /// In ray a year.
        variable_borrow_rate: U256,
        /// In ray.
        liquidity_index: U256,
        /// In ray.
        variable_borrow_index: U256,
    },
    /// A user counts an asset as collateral, or no longer.
    UsedAsCollateral {
        /// The asset.
        reserve: Address,
        /// The user.
        user: Address,
        /// Whether it counts now.
        enabled: bool,
    },
    /// A user chose a category of correlated assets (V3).
    UserEModeSet {
        /// The user.
        user: Address,
        /// The category; 0 for none.
        category: u8,
    },
    /// A debt without collateral was written off (V3.3 and later).
    DeficitCreated {
        /// Whose debt it was.
        user: Address,
        /// The asset.
        debt_asset: Address,
        /// Smallest units.
        amount: U256,
    },
    /// A deficit was made good (V3.3 and later).
    DeficitCovered {
        /// The asset.
        reserve: Address,
        /// Who paid.
        caller: Address,
        /// Smallest units.
        amount: U256,
    },
}

/// Events of liquidations in Compound V2 and its forks (`CTokenInterfaces.sol`) and in Compound V3 (`CometCore.sol`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompoundAction {
    /// Compound V2: a borrow was paid back for the collateral of another market. The emitter is the market of the debt.
    LiquidateBorrow {
        /// Who did it.
        liquidator: Address,
        /// Whose position it was.
        borrower: Address,
        /// Paid back, in smallest units of the debt.
        repay_amount: U256,
        /// The market of the collateral.
        collateral: Address,
        /// Seized, in shares of that market.
        seize_tokens: U256,
    },
    /// Compound V3: the protocol took a debt over.
    AbsorbDebt {
        /// Who made it.
        absorber: Address,
        /// Whose debt it was.
        borrower: Address,
        /// Smallest units of the base asset.
        base_paid_out: U256,
        /// Worth, with the decimals of the price feeds.
        usd_value: U256,
    },
    /// Compound V3: the protocol took the collateral of such a debt.
    AbsorbCollateral {
        /// Who made it.
        absorber: Address,
        /// Whose collateral it was.
        borrower: Address,
        /// The asset.
        asset: Address,
        /// Smallest units.
        collateral_absorbed: U256,
        /// Worth, with the decimals of the price feeds.
        usd_value: U256,
    },
    /// Compound V3: absorbed collateral was sold.
    BuyCollateral {
        /// Who bought it.
        buyer: Address,
        /// The asset.
        asset: Address,
        /// Paid, in smallest units of the base asset.
        base_amount: U256,
        /// Bought, in smallest units.
        collateral_amount: U256,
    },
}
