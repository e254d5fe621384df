use std::sync::Arc;

use alloy_primitives::{Address, U256};
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

use crate::{
    CollateralTerms, EModeCategory, LendingError, MAX_RESERVES, Pair, Position, Reserve, ReserveId, Revision,
    StableDebt, Touch,
};

/// One pool: its reserves, categories, prices and accounts.
///
/// A clone costs a few reference counts and shares what neither side changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Market {
    revision: Revision,
    pub(crate) reserves: Vec<Option<Arc<Reserve>>>,
    #[serde(with = "ordered")]
    pub(crate) categories: imbl::OrdMap<u8, EModeCategory>,
    #[serde(with = "ordered")]
    pub(crate) prices: imbl::OrdMap<Address, U256>,
    #[serde(with = "ordered")]
    pub(crate) positions: imbl::OrdMap<Address, Arc<Position>>,
    pub(crate) liquidation_allowed: bool,
    /// Of the whole pool; V2 only.
    pub(crate) paused: bool,
    /// What all borrowers at rates of their own owe, by reserve, where they owe something; V2 only.
    #[serde(with = "ordered")]
    pub(crate) stable_supplies: imbl::OrdMap<ReserveId, StableDebt>,
}

impl Market {
    /// Without reserves, prices and accounts; what the node was asked for comes in by the setters.
    pub fn new(revision: Revision) -> Self {
        Self {
            revision,
            reserves: Vec::new(),
            categories: imbl::OrdMap::new(),
            prices: imbl::OrdMap::new(),
            positions: imbl::OrdMap::new(),
            liquidation_allowed: true,
            paused: false,
            stable_supplies: imbl::OrdMap::new(),
        }
    }

    /// Whose arithmetic it is.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Takes up a reserve in its place.
    ///
    /// # Errors
    /// A place beyond [`MAX_RESERVES`].
    pub fn set_reserve(&mut self, reserve: Reserve) -> Result<(), LendingError> {
        let id = reserve.id;
        self.put_reserve(id, Some(Arc::new(reserve)))
    }

    /// Takes up an e-mode category.
    pub fn set_e_mode_category(&mut self, id: u8, category: EModeCategory) {
        self.categories.insert(id, category);
    }

    /// What `AaveOracle.getAssetPrice` says of an asset, or of a category's price source: base currency for one token.
    pub fn set_price(&mut self, asset: Address, price: U256) {
        self.prices.insert(asset, price);
    }

    /// Takes up an account.
    pub fn set_position(&mut self, account: Address, position: Position) {
        self.put_position(account, Some(Arc::new(position)));
    }

    /// What `PriceOracleSentinel.isLiquidationAllowed` says; true where the pool has no sentinel.
    pub fn set_liquidation_allowed(&mut self, allowed: bool) {
        self.liquidation_allowed = allowed;
    }

    /// What `LendingPool.paused` says in V2; false after it.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// What `StableDebtToken.getSupplyData` says in V2: what all owe, at their average rate. Without it nobody can tell which
    /// of two things a `Mint` of that token says.
    pub fn set_stable_supply(&mut self, reserve: ReserveId, supply: StableDebt) {
        self.put_stable_supply(reserve, Some(supply));
    }

    /// See [`Market::set_liquidation_allowed`].
    pub fn is_liquidation_allowed(&self) -> bool {
        self.liquidation_allowed
    }

    /// By its place.
    ///
    /// # Errors
    /// An empty place.
    pub fn reserve(&self, id: ReserveId) -> Result<&Reserve, LendingError> {
        self.listed(id).map(Arc::as_ref).ok_or(LendingError::UnknownReserve(id))
    }

    /// All reserves, in the order of the list.
    pub fn reserves(&self) -> impl Iterator<Item = &Reserve> {
        self.reserves.iter().flatten().map(Arc::as_ref)
    }

    /// The place of an asset.
    pub fn reserve_of(&self, asset: Address) -> Option<ReserveId> {
        self.reserves().find(|reserve| reserve.asset == asset).map(|reserve| reserve.id)
    }

    /// An account; nothing was seen of one that is not there.
    pub fn position(&self, account: Address) -> Option<&Position> {
        self.positions.get(&account).map(Arc::as_ref)
    }

    /// All accounts, in the order of their addresses.
    pub fn accounts(&self) -> impl Iterator<Item = (Address, &Position)> {
        self.positions.iter().map(|(account, position)| (*account, position.as_ref()))
    }

    /// All e-mode categories that were seen.
    pub fn e_mode_categories(&self) -> impl Iterator<Item = (u8, EModeCategory)> {
        self.categories.iter().map(|(id, category)| (*id, *category))
    }

    /// All prices, by asset or price source.
    pub fn prices(&self) -> impl Iterator<Item = (Address, U256)> {
        self.prices.iter().map(|(source, price)| (*source, *price))
    }

    /// The terms on which a reserve is collateral of an account: its e-mode category's, or the reserve's own.
    ///
    /// # Errors
    /// An empty place.
    pub fn collateral_terms(
        &self,
        account: Address,
        reserve: ReserveId,
    ) -> Result<CollateralTerms, LendingError> {
        let e_mode = self.position(account).map_or(0, |position| position.e_mode);
        let reserve = self.reserve(reserve)?;
        Ok(CollateralTerms {
            reserve: reserve.id,
            ltv: self.ltv(e_mode, reserve),
            liquidation_threshold: self.liquidation_threshold(e_mode, reserve),
            liquidation_bonus: self.liquidation_bonus(e_mode, reserve),
        })
    }

    /// Every collateral of an account with every debt of it.
    pub fn pairs(&self, account: Address) -> Vec<Pair> {
        let holdings = self.position(account).map(Position::holdings).unwrap_or_default();
        let collateral = holdings.iter().filter(|holding| holding.collateral);
        collateral
            .flat_map(|collateral| {
                let debts = holdings.iter().filter(|holding| holding.owes());
                debts.map(|debt| Pair { collateral: collateral.reserve, debt: debt.reserve })
            })
            .collect()
    }

    /// The price of an asset or a price source.
    ///
    /// # Errors
    /// None was given.
    pub fn price(&self, source: Address) -> Result<U256, LendingError> {
        self.prices.get(&source).copied().ok_or(LendingError::MissingPrice(source))
    }

    /// The terms on which a reserve is collateral of an account in this category, if they are not the reserve's own.
    ///
    /// `EModeLogic.isInEModeCategory` in 3.0, `EModeConfiguration.isReserveEnabledOnBitmap` from 3.2 on.
    pub(crate) fn e_mode_terms(&self, e_mode: u8, reserve: &Reserve) -> Option<EModeCategory> {
        let category = self.category(e_mode)?;
        let applies = match self.revision {
            Revision::V2 | Revision::V3_0 => reserve.e_mode_category == e_mode,
            Revision::V3_6 => category.collateral_bitmap & reserve.id.bit() != 0,
        };
        applies.then_some(category)
    }

    /// Who says what a reserve is worth to an account in this category (`GenericLogic.calculateUserAccountData`): a
    /// category of 3.0 may have a price of its own, which is ignored while it is zero.
    pub(crate) fn price_source(&self, e_mode: u8, reserve: &Reserve) -> Result<Address, LendingError> {
        let own = self.category_source(e_mode).filter(|_| reserve.e_mode_category == e_mode);
        match own {
            Some(source) if !self.price(source)?.is_zero() => Ok(source),
            _ => Ok(reserve.asset),
        }
    }

    /// The price source of the category; nothing outside e-mode and after 3.0.
    pub(crate) fn category_source(&self, e_mode: u8) -> Option<Address> {
        match self.revision {
            Revision::V3_0 => self.category(e_mode)?.price_source,
            Revision::V2 | Revision::V3_6 => None,
        }
    }

    /// What was never added has terms of zero, as a mapping has.
    fn category(&self, e_mode: u8) -> Option<EModeCategory> {
        (e_mode != 0).then(|| self.categories.get(&e_mode).copied().unwrap_or_default())
    }

    /// Whose distance to liquidation may differ between two markets of the same pool, beside what prices, indices and time
    /// do. What both share is not looked at, so that it costs what was changed.
    pub fn touched_since(&self, before: &Self) -> Vec<Touch> {
        let same_terms = |(now, before): (&Option<Arc<Reserve>>, &Option<Arc<Reserve>>)| match (now, before) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before) || now.has_terms_of(before),
            (now, before) => now.is_none() && before.is_none(),
        };
        let same = self.revision == before.revision
            && self.reserves.len() == before.reserves.len()
            && self.reserves.iter().zip(&before.reserves).all(same_terms)
            && self.categories == before.categories
            && self.prices.keys().eq(before.prices.keys());
        if !same {
            return vec![Touch::Everyone];
        }
        let differences = before.positions.diff(&self.positions);
        let account = |item| match item {
            DiffItem::Add(account, _)
            | DiffItem::Remove(account, _)
            | DiffItem::Update { new: (account, _), .. } => Touch::Account(*account),
        };
        differences.map(account).collect()
    }

    pub(crate) fn listed(&self, id: ReserveId) -> Option<&Arc<Reserve>> {
        self.reserves.get(usize::from(id.0))?.as_ref()
    }

    pub(crate) fn put_reserve(
        &mut self,
        id: ReserveId,
        reserve: Option<Arc<Reserve>>,
    ) -> Result<(), LendingError> {
        if id.0 >= MAX_RESERVES {
            return Err(LendingError::ReserveOutOfRange(id));
        }
        let place = usize::from(id.0);
        if self.reserves.len() <= place {
            self.reserves.resize(place + 1, None);
        }
        self.reserves[place] = reserve;
        while self.reserves.last().is_some_and(Option::is_none) {
            self.reserves.pop();
        }
        Ok(())
    }

    pub(crate) fn put_stable_supply(&mut self, reserve: ReserveId, supply: Option<StableDebt>) {
        match supply.filter(|supply| !supply.principal.is_zero()) {
            Some(supply) => drop(self.stable_supplies.insert(reserve, supply)),
            None => drop(self.stable_supplies.remove(&reserve)),
        }
    }

    pub(crate) fn put_position(&mut self, account: Address, position: Option<Arc<Position>>) {
        match position.filter(|position| !position.is_empty()) {
            Some(position) => drop(self.positions.insert(account, position)),
            None => drop(self.positions.remove(&account)),
        }
    }
}

/// A map as a sequence of pairs by ascending key.
mod ordered {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K, V, S>(map: &imbl::OrdMap<K, V>, serializer: S) -> Result<S::Ok, S::Error>
    where
        K: Serialize + Ord,
        V: Serialize,
        S: Serializer,
    {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<imbl::OrdMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord + Clone,
        V: Deserialize<'de> + Clone,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
