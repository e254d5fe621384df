//! Uniswap V3 on a node: the authors' factory, pools of the devnet's tokens, and somebody who uses them.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolCall, sol};
use anyhow::{Context, ensure};
use headwater_amm::sqrt_price_at_tick;
use headwater_reference::pools::{
    ActV3, CallV4, Change, ExchangeV3, Order, PlaceV3, PlaceV4, RoutersV4, State, StoredTick, create_pool_v3,
    payer_v3,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::managed::{self, Managed};
use crate::devnet::{Artifacts, DEPLOYER, Devnet};

sol! {
    function mint(address account, uint256 amount) external returns (bool);
    function getPool(address tokenA, address tokenB, uint24 fee) external view returns (address);
}

/// More of each token than the pools here ever ask for.
const PURSE: U256 = U256::from_limbs([0, 1 << 50, 0, 0]);

/// Liquidity ends within these ticks; what stands beyond is looked for at the end.
const NEAR: i32 = 60_000;
/// `MAX_TICK`.
pub(super) const FAR: i32 = 887_272;

/// Slot of `UniswapV2Pair`'s reserves, 112 bits each.
const RESERVES_SLOT: U256 = U256::from_limbs([8, 0, 0, 0]);

/// What was sent; what of it the contracts refused left no log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) created: u64,
    pub(super) swaps: u64,
    pub(super) mints: u64,
    pub(super) burns: u64,
}

#[derive(Debug)]
pub(in crate::proofs) struct Exchange {
    factory: Address,
    trader: Address,
    tokens: Vec<Address>,
    /// Every pool that was ever created, on whatever branch.
    places: Vec<PlaceV3>,
    positions: Vec<(PlaceV3, Change)>,
    pub(super) sent: Sent,
    /// Pools of V4.
    pub(super) managed: Managed,
    pub(super) sent_v4: managed::Sent,
}

impl Exchange {
    /// Puts the factory on the chain, and so many pools with liquidity.
    pub(in crate::proofs) fn deploy(
        devnet: &Devnet,
        artifacts: &Artifacts,
        random: &mut ChaCha8Rng,
        pools: usize,
    ) -> anyhow::Result<Self> {
        let code = artifacts.factory_v3()?.creation_code()?;
        let factory = devnet.create_mined(DEPLOYER, &code)?;
        let (payer, code) = payer_v3();
        devnet.rpc().call::<Value>("anvil_setCode", json!([payer, code]))?;
        let tokens: Vec<_> = devnet.addresses().tokens.iter().map(|token| token.address).collect();
        for token in &tokens {
            let mint = mintCall { account: payer, amount: PURSE }.abi_encode();
            devnet.send(DEPLOYER, *token, U256::ZERO, mint, 200_000)?;
        }
        devnet.mine()?;
        let trader = *devnet.accounts().last().context("anvil has accounts")?;
        let managed = Managed::new(deploy_v4(devnet, artifacts, trader, &tokens)?);
        let mut exchange = Self {
            managed,
            sent_v4: managed::Sent::default(),
            factory,
            trader,
            tokens,
            places: Vec::new(),
            positions: Vec::new(),
            sent: Sent::default(),
        };
        while exchange.places.len() < pools {
            exchange.create(devnet, random)?;
            devnet.mine()?;
        }
        while exchange.lacks_v4(pools) {
            exchange.create_v4(devnet, random)?;
            devnet.mine()?;
        }
        for _ in 0..pools * 6 {
            exchange.act(devnet, random)?;
            exchange.act_v4(devnet, random)?;
            devnet.mine()?;
        }
        Ok(exchange)
    }

    pub(in crate::proofs) fn factory(&self) -> Address {
        self.factory
    }

    /// The manager of the pools of V4.
    pub(in crate::proofs) fn manager(&self) -> Address {
        self.managed.routers.manager
    }

    /// The pools of V4 without hooks.
    pub(in crate::proofs) fn places_v4(&self) -> &[PlaceV4] {
        &self.managed.places
    }

    pub(in crate::proofs) fn places(&self) -> &[PlaceV3] {
        &self.places
    }

    /// Creates a pool that is not there yet and gives it a price, if the dice find one.
    pub(super) fn create(&mut self, devnet: &Devnet, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let (one, other) =
            (random.random_range(0..self.tokens.len()), random.random_range(0..self.tokens.len()));
        let (fee, spacing) = ExchangeV3::FEES[random.random_range(0..3)];
        let mut tokens = [self.tokens[one], self.tokens[other]];
        tokens.sort_unstable();
        let is_there = |place: &PlaceV3| (place.tokens, place.fee) == (tokens, fee);
        if one == other || self.places.iter().any(is_there) {
            return Ok(());
        }
        // Where it will be is the factory's to say: it is asked on a chain on which nothing is left of it afterwards.
        let create = create_pool_v3(tokens, fee);
        let request = json!({ "from": self.trader, "to": self.factory, "data": create });
        let told: Bytes = devnet.rpc().call("eth_call", json!([request, "latest"]))?;
        ensure!(told.len() == 32, "the factory does not say where the pool is");
        let pool = Address::from_slice(&told[12..]);
        let place = PlaceV3 { pool, factory: self.factory, tokens, fee, spacing };
        devnet.send(self.trader, self.factory, U256::ZERO, create.to_vec(), 7_000_000)?;
        let price = sqrt_price_at_tick(random.random_range(-20_000..20_000)).context("a tick")?;
        self.send(devnet, &place, &ActV3::Initialize(price))?;
        self.places.push(place);
        self.sent.created += 1;
        Ok(())
    }

    /// After a reorganisation: pools that were undone can be created once more.
    pub(super) fn forget_undone(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        let mut gone = Vec::new();
        for place in &self.places {
            let code: Bytes = devnet.rpc().call("eth_getCode", json!([place.pool, "latest"]))?;
            if code.is_empty() {
                gone.push(place.pool);
            }
        }
        self.places.retain(|place| !gone.contains(&place.pool));
        self.positions.retain(|(place, _)| !gone.contains(&place.pool));
        let mut gone = Vec::new();
        for place in self.managed.places.iter().chain(&self.managed.refused) {
            let (state, ..) = place.read(0, |slots| storage(devnet, place.manager, slots))?;
            if state.sqrt_price.is_zero() {
                gone.push(*place);
            }
        }
        self.managed.keep(|place| !gone.contains(place));
        Ok(())
    }

    /// So many pools of V4 are wanted, one of each kind that is refused included.
    fn lacks_v4(&self, pools: usize) -> bool {
        self.managed.places.len() < pools || self.sent_v4.hooked == 0 || self.sent_v4.dynamic == 0
    }

    /// Creates a pool of V4 that is not there yet, if the dice find one.
    pub(super) fn create_v4(&mut self, devnet: &Devnet, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let currencies: Vec<_> = [Address::ZERO].into_iter().chain(self.tokens.iter().copied()).collect();
        if let Some((place, act)) = self.managed.choose(random, &currencies) {
            self.send_v4(devnet, self.managed.routers.call(&place, &act))?;
            self.managed.add(place, &mut self.sent_v4);
        }
        Ok(())
    }

    /// Uses a pool of V4; what the manager refuses is mined and leaves no log.
    pub(in crate::proofs) fn act_v4(
        &mut self,
        devnet: &Devnet,
        random: &mut ChaCha8Rng,
    ) -> anyhow::Result<()> {
        let Some(place) = self.managed.pick(random) else { return Ok(()) };
        let (state, ..) = place.read(0, |slots| storage(devnet, place.manager, slots))?;
        if state.sqrt_price.is_zero() {
            return Ok(());
        }
        match self.managed.act(random, &place, state.tick, &mut self.sent_v4) {
            Some(act) => self.send_v4(devnet, self.managed.routers.call(&place, &act)),
            None => Ok(()),
        }
    }

    fn send_v4(&self, devnet: &Devnet, call: CallV4) -> anyhow::Result<()> {
        devnet.send(self.trader, call.to, call.value, call.data.to_vec(), 2_000_000)?;
        Ok(())
    }

    /// As [`Exchange::stored`], of a pool of V4, with the protocol's fee.
    pub(in crate::proofs) fn stored_v4(
        &self,
        devnet: &Devnet,
        place: &PlaceV4,
        everywhere: bool,
    ) -> anyhow::Result<(State, Vec<StoredTick>, u32)> {
        let most = if everywhere { FAR } else { NEAR };
        place.read(most, |slots| storage(devnet, place.manager, slots))
    }

    fn send(&self, devnet: &Devnet, place: &PlaceV3, act: &ActV3) -> anyhow::Result<()> {
        devnet.send(self.trader, payer_v3().0, U256::ZERO, place.calldata(act).to_vec(), 1_500_000)?;
        Ok(())
    }

    /// Swaps, mints or burns; what a pool refuses is mined and leaves no log.
    pub(in crate::proofs) fn act(&mut self, devnet: &Devnet, random: &mut ChaCha8Rng) -> anyhow::Result<()> {
        let place = self.places[random.random_range(0..self.places.len())];
        let state = self.state(devnet, &place)?;
        let act = match random.random_range(0..5) {
            _ if state.sqrt_price.is_zero() => return Ok(()),
            0 | 1 => self.mint(random, &place, state.tick),
            2 => self.burn(random, &place),
            _ => Some(self.swap(random, state.tick)),
        };
        act.map_or(Ok(()), |act| self.send(devnet, &place, &act))
    }

    fn mint(&mut self, random: &mut ChaCha8Rng, place: &PlaceV3, tick: i32) -> Option<ActV3> {
        let at = tick.div_euclid(place.spacing);
        let (below, width) = (random.random_range(-40..30), random.random_range(1..60));
        let (lower, upper) = ((at + below) * place.spacing, (at + below + width) * place.spacing);
        if lower < -NEAR || upper > NEAR {
            return None;
        }
        let change = Change { lower, upper, delta: random.random_range(1 << 20..1i128 << 60) };
        self.positions.push((*place, change));
        self.sent.mints += 1;
        Some(ActV3::Modify(change))
    }

    /// The whole position, a part, or nothing, which is a poke.
    fn burn(&mut self, random: &mut ChaCha8Rng, place: &PlaceV3) -> Option<ActV3> {
        let (_, position) = self.positions.iter_mut().rfind(|(owner, _)| owner == place)?;
        let delta = [0, -(position.delta / 3), -position.delta][random.random_range(0..3)];
        let change = Change { delta, ..*position };
        position.delta += delta;
        self.positions.retain(|(_, position)| position.delta > 0);
        self.sent.burns += 1;
        Some(ActV3::Modify(change))
    }

    fn swap(&mut self, random: &mut ChaCha8Rng, tick: i32) -> ActV3 {
        let zero_for_one = random.random_range(0..2) == 0;
        let limit = (tick + if zero_for_one { -4_000 } else { 4_000 }).clamp(-50_000, 50_000);
        let sqrt_price_limit = sqrt_price_at_tick(limit).unwrap_or_default();
        let amount = U256::from(random.random_range(1u128..1 << 56)) << random.random_range(0..8usize);
        self.sent.swaps += 1;
        let is_exact_in = random.random_range(0..3) > 0;
        ActV3::Swap(Order { zero_for_one, amount, is_exact_in, sqrt_price_limit })
    }

    fn state(&self, devnet: &Devnet, place: &PlaceV3) -> anyhow::Result<State> {
        Ok(place.read(0, |slots| storage(devnet, place.pool, slots))?.0)
    }

    /// The node's storage of a pool at its head; `everywhere` for all ticks that there can be.
    pub(in crate::proofs) fn stored(
        &self,
        devnet: &Devnet,
        place: &PlaceV3,
        everywhere: bool,
    ) -> anyhow::Result<(State, Vec<StoredTick>)> {
        let most = if everywhere { FAR } else { NEAR };
        place.read(most, |slots| storage(devnet, place.pool, slots))
    }
}

/// The node's storage of a pair at its head.
pub(in crate::proofs) fn reserves(devnet: &Devnet, pair: Address) -> anyhow::Result<[u128; 2]> {
    let word = storage(devnet, pair, &[RESERVES_SLOT])?[0];
    let mask = (U256::ONE << 112usize) - U256::ONE;
    Ok([word & mask, (word >> 112usize) & mask].map(|reserve| reserve.to()))
}

pub(super) fn storage(devnet: &Devnet, contract: Address, slots: &[U256]) -> anyhow::Result<Vec<U256>> {
    devnet.storage(&slots.iter().map(|slot| (contract, *slot)).collect::<Vec<_>>())
}

/// The manager, whose fees the trader may set, and its routers, which may take what the trader has.
fn deploy_v4(
    devnet: &Devnet,
    artifacts: &Artifacts,
    trader: Address,
    tokens: &[Address],
) -> anyhow::Result<RoutersV4> {
    let [manager, swaps, liquidity, _] = artifacts.manager_v4()?;
    let manager = devnet.create_mined(DEPLOYER, &RoutersV4::creation(&manager, trader)?)?;
    let swaps = devnet.create_mined(DEPLOYER, &RoutersV4::creation(&swaps, manager)?)?;
    let liquidity = devnet.create_mined(DEPLOYER, &RoutersV4::creation(&liquidity, manager)?)?;
    devnet.rpc().call::<Value>("anvil_setBalance", json!([trader, U256::ONE << 120usize]))?;
    devnet.send(trader, manager, U256::ZERO, RoutersV4::controlled_by(trader).to_vec(), 200_000)?;
    devnet.mine()?;
    for token in tokens {
        let mint = mintCall { account: trader, amount: PURSE }.abi_encode();
        devnet.send(DEPLOYER, *token, U256::ZERO, mint, 200_000)?;
        for router in [swaps, liquidity] {
            devnet.send(trader, *token, U256::ZERO, RoutersV4::approve(router).to_vec(), 200_000)?;
        }
        devnet.mine()?;
    }
    Ok(RoutersV4 { manager, swaps, liquidity })
}
