//! Everything that a lending pool is, as of one block, and who has something in it.

mod actor;
mod chain;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, BlockHash, BlockNumber, Bytes, U256};
use headwater_abi::aave::{self, ReserveData};
use headwater_abi::{calls, chainlink};
use headwater_events::{
    LendingAccount, LendingCategory, LendingContracts, LendingHolding, LendingLoaded, LendingPrice,
    LendingProtocol, LendingReserve, LendingStableSupply, Sequencer,
};
use headwater_market::{LendingCheck, LendingPool, Revision};
use headwater_node::Node;

pub use self::actor::{LendingLoader, LendingLoaderObserved};
pub use self::chain::{BlockPlace, LendingChain};
use super::bulk::PAGE;
use super::history::{HistorySearch, Searched, Walk};
use super::question::{Answer, Question};
use crate::error::LoadError;

/// Who has something in which token of a pool, as its logs say; a load goes on from the one before.
#[derive(Clone, Debug)]
pub struct LendingScan {
    lending: LendingPool,
    /// By token.
    holders: BTreeMap<Address, BTreeSet<Address>>,
    walk: Walk,
}

impl LendingScan {
    /// Nothing was searched yet.
    pub fn new(lending: LendingPool) -> Self {
        let walk = Walk::new(lending.from_block, lending.log_range);
        Self { lending, holders: BTreeMap::new(), walk }
    }

    /// Searches the logs up to a canonical block, but of so many ranges of blocks at most; says whether that is all. What was
    /// searched stays searched, whatever happens.
    ///
    /// # Errors
    ///
    /// As [`LendingScan::load`].
    pub async fn search(
        &mut self,
        chain: &impl LendingChain,
        block: BlockHash,
        ranges: u32,
    ) -> Result<bool, LoadError> {
        self.search_telling(chain, block, ranges, &|_| {}).await
    }

    async fn search_telling(
        &mut self,
        chain: &impl LendingChain,
        block: BlockHash,
        ranges: u32,
        told: &(impl Fn(BlockNumber) + Sync),
    ) -> Result<bool, LoadError> {
        let BlockPlace { number, .. } = chain.place(block).await?;
        let asked = self.ask(chain, block);
        let revision = asked.revision(self.lending.pool).await?;
        let reserves = asked.reserves(self.lending.pool, revision).await?;
        self.search_tokens(chain, &reserves, number, ranges, told).await
    }

    /// Loads the pool as of a canonical block, and compares every account with what the contract says of it.
    ///
    /// # Errors
    ///
    /// [`LoadError::Incomplete`] where the logs do not name everybody who has something in the pool,
    /// [`LoadError::Unproven`] where the pool runs a revision that is not claimed, [`LoadError::BlockGone`] where the node no
    /// longer answers for the block, [`LoadError::NoPool`] and [`LoadError::Differs`] where the contracts are others than
    /// they should be; else what the node failed with.
    pub async fn load(
        &mut self,
        chain: &impl LendingChain,
        block: BlockHash,
    ) -> Result<LendingLoaded, LoadError> {
        let BlockPlace { number, timestamp } = chain.place(block).await?;
        let asked = self.ask(chain, block);
        let mut loaded = asked.pool(self.lending.pool, number).await?;
        self.search_tokens(chain, &loaded.reserves, number, u32::MAX, &|_| {}).await?;
        loaded.accounts = asked.accounts(&loaded, &self.holders).await?;
        if let Err(error) = asked.ensure_all_found(&loaded).await {
            // Whoever was left out is looked for again.
            self.walk.begin_anew();
            return Err(error);
        }
        asked.compare(&loaded, timestamp).await?;
        chain.ensure_canonical(block, number).await?;
        Ok(loaded)
    }

    fn ask<'a, C: LendingChain>(&self, chain: &'a C, block: BlockHash) -> Asked<'a, C> {
        Asked { chain, block, name: self.lending.name.clone(), protocol: self.lending.protocol }
    }

    /// Tokens that were not known before are searched from the beginning.
    async fn search_tokens(
        &mut self,
        chain: &impl LendingChain,
        reserves: &[LendingReserve],
        until: u64,
        ranges: u32,
        told: &(impl Fn(BlockNumber) + Sync),
    ) -> Result<bool, LoadError> {
        let tokens: BTreeSet<Address> = reserves.iter().flat_map(tokens_of).collect();
        if !tokens.iter().eq(self.holders.keys()) {
            self.holders = tokens.iter().map(|token| (*token, BTreeSet::new())).collect();
            self.walk.begin_anew();
        }
        let tokens: Vec<Address> = tokens.into_iter().collect();
        let mut stretch = self.walk.stretch(until, ranges);
        while let Some((from, to)) = stretch.due() {
            match chain.holders(&tokens, from, to).await {
                Ok(found) => {
                    for (token, account) in found {
                        self.holders.entry(token).or_default().insert(account);
                    }
                    told(stretch.searched(to));
                }
                Err(error) => stretch.refused(error)?,
            }
        }
        Ok(stretch.is_through())
    }
}

impl HistorySearch for LendingScan {
    type Found = BTreeMap<Address, BTreeSet<Address>>;

    fn contract(&self) -> Address {
        self.lending.pool
    }

    fn about(&self) -> String {
        let LendingPool { pool, from_block, .. } = self.lending;
        format!("accounts of the lending pool {pool} from block {from_block} on")
    }

    async fn search(
        &mut self,
        node: &Node,
        block: BlockHash,
        ranges: u32,
        told: &(impl Fn(BlockNumber) + Sync),
    ) -> Result<bool, LoadError> {
        self.search_telling(node, block, ranges, told).await
    }

    fn searched(&self) -> Searched<&Self::Found> {
        Searched { next: self.walk.next(), found: &self.holders }
    }

    fn go_on(&mut self, searched: Searched<Self::Found>) {
        self.walk.go_on(searched.next);
        self.holders = searched.found;
    }
}

fn tokens_of(reserve: &LendingReserve) -> impl Iterator<Item = Address> + use<> {
    [reserve.a_token, reserve.variable_debt].into_iter().chain(reserve.stable_debt)
}

/// A pool that is asked as of a block.
struct Asked<'a, C> {
    chain: &'a C,
    block: BlockHash,
    /// As people call it.
    name: String,
    protocol: LendingProtocol,
}

/// What differs between the protocols is asked for here.
struct Registered {
    contracts: LendingContracts,
    sentinel: Address,
    /// Of which token the oracle says one ether, whoever is asked; V2 only.
    weth: Option<Address>,
    paused: bool,
}

impl<C: LendingChain> Asked<'_, C> {
    /// Everything but the accounts.
    async fn pool(&self, pool: Address, number: u64) -> Result<LendingLoaded, LoadError> {
        let revision = self.revision(pool).await?;
        let Registered { contracts, sentinel, weth, paused } = self.registered(pool).await?;
        let reserves = self.reserves(pool, revision).await?;
        let categories = self.categories(pool, revision).await?;
        let assets = reserves.iter().map(|reserve| reserve.asset);
        let sources = categories.iter().filter_map(|category| category.price_source).chain(assets).collect();
        let mut prices = self.prices(contracts.oracle, sources).await?;
        for price in prices.iter_mut().filter(|price| Some(price.source) == weth) {
            (price.proxy, price.feed) = (contracts.oracle, Some(contracts.oracle));
        }
        Ok(LendingLoaded {
            pool,
            number,
            hash: self.block,
            protocol: self.protocol,
            revision: revision.pool_revision(),
            paused,
            contracts,
            sequencer: self.sequencer(sentinel, revision).await?,
            stable_supplies: self.stable_supplies(&reserves).await?,
            reserves,
            categories,
            prices,
            accounts: Vec::new(),
        })
    }

    async fn revision(&self, pool: Address) -> Result<Revision, LoadError> {
        let (question, revision_of): (_, fn(u64) -> _) = match self.protocol {
            LendingProtocol::AaveV2 => {
                (aave::lending_pool_revision(), |number| Revision::from_lending_pool_revision(number))
            }
            LendingProtocol::AaveV3 => (aave::pool_revision(), |number| Revision::from_pool_revision(number)),
        };
        let revision =
            self.one(pool, question, calls::decode_uint256).await.map_err(|error| match error {
                LoadError::NoPool { reason, .. } => {
                    let protocol = self.protocol.name();
                    self.no_pool(&format!("{pool} tells no revision as a pool of {protocol} does: {reason}"))
                }
                other => other,
            })?;
        let revision = u64::try_from(revision).unwrap_or(u64::MAX);
        revision_of(revision).map_err(|error| LoadError::Unproven { pool: self.name.clone(), error })
    }

    async fn registered(&self, pool: Address) -> Result<Registered, LoadError> {
        let (provider, configurator) = match self.protocol {
            LendingProtocol::AaveV2 => (aave::lending_pool_provider(), aave::lending_pool_configurator()),
            LendingProtocol::AaveV3 => (aave::addresses_provider(), aave::pool_configurator()),
        };
        let provider = self.one(pool, provider, calls::decode_address).await?;
        let contracts = LendingContracts {
            provider,
            configurator: self.one(provider, configurator, calls::decode_address).await?,
            oracle: self.one(provider, aave::price_oracle(), calls::decode_address).await?,
        };
        Ok(match self.protocol {
            LendingProtocol::AaveV2 => {
                let weth = self.one(contracts.oracle, aave::oracle_weth(), calls::decode_address).await?;
                let paused = self.one(pool, aave::lending_pool_paused(), aave::decode_paused).await?;
                Registered { contracts, sentinel: Address::ZERO, weth: Some(weth), paused }
            }
            LendingProtocol::AaveV3 => {
                let sentinel = aave::price_oracle_sentinel();
                let sentinel = self.one(provider, sentinel, calls::decode_address).await?;
                Registered { contracts, sentinel, weth: None, paused: false }
            }
        })
    }

    /// V3 needs none: there a log of a stable debt says all by itself.
    async fn stable_supplies(
        &self,
        reserves: &[LendingReserve],
    ) -> Result<Vec<LendingStableSupply>, LoadError> {
        if self.protocol != LendingProtocol::AaveV2 {
            return Ok(Vec::new());
        }
        let tokens: Vec<(u16, Address)> =
            reserves.iter().filter_map(|reserve| Some((reserve.id, reserve.stable_debt?))).collect();
        let about = |(_, to): &(u16, Address)| Question { to: *to, data: aave::stable_supply() };
        let told = self.many(tokens.iter().map(about).collect(), aave::decode_stable_supply).await?;
        let rows = tokens.iter().zip(told).filter(|(_, (principal, ..))| !principal.is_zero());
        let supplies = rows.map(|((reserve, _), (principal, average_rate, last_update))| {
            LendingStableSupply { reserve: *reserve, principal, average_rate, last_update }
        });
        Ok(supplies.collect())
    }

    async fn reserves(&self, pool: Address, revision: Revision) -> Result<Vec<LendingReserve>, LoadError> {
        let assets = self.one(pool, aave::reserves_list(), aave::decode_addresses).await?;
        let about = |asset: &Address| Question { to: pool, data: aave::reserve_data(*asset) };
        let decode = match revision {
            Revision::V2 => aave::decode_reserve_data_v2,
            Revision::V3_0 | Revision::V3_6 => aave::decode_reserve_data,
        };
        let told = self.many(assets.iter().map(about).collect(), decode).await?;
        let debt =
            |data: &ReserveData| Question { to: data.variable_debt, data: aave::scaled_total_supply() };
        let debts = self.many(told.iter().map(debt).collect(), calls::decode_uint256).await?;
        let graces = match revision {
            Revision::V2 | Revision::V3_0 => vec![U256::ZERO; assets.len()],
            Revision::V3_6 => {
                let grace = |asset: &Address| Question { to: pool, data: aave::grace_period(*asset) };
                self.many(assets.iter().map(grace).collect(), calls::decode_uint256).await?
            }
        };
        let rows = assets.iter().zip(told).zip(debts.into_iter().zip(graces));
        let reserves = rows.map(|((asset, data), (scaled_variable_debt, grace))| LendingReserve {
            id: data.id,
            asset: *asset,
            a_token: data.a_token,
            variable_debt: data.variable_debt,
            stable_debt: data.stable_debt.filter(|_| revision != Revision::V3_6),
            configuration: data.configuration,
            liquidity_index: data.liquidity_index,
            variable_borrow_index: data.variable_borrow_index,
            liquidity_rate: data.liquidity_rate,
            variable_borrow_rate: data.variable_borrow_rate,
            last_update: data.last_update,
            scaled_variable_debt,
            grace_period_until: u64::try_from(grace).unwrap_or(u64::MAX),
        });
        Ok(reserves.collect())
    }

    /// Those that are not empty: a threshold of zero says that a category was never made.
    async fn categories(&self, pool: Address, revision: Revision) -> Result<Vec<LendingCategory>, LoadError> {
        if revision == Revision::V2 {
            return Ok(Vec::new());
        }
        let ids: Vec<u8> = (1..=u8::MAX).collect();
        let ask = |data: fn(u8) -> Bytes| ids.iter().map(move |id| Question { to: pool, data: data(*id) });
        let told = self.many(ask(aave::e_mode_category).collect(), aave::decode_e_mode_category).await?;
        let bitmaps = match revision {
            Revision::V2 | Revision::V3_0 => vec![U256::ZERO; 2 * ids.len()],
            Revision::V3_6 => {
                let both = ask(aave::e_mode_collateral).chain(ask(aave::e_mode_ltv_zero));
                self.many(both.collect(), calls::decode_uint256).await?
            }
        };
        let (collateral, ltv_zero) = bitmaps.split_at(ids.len());
        let rows = ids.iter().zip(told).zip(collateral.iter().zip(ltv_zero));
        let categories = rows.map(|((id, data), (collateral, ltv_zero))| LendingCategory {
            id: *id,
            ltv: data.ltv,
            liquidation_threshold: data.liquidation_threshold,
            liquidation_bonus: data.liquidation_bonus,
            price_source: data.price_source,
            collateral_bitmap: collateral.to(),
            ltv_zero_bitmap: ltv_zero.to(),
        });
        let is_empty = |category: &LendingCategory| {
            category.liquidation_threshold == 0
                && category.price_source.is_none()
                && category.collateral_bitmap == 0
                && category.ltv_zero_bitmap == 0
        };
        Ok(categories.filter(|category| !is_empty(category)).collect())
    }

    /// What the oracle says, and whose answers that is. Only where the oracle asks a Chainlink proxy, and that says just
    /// the same, do the answers of its aggregator tell how the price goes on; an adapter computes something else of them.
    async fn prices(
        &self,
        oracle: Address,
        sources: BTreeSet<Address>,
    ) -> Result<Vec<LendingPrice>, LoadError> {
        let ask = |data: fn(Address) -> Bytes| {
            sources.iter().map(move |source| Question { to: oracle, data: data(*source) })
        };
        let prices = self.many(ask(aave::asset_price).collect(), calls::decode_uint256).await?;
        let askers = self.many(ask(aave::source_of_asset).collect(), calls::decode_address).await?;
        let about = |asker: &Address| {
            [chainlink::aggregator(), chainlink::latest_round_data()]
                .map(|data| Question { to: *asker, data })
        };
        let answers = self.ask(askers.iter().flat_map(about).collect()).await?;
        let feeds = answers.as_chunks().0.iter().map(|[aggregator, round]| {
            let answer = round.read(chainlink::decode_latest_round_data).ok()?.answer;
            Some((feed(aggregator)?, U256::try_from(answer).ok()?))
        });
        let rows = sources.iter().zip(prices).zip(askers.iter().zip(feeds));
        let prices = rows.map(|((source, price), (proxy, feed))| {
            let feed = feed.filter(|(_, answer)| *answer == price).map(|(feed, _)| feed);
            LendingPrice { source: *source, price, proxy: *proxy, feed }
        });
        self.without_dual(prices.collect()).await
    }

    /// What an aggregator with two faces logs is not yet what a proxy of its second one answers, so that its logs are not followed.
    async fn without_dual(&self, mut prices: Vec<LendingPrice>) -> Result<Vec<LendingPrice>, LoadError> {
        let feeds = || prices.iter().filter_map(|price| price.feed);
        let questions = feeds().map(|to| Question { to, data: chainlink::type_and_version() }).collect();
        let answers = self.ask(questions).await?;
        let is_dual = |answer: &Answer| matches!(answer, Answer::Returned(told) if chainlink::is_dual(told));
        let dual: BTreeSet<Address> =
            feeds().zip(&answers).filter(|(_, answer)| is_dual(answer)).map(|(feed, _)| feed).collect();
        for price in &mut prices {
            price.feed = price.feed.filter(|feed| !dual.contains(feed));
        }
        Ok(prices)
    }

    /// `PriceOracleSentinel._isUpAndGracePeriodPassed` counts from the last update in 3.0, from the change in 3.6.
    async fn sequencer(&self, sentinel: Address, revision: Revision) -> Result<Option<Sequencer>, LoadError> {
        if sentinel.is_zero() {
            return Ok(None);
        }
        let oracle = self.one(sentinel, aave::sequencer_oracle(), calls::decode_address).await?;
        let grace = self.one(sentinel, aave::sentinel_grace_period(), calls::decode_uint256).await?;
        let round = self.one(oracle, chainlink::latest_round_data(), chainlink::decode_latest_round_data);
        let round = round.await?;
        let since = match revision {
            Revision::V2 | Revision::V3_0 => round.updated_at,
            Revision::V3_6 => round.started_at,
        };
        let about = vec![Question { to: oracle, data: chainlink::aggregator() }];
        Ok(Some(Sequencer {
            feed: self.ask(about).await?.first().and_then(feed),
            is_down: !round.answer.is_zero(),
            since: u64::try_from(since).unwrap_or(u64::MAX),
            grace_period: u64::try_from(grace).unwrap_or(u64::MAX),
        }))
    }

    async fn accounts(
        &self,
        loaded: &LendingLoaded,
        holders: &BTreeMap<Address, BTreeSet<Address>>,
    ) -> Result<Vec<LendingAccount>, LoadError> {
        let everybody: BTreeSet<Address> = holders.values().flatten().copied().collect();
        let everybody: Vec<Address> = everybody.into_iter().collect();
        let pool = loaded.pool;
        let ask = |data: fn(Address) -> Bytes| {
            everybody.iter().map(|account| Question { to: pool, data: data(*account) }).collect()
        };
        let uses = self.many(ask(aave::user_configuration), calls::decode_uint256).await?;
        let e_modes = match self.protocol {
            LendingProtocol::AaveV2 => vec![U256::ZERO; everybody.len()],
            LendingProtocol::AaveV3 => self.many(ask(aave::user_e_mode), calls::decode_uint256).await?,
        };
        let mut accounts: BTreeMap<Address, Account> = BTreeMap::new();
        for (account, (uses, e_mode)) in everybody.iter().zip(uses.into_iter().zip(e_modes)) {
            let e_mode = u8::try_from(e_mode).map_err(|_| self.no_pool("a category beyond 255"))?;
            accounts.insert(*account, Account { uses, e_mode, holdings: BTreeMap::new() });
        }
        for reserve in &loaded.reserves {
            self.balances(reserve, holders, &mut accounts).await?;
        }
        let accounts = accounts.into_iter().map(|(account, held)| LendingAccount {
            account,
            e_mode: held.e_mode,
            holdings: held.holdings.into_values().collect(),
        });
        Ok(accounts.filter(|account| account.e_mode != 0 || !account.holdings.is_empty()).collect())
    }

    /// What everybody has in one reserve.
    async fn balances(
        &self,
        reserve: &LendingReserve,
        holders: &BTreeMap<Address, BTreeSet<Address>>,
        accounts: &mut BTreeMap<Address, Account>,
    ) -> Result<(), LoadError> {
        let of = |token: Address| holders.get(&token).into_iter().flatten().copied();
        let ask = |token: Address, data: fn(Address) -> Bytes| {
            of(token).map(move |account| Question { to: token, data: data(account) }).collect()
        };
        let supplies = self.many(ask(reserve.a_token, aave::scaled_balance), calls::decode_uint256).await?;
        for (account, scaled) in of(reserve.a_token).zip(supplies) {
            holding(accounts, account, reserve.id, |held| held.scaled_supply = scaled);
        }
        let debts =
            self.many(ask(reserve.variable_debt, aave::scaled_balance), calls::decode_uint256).await?;
        for (account, scaled) in of(reserve.variable_debt).zip(debts) {
            holding(accounts, account, reserve.id, |held| held.scaled_debt = scaled);
        }
        let Some(stable) = reserve.stable_debt else { return Ok(()) };
        let principals = self.many(ask(stable, aave::principal_balance), calls::decode_uint256).await?;
        let rates = self.many(ask(stable, aave::stable_rate), calls::decode_uint256).await?;
        let updates = self.many(ask(stable, aave::stable_last_update), calls::decode_uint256).await?;
        for (account, ((principal, rate), updated)) in
            of(stable).zip(principals.into_iter().zip(rates).zip(updates))
        {
            if principal.is_zero() {
                continue;
            }
            holding(accounts, account, reserve.id, |held| {
                held.stable_principal = principal;
                held.stable_rate = rate;
                held.stable_last_update = u64::try_from(updated).unwrap_or(u64::MAX);
            });
        }
        Ok(())
    }

    /// Holds what all accounts have together to what there is.
    async fn ensure_all_found(&self, loaded: &LendingLoaded) -> Result<(), LoadError> {
        let about =
            |reserve: &LendingReserve| Question { to: reserve.a_token, data: aave::scaled_total_supply() };
        let questions = loaded.reserves.iter().map(about).collect();
        let supplies = self.many(questions, calls::decode_uint256).await?;
        for (reserve, supply) in loaded.reserves.iter().zip(supplies) {
            let held = loaded.accounts.iter().flat_map(|account| &account.holdings);
            let held = held.filter(|held| held.reserve == reserve.id);
            let (supplied, owed) = held.fold((U256::ZERO, U256::ZERO), |(supplied, owed), held| {
                (supplied.saturating_add(held.scaled_supply), owed.saturating_add(held.scaled_debt))
            });
            let sides = [
                (reserve.a_token, supplied, supply),
                (reserve.variable_debt, owed, reserve.scaled_variable_debt),
            ];
            for (token, found, total) in sides {
                if found != total {
                    let pool = self.name.clone();
                    return Err(LoadError::Incomplete { pool, token, found, total });
                }
            }
        }
        Ok(())
    }

    /// Holds every account to what the contract says of it.
    async fn compare(&self, loaded: &LendingLoaded, timestamp: u64) -> Result<(), LoadError> {
        let unproven = |error| LoadError::Unproven { pool: self.name.clone(), error };
        let check = LendingCheck::of(loaded).map_err(unproven)?;
        let about =
            |held: &LendingAccount| Question { to: loaded.pool, data: aave::user_account_data(held.account) };
        let questions = loaded.accounts.iter().map(about).collect();
        let said = self.many(questions, aave::decode_user_account_data).await?;
        for (held, said) in loaded.accounts.iter().zip(said) {
            let found = check.account_data(held.account, timestamp).map_err(|error| error.to_string());
            if found.as_ref() != Ok(&said) {
                let (pool, account) = (self.name.clone(), held.account);
                let found = found.map_or_else(|error| error, |numbers| format!("{numbers:?}"));
                return Err(LoadError::Differs { pool, account, said: format!("{said:?}"), found });
            }
        }
        Ok(())
    }

    async fn one<T, E: std::fmt::Display>(
        &self,
        to: Address,
        data: Bytes,
        decode: impl Fn(&[u8]) -> Result<T, E>,
    ) -> Result<T, LoadError> {
        let mut answers = self.many(vec![Question { to, data }], decode).await?;
        answers.pop().ok_or_else(|| self.no_pool("no answer"))
    }

    async fn many<T, E: std::fmt::Display>(
        &self,
        questions: Vec<Question>,
        decode: impl Fn(&[u8]) -> Result<T, E>,
    ) -> Result<Vec<T>, LoadError> {
        let answers = self.ask(questions).await?;
        answers.iter().map(|answer| answer.read(&decode).map_err(|reason| self.no_pool(&reason))).collect()
    }

    async fn ask(&self, questions: Vec<Question>) -> Result<Vec<Answer>, LoadError> {
        let mut answers = Vec::with_capacity(questions.len());
        for page in questions.chunks(PAGE) {
            answers.extend(self.chain.ask(self.block, page).await?);
        }
        Ok(answers)
    }

    fn no_pool(&self, reason: &str) -> LoadError {
        LoadError::NoPool { pool: self.name.clone(), reason: reason.to_owned() }
    }
}

/// What was learnt of an account so far.
struct Account {
    /// The pool's bitmap: bit `2n + 1` says that reserve `n` is collateral (`UserConfiguration.sol`).
    uses: U256,
    e_mode: u8,
    holdings: BTreeMap<u16, LendingHolding>,
}

/// Changes what an account has in a reserve; what is nothing at all is not kept.
fn holding(
    accounts: &mut BTreeMap<Address, Account>,
    account: Address,
    reserve: u16,
    change: impl FnOnce(&mut LendingHolding),
) {
    let Some(held) = accounts.get_mut(&account) else { return };
    let nothing = LendingHolding {
        reserve,
        scaled_supply: U256::ZERO,
        scaled_debt: U256::ZERO,
        stable_principal: U256::ZERO,
        stable_rate: U256::ZERO,
        stable_last_update: 0,
        collateral: held.uses.bit(2 * usize::from(reserve) + 1),
    };
    let mut changed = held.holdings.get(&reserve).copied().unwrap_or(nothing);
    change(&mut changed);
    if changed != (LendingHolding { collateral: false, ..nothing }) {
        held.holdings.insert(reserve, changed);
    }
}

/// The aggregator that a proxy names.
fn feed(aggregator: &Answer) -> Option<Address> {
    aggregator.read(calls::decode_address).ok().filter(|feed| !feed.is_zero())
}

#[cfg(test)]
mod tests;
