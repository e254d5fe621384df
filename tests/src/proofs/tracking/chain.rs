//! A chain of real pools, on which anybody trades and which is reorganised.

use std::ops::AddAssign;

use alloy_primitives::{Address, B256, Bytes, I256, U256, keccak256};
use anyhow::Context;
use headwater_amm::{MAX_SQRT_PRICE, MIN_SQRT_PRICE, sqrt_price_at_tick};
use headwater_events::{BlockEvent, Grade, Header, Log, ReorgEvent};
use headwater_reference::evm::{Artifact, Snapshot};
use headwater_reference::pools::{
    ActV3, Change, ExchangeV3, Order, PlaceV3, PlaceV4, RoutersV4, State, StoredTick,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::managed::{Managed, Sent};

const SWAP: &str = "Swap(address,address,int256,int256,uint160,uint128,int24)";
const MINT: &str = "Mint(address,address,int24,int24,uint128,uint256,uint256)";
const POOL_CREATED: &str = "PoolCreated(address,address,uint24,int24,address)";

type Logs = Vec<alloy_primitives::Log>;

/// What was done, undone blocks included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) created: u64,
    pub(super) swaps: u64,
    pub(super) mints: u64,
    pub(super) burns: u64,
    pub(super) strangers: u64,
    pub(super) v4: Sent,
}

/// The pools of the first factory are ours; the second one is a stranger's.
pub(super) struct Chain {
    exchange: ExchangeV3,
    sealed: Vec<Sealed>,
    pools: Vec<PlaceV3>,
    foreign: Vec<PlaceV3>,
    positions: Vec<(PlaceV3, Change)>,
    /// Our manager, and a stranger's of the very same code.
    managed: [Managed; 2],
    /// Blocks that were ever made: no two have a hash in common.
    made: u64,
    pub(super) counts: Counts,
    strangers: Vec<Address>,
}

/// A block, with what was before it.
struct Sealed {
    hash: B256,
    before: Snapshot,
    pools: usize,
    foreign: usize,
    positions: Vec<(PlaceV3, Change)>,
    managed: [Managed; 2],
}

/// Who logs like a pool and is none.
const LIAR: Address = Address::repeat_byte(0xbb);

impl Chain {
    pub(super) fn create(factory: &Artifact, v4: &[Artifact; 4]) -> anyhow::Result<Self> {
        let mut exchange = ExchangeV3::create(factory, &v4[3])?;
        let tokens = exchange.tokens();
        let mut deploy = || RoutersV4::deploy(exchange.evm(), v4, &tokens).map(Managed::new);
        let managed = [deploy()?, deploy()?];
        Ok(Self {
            exchange,
            managed,
            sealed: Vec::new(),
            pools: Vec::new(),
            foreign: Vec::new(),
            positions: Vec::new(),
            made: 0,
            counts: Counts::default(),
            strangers: vec![LIAR],
        })
    }

    pub(super) fn factory(&self) -> Address {
        self.exchange.factories()[0]
    }

    pub(super) fn manager(&self) -> Address {
        self.managed[0].routers.manager
    }

    pub(super) fn height(&self) -> u64 {
        self.sealed.len() as u64
    }

    pub(super) fn head(&self) -> B256 {
        self.sealed.last().map_or(B256::ZERO, |sealed| sealed.hash)
    }

    pub(super) fn undoable(&self) -> usize {
        self.sealed.len()
    }

    pub(super) fn pools(&self) -> &[PlaceV3] {
        &self.pools
    }

    pub(super) fn pools_v4(&self) -> &[PlaceV4] {
        &self.managed[0].places
    }

    /// Of our manager, those that have to be refused; then those of the other one.
    pub(super) fn refused_v4(&self) -> [&[PlaceV4]; 2] {
        [&self.managed[0].refused, &self.managed[1].places]
    }

    pub(super) fn reading_v4(&self, place: &PlaceV4) -> anyhow::Result<(State, Vec<StoredTick>, u32)> {
        let evm = self.exchange.memory();
        place.read(887_272, |slots| Ok(slots.iter().map(|slot| evm.storage(place.manager, *slot)).collect()))
    }

    /// Whom nobody may take for a pool.
    pub(super) fn strangers(&self) -> &[Address] {
        &self.strangers
    }

    pub(super) fn reading(&self, place: &PlaceV3) -> (State, Vec<StoredTick>) {
        (self.exchange.state(place), self.exchange.ticks(place))
    }

    pub(super) fn undo(&mut self, depth: usize) -> anyhow::Result<ReorgEvent> {
        let old_head = self.head();
        let undone = self.sealed.split_off(self.sealed.len() - depth);
        let first = &undone[0];
        self.exchange.evm().revert(&first.before)?;
        self.pools.truncate(first.pools);
        self.foreign.truncate(first.foreign);
        self.positions.clone_from(&first.positions);
        self.managed.clone_from(&first.managed);
        Ok(ReorgEvent {
            ancestor_number: self.height(),
            ancestor_hash: self.head(),
            undone: undone.iter().rev().map(|sealed| sealed.hash).collect(),
            old_head,
            new_head: B256::repeat_byte(1),
        })
    }

    pub(super) fn block(&mut self, random: &mut ChaCha8Rng) -> anyhow::Result<BlockEvent> {
        self.made += 1;
        let (number, parent_hash) = (self.height() + 1, self.head());
        let hash = keccak256(self.made.to_be_bytes());
        let before = self.exchange.evm().snapshot();
        let (pools, foreign) = (self.pools.len(), self.foreign.len());
        let (positions, managed) = (self.positions.clone(), self.managed.clone());
        self.exchange.evm().advance(12);
        self.sealed.push(Sealed { hash, before, pools, foreign, positions, managed });
        let mut logs = Vec::new();
        if self.pools.len() < 2 || random.random_range(0..15) == 0 {
            self.create_pool(random, &mut logs)?;
        }
        for _ in 0..random.random_range(0..6) {
            self.act(random, &mut logs);
        }
        self.act_v4(random, &mut logs)?;
        if random.random_range(0..3) == 0 {
            self.lie(random, &mut logs);
        }
        let logs = logs.into_iter().zip(0..).map(|(log, log_index)| Log {
            address: log.address,
            topics: log.topics().iter().copied().collect(),
            data: log.data.data.clone(),
            transaction_index: 0,
            log_index,
        });
        let header = Header {
            number,
            hash,
            parent_hash,
            timestamp: number * 12,
            base_fee_per_gas: Some(1),
            gas_used: 0,
            gas_limit: 30_000_000,
            beneficiary: Address::ZERO,
            logs_bloom: Default::default(),
        };
        Ok(BlockEvent { header, transactions: Vec::new(), logs: logs.collect(), grade: Grade::Assumed })
    }

    fn act_v4(&mut self, random: &mut ChaCha8Rng, logs: &mut Logs) -> anyhow::Result<()> {
        let [token0, token1, token2] = self.exchange.tokens();
        let currencies = [Address::ZERO, token0, token1, token2];
        for _ in 0..random.random_range(0..5) {
            let whose = usize::from(random.random_range(0..6) == 0);
            let managed = &mut self.managed[whose];
            let routers = managed.routers;
            // What a stranger does, nobody counts.
            let (mut strangers, evm) = (Sent::default(), self.exchange.evm());
            let sent = if whose == 0 { &mut self.counts.v4 } else { &mut strangers };
            if managed.places.len() < 2 || managed.lacking().is_some() || random.random_range(0..15) == 0 {
                let Some((place, act)) = managed.choose(random, &currencies) else { continue };
                logs.extend(routers.act(evm, &place, &act)?);
                managed.add(place, sent);
                continue;
            }
            let Some(place) = managed.pick(random) else { continue };
            let (state, ..) = place
                .read(0, |slots| Ok(slots.iter().map(|slot| evm.storage(place.manager, *slot)).collect()))?;
            let Some(act) = managed.act(random, &place, state.tick, sent) else { continue };
            // What the manager refuses leaves no log.
            logs.extend(routers.act(evm, &place, &act).unwrap_or_default());
        }
        Ok(())
    }

    /// Of a factory that is ours, or of a stranger's, which deploys the very same code.
    fn create_pool(&mut self, random: &mut ChaCha8Rng, logs: &mut Logs) -> anyhow::Result<()> {
        let factory = usize::from(self.pools.len() >= 2 && random.random_range(0..4) == 0);
        let (without, fee) = (random.random_range(0..3), random.random_range(0..3));
        let Ok((place, told)) = self.exchange.create_pool(factory, without, fee) else { return Ok(()) };
        logs.extend(told);
        if factory == 0 {
            self.pools.push(place);
            self.counts.created += 1;
        } else {
            self.foreign.push(place);
            self.strangers.push(place.pool);
        }
        if random.random_range(0..4) > 0 {
            self.initialize(random, &place, logs)?;
        }
        Ok(())
    }

    fn initialize(
        &mut self,
        random: &mut ChaCha8Rng,
        place: &PlaceV3,
        logs: &mut Logs,
    ) -> anyhow::Result<()> {
        let price =
            sqrt_price_at_tick(random.random_range(-20_000..20_000)).context("a tick with a price")?;
        logs.extend(self.exchange.act(place, &ActV3::Initialize(price))?);
        Ok(())
    }

    /// What a pool refuses leaves no log.
    fn act(&mut self, random: &mut ChaCha8Rng, logs: &mut Logs) {
        let all = self.pools.len() + self.foreign.len();
        let at = random.random_range(0..all);
        let place = self.pools.iter().chain(&self.foreign).copied().nth(at).expect("one of them");
        let state = self.exchange.state(&place);
        if state.sqrt_price.is_zero() {
            let _ = self.initialize(random, &place, logs);
            return;
        }
        let told = match random.random_range(0..5) {
            0 | 1 => self.mint(random, &place, state.tick),
            2 => self.burn(random, &place),
            _ => self.swap(random, &place),
        };
        let is_stranger = at >= self.pools.len();
        self.counts.strangers += u64::from(is_stranger && told.is_some());
        logs.extend(told.unwrap_or_default());
    }

    fn mint(&mut self, random: &mut ChaCha8Rng, place: &PlaceV3, tick: i32) -> Option<Logs> {
        let at = tick.div_euclid(place.spacing);
        let (below, above) = (random.random_range(-40..30), random.random_range(1..60));
        let (lower, upper) = ((at + below) * place.spacing, (at + below + above) * place.spacing);
        let delta = random.random_range(1..1i128 << 60);
        let change = Change { lower, upper, delta };
        let told = self.exchange.act(place, &ActV3::Modify(change)).ok()?;
        self.positions.push((*place, change));
        self.counts.mints += 1;
        Some(told)
    }

    /// The whole position, a part, or nothing, which is a poke.
    fn burn(&mut self, random: &mut ChaCha8Rng, place: &PlaceV3) -> Option<Logs> {
        let own = self.positions.iter_mut().filter(|(owner, _)| owner == place);
        let (_, position) = own.last()?;
        let delta = match random.random_range(0..4) {
            0 => 0,
            1 => -(position.delta / 3),
            _ => -position.delta,
        };
        let told = self.exchange.act(place, &ActV3::Modify(Change { delta, ..*position })).ok()?;
        position.delta += delta;
        self.positions.retain(|(_, position)| position.delta > 0);
        self.counts.burns += 1;
        Some(told)
    }

    fn swap(&mut self, random: &mut ChaCha8Rng, place: &PlaceV3) -> Option<Logs> {
        let zero_for_one = random.random_range(0..2) == 0;
        let one = U256::ONE;
        let sqrt_price_limit = if zero_for_one { MIN_SQRT_PRICE + one } else { MAX_SQRT_PRICE - one };
        let is_exact_in = random.random_range(0..3) > 0;
        let near = self.exchange.state(place).tick + if zero_for_one { -4_000 } else { 4_000 };
        let limit = sqrt_price_at_tick(near).unwrap_or(sqrt_price_limit);
        let amount = U256::from(random.random_range(1u128..1 << 56)) << random.random_range(0..8usize);
        let order = Order { zero_for_one, amount, is_exact_in, sqrt_price_limit: limit };
        let told = self.exchange.act(place, &ActV3::Swap(order)).ok()?;
        self.counts.swaps += 1;
        Some(told)
    }

    /// The logs of a pool, of a contract that is none; and of a factory that is none, about one that is.
    fn lie(&mut self, random: &mut ChaCha8Rng, logs: &mut Logs) {
        let word = |value: U256| B256::from(value);
        let (tick, party) = (word(U256::from(60)), LIAR.into_word());
        let number = |value: u64| word(U256::from(value)).to_vec();
        let (topics, data) = match random.random_range(0..3) {
            0 => {
                let amount = word(I256::unchecked_from(-7).into_raw()).to_vec();
                let data = [number(7), amount, word(U256::ONE << 96).to_vec(), number(9), number(0)].concat();
                (vec![keccak256(SWAP), party, party], data)
            }
            1 => {
                let data = [party.to_vec(), number(7), number(1), number(1)].concat();
                (vec![keccak256(MINT), party, word(U256::ZERO), tick], data)
            }
            _ => {
                let [token0, token1] = self.pools[0].tokens.map(|token| token.into_word());
                let pool = self.pools[0].pool.into_word().to_vec();
                (vec![keccak256(POOL_CREATED), token0, token1, tick], [number(1), pool].concat())
            }
        };
        self.counts.strangers += 1;
        logs.push(alloy_primitives::Log::new_unchecked(LIAR, topics, Bytes::from(data)));
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.created += other.created;
        self.swaps += other.swaps;
        self.mints += other.mints;
        self.burns += other.burns;
        self.strangers += other.strangers;
        self.v4.created += other.v4.created;
        self.v4.hooked += other.v4.hooked;
        self.v4.dynamic += other.v4.dynamic;
        self.v4.swaps += other.v4.swaps;
        self.v4.changes += other.v4.changes;
        self.v4.protocol_fees += other.v4.protocol_fees;
    }
}
