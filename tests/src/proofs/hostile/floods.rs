//! What anybody may emit or have created, in any number: not tracked, not quoted, and not remembered without bound.

use std::fmt;

use alloy_primitives::{Address, U256, keccak256};
use anyhow::ensure;
use headwater_events::{BusEvent, Log, TokenJudged, TokenVerdict};
use headwater_market::{ResolvedMarket, V4Key};
use headwater_reference::fake_node::V2Pair;
use headwater_state::Subject;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::follower::{Followed, Follower, log, pair_created, sync, sync_of, word};
use super::market::{self, GREATEST, REMEMBERED, TRACKED, other};

/// Contracts or pools of a flood.
const FLOOD: usize = 1_000;

/// Pairs that are announced where they are not.
const LIES: usize = 20;

/// `2^96`: the price of one for one.
const PRICE_OF_ONE: U256 = U256::from_limbs([0, 1 << 32, 0, 0]);

/// Bytes by which what state and oracle save may grow, each, in a flood of [`FLOOD`] pools of each kind, as text: the addresses of all of them
/// and of their tokens alone would be more.
const MOST_BYTES: usize = 1 << 18;

/// What is checked in a round at least.
pub(super) const FLOOR: u64 = 4 * FLOOD as u64;

#[derive(Debug, Default)]
pub(super) struct Counts {
    fakes: u64,
    announced: u64,
    created: u64,
    /// By which what state and oracle would save grew most.
    most_bytes: [usize; 2],
}

impl Counts {
    pub(super) fn all(&self) -> u64 {
        let Self { fakes, announced, created, .. } = self;
        fakes + announced + created
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fakes, announced, created, most_bytes: [state, oracle] } = self;
        write!(
            f,
            "{fakes} fake pools that emit Sync: none tracked, {REMEMBERED} remembered at most; {announced} pools of V2 and V3 that \
             their factory announces at addresses that do not derive from it refused; {created} pools of V2, V3 and V4 that are created in a \
             flood: {TRACKED} of V2 tracked at most, and as many of V3 and V4; what the state saves grew by {state} bytes at most, what \
             the oracle saves by {oracle}, of {MOST_BYTES}, written as text"
        )
    }
}

/// A block in which a pool is created among a flood of contracts that emit `Sync`.
pub(super) fn judge_fakes(
    random: &mut ChaCha8Rng,
    follower: &mut Follower,
    created: &V2Pair,
    counts: &mut Counts,
) -> anyhow::Result<Followed> {
    let before = follower.world.counts();
    let fake = |random: &mut ChaCha8Rng| {
        let words = [U256::from(random.random::<u64>()), U256::from(GREATEST)];
        sync(any_address(random), words)
    };
    let mut logs = vec![pair_created(created)];
    logs.extend((0..FLOOD).map(|_| fake(random)));
    logs.push(sync(any_address(random), [U256::from(GREATEST) + U256::ONE; 2]));
    logs.push(sync_of(created));
    let followed = follower.block(random, 12, logs)?;
    let after = follower.world.counts();
    ensure!(after.candidates == REMEMBERED as u64, "{} fake pools are remembered", after.candidates);
    ensure!(after.book.candidates_refused == (FLOOD - REMEMBERED) as u64, "{:?}", after.book);
    ensure!(after.malformed == before.malformed + 1, "reserves that no pair can have are believed");
    ensure!(after.pools == before.pools + 1, "a fake pool is tracked");
    counts.fakes += FLOOD as u64;
    Ok(followed)
}

/// A pool that the last block created: asked about, and quoted once the verdict has come.
pub(super) fn judge_created(
    random: &mut ChaCha8Rng,
    follower: &mut Follower,
    followed: &Followed,
    created: &V2Pair,
    native: Address,
) -> anyhow::Result<()> {
    ensure!(!followed.is_quoted(created.address), "a pool of an unjudged token is quoted");
    let token = other(created, native);
    let question = Subject::Token { token, holder: created.address };
    let requests = follower.world.requests(&followed.applied);
    ensure!(requests.iter().any(|request| request.subject == question), "nobody asks about {token}");
    let refused = TokenVerdict::Refused("it is not what it says".to_owned());
    follower.take(BusEvent::TokenJudged(TokenJudged { token, verdict: refused }))?;
    let followed = follower.block(random, 12, vec![sync_of(created)])?;
    ensure!(!followed.is_quoted(created.address), "a pool of a refused token is quoted");
    let verdict = TokenVerdict::Accepted { decimals: 18, symbol: String::new() };
    follower.take(BusEvent::TokenJudged(TokenJudged { token, verdict }))?;
    let followed = follower.block(random, 12, Vec::new())?;
    ensure!(followed.is_quoted(created.address), "a created pool is not quoted after the verdict");
    // It would be in the findings of nobody: there is no second pool of its token.
    Ok(())
}

/// Pools that a factory announces where they are not, and more pools that are what they say than are tracked.
pub(super) fn judge_flood(
    random: &mut ChaCha8Rng,
    follower: &mut Follower,
    market: &ResolvedMarket,
    native: Address,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let (before, saved_before) = (follower.world.counts(), follower.saved()?);
    let announced: Vec<V2Pair> = (0..LIES)
        .map(|_| {
            let token = any_address(random);
            V2Pair { address: any_address(random), ..market::pair(market, 0, [native, token], [1 << 60; 2]) }
        })
        .collect();
    let real: Vec<V2Pair> =
        (0..FLOOD).map(|_| market::pair(market, 0, [native, any_address(random)], [1 << 60; 2])).collect();
    let mut logs: Vec<Log> =
        announced.iter().chain(&real).flat_map(|pair| [pair_created(pair), sync_of(pair)]).collect();
    for _ in 0..LIES {
        let [mut created, _] = v3_created(market, native, any_address(random));
        created.data = log(Address::ZERO, Vec::new(), &[U256::from(SPACING), word(any_address(random))]).data;
        logs.push(created);
    }
    for _ in 0..FLOOD {
        logs.extend(v3_created(market, native, any_address(random)));
        logs.push(v4_initialized(market, any_address(random), any_address(random)));
    }
    let followed = follower.block(random, 12, logs)?;
    for pair in &announced {
        ensure!(followed.market().pools.find(&pair.address).is_none(), "a lie of its factory is tracked");
    }
    let after = follower.world.counts();
    ensure!(after.book.underived_pairs == LIES as u64, "{:?}", after.book);
    ensure!(after.concentrated.underived_pools == LIES as u64, "{:?}", after.concentrated);
    let room = TRACKED as u64 - before.pools;
    ensure!(after.pools == TRACKED as u64, "{} pools of V2 are tracked", after.pools);
    ensure!(after.book.pools_refused == FLOOD as u64 - room, "{:?}", after.book);
    let room = TRACKED as u64 - before.concentrated_pools;
    ensure!(after.concentrated_pools == TRACKED as u64, "{} of V3 and V4", after.concentrated_pools);
    ensure!(after.concentrated.pools_refused == 2 * FLOOD as u64 - room, "{:?}", after.concentrated);
    // Of each pool that found its place, one token.
    let requests = follower.world.requests(&followed.applied);
    ensure!(requests.len() <= 3 * TRACKED, "{} questions", requests.len());
    let next = follower.block(random, 12, real.iter().map(sync_of).collect())?;
    let asked = follower.world.requests(&next.applied);
    let is_about_a_pool = asked.iter().any(|request| matches!(request.subject, Subject::Pool(_)));
    ensure!(!is_about_a_pool, "the node is asked about a pool that there is no place for");
    ensure!(real.iter().all(|pair| !next.is_quoted(pair.address)), "a pool of an unjudged token is quoted");
    for ((now, before), most) in follower.saved()?.iter().zip(saved_before).zip(&mut counts.most_bytes) {
        let grown = now.saturating_sub(before);
        ensure!(grown <= MOST_BYTES, "what is saved grew by {grown} bytes");
        *most = grown.max(*most);
    }
    counts.announced += 2 * LIES as u64;
    counts.created += 3 * FLOOD as u64;
    Ok(())
}

/// In hundredths of a basis point, with the spacing that belongs to it.
const FEE: u32 = 3_000;
const SPACING: u64 = 60;

/// The factory of V3 creates a pool, and somebody gives it a price.
fn v3_created(market: &ResolvedMarket, native: Address, token: Address) -> [Log; 2] {
    let factory = &market.concentrated_factories[0];
    let pool = factory.derive(native, token, FEE);
    let created = keccak256("PoolCreated(address,address,uint24,int24,address)");
    let (token0, token1) = (native.min(token), native.max(token));
    let topics = vec![created, token0.into_word(), token1.into_word(), U256::from(FEE).into()];
    [
        log(factory.address, topics, &[U256::from(SPACING), word(pool)]),
        log(pool, vec![keccak256("Initialize(uint160,int24)")], &[PRICE_OF_ONE, U256::ZERO]),
    ]
}

/// Somebody makes a pool of V4 of two tokens.
fn v4_initialized(market: &ResolvedMarket, one: Address, other: Address) -> Log {
    let (currency0, currency1) = (one.min(other), one.max(other));
    let key = V4Key { currency0, currency1, fee: FEE, tick_spacing: 60, hooks: Address::ZERO };
    let topic = keccak256("Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)");
    let topics = vec![topic, key.id(), currency0.into_word(), currency1.into_word()];
    let words = [U256::from(FEE), U256::from(SPACING), U256::ZERO, PRICE_OF_ONE, U256::ZERO];
    log(market.concentrated_managers[0].address, topics, &words)
}

fn any_address(random: &mut ChaCha8Rng) -> Address {
    random.random::<[u8; 20]>().into()
}
