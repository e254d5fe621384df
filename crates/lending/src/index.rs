use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, U256};

use crate::math::{PERCENTAGE_FACTOR, Rounding, add, mul, mul_div};
use crate::{AccountData, Holding, LendingError, Market, Position, Reserve, ReserveId, Revision, Touch};

/// Accounts by their distance to liquidation.
///
/// Every account that owes has edges: a price of its collateral below which, a price of its debt above which, and a
/// borrow index above which it might be liquidated, each with a part of what separates it from that. While no edge is
/// crossed the account is healthy whatever else happens, so that a question looks at those whose edges are crossed and at
/// no others. The edges allow for every rounding on the way, which makes them a little closer than the truth; the truth is
/// then computed exactly. Interest needs no clock: it is the index that the debt grows by.
#[derive(Clone, Debug, Default)]
pub struct LiquidationIndex {
    gauges: BTreeMap<Gauge, Edges>,
    /// Where each account's edges are.
    edges: BTreeMap<Address, Vec<Edge>>,
    /// Looked at every time: too close for an edge, below it, at a stable rate, or not computable.
    close: BTreeSet<Address>,
}

/// An account that may be liquidated as far as its health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Whose.
    pub account: Address,
    /// Its six numbers.
    pub data: AccountData,
}

/// The answer to [`LiquidationIndex::examine`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Examined {
    /// All accounts with a health factor below one, by address.
    pub below: Vec<Crossing>,
    /// How many accounts were looked at.
    pub looked_at: usize,
    /// Accounts of which the market cannot tell, and why.
    pub unknown: Vec<(Address, LendingError)>,
}

/// A number that accounts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gauge {
    Price(Address),
    /// Grows; a reorganisation may set it back.
    SupplyIndex(ReserveId),
    DebtIndex(ReserveId),
}

#[derive(Clone, Debug, Default)]
struct Edges {
    /// Crossed by a reading below.
    floors: BTreeSet<(U256, Address)>,
    /// Crossed by a reading above.
    ceilings: BTreeSet<(U256, Address)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Floor(Gauge, U256),
    Ceiling(Gauge, U256),
}

impl LiquidationIndex {
    /// Of all accounts of a market as it is at this time.
    pub fn new(market: &Market, timestamp: u64) -> Self {
        let mut index = Self::default();
        for (account, _) in market.accounts() {
            index.place(market, account, timestamp);
        }
        index
    }

    /// After an event, or after it was taken back: what it touched gets new edges.
    pub fn follow(&mut self, touches: impl Iterator<Item = Touch>, market: &Market, timestamp: u64) {
        for touch in touches {
            match touch {
                Touch::Account(account) => self.place(market, account, timestamp),
                Touch::Everyone => return *self = Self::new(market, timestamp),
            }
        }
    }

    /// The accounts that may be below the threshold in this market at this time, and certainly all that are. The market
    /// may differ in prices, rates, indices and time from what the index has seen, but not in accounts and terms.
    pub fn candidates(&self, market: &Market, timestamp: u64) -> BTreeSet<Address> {
        let mut candidates = self.close.clone();
        for (gauge, edges) in &self.gauges {
            match gauge.reading(market, timestamp) {
                Ok(reading) => edges.crossed(reading, &mut candidates),
                Err(_) => edges.all(&mut candidates),
            }
        }
        candidates
    }

    /// Finds all accounts below the threshold, and gives those that were looked at new edges.
    pub fn examine(&mut self, market: &Market, timestamp: u64) -> Examined {
        let candidates = self.candidates(market, timestamp);
        let mut examined = Examined { looked_at: candidates.len(), ..Examined::default() };
        for account in candidates {
            match market.account_data(account, timestamp) {
                Ok(data) if data.is_below_threshold() => examined.below.push(Crossing { account, data }),
                Ok(_) => {}
                Err(error) => examined.unknown.push((account, error)),
            }
            self.place(market, account, timestamp);
        }
        examined
    }

    /// How many accounts are watched by edges, and how many are looked at every time.
    pub fn len(&self) -> (usize, usize) {
        (self.edges.len(), self.close.len())
    }

    fn place(&mut self, market: &Market, account: Address, timestamp: u64) {
        self.remove(account);
        let Some(position) = market.position(account) else { return };
        if !position.holdings().iter().any(Holding::owes) {
            return;
        }
        match edges_of(market, position, timestamp) {
            Ok(Some(edges)) => self.insert(account, edges),
            Ok(None) | Err(_) => drop(self.close.insert(account)),
        }
    }

    fn insert(&mut self, account: Address, edges: Vec<Edge>) {
        for edge in &edges {
            match *edge {
                Edge::Floor(gauge, at) => {
                    self.gauges.entry(gauge).or_default().floors.insert((at, account));
                }
                Edge::Ceiling(gauge, at) => {
                    self.gauges.entry(gauge).or_default().ceilings.insert((at, account));
                }
            }
        }
        self.edges.insert(account, edges);
    }

    fn remove(&mut self, account: Address) {
        self.close.remove(&account);
        for edge in self.edges.remove(&account).unwrap_or_default() {
            match edge {
                Edge::Floor(gauge, at) => {
                    self.gauges.entry(gauge).or_default().floors.remove(&(at, account));
                }
                Edge::Ceiling(gauge, at) => {
                    self.gauges.entry(gauge).or_default().ceilings.remove(&(at, account));
                }
            }
        }
    }
}

impl Gauge {
    fn reading(self, market: &Market, timestamp: u64) -> Result<U256, LendingError> {
        match self {
            // A price of zero sends the contract to another source: nothing is known then.
            Self::Price(source) => {
                Some(market.price(source)?).filter(|price| !price.is_zero()).ok_or(LendingError::Arithmetic)
            }
            Self::SupplyIndex(id) => market.reserve(id)?.normalized_income(timestamp),
            Self::DebtIndex(id) => market.reserve(id)?.normalized_debt(market.revision(), timestamp),
        }
    }
}

impl Edges {
    fn crossed(&self, reading: U256, into: &mut BTreeSet<Address>) {
        let above = (reading, Address::repeat_byte(0xff));
        let floors = self.floors.range((std::ops::Bound::Excluded(above), std::ops::Bound::Unbounded));
        let ceilings = self.ceilings.range(..(reading, Address::ZERO));
        into.extend(floors.chain(ceilings).map(|(_, account)| *account));
    }

    fn all(&self, into: &mut BTreeSet<Address>) {
        into.extend(self.floors.iter().chain(&self.ceilings).map(|(_, account)| *account));
    }
}

/// The two sides of an account, bounded so that the contract's roundings cannot cross them: the collateral from below,
/// the debt from above. Base currency times basis points.
#[derive(Default)]
struct Bounds {
    collateral: U256,
    debt: U256,
    /// What roundings of other prices and indices may still take.
    margin: U256,
}

/// Smallest units by which a balance may be off after its index has moved: half a unit then and half a unit now.
const BALANCE_MARGIN: U256 = U256::from_limbs([2, 0, 0, 0]);

fn edges_of(market: &Market, position: &Position, timestamp: u64) -> Result<Option<Vec<Edge>>, LendingError> {
    // The average up to 3.0 is worth something that is rounded to the nearest unit once more.
    let mut bounds = Bounds { margin: PERCENTAGE_FACTOR, ..Bounds::default() };
    let mut held = Vec::new();
    for holding in position.holdings().iter().filter(|holding| holding.collateral || holding.owes()) {
        let Some(reserve) = market.listed(holding.reserve) else { continue };
        let source = market.price_source(position.e_mode, reserve)?;
        let category = market.category_source(position.e_mode);
        let idle = category.is_some_and(|own| own != source) && reserve.e_mode_category == position.e_mode;
        // At a rate of its own, or with a category's price that is zero at present.
        if !holding.stable_debt.principal.is_zero() || idle {
            return Ok(None);
        }
        bounds.add(market, position, reserve, holding, market.price(source)?, timestamp)?;
        held.push((holding, reserve.as_ref(), source));
    }
    let least = add(bounds.debt, bounds.margin)?;
    let Some(slack) = bounds.collateral.checked_sub(least).filter(|slack| *slack > U256::from(8)) else {
        return Ok(None);
    };
    let mut edges = Vec::new();
    for (holding, reserve, source) in held {
        bounds.edges(market, reserve, holding, source, slack, timestamp, &mut edges)?;
    }
    Ok(Some(edges))
}

impl Bounds {
    fn add(
        &mut self,
        market: &Market,
        position: &Position,
        reserve: &Reserve,
        holding: &Holding,
        price: U256,
        timestamp: u64,
    ) -> Result<(), LendingError> {
        if market.counts_as_collateral(reserve, holding) {
            let threshold = market.liquidation_threshold(position.e_mode, reserve);
            // An average that is truncated loses less than one basis point of every part.
            let threshold = U256::from(match market.revision() {
                Revision::V2 | Revision::V3_0 => threshold.saturating_sub(1),
                Revision::V3_6 => threshold,
            });
            let index = reserve.normalized_income(timestamp)?;
            let balance = market.revision().supply_balance(holding.scaled_supply, index)?;
            let balance = balance.saturating_sub(BALANCE_MARGIN);
            let worth = mul_div(balance, price, reserve.unit()?, Rounding::Down)?;
            self.collateral = add(self.collateral, mul(worth, threshold)?)?;
            self.margin = add(self.margin, threshold)?;
        }
        if holding.owes() {
            let owed = add(market.variable_debt(reserve, holding, timestamp)?, BALANCE_MARGIN)?;
            let worth = mul_div(owed, price, reserve.unit()?, Rounding::Up)?;
            self.debt = add(self.debt, mul(worth, PERCENTAGE_FACTOR)?)?;
            self.margin = add(self.margin, PERCENTAGE_FACTOR)?;
        }
        Ok(())
    }

    /// Prices of collateral may take half of the slack, prices of debt and interest the other half, of which a quarter is
    /// for interest.
    #[expect(clippy::too_many_arguments, reason = "one holding and all that its edges depend on")]
    fn edges(
        &self,
        market: &Market,
        reserve: &Reserve,
        holding: &Holding,
        source: Address,
        slack: U256,
        timestamp: u64,
        into: &mut Vec<Edge>,
    ) -> Result<(), LendingError> {
        let Self { collateral, debt, .. } = *self;
        let price = market.price(source)?;
        let half = slack >> 1;
        let with_interest = add(debt, slack >> 3)?;
        if market.counts_as_collateral(reserve, holding) {
            let floor = mul_div(price, collateral - half, collateral, Rounding::Up)?;
            into.push(Edge::Floor(Gauge::Price(source), floor));
            let index = reserve.normalized_income(timestamp)?;
            into.push(Edge::Floor(Gauge::SupplyIndex(reserve.id), index));
        }
        if holding.owes() {
            let ceiling = mul_div(price, add(debt, half)?, with_interest, Rounding::Down)?;
            into.push(Edge::Ceiling(Gauge::Price(source), ceiling));
            let index = reserve.normalized_debt(market.revision(), timestamp)?;
            let ceiling = mul_div(index, with_interest, debt, Rounding::Down)?;
            into.push(Edge::Ceiling(Gauge::DebtIndex(reserve.id), ceiling));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
