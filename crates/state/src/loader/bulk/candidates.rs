//! Pools with concentrated liquidity that may be there: nobody lists them.

use std::collections::{HashSet, VecDeque};

use alloy_primitives::Address;
use headwater_events::AsOf;
use headwater_market::{ConcentratedKey, ResolvedMarket, V4Key};
use headwater_node::Node;

use super::{LoadError, PAGE};
use crate::loader::concentrated::{Reading, recognise, recognise_v4};
use crate::loader::history::FoundPool;
use crate::loader::lasting::Lasting;

/// Fees for which pools with concentrated liquidity are looked for: those that the factories of Uniswap and PancakeSwap know, in
/// hundredths of a basis point. A pool with another one is found when it trades.
const FEES: [u32; 5] = [100, 500, 2_500, 3_000, 10_000];

/// The same for V4, where anybody chooses fee and tick spacing: the pairs that were V3's.
const V4_FEES: [(u32, i32); 4] = [(100, 1), (500, 10), (3_000, 60), (10_000, 200)];

/// Some that are asked about together.
#[derive(Debug)]
pub(super) struct Candidates {
    who: Who,
    /// Found in history: one is taken if it was not read already, and has liquidity where it stands.
    found: bool,
}

#[derive(Debug)]
enum Who {
    V3(Vec<Address>),
    V4 { manager: Address, keys: Vec<V4Key> },
}

impl Candidates {
    /// All, in the order in which they are read.
    pub(super) fn all(market: &ResolvedMarket, found: &[FoundPool]) -> VecDeque<Self> {
        of_v3(market).chain(of_v4(market)).chain(of_history(market, found)).collect()
    }

    pub(super) fn len(&self) -> usize {
        match &self.who {
            Who::V3(pools) => pools.len(),
            Who::V4 { keys, .. } => keys.len(),
        }
    }

    /// Those that are there, their reading begun; `taken` are those that are not read twice.
    pub(super) async fn recognise(
        &self,
        node: &Node,
        market: &ResolvedMarket,
        as_of: AsOf,
        taken: &HashSet<ConcentratedKey>,
        lasting: &mut Lasting,
    ) -> Result<Vec<Reading>, LoadError> {
        let is_due = |key: &ConcentratedKey| !(self.found && taken.contains(key));
        let readings = match &self.who {
            Who::V3(pools) => {
                let due = pools.iter().copied().filter(|pool| is_due(&ConcentratedKey::V3(*pool)));
                recognise(node, market, &due.collect::<Vec<_>>(), as_of, lasting).await?
            }
            Who::V4 { manager, keys } => {
                let key = |key: &V4Key| ConcentratedKey::V4 { manager: *manager, id: key.id() };
                let due: Vec<_> = keys.iter().filter(|it| is_due(&key(it))).cloned().collect();
                recognise_v4(node, *manager, &due, as_of).await?
            }
        };
        let wanted = |reading: &Reading| !self.found || reading.has_liquidity();
        Ok(readings.into_iter().flatten().filter(wanted).collect())
    }
}

fn tokens(market: &ResolvedMarket) -> &[Address] {
    if market.load.tokens.is_empty() { &market.base_tokens } else { &market.load.tokens }
}

fn pairs(tokens: &[Address]) -> impl Iterator<Item = (Address, Address)> {
    let rest = |at: usize| tokens[at + 1..].iter();
    tokens.iter().enumerate().flat_map(move |(at, one)| rest(at).map(|other| (*one, *other)))
}

/// Those of two listed (else base) tokens are where their addresses derive, or not there. They have no reserves, so that none is left
/// out for what it holds.
fn of_v3(market: &ResolvedMarket) -> impl Iterator<Item = Candidates> {
    let factories = &market.concentrated_factories;
    let places: Vec<_> = pairs(tokens(market))
        .flat_map(|(one, other)| FEES.map(|fee| (one, other, fee)))
        .flat_map(|(one, other, fee)| factories.iter().map(move |factory| factory.derive(one, other, fee)))
        .collect();
    pages(&places).into_iter().map(|pools| Candidates { who: Who::V3(pools), found: false })
}

/// Those of two listed (else base) tokens, or of one and the native currency, without hooks and with a usual fee, have an id under
/// which the manager's storage has a price, or are not there.
fn of_v4(market: &ResolvedMarket) -> impl Iterator<Item = Candidates> {
    let currencies: Vec<_> = [Address::ZERO].into_iter().chain(tokens(market).iter().copied()).collect();
    let keys: Vec<_> = pairs(&currencies)
        .flat_map(|(one, other)| {
            V4_FEES.map(|(fee, tick_spacing)| V4Key {
                currency0: one.min(other),
                currency1: one.max(other),
                fee,
                tick_spacing,
                hooks: Address::ZERO,
            })
        })
        .collect();
    market.concentrated_managers.iter().flat_map(move |manager| {
        let manager = manager.address;
        let some = move |keys| Candidates { who: Who::V4 { manager, keys }, found: false };
        pages(&keys).into_iter().map(some)
    })
}

fn of_history(market: &ResolvedMarket, found: &[FoundPool]) -> impl Iterator<Item = Candidates> {
    let mut known = HashSet::new();
    let found: Vec<_> = found.iter().copied().filter(|pool| known.insert(pool.key())).collect();
    pages(&found).into_iter().flat_map(move |page| {
        let of_v3 = Who::V3(page.iter().filter_map(FoundPool::v3).collect());
        let managers = market.concentrated_managers.iter().map(|manager| manager.address);
        let of_v4 = managers.map(|manager| {
            let keys = page.iter().filter_map(|pool| pool.v4(manager)).collect();
            Who::V4 { manager, keys }
        });
        let some: Vec<_> = [of_v3].into_iter().chain(of_v4).collect();
        let some = some.into_iter().map(|who| Candidates { who, found: true });
        some.filter(|candidates| candidates.len() > 0)
    })
}

fn pages<T: Clone>(all: &[T]) -> Vec<Vec<T>> {
    all.chunks(PAGE).map(<[T]>::to_vec).collect()
}
