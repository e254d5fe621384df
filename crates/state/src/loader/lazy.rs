use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use headwater_abi::calls;
use headwater_actor::Component;
use headwater_bus::SourcePublisher;
use headwater_events::{AsOf, BusEvent, PoolLoaded, PoolProof, TokenVerdict};
use headwater_market::{ConcentratedKey, Factory, ResolvedMarket, V4Refusal};
use headwater_node::{Node, NodeConfig, NodeError};
use serde::Serialize;
use tracing::{debug, warn};

use super::bulk::ensure_canonical;
use super::concentrated::{Made, Progress, Reading, made_of, recognise, recognise_v4};
use super::lasting::Lasting;
use super::proof_of;
use super::question::{Question, ask};
use super::remembered::Remembered;
use super::token::{Held, judge};
use crate::config::StateConfig;
use crate::error::LoadError;
use crate::world::{LoadRequest, Subject};

/// Tries of a request before it is left; it is asked again when its pool trades again.
const TRIES: u32 = 2;

/// Until a try is given up. Two of them and their pauses fit into the span after which an actor is taken for stalled.
const TRY_AT_MOST: Duration = Duration::from_secs(8);

/// Blocks for which a pool that was read in part is read on as of the first of them: well within what can be undone, as the answer
/// is taken up below the blocks that came meanwhile.
const READ_ON_FOR: u64 = 24;

/// Looks up what the state asks for, and publishes what it learns as source events.
///
/// It has a connection of its own, made when first needed and anew when it was lost. A node that fails is asked ever
/// more seldom, and whatever does not fit into the mailbox meanwhile is dropped there.
#[derive(Debug)]
pub struct Loader {
    market: Arc<ResolvedMarket>,
    config: StateConfig,
    node_config: NodeConfig,
    node: Option<Node>,
    publisher: SourcePublisher,
    /// Contracts, and pools of V4, that need not be asked about: refused, or published.
    answered: Remembered<ConcentratedKey>,
    judged: Remembered,
    /// Under which number a pool with concentrated liquidity was published: one that the book did not take up, or lost, is
    /// asked about again.
    published: HashMap<ConcentratedKey, u64>,
    /// What a failure interrupted.
    reading: Option<Reading>,
    /// Failed tries in a row.
    failures: u32,
    observed: LoaderObserved,
}

/// The loader in figures, by incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoaderObserved {
    /// Requests taken.
    pub requests: u64,
    /// Requests about what was answered before.
    pub repeated: u64,
    /// Pools proven and published.
    pub pools: u64,
    /// Tokens judged and published.
    pub tokens: u64,
    /// Tokens refused.
    pub tokens_refused: u64,
    /// Tokens accepted without a look at what is held of them later, because the node runs no call at another time than its block's.
    pub untimed: u64,
    /// Contracts that are no pool of a configured factory, and pools of V4 that are refused or cannot be named.
    pub refused: u64,
    /// Of them, pools of V4 with a hook.
    pub hooked: u64,
    /// Of them, pools of V4 whose fee a hook sets.
    pub dynamic_fee: u64,
    /// Of them, pools of V4 of which the node does not say what they are made of.
    pub unnamed: u64,
    /// Requests about a block that the node no longer answers for.
    pub block_gone: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Requests left after their last try.
    pub given_up: u64,
}

/// What a question brought.
#[derive(Debug, Default)]
struct Learnt {
    judged: Vec<BusEvent>,
    pool: Option<BusEvent>,
    /// The pool holds nothing of a token yet, so that it cannot be tried out: asked again when the pool trades.
    is_postponed: bool,
}

impl Loader {
    /// A loader that is not connected yet. `judged` are the tokens that need not be asked about.
    pub fn new(
        market: Arc<ResolvedMarket>,
        config: StateConfig,
        mut node_config: NodeConfig,
        publisher: SourcePublisher,
        judged: impl IntoIterator<Item = Address>,
    ) -> Self {
        node_config.chain_id = Some(market.chain_id);
        let most = config.remembered_refusals.get();
        let mut remembered = Remembered::new(most);
        judged.into_iter().for_each(|token| remembered.insert(token));
        Self {
            market,
            config,
            node_config,
            node: None,
            publisher,
            answered: Remembered::new(most),
            judged: remembered,
            published: HashMap::new(),
            reading: None,
            failures: 0,
            observed: LoaderObserved::default(),
        }
    }

    fn is_answered(&self, request: &LoadRequest) -> bool {
        match request.subject {
            Subject::Pool(pool) => self.answered.contains(&ConcentratedKey::V3(pool)),
            Subject::Token { token, .. } => self.judged.contains(&token),
            Subject::Concentrated(pool) => {
                let published = self.published.get(&pool);
                self.answered.contains(&pool) || published.is_some_and(|seq| *seq > request.as_of.seq)
            }
        }
    }

    /// Learns with patience; `None` if the request is left.
    async fn try_to_learn(&mut self, request: LoadRequest) -> Option<Learnt> {
        for _ in 0..TRIES {
            tokio::time::sleep(self.config.retry_after(self.failures)).await;
            let error = match tokio::time::timeout(TRY_AT_MOST, self.learn(request)).await {
                Ok(Ok(learnt)) => {
                    self.failures = 0;
                    return Some(learnt);
                }
                Ok(Err(LoadError::BlockGone { .. })) => {
                    self.failures = 0;
                    self.reading = None;
                    self.observed.block_gone += 1;
                    return None;
                }
                Ok(Err(error)) => error,
                Err(_) => NodeError::Timeout { method: "eth_call".to_owned(), after: TRY_AT_MOST }.into(),
            };
            self.note_failure(&error);
        }
        self.observed.given_up += 1;
        None
    }

    fn note_failure(&mut self, error: &LoadError) {
        self.failures = self.failures.saturating_add(1);
        self.observed.failed += 1;
        if self.failures == 1 {
            warn!(%error, "a look-up failed");
        }
        if self.node.as_ref().is_some_and(|node| node.close_reason().is_some()) {
            self.node = None;
        }
    }

    async fn learn(&mut self, request: LoadRequest) -> Result<Learnt, LoadError> {
        let node = self.connect().await?;
        match request.subject {
            Subject::Pool(pool) => self.learn_pool(&node, pool, request.as_of).await,
            Subject::Token { token, holder } => {
                let judged =
                    self.judge(&node, &[Held { token, holder, reserve: None }], request.as_of).await?;
                Ok(Learnt { judged, pool: None, is_postponed: false })
            }
            Subject::Concentrated(pool) => self.learn_concentrated(&node, pool, request.as_of).await,
        }
    }

    /// Goes on where an earlier try has failed.
    async fn learn_concentrated(
        &mut self,
        node: &Node,
        key: ConcentratedKey,
        as_of: AsOf,
    ) -> Result<Learnt, LoadError> {
        let is_due = |reading: &Reading| {
            reading.key() == key && as_of.number.saturating_sub(reading.number()) <= READ_ON_FOR
        };
        if !self.reading.as_ref().is_some_and(is_due) {
            self.reading = self.recognise(node, key, as_of).await?;
        }
        let Some(reading) = &mut self.reading else { return Ok(Learnt::default()) };
        while let progress = reading.go_on(node).await?
            && progress != Progress::Done
        {
            if progress == Progress::Refused {
                self.reading = None;
                return Ok(Learnt::default());
            }
        }
        let (tokens, holder) = (reading.tokens(), reading.holder());
        let unknown = self.unjudged(tokens, holder);
        let judged = self.judge(node, &unknown, as_of).await?;
        let loaded = self.reading.take().map(Reading::finish);
        let is_postponed = judged.len() < unknown.len();
        Ok(Learnt { judged, pool: loaded.filter(|_| !is_postponed), is_postponed })
    }

    /// Whether it is a pool of ours; the reading of it begins here.
    async fn recognise(
        &mut self,
        node: &Node,
        key: ConcentratedKey,
        as_of: AsOf,
    ) -> Result<Option<Reading>, LoadError> {
        let (manager, id) = match key {
            ConcentratedKey::V3(pool) => {
                let lasting = &mut Lasting::default();
                return Ok(recognise(node, &self.market, &[pool], as_of, lasting).await?.pop().flatten());
            }
            ConcentratedKey::V4 { manager, id } => (manager, id),
        };
        if !self.market.concentrated_managers.iter().any(|known| known.address == manager) {
            return Ok(None);
        }
        let Made::Of(key) = made_of(node, manager, id, as_of).await? else {
            // Logs are asked for by height: without this block a node says nothing about it.
            ensure_canonical(node, as_of.hash, as_of.number).await?;
            self.observed.unnamed += 1;
            return Ok(None);
        };
        match key.pool() {
            Ok(_) => Ok(recognise_v4(node, manager, &[key], as_of).await?.pop().flatten()),
            Err(reason) => {
                debug!(%id, %reason, "a pool of V4 is refused");
                self.observed.hooked += u64::from(matches!(reason, V4Refusal::Hooked(_)));
                self.observed.dynamic_fee += u64::from(reason == V4Refusal::DynamicFee);
                Ok(None)
            }
        }
    }

    async fn connect(&mut self) -> Result<Node, NodeError> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let (node, _) = Node::connect_first(&self.node_config).await?;
        Ok(self.node.insert(node).clone())
    }

    /// The tokens are judged before their pool is known, so that it is never quoted without.
    async fn learn_pool(&mut self, node: &Node, pool: Address, as_of: AsOf) -> Result<Learnt, LoadError> {
        let questions =
            [calls::token0(), calls::token1(), calls::get_reserves()].map(|data| Question { to: pool, data });
        let answers = ask(node, as_of.hash, &questions).await?;
        let tokens: Result<Vec<_>, _> =
            answers[..2].iter().map(|answer| answer.read(calls::decode_address)).collect();
        let reserves = answers[2].read(calls::decode_get_reserves).ok();
        let Ok([token0, token1]) = tokens.as_deref().map(|tokens| [tokens[0], tokens[1]]) else {
            return Ok(Learnt::default());
        };
        let Some((factory, proof)) = self.prove(node, pool, [token0, token1], as_of).await? else {
            return Ok(Learnt::default());
        };
        let (factory, proof) = (factory.clone(), proof);
        let mut unknown = self.unjudged([token0, token1], pool);
        for held in &mut unknown {
            held.reserve =
                reserves.map(|(reserve0, reserve1)| if held.token == token0 { reserve0 } else { reserve1 });
        }
        let judged = self.judge(node, &unknown, as_of).await?;
        if judged.len() < unknown.len() {
            return Ok(Learnt { judged, pool: None, is_postponed: true });
        }
        let loaded = PoolLoaded {
            pool,
            factory: factory.address,
            protocol: factory.protocol,
            token0,
            token1,
            fee_ppm: factory.fee_ppm,
            reserves: None,
            block_number: as_of.number,
            block_hash: as_of.hash,
            proof,
        };
        Ok(Learnt { judged, pool: Some(BusEvent::PoolLoaded(loaded)), is_postponed: false })
    }

    /// The factory that made the pool: by derivation, or by the answer of a factory whose pools do not derive.
    async fn prove(
        &self,
        node: &Node,
        pool: Address,
        [token0, token1]: [Address; 2],
        as_of: AsOf,
    ) -> Result<Option<(&Factory, PoolProof)>, LoadError> {
        let derivable = self.market.factories.iter().filter(|factory| factory.init_code_hash.is_some());
        let derived =
            derivable.filter_map(|factory| Some((factory, proof_of(factory, pool, token0, token1)?))).next();
        let others: Vec<_> =
            self.market.factories.iter().filter(|factory| factory.init_code_hash.is_none()).collect();
        if derived.is_some() || others.is_empty() {
            return Ok(derived);
        }
        let questions: Vec<_> = others
            .iter()
            .map(|factory| Question { to: factory.address, data: calls::get_pair(token0, token1) })
            .collect();
        let answers = ask(node, as_of.hash, &questions).await?;
        let mut answered = others.into_iter().zip(answers);
        let found = answered.find(|(_, answer)| answer.read(calls::decode_address).as_ref() == Ok(&pool));
        Ok(found.and_then(|(factory, _)| Some((factory, proof_of(factory, pool, token0, token1)?))))
    }

    fn unjudged(&self, tokens: impl IntoIterator<Item = Address>, holder: Address) -> Vec<Held> {
        let unknown = tokens.into_iter().filter(|token| !self.judged.contains(token));
        unknown.map(|token| Held { token, holder, reserve: None }).collect()
    }

    async fn judge(&mut self, node: &Node, tokens: &[Held], as_of: AsOf) -> Result<Vec<BusEvent>, LoadError> {
        let verdicts = judge(node, as_of.hash, tokens, self.market.load.max_transfer_gas).await?;
        self.observed.untimed += verdicts.untimed;
        Ok(verdicts.judged.into_iter().map(BusEvent::TokenJudged).collect())
    }

    async fn publish(&mut self, subject: Subject, learnt: Learnt) {
        let (mut proven, is_postponed) = (None, learnt.is_postponed);
        for event in learnt.judged.into_iter().chain(learnt.pool) {
            let token = match &event {
                BusEvent::TokenJudged(judged) => {
                    self.observed.tokens_refused +=
                        u64::from(matches!(judged.verdict, TokenVerdict::Refused(_)));
                    Some(judged.token)
                }
                _ => None,
            };
            let Ok(seq) = self.publisher.publish(event, None).await else {
                debug!("nothing is published any longer");
                return;
            };
            match token {
                Some(token) => {
                    self.judged.insert(token);
                    self.observed.tokens += 1;
                }
                None => {
                    proven = Some(seq);
                    self.observed.pools += 1;
                }
            }
        }
        if is_postponed {
            return;
        }
        self.observed.refused += u64::from(proven.is_none() && !matches!(subject, Subject::Token { .. }));
        match (subject, proven) {
            (Subject::Concentrated(pool), Some(seq)) => self.note_published(pool, seq),
            (Subject::Pool(pool), _) => self.answered.insert(ConcentratedKey::V3(pool)),
            (Subject::Concentrated(pool), _) => self.answered.insert(pool),
            (Subject::Token { .. }, _) => {}
        }
    }

    /// What is forgotten here is read once more at the worst.
    fn note_published(&mut self, pool: ConcentratedKey, seq: u64) {
        if self.published.len() >= self.config.remembered_refusals.get() {
            self.published.clear();
        }
        self.published.insert(pool, seq);
    }
}

impl Component for Loader {
    type Message = LoadRequest;
    type Observed = LoaderObserved;

    async fn handle(&mut self, request: &LoadRequest) -> anyhow::Result<()> {
        self.observed.requests += 1;
        if self.is_answered(request) {
            self.observed.repeated += 1;
        } else if let Some(learnt) = self.try_to_learn(*request).await {
            self.publish(request.subject, learnt).await;
        }
        Ok(())
    }

    fn observe(&self) -> LoaderObserved {
        self.observed
    }
}
