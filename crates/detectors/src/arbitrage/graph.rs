use std::hint::black_box;
use std::sync::Arc;

use alloy_primitives::Address;
use headwater_amm::{ConcentratedPool, Direction, Fee, Hop, MAX_HOPS, MixedHop};
use headwater_events::Protocol;
use headwater_market::{ConcentratedId, ConcentratedKind, ConcentratedMeta, MarketSnapshot, PoolId};
use rustc_hash::FxHashMap;

use crate::ArbitrageConfig;

/// The pools of either table as the search wants them: dense, by pair of tokens, with the pairs that close a triangle.
///
/// Token numbers are handed out to the base tokens first, in their configured order. So of the tokens of a cycle the
/// lowest number is the token that it is reported from, and it is a base token if any of them is. Every pair, and every
/// triangle, names its tokens in ascending order.
#[derive(Debug)]
pub(super) struct Graph {
    config: ArbitrageConfig,
    base_tokens: u32,
    tokens: Vec<Address>,
    token_numbers: FxHashMap<Address, u32>,
    /// By token: its neighbours and the pair that leads there.
    neighbours: Vec<Vec<(u32, u32)>>,
    pair_numbers: FxHashMap<(u32, u32), u32>,
    pairs: Vec<Pair>,
    /// By pair and direction: the greatest logarithmic rate of its pools. Apart from the pairs, because every triangle
    /// of a touched pair reads three of these and rarely anything else.
    best: Vec<[f64; 2]>,
    triangles: Vec<Triangle>,
    /// By number, which is given in the order of insertion.
    pools: Vec<Pool>,
    /// The number of a pool, by its id in the table of constant products.
    plain: Vec<u32>,
    /// The same of those with concentrated liquidity.
    concentrated: Vec<u32>,
    round: u32,
    touched_pairs: Vec<u32>,
}

/// All pools of two tokens.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) tokens: [u32; 2],
    pub(super) members: Vec<Member>,
    pub(super) triangles: Vec<u32>,
    /// The round in which it was touched.
    touched: u32,
}

/// A pool in its pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) pool: u32,
    /// The round in which it was touched.
    pub(super) touched: u32,
    /// Logarithmic rates from the lower token to the higher and back; minus infinity if it is not to be quoted.
    pub(super) rates: [f64; 2],
}

/// Three pairs between three tokens `a < b < c`: `ab`, `bc`, `ac`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Triangle {
    pub(super) pairs: [u32; 3],
    /// The round in which it was examined.
    examined: u32,
}

#[derive(Debug)]
struct Pool {
    id: AnyPool,
    pair: u32,
    /// Absent if it is not to be quoted.
    quoted: Option<Quoted>,
    /// Of a constant product.
    fee: Option<Fee>,
    /// Whether token 0 is the lower token.
    in_order: bool,
    protocol: Protocol,
}

/// Where a pool is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnyPool {
    Plain(PoolId),
    Concentrated(ConcentratedId),
}

/// What a pool gives.
#[derive(Clone, Debug)]
enum Quoted {
    /// From the lower token to the higher.
    ConstantProduct(Hop),
    Concentrated(Arc<ConcentratedPool>),
}

/// One step of a cycle: a pool, and whether it goes from the lower token to the higher (0) or back (1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) pool: u32,
    pub(super) direction: u8,
}

/// The steps of a cycle.
pub(super) type Hops = arrayvec::ArrayVec<Step, MAX_HOPS>;

impl Graph {
    pub(super) fn new(base_tokens: &[Address], config: &ArbitrageConfig) -> Self {
        let mut graph = Self {
            config: config.clone(),
            base_tokens: 0,
            tokens: Vec::new(),
            token_numbers: FxHashMap::default(),
            neighbours: Vec::new(),
            pair_numbers: FxHashMap::default(),
            pairs: Vec::new(),
            best: Vec::new(),
            triangles: Vec::new(),
            pools: Vec::new(),
            plain: Vec::new(),
            concentrated: Vec::new(),
            round: 0,
            touched_pairs: Vec::new(),
        };
        for token in base_tokens {
            graph.token(*token);
        }
        graph.base_tokens = graph.tokens.len() as u32;
        graph
    }

    /// Whether a market has fewer pools than were inserted: then its tables are others.
    pub(super) fn is_beyond(&self, market: &MarketSnapshot) -> bool {
        market.pools.len() < self.plain.len() || market.concentrated.len() < self.concentrated.len()
    }

    /// Inserts the pools that are new in the market. They are not quoted before their first update.
    pub(super) fn insert_new(&mut self, market: &MarketSnapshot) -> Vec<AnyPool> {
        let (mut fresh, is_new) = (Vec::new(), self.plain.len()..market.pools.len());
        for id in is_new.filter_map(|index| Some(PoolId(u32::try_from(index).ok()?))) {
            let Some(meta) = market.pools.meta(id) else { break };
            // Without a fee it is never quoted: what these pools compute is not known here.
            let fee = match meta.protocol {
                Protocol::UniswapV2 => Fee::from_ppm(meta.fee_ppm).ok(),
                Protocol::UniswapV3 | Protocol::UniswapV4 => None,
            };
            let place = (AnyPool::Plain(id), meta.protocol, fee);
            let number = self.insert(place, [meta.token0, meta.token1]);
            self.plain.push(number);
            fresh.push(AnyPool::Plain(id));
        }
        let is_new = self.concentrated.len()..market.concentrated.len();
        for id in is_new.filter_map(|index| Some(ConcentratedId(u32::try_from(index).ok()?))) {
            let Some(meta) = market.concentrated.meta(id) else { break };
            let place = (AnyPool::Concentrated(id), protocol_of(meta), None);
            let number = self.insert(place, [meta.token0, meta.token1]);
            self.concentrated.push(number);
            fresh.push(AnyPool::Concentrated(id));
        }
        fresh
    }

    fn insert(
        &mut self,
        (id, protocol, fee): (AnyPool, Protocol, Option<Fee>),
        [token0, token1]: [Address; 2],
    ) -> u32 {
        let (token0, token1) = (self.token(token0), self.token(token1));
        let pair = self.pair(token0.min(token1), token0.max(token1));
        let number = self.pools.len() as u32;
        let rates = [f64::NEG_INFINITY; 2];
        self.pairs[pair as usize].members.push(Member { pool: number, touched: 0, rates });
        self.pools.push(Pool { id, pair, quoted: None, fee, in_order: token0 < token1, protocol });
        number
    }

    /// Touches what is kept of these pools and their pairs, so that their way from memory is waited for once and not one
    /// after the other: from one block to the next everything else that runs has emptied the caches.
    pub(super) fn fetch(&self, ids: &[PoolId]) {
        let numbers = ids.iter().filter_map(|id| self.plain.get(id.index()));
        let pairs: Vec<_> = numbers.map(|number| self.pools[*number as usize].pair as usize).collect();
        for &number in &pairs {
            black_box((self.pairs[number].touched, self.best[number]));
        }
        for &number in &pairs {
            let Pair { members, triangles, .. } = &self.pairs[number];
            black_box((members.first().map(|member| member.touched), triangles.first().copied()));
        }
    }

    /// Begins to collect what is touched.
    pub(super) fn begin_round(&mut self) {
        self.round += 1;
        self.touched_pairs.clear();
    }

    /// Notes that a pool may have changed, and what it gives, if it may be quoted.
    pub(super) fn update(&mut self, id: AnyPool, market: &MarketSnapshot) {
        let (at, index) = match id {
            AnyPool::Plain(id) => (&self.plain, id.index()),
            AnyPool::Concentrated(id) => (&self.concentrated, id.index()),
        };
        let Some(&name) = at.get(index) else { return };
        let pool = &mut self.pools[name as usize];
        pool.quoted = pool.quoted_in(market);
        let rates = pool.rates();
        let number = pool.pair;
        let pair = &mut self.pairs[number as usize];
        if let Some(member) = pair.members.iter_mut().find(|member| member.pool == name) {
            (member.rates, member.touched) = (rates, self.round);
        }
        if pair.touched != self.round {
            pair.touched = self.round;
            self.touched_pairs.push(number);
        }
    }

    /// The pairs touched in this round, with their best rates made current.
    pub(super) fn touched_pairs(&mut self) -> Vec<u32> {
        for number in &self.touched_pairs {
            let members = self.pairs[*number as usize].members.iter();
            let greater = |a: [f64; 2], b: &Member| [a[0].max(b.rates[0]), a[1].max(b.rates[1])];
            self.best[*number as usize] = members.fold([f64::NEG_INFINITY; 2], greater);
        }
        std::mem::take(&mut self.touched_pairs)
    }

    /// The triangle, the first time that it is asked for in a round.
    pub(super) fn unexamined(&mut self, triangle: u32) -> Option<Triangle> {
        let triangle = &mut self.triangles[triangle as usize];
        let first = triangle.examined != self.round;
        triangle.examined = self.round;
        first.then_some(*triangle)
    }

    pub(super) fn pair_at(&self, number: u32) -> &Pair {
        &self.pairs[number as usize]
    }

    pub(super) fn best(&self, pair: u32) -> [f64; 2] {
        self.best[pair as usize]
    }

    pub(super) fn is_touched(&self, member: &Member) -> bool {
        member.touched == self.round
    }

    /// Whether the pool was touched in this round; reads the pair, for the few cycles that stand.
    pub(super) fn is_pool_touched(&self, pool: u32) -> bool {
        let members = &self.pairs[self.pools[pool as usize].pair as usize].members;
        members.iter().any(|member| member.pool == pool && self.is_touched(member))
    }

    /// Whether cycles of two pools begin at the lower token of the pair.
    pub(super) fn begins_at(&self, pair: u32) -> bool {
        self.pairs[pair as usize].tokens[0] < self.base_tokens
    }

    /// The rank of the base token that a cycle through this pair begins at, where its first step goes through it.
    pub(super) fn rank(&self, pair: u32) -> usize {
        self.pairs[pair as usize].tokens[0] as usize
    }

    pub(super) fn hop(&self, step: Step) -> Option<MixedHop<'_>> {
        self.pools[step.pool as usize].hop(step.direction)
    }

    /// Where the pool of a step is found, what it computes, and whether its token 0 goes in.
    pub(super) fn pool_of(&self, step: &Step) -> (AnyPool, Protocol, bool) {
        let pool = &self.pools[step.pool as usize];
        (pool.id, pool.protocol, pool.direction(step.direction) == Direction::ZeroForOne)
    }

    /// What goes into the step and what comes out.
    pub(super) fn tokens_of(&self, step: &Step) -> (Address, Address) {
        let [lower, higher] = self.pairs[self.pools[step.pool as usize].pair as usize].tokens;
        let (from, to) = if step.direction == 0 { (lower, higher) } else { (higher, lower) };
        (self.tokens[from as usize], self.tokens[to as usize])
    }

    /// Gas that a cycle is expected to use.
    pub(super) fn gas(&self, steps: &[Step], crossings: u32) -> u64 {
        self.config.gas(steps.iter().map(|step| self.pools[step.pool as usize].protocol), crossings)
    }

    /// Whether cycles of four pools are looked for.
    pub(super) fn has_squares(&self) -> bool {
        self.config.max_hops.get() >= 4
    }

    /// The squares of tokens that the pair is a side of, as far as a base token is among them: the four pairs in their order from
    /// the lowest token, and the directions through them one way around. A square with several touched pairs is that of the
    /// lowest of them.
    pub(super) fn each_square(&self, pair: u32, mut found: impl FnMut([(u32, u8); 4])) {
        let [a, b] = self.pairs[pair as usize].tokens;
        for &(c, bc) in self.neighbours[b as usize].iter().filter(|(c, _)| *c != a) {
            // The last token is a neighbour of both; whoever has fewer of them is asked.
            let is_a = self.neighbours[a as usize].len() < self.neighbours[c as usize].len();
            let (near, far) = if is_a { (a, c) } else { (c, a) };
            for &(d, side) in &self.neighbours[near as usize] {
                let is_other = d != a && d != b && d != c;
                if !is_other || a.min(c).min(d) >= self.base_tokens && b >= self.base_tokens {
                    continue;
                }
                let Some(&other) = self.pair_numbers.get(&(d.min(far), d.max(far))) else { continue };
                let (cd, da) = if is_a { (other, side) } else { (side, other) };
                let is_of_another = |side: &u32| *side < pair && self.is_pair_touched(*side);
                if ![bc, cd, da].iter().any(is_of_another) {
                    found(legs_from_lowest([a, b, c, d], [pair, bc, cd, da]));
                }
            }
        }
    }

    fn is_pair_touched(&self, pair: u32) -> bool {
        self.pairs[pair as usize].touched == self.round
    }

    fn token(&mut self, address: Address) -> u32 {
        let next = self.tokens.len() as u32;
        let number = *self.token_numbers.entry(address).or_insert(next);
        if number == next {
            self.tokens.push(address);
            self.neighbours.push(Vec::new());
        }
        number
    }

    fn pair(&mut self, lower: u32, higher: u32) -> u32 {
        if let Some(number) = self.pair_numbers.get(&(lower, higher)) {
            return *number;
        }
        let number = self.pairs.len() as u32;
        self.pairs.push(Pair {
            tokens: [lower, higher],
            members: Vec::with_capacity(1),
            triangles: Vec::new(),
            touched: 0,
        });
        self.best.push([f64::NEG_INFINITY; 2]);
        self.pair_numbers.insert((lower, higher), number);
        if self.config.max_hops.get() >= 3 {
            self.close_triangles(lower, higher, number);
        }
        self.neighbours[lower as usize].push((higher, number));
        self.neighbours[higher as usize].push((lower, number));
        number
    }

    /// Adds the triangles that the new pair closes, as far as a base token is among them.
    fn close_triangles(&mut self, lower: u32, higher: u32, pair: u32) {
        let (few, many) = if self.neighbours[lower as usize].len() < self.neighbours[higher as usize].len() {
            (lower, higher)
        } else {
            (higher, lower)
        };
        for index in 0..self.neighbours[few as usize].len() {
            let (third, one) = self.neighbours[few as usize][index];
            let Some(&other) = self.pair_numbers.get(&(third.min(many), third.max(many))) else { continue };
            if lower.min(third) >= self.base_tokens {
                continue;
            }
            let mut pairs = [pair, one, other];
            // `ab`, `ac`, `bc` by their tokens.
            pairs.sort_unstable_by_key(|number| self.pairs[*number as usize].tokens);
            let number = self.triangles.len() as u32;
            self.triangles.push(Triangle { pairs: [pairs[0], pairs[2], pairs[1]], examined: 0 });
            for side in pairs {
                self.pairs[side as usize].triangles.push(number);
            }
        }
    }
}

impl Pool {
    fn quoted_in(&self, market: &MarketSnapshot) -> Option<Quoted> {
        match self.id {
            AnyPool::Plain(id) => {
                let held = market.pools.quoted(id)?;
                let hop = Hop::new(held.reserve0, held.reserve1, self.fee?).ok()?;
                Some(Quoted::ConstantProduct(if self.in_order { hop } else { hop.reversed() }))
            }
            AnyPool::Concentrated(id) => {
                market.quoted_concentrated(id).map(|pool| Quoted::Concentrated(Arc::clone(pool)))
            }
        }
    }

    fn hop(&self, direction: u8) -> Option<MixedHop<'_>> {
        Some(match self.quoted.as_ref()? {
            Quoted::ConstantProduct(hop) if direction == 0 => MixedHop::ConstantProduct(*hop),
            Quoted::ConstantProduct(hop) => MixedHop::ConstantProduct(hop.reversed()),
            Quoted::Concentrated(pool) => MixedHop::Concentrated(pool, self.direction(direction)),
        })
    }

    /// From the lower token to the higher (0) or back (1), as the pool has its tokens.
    fn direction(&self, direction: u8) -> Direction {
        if self.in_order == (direction == 0) { Direction::ZeroForOne } else { Direction::OneForZero }
    }

    fn rates(&self) -> [f64; 2] {
        let rate = |direction| self.hop(direction)?.log_rate();
        [0, 1].map(|direction| rate(direction).unwrap_or(f64::NEG_INFINITY))
    }
}

/// What a pool with concentrated liquidity computes.
fn protocol_of(meta: &ConcentratedMeta) -> Protocol {
    match meta.kind {
        ConcentratedKind::V3 => Protocol::UniswapV3,
        ConcentratedKind::V4 { .. } => Protocol::UniswapV4,
    }
}

/// The way `a → b → c → d → a` from its lowest token on; `pairs` are `ab`, `bc`, `cd`, `da`.
fn legs_from_lowest(tokens: [u32; 4], pairs: [u32; 4]) -> [(u32, u8); 4] {
    let lowest = (0..4).min_by_key(|at| tokens[*at]).unwrap_or(0);
    [0, 1, 2, 3].map(|step| {
        let at = (lowest + step) % 4;
        (pairs[at], u8::from(tokens[at] > tokens[(at + 1) % 4]))
    })
}
