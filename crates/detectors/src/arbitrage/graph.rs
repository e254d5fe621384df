use std::hint::black_box;

use alloy_primitives::Address;
use headwater_amm::{Fee, Hop};
use headwater_events::Protocol;
use headwater_market::{PoolId, PoolTable, Reserves};
use rustc_hash::FxHashMap;

/// The pools as the search wants them: dense, by pair of tokens, with the pairs that close a triangle.
///
/// Token numbers are handed out to the base tokens first, in their configured order. So of the tokens of a cycle the
/// lowest number is the token that it is reported from, and it is a base token if any of them is. Every pair, and every
/// triangle, names its tokens in ascending order.
#[derive(Debug)]
pub(super) struct Graph {
    max_hops: usize,
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
    /// By pool id.
    pools: Vec<Pool>,
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

#[derive(Clone, Copy, Debug)]
struct Pool {
    pair: u32,
    /// From the lower token to the higher; absent if it is not to be quoted.
    hop: Option<Hop>,
    fee: Option<Fee>,
    /// Whether token 0 is the lower token.
    in_order: bool,
}

/// One step of a cycle: a pool, and whether it goes from the lower token to the higher (0) or back (1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) pool: u32,
    pub(super) direction: u8,
}

/// The steps of a cycle.
pub(super) type Hops = arrayvec::ArrayVec<Step, 3>;

impl Graph {
    pub(super) fn new(base_tokens: &[Address], max_hops: usize) -> Self {
        let mut graph = Self {
            max_hops,
            base_tokens: 0,
            tokens: Vec::new(),
            token_numbers: FxHashMap::default(),
            neighbours: Vec::new(),
            pair_numbers: FxHashMap::default(),
            pairs: Vec::new(),
            best: Vec::new(),
            triangles: Vec::new(),
            pools: Vec::new(),
            round: 0,
            touched_pairs: Vec::new(),
        };
        for token in base_tokens {
            graph.token(*token);
        }
        graph.base_tokens = graph.tokens.len() as u32;
        graph
    }

    /// How many pools were inserted.
    pub(super) fn pools(&self) -> usize {
        self.pools.len()
    }

    /// Inserts the pool of the next id. It is not quoted before its first update.
    pub(super) fn insert(&mut self, pools: &PoolTable, index: usize) -> Option<PoolId> {
        let id = PoolId(u32::try_from(index).ok()?);
        let meta = pools.meta(id)?;
        let (token0, token1) = (self.token(meta.token0), self.token(meta.token1));
        let pair = self.pair(token0.min(token1), token0.max(token1));
        self.pairs[pair as usize].members.push(Member {
            pool: id.0,
            touched: 0,
            rates: [f64::NEG_INFINITY; 2],
        });
        // Without a fee it is never quoted: what these pools compute is not known here.
        let fee = match meta.protocol {
            Protocol::UniswapV2 => Fee::from_ppm(meta.fee_ppm).ok(),
            Protocol::UniswapV3 | Protocol::UniswapV4 => None,
        };
        self.pools.push(Pool { pair, hop: None, fee, in_order: token0 < token1 });
        Some(id)
    }

    /// Touches what is kept of these pools and their pairs, so that their way from memory is waited for once and not one
    /// after the other: from one block to the next everything else that runs has emptied the caches.
    pub(super) fn fetch(&self, ids: &[PoolId]) {
        let pairs = ids.iter().filter_map(|id| self.pools.get(id.index())).map(|pool| pool.pair as usize);
        let pairs: Vec<_> = pairs.collect();
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

    /// Notes that a pool may have changed, and its reserves, if it may be quoted.
    pub(super) fn update(&mut self, id: PoolId, quoted: Option<Reserves>) {
        let Some(pool) = self.pools.get_mut(id.index()) else { return };
        pool.hop = quoted.zip(pool.fee).and_then(|(held, fee)| {
            let hop = Hop::new(held.reserve0, held.reserve1, fee).ok()?;
            Some(if pool.in_order { hop } else { hop.reversed() })
        });
        let rates =
            pool.hop.map_or([f64::NEG_INFINITY; 2], |hop| [hop.log_rate(), hop.reversed().log_rate()]);
        let number = pool.pair;
        let pair = &mut self.pairs[number as usize];
        if let Some(member) = pair.members.iter_mut().find(|member| member.pool == id.0) {
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

    pub(super) fn hop(&self, step: Step) -> Option<Hop> {
        let hop = self.pools[step.pool as usize].hop?;
        Some(if step.direction == 0 { hop } else { hop.reversed() })
    }

    /// What goes into the step and what comes out.
    pub(super) fn tokens_of(&self, step: &Step) -> (Address, Address) {
        let [lower, higher] = self.pairs[self.pools[step.pool as usize].pair as usize].tokens;
        let (from, to) = if step.direction == 0 { (lower, higher) } else { (higher, lower) };
        (self.tokens[from as usize], self.tokens[to as usize])
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
        if self.max_hops >= 3 {
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
