use std::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, B256, address};
use headwater_abi::calldata::{self, Arguments, Input, Limits, ReadCall};
use headwater_abi::{Malformed, logs};
use headwater_events::{Action, Call, Custom, Log};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// The functions that a contract is known to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interface {
    /// `UniswapV2Router02`.
    UniswapV2Router,
    /// `SwapRouter` of Uniswap V3.
    UniswapV3Router,
    /// `SwapRouter02`, for V2 and V3.
    #[serde(rename = "swap-router-02")]
    SwapRouter02,
    /// The Universal Router before V4.
    UniversalRouterV1,
    /// The Universal Router since V4.
    UniversalRouter,
    /// Permit2.
    Permit2,
    /// A pool of Aave V2 or V3.
    AavePool,
}

/// Contracts whose interface is known without configuration. Most have the same address on every chain; no other contract can be
/// there.
const KNOWN: [(Address, Interface); 9] = [
    (address!("e592427a0aece92de3edee1f18e0157c05861564"), Interface::UniswapV3Router),
    (address!("68b3465833fb72a70ecdf485e0e4c7bd8665fc45"), Interface::SwapRouter02),
    (address!("ef1c6e67703c7bd7107eed8303fbe6ec2554bf6b"), Interface::UniversalRouterV1),
    (address!("3fc91a3afd70395cd496c647d5a6cc9d4b2b7fad"), Interface::UniversalRouterV1),
    (address!("66a9893cc07d91d95644aedd05d03f95e1dba8af"), Interface::UniversalRouter),
    (address!("000000000022d473030f116ddee9f6b43ac78ba3"), Interface::Permit2),
    (address!("7d2768de32b0b80b7a3454c06bdac94a69ddc7a9"), Interface::AavePool),
    (address!("87870bca3f3fd6335c3f4ce8392d69350b4fa4e2"), Interface::AavePool),
    (address!("7a250d5630b4cf539739df2c5dacb4c659f2488d"), Interface::UniswapV2Router),
];

type OwnCall = Arc<dyn Fn(&Input<'_>) -> Result<Custom, Malformed> + Send + Sync>;
type OwnEvent = Arc<dyn Fn(&Event<'_>) -> Result<Custom, Malformed> + Send + Sync>;

/// What is decoded by what: which function of which contract, which event of whom. The default knows all that Headwater does; a
/// custom bot adds to it, and what it adds goes first.
#[derive(Clone)]
pub struct Registry {
    contracts: FxHashMap<Address, Interface>,
    of_anyone: bool,
    own_calls: FxHashMap<(Option<Address>, [u8; 4]), OwnCall>,
    own_events: FxHashMap<(Option<Address>, B256), OwnEvent>,
}

impl Default for Registry {
    fn default() -> Self {
        let contracts = KNOWN.into_iter().collect();
        Self { contracts, of_anyone: true, ..Self::empty() }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("contracts", &self.contracts)
            .field("own_calls", &self.own_calls.len())
            .field("own_events", &self.own_events.len())
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// One that knows no function of anybody, and the built-in events.
    pub fn empty() -> Self {
        Self {
            contracts: FxHashMap::default(),
            of_anyone: false,
            own_calls: FxHashMap::default(),
            own_events: FxHashMap::default(),
        }
    }

    /// Contracts with a known interface: their calls are decoded, and counted where their function is unknown.
    #[must_use]
    pub fn contracts(mut self, interface: Interface, contracts: impl IntoIterator<Item = Address>) -> Self {
        self.contracts.extend(contracts.into_iter().map(|contract| (contract, interface)));
        self
    }

    /// A function of one's own, whichever contract has it.
    #[must_use]
    pub fn calls<F>(self, selector: [u8; 4], decode: F) -> Self
    where
        F: Fn(&Input<'_>) -> Result<Custom, Malformed> + Send + Sync + 'static,
    {
        self.own_call(None, selector, decode)
    }

    /// A function of one's own, of one contract.
    #[must_use]
    pub fn calls_of<F>(self, contract: Address, selector: [u8; 4], decode: F) -> Self
    where
        F: Fn(&Input<'_>) -> Result<Custom, Malformed> + Send + Sync + 'static,
    {
        self.own_call(Some(contract), selector, decode)
    }

    /// An event of one's own, whoever emits it.
    #[must_use]
    pub fn events<F>(self, topic: B256, decode: F) -> Self
    where
        F: Fn(&Event<'_>) -> Result<Custom, Malformed> + Send + Sync + 'static,
    {
        self.own_event(None, topic, decode)
    }

    /// An event of one's own, of one contract.
    #[must_use]
    pub fn events_of<F>(self, emitter: Address, topic: B256, decode: F) -> Self
    where
        F: Fn(&Event<'_>) -> Result<Custom, Malformed> + Send + Sync + 'static,
    {
        self.own_event(Some(emitter), topic, decode)
    }

    /// The contracts whose interface is known, in no particular order.
    pub fn known(&self) -> impl Iterator<Item = (Address, Interface)> {
        self.contracts.iter().map(|(contract, interface)| (*contract, *interface))
    }

    /// Whether the contract's functions are known, so that an unknown one is worth counting.
    pub fn knows(&self, contract: Address) -> bool {
        self.contracts.contains_key(&contract)
    }

    /// The call that an input is, with all that it carries inside; `None` where nobody knows its function.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when its arguments, or those of a call inside, do not decode, or there is too much of them.
    pub fn call(&self, input: &Input<'_>) -> Result<Option<Call>, Malformed> {
        self.read(input, &mut Limits::default())
    }

    /// The action that a log tells of; `None` where nobody knows its event.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it carries a known topic with arguments that do not belong to it.
    pub fn event(&self, log: &Log) -> Result<Option<Action>, Malformed> {
        match self.own_event_of(log) {
            None => logs::action(log),
            Some(decode) => {
                let mut words = [0; 3 * 32];
                let topics = log.topics.iter().skip(1);
                words
                    .chunks_exact_mut(32)
                    .zip(topics)
                    .for_each(|(word, topic)| word.copy_from_slice(&topic[..]));
                let indexed = Arguments::new(&words[..32 * (log.topics.len() - 1)]);
                let custom = decode(&Event { log, indexed, data: Arguments::new(&log.data) })?;
                Ok(Some(Action::Custom { log_index: log.log_index, emitter: log.address, custom }))
            }
        }
    }

    fn own_call<F>(mut self, contract: Option<Address>, selector: [u8; 4], decode: F) -> Self
    where
        F: Fn(&Input<'_>) -> Result<Custom, Malformed> + Send + Sync + 'static,
    {
        self.own_calls.insert((contract, selector), Arc::new(decode));
        self
    }

    fn own_event<F>(mut self, emitter: Option<Address>, topic: B256, decode: F) -> Self
    where
        F: Fn(&Event<'_>) -> Result<Custom, Malformed> + Send + Sync + 'static,
    {
        self.own_events.insert((emitter, topic), Arc::new(decode));
        self
    }

    fn own_event_of(&self, log: &Log) -> Option<&OwnEvent> {
        if self.own_events.is_empty() {
            return None;
        }
        let topic = *log.topics.first()?;
        let of = |emitter| self.own_events.get(&(emitter, topic));
        of(Some(log.address)).or_else(|| of(None))
    }

    fn own_call_of(&self, input: &Input<'_>) -> Option<&OwnCall> {
        if self.own_calls.is_empty() {
            return None;
        }
        let of = |contract| self.own_calls.get(&(contract, input.selector));
        of(Some(input.contract)).or_else(|| of(None))
    }
}

impl ReadCall for Registry {
    fn read(&self, input: &Input<'_>, limits: &mut Limits) -> Result<Option<Call>, Malformed> {
        if let Some(decode) = self.own_call_of(input) {
            return Ok(Some(Call::Custom(decode(input)?)));
        }
        match self.contracts.get(&input.contract) {
            Some(Interface::UniswapV2Router) => calldata::uniswap_v2_router(input),
            Some(Interface::UniswapV3Router) => calldata::uniswap_v3_router(input, self, limits),
            Some(Interface::SwapRouter02) => calldata::swap_router_02(input, self, limits),
            Some(Interface::UniversalRouterV1) => calldata::universal_router_v1(input, limits),
            Some(Interface::UniversalRouter) => calldata::universal_router(input, limits),
            Some(Interface::Permit2) => Ok(calldata::permit2(input, limits)?.map(Call::Permit2)),
            Some(Interface::AavePool) => Ok(calldata::aave_pool(input, limits)?.map(Call::Aave)),
            None if self.of_anyone => self.anyones(input, limits),
            None => Ok(None),
        }
    }
}

impl Registry {
    /// Functions that are too widespread for a list of contracts.
    fn anyones(&self, input: &Input<'_>, limits: &mut Limits) -> Result<Option<Call>, Malformed> {
        if let Some(call) = calldata::token(input)? {
            return Ok(Some(Call::Token(call)));
        }
        match calldata::report(input)? {
            Some(report) => Ok(Some(Call::Transmit(report))),
            None => calldata::forwarder(input, self, limits),
        }
    }
}

/// A log, to be read by a custom bot.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The log as it is.
    pub log: &'a Log,
    /// The indexed arguments: word 0 is topic 1.
    pub indexed: Arguments<'a>,
    /// The other arguments.
    pub data: Arguments<'a>,
}

#[cfg(test)]
mod tests;
