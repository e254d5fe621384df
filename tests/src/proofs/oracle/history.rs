//! Random histories of blocks in which pools trade, feeds are answered and move, and strangers talk.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, I256, TxHash, U256, keccak256};
use headwater_events::{
    BlockEvent, BusEvent, Envelope, FeedResolved, FeedRound, FeedVerdict, Grade, Header, Log, MarketLoaded,
    PoolLoaded, PoolProof, Protocol, ReorgEvent, RunId,
};
use headwater_market::{MarketConfig, PendingAnswer, ResolvedMarket};
use headwater_oracle::OracleConfig;
use headwater_reference::fake_node::sync_topic;
use headwater_reference::feeds::{Answered, JudgedFeed, KnownPrices, PriceBlock, RangedSaid, Read};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ranged::{self, Attack, Stand};
use super::{Counts, hash_of};

pub(super) const NATIVE: Address = Address::repeat_byte(0x77);
/// A coin that is counted in dollars, one that is counted in the native token, and one that has no feed.
/// The last has pools of Uniswap V3 and V4 alone.
pub(super) const TOKENS: [Address; 4] = [
    Address::repeat_byte(0x21),
    Address::repeat_byte(0x92),
    Address::repeat_byte(0x23),
    Address::repeat_byte(0x24),
];
pub(super) const FEEDS: usize = 3;
/// The native token in dollars, and both coins.
const OF_FEED: [Address; FEEDS] = [NATIVE, TOKENS[0], TOKENS[1]];
const TOKEN_DECIMALS: [u8; FEEDS] = [18, 6, 8];
const DECIMALS: [u8; FEEDS] = [8, 8, 18];
const USUAL: [i64; FEEDS] = [200_000_000_000, 100_000_000, 30_000_000_000_000_000];
/// What a coin's smallest unit is usually worth in wei.
const PER: [u128; TOKENS.len()] = [500_000_000, 300_000_000, 1, 400];
/// The tokens of the pools against the native token: the second has two thin ones beside its deep one.
const POOL_OF: [usize; 5] = [0, 1, 2, 1, 1];
const FACTORY: Address = Address::repeat_byte(0xfa);
const STRANGER: Address = Address::repeat_byte(0x66);
pub(super) const ETHER: u128 = 1_000_000_000_000_000_000;
/// Blocks that can be undone.
const HORIZON: usize = 64;

pub(super) const WINDOW: u64 = 120;
pub(super) const FEED_PPM: u64 = 300_000;
pub(super) const AVERAGE_PPM: u64 = 400_000;
const HEARTBEAT: u64 = 300;
const GRACE: u64 = 40;
/// By which a price moves without an answer: of each feed another.
const DEVIATION_PPM: [u64; FEEDS] = [5_000, 2_500, 20_000];

pub(super) fn config() -> anyhow::Result<OracleConfig> {
    let text = format!(
        "[oracle]\naverage_window_s = {WINDOW}\nmax_feed_deviation_ppm = {FEED_PPM}\nmax_average_deviation_ppm = {AVERAGE_PPM}\nfeed_grace_s = {GRACE}\n"
    );
    let config =
        headwater_supervisor::Config::parse(&text).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    Ok(config.oracle)
}

pub(super) fn market() -> anyhow::Result<ResolvedMarket> {
    let mut text = format!(
        "[market]\npreset = 'none'\nwrapped_native = '{NATIVE:#x}'\n[[market.factories]]\nprotocol = 'uniswap-v2'\naddress = '{FACTORY:#x}'\n{}",
        ranged::market()
    );
    for (feed, token) in OF_FEED.into_iter().enumerate() {
        let (proxy, quote) = (proxy(feed), if feed == 2 { "native" } else { "usd" });
        let deviation_ppm = DEVIATION_PPM[feed];
        text += &format!(
            "[[market.feeds]]\nproxy = '{proxy:#x}'\ntoken = '{token:#x}'\nquote = '{quote}'\nheartbeat_s = {HEARTBEAT}\ndeviation_ppm = {deviation_ppm}\n"
        );
    }
    let config =
        headwater_supervisor::Config::parse(&text).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let market: MarketConfig = config.market;
    Ok(ResolvedMarket::resolve(&market, 424_244)?)
}

fn proxy(feed: usize) -> Address {
    Address::repeat_byte(0xb0 + feed as u8)
}

fn aggregator(feed: usize, phase: u16) -> Address {
    let mut address = Address::repeat_byte(0xc0 + feed as u8);
    address[..2].copy_from_slice(&phase.to_be_bytes());
    address
}

fn pool(place: usize) -> Address {
    Address::repeat_byte(0x50 + place as u8)
}

/// What a pool usually holds of the native token, and of its own one.
fn usual(place: usize) -> (u128, u128) {
    let native = if place < 3 { 10 * ETHER } else { 2 * ETHER };
    (native, native / PER[POOL_OF[place]])
}

/// A block, and how the feeds stand behind it.
#[derive(Clone)]
struct Made {
    event: BlockEvent,
    judged: PriceBlock,
    phases: [u16; FEEDS],
    last: [Answered; FEEDS],
    ranged: Vec<Stand>,
}

pub(super) struct History {
    pub(super) known: KnownPrices,
    pub(super) random: ChaCha8Rng,
    /// Whether the last block holds the answer that was announced, and no other.
    pub(super) has_landed: bool,
    /// The first is the one at which everything was loaded.
    chain: Vec<Made>,
    left: Vec<Made>,
    undoable: usize,
    made: u64,
    seq: u64,
    pending: Option<(usize, i64)>,
}

impl History {
    pub(super) fn new(seed: u64) -> Self {
        let lifetime = HEARTBEAT + GRACE;
        let feeds = (0..FEEDS).map(|feed| JudgedFeed {
            proxy: proxy(feed),
            token: OF_FEED[feed],
            token_decimals: TOKEN_DECIMALS[feed],
            in_dollars: feed != 2,
            lifetime,
            deviation_ppm: DEVIATION_PPM[feed],
        });
        let mut pools: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (place, token) in POOL_OF.into_iter().enumerate() {
            pools.entry(TOKENS[token]).or_default().push(pool(place));
        }
        let known = KnownPrices {
            native: NATIVE,
            held: (0..POOL_OF.len()).map(|place| (pool(place), usual(place))).collect(),
            pools,
            ranged: ranged::known(),
            least: ETHER,
            feeds: feeds.collect(),
            learnt: BTreeMap::new(),
            window: WINDOW,
            ranges_told: Default::default(),
        };
        let mut history = Self {
            known,
            random: ChaCha8Rng::seed_from_u64(seed),
            has_landed: false,
            chain: Vec::new(),
            left: Vec::new(),
            undoable: 0,
            made: 0,
            seq: 0,
            pending: None,
        };
        let last = std::array::from_fn(|feed| Answered {
            emitter: aggregator(feed, 1),
            round: 1,
            answer: USUAL[feed],
            updated_at: 10_000,
        });
        let feeds = ([1; FEEDS], last);
        let first = history.make(10_000, feeds, Vec::new(), Vec::new(), Vec::new(), Vec::new());
        history.chain.push(first);
        history
    }

    pub(super) fn loaded(&self) -> B256 {
        self.chain[0].event.header.hash
    }

    /// The blocks that survive, above the first.
    pub(super) fn blocks(&self) -> Vec<PriceBlock> {
        self.chain[1..].iter().map(|made| made.judged.clone()).collect()
    }

    /// Pools, and two of the three feeds; the third is learnt later.
    pub(super) fn begin(&mut self) -> Vec<Envelope> {
        let (number, hash) = (self.chain[0].event.header.number, self.loaded());
        let mut events: Vec<BusEvent> = POOL_OF
            .into_iter()
            .enumerate()
            .map(|(place, token)| {
                let (native, other) = usual(place);
                let token = TOKENS[token];
                BusEvent::PoolLoaded(PoolLoaded {
                    pool: pool(place),
                    factory: FACTORY,
                    protocol: Protocol::UniswapV2,
                    token0: token.min(NATIVE),
                    token1: token.max(NATIVE),
                    fee_ppm: 3_000,
                    reserves: Some(in_order(place, native, other)),
                    block_number: number,
                    block_hash: hash,
                    proof: PoolProof::FactoryAnswer,
                })
            })
            .collect();
        events.extend(ranged::loaded(number, hash));
        events.extend([NATIVE].into_iter().chain(TOKENS).map(ranged::accepted));
        let pools = POOL_OF.len() as u64;
        events.push(BusEvent::MarketLoaded(MarketLoaded { number, hash, chain_id: 424_244, pools }));
        events.extend([0, 1].map(|feed| self.resolve(feed, 0)));
        events.into_iter().map(|event| self.envelope(event)).collect()
    }

    /// What happens next.
    pub(super) fn step(&mut self, counts: &mut Counts) -> Vec<Envelope> {
        let mut events = Vec::new();
        match self.random.random_range(0..20) {
            0 if self.undoable > 0 => {
                events = self.reorganise(counts);
                self.pending = None;
            }
            1..=3 => {
                let feed = self.random.random_range(0..FEEDS);
                let back = self.random.random_range(0..=self.undoable.min(5));
                events.push(self.resolve(feed, self.chain.len() - 1 - back));
                counts.resolved += 1;
                self.pending = None;
            }
            _ => events.push(self.grow(counts)),
        }
        events.into_iter().map(|event| self.envelope(event)).collect()
    }

    /// A transmission that will be all that the next block holds, unless something else happens first.
    pub(super) fn announce(&mut self) -> Option<PendingAnswer> {
        self.pending = None;
        if !self.random.random_bool(0.3) {
            return None;
        }
        let feed = self.random.random_range(0..FEEDS);
        let answer = self.any_answer(feed);
        self.pending = Some((feed, answer));
        let phase = self.head().phases[feed];
        Some(PendingAnswer {
            transaction: TxHash::repeat_byte(0x7a),
            aggregator: aggregator(feed, phase),
            median: I256::try_from(answer).ok()?,
        })
    }

    /// A block that sets the price of the first coin: the usual one, times a number of thousandths, over a number.
    pub(super) fn one_price(&mut self, seconds: u64, per_mille: u128, over: u128) -> Envelope {
        let Made { phases, last, .. } = self.head().clone();
        let timestamp = self.head().event.header.timestamp + seconds;
        let syncs = vec![(0, 10 * ETHER / 1_000 * per_mille, 10 * ETHER / PER[0] * over)];
        let made = self.make(timestamp, (phases, last), syncs, Vec::new(), Vec::new(), Vec::new());
        let event = BusEvent::NewBlock(made.event.clone());
        self.push(made);
        self.envelope(event)
    }

    /// A block that creates a pool of the first coin at a price far off, with all its liquidity in one range about it.
    pub(super) fn attack(&mut self, seconds: u64, per_mille: u128, attack: &Attack) -> Envelope {
        let Made { phases, last, .. } = self.head().clone();
        let timestamp = self.head().event.header.timestamp + seconds;
        let syncs = vec![(0, 10 * ETHER / 1_000 * per_mille, 10 * ETHER / PER[0])];
        let mut made = self.make(timestamp, (phases, last), syncs, Vec::new(), Vec::new(), Vec::new());
        made.event.logs.extend(attack.logs());
        let event = BusEvent::NewBlock(made.event.clone());
        self.push(made);
        self.envelope(event)
    }

    fn head(&self) -> &Made {
        self.chain.last().expect("the first stays")
    }

    fn envelope(&mut self, event: BusEvent) -> Envelope {
        self.seq += 1;
        Envelope { run_id: RunId(0), seq: self.seq, received_at: 0, derived: None, event }
    }

    fn push(&mut self, made: Made) {
        self.chain.push(made);
        self.undoable = (self.undoable + 1).min(HORIZON);
    }

    /// An answer about as usual; now and then one that is none.
    fn any_answer(&mut self, feed: usize) -> i64 {
        match self.random.random_range(0..12) {
            0 => self.random.random_range(-3..=0),
            _ => USUAL[feed] / 1_000 * self.random.random_range(900..1_100),
        }
    }

    fn grow(&mut self, counts: &mut Counts) -> BusEvent {
        let landing = self.pending.take().filter(|_| self.random.random_bool(0.8));
        self.has_landed = landing.is_some();
        let Made { mut phases, mut last, .. } = self.head().clone();
        let seconds = match self.random.random_range(0..30) {
            0 => self.random.random_range(200..500),
            _ => self.random.random_range(1..20),
        };
        let timestamp = self.head().event.header.timestamp + seconds;
        let (mut answers, mut confirmed) = (Vec::new(), Vec::new());
        for feed in 0..FEEDS {
            let (is_answered, answer) = match landing {
                Some((landing, answer)) => (landing == feed, answer),
                None => (self.random.random_bool(0.25), self.any_answer(feed)),
            };
            if landing.is_none() && self.random.random_bool(0.02) {
                // The owner gives the proxy another aggregator; it says so, or not.
                phases[feed] += 1;
                last[feed] = Answered {
                    emitter: aggregator(feed, phases[feed]),
                    round: 1,
                    answer: self.any_answer(feed).max(1),
                    updated_at: timestamp,
                };
                counts.phases += 1;
                if self.random.random() {
                    confirmed.push((proxy(feed), aggregator(feed, phases[feed])));
                }
                continue;
            }
            if is_answered {
                let (emitter, round) = (aggregator(feed, phases[feed]), last[feed].round + 1);
                last[feed] = Answered { emitter, round, answer, updated_at: timestamp };
                answers.push(last[feed]);
            }
            if phases[feed] > 1 && self.random.random_bool(0.1) {
                // The one before goes on talking.
                let (emitter, answer) = (aggregator(feed, phases[feed] - 1), self.any_answer(feed));
                if landing.is_none() {
                    answers.push(Answered {
                        emitter,
                        round: 1_000 + self.made,
                        answer,
                        updated_at: timestamp,
                    });
                }
            }
        }
        if self.random.random_bool(0.4) {
            counts.strangers += 1;
            answers.push(Answered { emitter: STRANGER, round: 9_999_999, answer: 1, updated_at: timestamp });
            confirmed.push((STRANGER, STRANGER));
        }
        let mut syncs = Vec::new();
        for place in 0..POOL_OF.len() {
            let held = match self.random.random_range(0..20) {
                0..5 => self.random.random_range(8_000..12_000),
                // Anything, too little for a price, or nothing.
                5 => self.random.random_range(1_000..10_000_000),
                6 => self.random.random_range(0..1_000),
                _ => continue,
            };
            syncs.push((place, usual(place).0 / 10_000 * held, usual(place).1));
        }
        let stands = self.head().ranged.clone();
        let acts = ranged::acts(&mut self.random, &stands);
        let made = self.make(timestamp, (phases, last), syncs, answers, confirmed, acts);
        let event = BusEvent::NewBlock(made.event.clone());
        self.push(made);
        event
    }

    /// Undoes some blocks; what was left before may come back.
    fn reorganise(&mut self, counts: &mut Counts) -> Vec<BusEvent> {
        let depth = match self.random.random_range(0..4) {
            0 => self.random.random_range(1..=self.undoable),
            _ => self.random.random_range(1..=self.undoable.min(6)),
        };
        self.undoable -= depth;
        let kept = self.chain.len() - depth;
        let left = self.chain.split_off(kept);
        let undone: Vec<B256> = left.iter().rev().map(|made| made.event.header.hash).collect();
        counts.reorgs += 1;
        counts.undone += depth as u64;
        let ancestor = &self.head().event.header;
        let (ancestor_number, ancestor_hash) = (ancestor.number, ancestor.hash);
        let back = std::mem::replace(&mut self.left, left);
        let comes_back = back.first().is_some_and(|made| made.event.header.parent_hash == ancestor_hash);
        let back = if comes_back { back } else { Vec::new() };
        let new_head = back.last().map_or(B256::ZERO, |made| made.event.header.hash);
        let old_head = undone[0];
        let mut events =
            vec![BusEvent::Reorg(ReorgEvent { ancestor_number, ancestor_hash, undone, old_head, new_head })];
        self.has_landed = false;
        // One block at a time, so that each is compared.
        if let Some(made) = back.into_iter().next() {
            events.push(BusEvent::NewBlock(made.event.clone()));
            self.push(made);
        }
        events
    }

    /// What the proxy of a feed reads as of a block, told now.
    fn resolve(&mut self, feed: usize, at: usize) -> BusEvent {
        let Made { phases, last, event, .. } = self.chain[at].clone();
        let (number, hash) = (event.header.number, event.header.hash);
        let (aggregator, decimals) = (aggregator(feed, phases[feed]), DECIMALS[feed]);
        let Answered { round, answer, updated_at, .. } = last[feed];
        let read = Read { aggregator, decimals, last: last[feed] };
        self.known.learnt.insert((proxy(feed), hash), read);
        let verdict = FeedVerdict::Accepted(FeedRound {
            aggregator,
            phase: phases[feed],
            decimals,
            token_decimals: TOKEN_DECIMALS[feed],
            round,
            answer: u64::try_from(answer).ok().filter(|answer| *answer > 0).map(U256::from),
            updated_at,
        });
        BusEvent::FeedResolved(FeedResolved { proxy: proxy(feed), number, hash, verdict })
    }

    /// `syncs`: by place, what a pool holds of the native token and of its own one.
    fn make(
        &mut self,
        timestamp: u64,
        (phases, last): ([u16; FEEDS], [Answered; FEEDS]),
        syncs: Vec<(usize, u128, u128)>,
        answers: Vec<Answered>,
        confirmed: Vec<(Address, Address)>,
        acts: Vec<(usize, RangedSaid)>,
    ) -> Made {
        self.made += 1;
        let hash = hash_of(self.made);
        let parent = self.chain.last().map(|made| &made.event.header);
        let (number, parent_hash) =
            parent.map_or((1_000, B256::ZERO), |parent| (parent.number + 1, parent.hash));
        let header = Header {
            number,
            hash,
            parent_hash,
            timestamp,
            base_fee_per_gas: None,
            gas_used: 0,
            gas_limit: 0,
            beneficiary: Address::ZERO,
            logs_bloom: Default::default(),
        };
        let sync_logs = syncs.iter().map(|(place, native, other)| sync(*place, *native, *other));
        let answer_logs = answers.iter().map(answer_log);
        let mut logs: Vec<Log> =
            sync_logs.chain(answer_logs).chain(confirmed.iter().map(confirmed_log)).collect();
        let mut stands = self.chain.last().map_or_else(ranged::usual, |made| made.ranged.clone());
        for (place, said) in &acts {
            stands[*place].follow(said);
            logs.push(stands[*place].log(*place, said));
        }
        let ranged = acts.into_iter().map(|(place, said)| (ranged::name(place), said)).collect();
        let event = BlockEvent { header, transactions: Vec::new(), logs, grade: Grade::Matched };
        let syncs = syncs.into_iter().map(|(place, native, other)| (pool(place), native, other)).collect();
        let judged = PriceBlock { hash, timestamp, syncs, ranged, answers, confirmed };
        Made { event, judged, phases, last, ranged: stands }
    }
}

pub(super) fn log(address: Address, topics: Vec<B256>, data: Bytes) -> Log {
    Log { address, topics: topics.into_iter().collect(), data, transaction_index: 0, log_index: 0 }
}

fn sync(place: usize, native: u128, other: u128) -> Log {
    let (reserve0, reserve1) = in_order(place, native, other);
    let words = [reserve0, reserve1].map(|reserve| B256::from(U256::from(reserve)));
    log(pool(place), vec![sync_topic()], words.concat().into())
}

fn in_order(place: usize, native: u128, other: u128) -> (u128, u128) {
    if TOKENS[POOL_OF[place]] < NATIVE { (other, native) } else { (native, other) }
}

fn confirmed_log((proxy, latest): &(Address, Address)) -> Log {
    let topic = keccak256("AggregatorConfirmed(address,address)");
    log(*proxy, vec![topic, STRANGER.into_word(), latest.into_word()], Bytes::new())
}

fn answer_log(answered: &Answered) -> Log {
    let topic = keccak256("AnswerUpdated(int256,uint256,uint256)");
    let answer = I256::try_from(answered.answer).unwrap_or_default();
    let topics = vec![topic, answer.to_be_bytes::<32>().into(), U256::from(answered.round).into()];
    log(answered.emitter, topics, B256::from(U256::from(answered.updated_at)).0.into())
}
