//! One pool, followed: who says what of it, and what that does to its market.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::{Address, I256, U256};
use headwater_events::{
    LendingLoaded, LendingLog, LendingPrice, LendingProtocol, LendingReserve, ScaledChange, Sequencer,
};
use headwater_lending::{
    CollateralTerms, EModeCategory, Holding, LendingError, LendingEvent, Market, Position, Rates, Reserve,
    ReserveId, Revision, Scaling, StableDebt, StableSupply, Undo,
};
use serde::{Deserialize, Serialize};

/// A pool that was loaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Following {
    /// Shared with the snapshots; copied when it changes, which costs a few reference counts.
    market: Arc<Market>,
    sequencer: Option<Sequencer>,
    contracts: Arc<Contracts>,
}

/// Who says what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Contracts {
    #[serde(with = "ordered")]
    roles: HashMap<Address, Vec<Role>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Role {
    Pool,
    Configurator,
    Supply(ReserveId),
    Debt(ReserveId),
    StableDebt(ReserveId),
    /// Its answers are the price of this source.
    Price(Address),
    Sequencer,
    /// Says that something else takes its place, or that of what it names.
    Registry,
}

/// Whose answers the prices of a pool are, and when its sentinel allows liquidations. A clone costs a reference count.
#[derive(Clone, Debug, Default)]
pub struct LendingFeeds {
    contracts: Option<Arc<Contracts>>,
    sequencer: Option<Sequencer>,
}

impl LendingFeeds {
    /// The price sources whose price is what this aggregator answers.
    pub fn sources(&self, aggregator: &Address) -> impl Iterator<Item = Address> {
        let roles = self.contracts.as_ref().and_then(|contracts| contracts.roles.get(aggregator));
        roles.into_iter().flatten().filter_map(|role| match role {
            Role::Price(source) => Some(*source),
            _ => None,
        })
    }

    /// Every aggregator whose answers are a price, in no particular order.
    pub fn aggregators(&self) -> impl Iterator<Item = Address> {
        let contracts = self.contracts.iter().flat_map(|contracts| contracts.roles.keys());
        contracts.copied().filter(|contract| self.sources(contract).next().is_some())
    }

    /// Whether the sentinel allows anything at a time; `None` without one.
    pub(super) fn allows(&self, timestamp: u64) -> Option<bool> {
        self.sequencer.map(|sequencer| allows(&sequencer, timestamp))
    }
}

/// How a block is taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Undone {
    undo: Vec<Undo>,
    sequencer: Option<Sequencer>,
}

/// What a log comes to.
enum Meaning {
    Nothing,
    Event(LendingEvent),
    Sequencer {
        is_down: bool,
        since: u64,
    },
    /// Only the node can tell.
    Unknown,
}

impl Following {
    /// As the node has told it.
    pub(super) fn new(loaded: &LendingLoaded) -> Result<Self, LendingError> {
        let contracts = Arc::new(Contracts::of(loaded));
        let market = Arc::new(market_of(loaded, |price| price.feed.is_some())?);
        Ok(Self { market, sequencer: loaded.sequencer, contracts })
    }

    pub(super) fn market(&self) -> &Arc<Market> {
        &self.market
    }

    pub(super) fn feeds(&self) -> LendingFeeds {
        LendingFeeds { contracts: Some(Arc::clone(&self.contracts)), sequencer: self.sequencer }
    }

    pub(super) fn sequencer(&self) -> Option<Sequencer> {
        self.sequencer
    }

    pub(super) fn knows(&self, emitter: &Address) -> bool {
        self.contracts.roles.contains_key(emitter)
    }

    pub(super) fn has_contracts_of(&self, other: &Self) -> bool {
        self.contracts == other.contracts
    }

    /// Applies what a block says; `None` if that does not follow, or only the node can tell what follows.
    pub(super) fn apply(&mut self, timestamp: u64, said: &[(Address, LendingLog)]) -> Option<Undone> {
        let mut undone = Undone { undo: Vec::new(), sequencer: self.sequencer };
        let contracts = Arc::clone(&self.contracts);
        for (emitter, log) in said {
            for role in contracts.roles.get(emitter).into_iter().flatten() {
                match self.meaning(*role, log) {
                    Meaning::Nothing => {}
                    Meaning::Event(event) => self.follow(&event, timestamp, &mut undone)?,
                    Meaning::Sequencer { is_down, since } => {
                        self.sequencer.iter_mut().for_each(|own| (own.is_down, own.since) = (is_down, since));
                    }
                    Meaning::Unknown => return None,
                }
            }
        }
        let is_allowed = self.sequencer.is_none_or(|sequencer| allows(&sequencer, timestamp));
        if is_allowed != self.market.is_liquidation_allowed() {
            self.follow(&LendingEvent::LiquidationAllowed(is_allowed), timestamp, &mut undone)?;
        }
        Some(undone)
    }

    pub(super) fn take_back(&mut self, undone: &Undone) {
        self.sequencer = undone.sequencer;
        if !undone.undo.is_empty() {
            let market = Arc::make_mut(&mut self.market);
            undone.undo.iter().rev().for_each(|undo| market.revert(undo.clone()));
        }
    }

    fn follow(&mut self, event: &LendingEvent, timestamp: u64, undone: &mut Undone) -> Option<()> {
        undone.undo.push(Arc::make_mut(&mut self.market).apply(event, timestamp).ok()?);
        Some(())
    }

    fn meaning(&self, role: Role, log: &LendingLog) -> Meaning {
        let event = match role {
            Role::Pool => self.of_pool(log),
            Role::Configurator => self.of_configurator(log),
            Role::Supply(reserve) => of_supply(reserve, log),
            Role::Debt(reserve) => of_debt(reserve, log),
            Role::StableDebt(reserve) => of_stable_debt(reserve, log),
            Role::Price(source) => match log {
                LendingLog::Answered { answer, .. } => return priced(source, *answer),
                _ => None,
            },
            Role::Sequencer => match log {
                LendingLog::Answered { answer, updated_at } => {
                    let since = u64::try_from(*updated_at).unwrap_or(u64::MAX);
                    return Meaning::Sequencer { is_down: !answer.is_zero(), since };
                }
                _ => None,
            },
            Role::Registry => None,
        };
        match event {
            Some(event) => Meaning::Event(event),
            None if *log == LendingLog::Reshaped => Meaning::Unknown,
            None if self.is_foreign(role, log) => Meaning::Unknown,
            None => Meaning::Nothing,
        }
    }

    /// A log of the pool's or the configurator's about what was not loaded.
    fn is_foreign(&self, role: Role, log: &LendingLog) -> bool {
        let unlisted = |asset: &Address| self.market.reserve_of(*asset).is_none();
        match (role, log) {
            (Role::Configurator, LendingLog::EModeCategory { price_source, .. }) => {
                !self.has_price_of(*price_source)
            }
            (
                Role::Pool | Role::Configurator,
                LendingLog::RatesUpdated { asset, .. }
                | LendingLog::CollateralUse { asset, .. }
                | LendingLog::CollateralTerms { asset, .. }
                | LendingLog::CollateralInEMode { asset, .. },
            ) => unlisted(asset),
            _ => false,
        }
    }

    fn has_price_of(&self, source: Address) -> bool {
        source.is_zero() || self.market.price(source).is_ok()
    }

    fn of_pool(&self, log: &LendingLog) -> Option<LendingEvent> {
        Some(match log {
            LendingLog::RatesUpdated {
                asset,
                liquidity_rate,
                variable_borrow_rate,
                liquidity_index,
                variable_borrow_index,
            } => LendingEvent::ReserveDataUpdated(Rates {
                reserve: self.market.reserve_of(*asset)?,
                liquidity_rate: *liquidity_rate,
                variable_borrow_rate: *variable_borrow_rate,
                liquidity_index: *liquidity_index,
                variable_borrow_index: *variable_borrow_index,
            }),
            LendingLog::CollateralUse { asset, account, enabled } => LendingEvent::CollateralUseChanged {
                reserve: self.market.reserve_of(*asset)?,
                account: *account,
                enabled: *enabled,
            },
            LendingLog::EModeSet { account, category } => {
                LendingEvent::EModeSet { account: *account, category: *category }
            }
            LendingLog::Liquidated { collateral, receive_a_token } => LendingEvent::Liquidated {
                collateral: self.market.reserve_of(*collateral)?,
                receive_a_token: *receive_a_token,
            },
            LendingLog::PoolPaused(paused) => LendingEvent::PoolPaused(*paused),
            _ => return None,
        })
    }

    fn of_configurator(&self, log: &LendingLog) -> Option<LendingEvent> {
        let place = |asset: &Address| self.market.reserve_of(*asset);
        Some(match log {
            LendingLog::CollateralTerms { asset, ltv, liquidation_threshold, liquidation_bonus } => {
                LendingEvent::CollateralConfigurationChanged(CollateralTerms {
                    reserve: place(asset)?,
                    ltv: *ltv,
                    liquidation_threshold: *liquidation_threshold,
                    liquidation_bonus: *liquidation_bonus,
                })
            }
            LendingLog::ProtocolFee { asset, fee } => {
                LendingEvent::LiquidationProtocolFeeChanged { reserve: place(asset)?, fee: *fee }
            }
            LendingLog::Active(asset, active) => LendingEvent::ReserveActive(place(asset)?, *active),
            LendingLog::Frozen(asset, frozen) => LendingEvent::ReserveFrozen(place(asset)?, *frozen),
            LendingLog::Paused(asset, paused) => LendingEvent::ReservePaused(place(asset)?, *paused),
            LendingLog::GracePeriod { asset, until } => {
                LendingEvent::GracePeriodChanged { reserve: place(asset)?, until: *until }
            }
            LendingLog::EModeCategory {
                category,
                ltv,
                liquidation_threshold,
                liquidation_bonus,
                price_source,
            } if self.has_price_of(*price_source) => LendingEvent::EModeCategoryAdded(
                *category,
                EModeCategory {
                    ltv: *ltv,
                    liquidation_threshold: *liquidation_threshold,
                    liquidation_bonus: *liquidation_bonus,
                    price_source: Some(*price_source).filter(|source| !source.is_zero()),
                    ..EModeCategory::default()
                },
            ),
            LendingLog::EModeAssetCategory { asset, category } => {
                LendingEvent::EModeAssetCategoryChanged { reserve: place(asset)?, category: *category }
            }
            LendingLog::CollateralInEMode { asset, category, collateral } => {
                LendingEvent::AssetCollateralInEModeChanged {
                    reserve: place(asset)?,
                    category: *category,
                    collateral: *collateral,
                }
            }
            LendingLog::LtvZeroInEMode { asset, category, ltv_zero } => {
                LendingEvent::AssetLtvZeroInEModeChanged {
                    reserve: place(asset)?,
                    category: *category,
                    ltv_zero: *ltv_zero,
                }
            }
            _ => return None,
        })
    }
}

/// A sentinel that cannot be followed allows nothing (`PriceOracleSentinel._isUpAndGracePeriodPassed`).
fn allows(sequencer: &Sequencer, timestamp: u64) -> bool {
    let Sequencer { feed, is_down, since, grace_period } = *sequencer;
    feed.is_some() && !is_down && timestamp.checked_sub(since).is_some_and(|up| up > grace_period)
}

/// An answer that is not above zero sends the oracle to another source.
fn priced(source: Address, answer: I256) -> Meaning {
    match U256::try_from(answer) {
        Ok(price) if !price.is_zero() => Meaning::Event(LendingEvent::PriceChanged { source, price }),
        _ => Meaning::Unknown,
    }
}

fn of_supply(reserve: ReserveId, log: &LendingLog) -> Option<LendingEvent> {
    Some(match log {
        LendingLog::Minted(change) => LendingEvent::SupplyMinted(scaling(reserve, change)),
        LendingLog::Burned(change) => LendingEvent::SupplyBurned(scaling(reserve, change)),
        LendingLog::Transferred { from, to, value } => {
            LendingEvent::SupplyTransferred { reserve, from: *from, to: *to, value: *value }
        }
        _ => return None,
    })
}

fn of_debt(reserve: ReserveId, log: &LendingLog) -> Option<LendingEvent> {
    Some(match log {
        LendingLog::Minted(change) => LendingEvent::DebtMinted(scaling(reserve, change)),
        LendingLog::Burned(change) => LendingEvent::DebtBurned(scaling(reserve, change)),
        _ => return None,
    })
}

fn of_stable_debt(reserve: ReserveId, log: &LendingLog) -> Option<LendingEvent> {
    Some(match log {
        LendingLog::StableMinted {
            account,
            amount,
            balance_increase,
            new_rate,
            total_supply,
            average_rate,
        } => LendingEvent::StableDebtMinted {
            reserve,
            account: *account,
            amount: *amount,
            balance_increase: *balance_increase,
            new_rate: *new_rate,
            supply: StableSupply { total: *total_supply, average_rate: *average_rate },
        },
        LendingLog::StableBurned { account, amount, total_supply, average_rate } => {
            LendingEvent::StableDebtBurned {
                reserve,
                account: *account,
                amount: *amount,
                supply: StableSupply { total: *total_supply, average_rate: *average_rate },
            }
        }
        _ => return None,
    })
}

fn scaling(reserve: ReserveId, change: &ScaledChange) -> Scaling {
    let ScaledChange { account, value, balance_increase, index } = *change;
    Scaling { reserve, account, value, balance_increase, index }
}

impl Contracts {
    fn of(loaded: &LendingLoaded) -> Self {
        let mut roles: HashMap<Address, Vec<Role>> = HashMap::new();
        let mut add = |contract: Address, role: Role| roles.entry(contract).or_default().push(role);
        add(loaded.pool, Role::Pool);
        add(loaded.contracts.configurator, Role::Configurator);
        add(loaded.contracts.provider, Role::Registry);
        add(loaded.contracts.oracle, Role::Registry);
        for LendingReserve { id, a_token, variable_debt, stable_debt, .. } in &loaded.reserves {
            let id = ReserveId(*id);
            add(*a_token, Role::Supply(id));
            add(*variable_debt, Role::Debt(id));
            stable_debt.iter().for_each(|token| add(*token, Role::StableDebt(id)));
        }
        for price in &loaded.prices {
            add(price.proxy, Role::Registry);
            price.feed.iter().for_each(|feed| add(*feed, Role::Price(price.source)));
        }
        if let Some(feed) = loaded.sequencer.and_then(|sequencer| sequencer.feed) {
            add(feed, Role::Sequencer);
        }
        Self { roles }
    }
}

/// What a load says of accounts, to be compared with what the contract says.
#[derive(Clone, Debug)]
pub struct LendingCheck(Market);

impl LendingCheck {
    /// Of a load, with all its prices.
    ///
    /// # Errors
    ///
    /// A revision that is not proven, or a reserve beyond the bitmap.
    pub fn of(loaded: &LendingLoaded) -> Result<Self, LendingError> {
        Ok(Self(market_of(loaded, |_| true)?))
    }

    /// The six numbers of `getUserAccountData`, in its order, in a block of this time.
    ///
    /// # Errors
    ///
    /// As [`Market::account_data`].
    pub fn account_data(&self, account: Address, timestamp: u64) -> Result<[U256; 6], LendingError> {
        let data = self.0.account_data(account, timestamp)?;
        Ok([
            data.total_collateral,
            data.total_debt,
            data.available_borrows,
            data.liquidation_threshold,
            data.ltv,
            data.health_factor,
        ])
    }
}

/// The market that a load describes, with the prices that are wanted. A price of which no log tells how it goes on is of no
/// use later: accounts that depend on it cannot be told of.
fn market_of(
    loaded: &LendingLoaded,
    is_wanted: impl Fn(&LendingPrice) -> bool,
) -> Result<Market, LendingError> {
    let revision = match loaded.protocol {
        LendingProtocol::AaveV2 => Revision::from_lending_pool_revision(loaded.revision)?,
        LendingProtocol::AaveV3 => Revision::from_pool_revision(loaded.revision)?,
    };
    let mut market = Market::new(revision);
    market.set_paused(loaded.paused);
    for supply in &loaded.stable_supplies {
        let (principal, rate, last_update) = (supply.principal, supply.average_rate, supply.last_update);
        market.set_stable_supply(ReserveId(supply.reserve), StableDebt { principal, rate, last_update });
    }
    for reserve in &loaded.reserves {
        market.set_reserve(reserve_of(market.revision(), reserve))?;
    }
    for category in &loaded.categories {
        let terms = EModeCategory {
            ltv: category.ltv,
            liquidation_threshold: category.liquidation_threshold,
            liquidation_bonus: category.liquidation_bonus,
            price_source: category.price_source,
            collateral_bitmap: category.collateral_bitmap,
            ltv_zero_bitmap: category.ltv_zero_bitmap,
        };
        market.set_e_mode_category(category.id, terms);
    }
    for price in loaded.prices.iter().filter(|price| is_wanted(price)) {
        market.set_price(price.source, price.price);
    }
    for account in &loaded.accounts {
        let mut position = Position::new(account.e_mode);
        for holding in &account.holdings {
            position.set_holding(Holding {
                reserve: ReserveId(holding.reserve),
                scaled_supply: holding.scaled_supply,
                scaled_debt: holding.scaled_debt,
                stable_debt: StableDebt {
                    principal: holding.stable_principal,
                    rate: holding.stable_rate,
                    last_update: holding.stable_last_update,
                },
                collateral: holding.collateral,
            });
        }
        market.set_position(account.account, position);
    }
    Ok(market)
}

/// `ReserveConfiguration.sol`: where each number begins, and how wide it is.
fn reserve_of(revision: Revision, told: &LendingReserve) -> Reserve {
    let bits = |at: usize, width: usize| {
        let mask = (U256::ONE << width) - U256::ONE;
        ((told.configuration >> at) & mask).to::<u16>()
    };
    let category = if revision == Revision::V3_0 { bits(168, 8) } else { 0 };
    Reserve {
        id: ReserveId(told.id),
        asset: told.asset,
        decimals: bits(48, 8) as u8,
        liquidity_index: told.liquidity_index,
        variable_borrow_index: told.variable_borrow_index,
        liquidity_rate: told.liquidity_rate,
        variable_borrow_rate: told.variable_borrow_rate,
        last_update: told.last_update,
        scaled_variable_debt: told.scaled_variable_debt,
        ltv: bits(0, 16),
        liquidation_threshold: bits(16, 16),
        liquidation_bonus: bits(32, 16),
        liquidation_protocol_fee: bits(152, 16),
        active: bits(56, 1) == 1,
        frozen: bits(57, 1) == 1,
        paused: bits(60, 1) == 1,
        grace_period_until: told.grace_period_until,
        e_mode_category: category as u8,
    }
}

/// A map as a sequence of pairs by ascending key, so that the same image is always the same bytes.
mod ordered {
    use std::collections::HashMap;

    use alloy_primitives::Address;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Role;

    pub(super) fn serialize<S: Serializer>(
        roles: &HashMap<Address, Vec<Role>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut pairs: Vec<_> = roles.iter().collect();
        pairs.sort_unstable();
        pairs.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HashMap<Address, Vec<Role>>, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}
