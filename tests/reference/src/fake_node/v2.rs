//! The calls that a bot makes to Uniswap V2 contracts, answered from a table.

use std::collections::HashMap;

use alloy_primitives::{Address, Bytes, U256, keccak256};

use serde_json::{Map, Value};

use super::script::RpcErr;
use super::{CallRequest, bytes};
use crate::evm::{Evm, Message, Parameters};
use crate::tokens::{self, Habit};

/// Factories, pairs and tokens. Reserves are those of the pair's last `Sync` on the branch of the block that is asked
/// about, else those of the table.
#[derive(Debug, Clone, Default)]
pub struct V2World {
    factories: HashMap<Address, Vec<Address>>,
    pairs: HashMap<Address, V2Pair>,
    tokens: HashMap<Address, V2Token>,
    /// Pairs that are there only where a block has created them.
    creatable: HashMap<Address, V2Pair>,
    /// What a pair holds of a token, where that is not its reserve.
    held: HashMap<(Address, Address), U256>,
    times: OtherTimes,
}

/// What becomes of a call that asks for another time than its block's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OtherTimes {
    /// It sees that time.
    #[default]
    Seen,
    /// The parameter is one too many.
    Refused,
    /// It sees its block's.
    Ignored,
}

/// A pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V2Pair {
    /// Where the pair is.
    pub address: Address,
    /// Who made it.
    pub factory: Address,
    /// The token with the lower address.
    pub token0: Address,
    /// The token with the higher address.
    pub token1: Address,
    /// Reserve of `token0` where no `Sync` says otherwise.
    pub reserve0: u128,
    /// Reserve of `token1` where no `Sync` says otherwise.
    pub reserve1: u128,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V2Token {
    /// `decimals()`; `None` reverts.
    pub decimals: Option<u8>,
    /// `symbol()`.
    pub symbol: String,
    /// What it does when something is transferred.
    pub habit: Habit,
}

impl V2World {
    /// A factory without pairs.
    pub fn factory(mut self, factory: Address) -> Self {
        self.factories.entry(factory).or_default();
        self
    }

    /// A pair, the next of its factory.
    pub fn pair(mut self, pair: V2Pair) -> Self {
        self.factories.entry(pair.factory).or_default().push(pair.address);
        self.pairs.insert(pair.address, pair);
        self
    }

    /// A pair that is there from the block on in which its factory creates it, empty at first. No factory lists it.
    pub fn creatable(mut self, pair: V2Pair) -> Self {
        self.creatable.insert(pair.address, V2Pair { reserve0: 0, reserve1: 0, ..pair });
        self
    }

    /// A token.
    pub fn token(mut self, address: Address, decimals: u8, symbol: &str) -> Self {
        let (symbol, habit) = (symbol.to_owned(), Habit::Ordinary);
        self.tokens.insert(address, V2Token { decimals: Some(decimals), symbol, habit });
        self
    }

    /// A token with a habit.
    pub fn hostile_token(mut self, address: Address, decimals: u8, habit: Habit) -> Self {
        self.tokens.insert(address, V2Token { decimals: Some(decimals), symbol: String::new(), habit });
        self
    }

    /// A pair holds so much of a token, whatever its reserve.
    pub fn holding(mut self, pair: Address, token: Address, held: u128) -> Self {
        self.held.insert((pair, token), U256::from(held));
        self
    }

    /// What becomes of calls at another time.
    pub fn at_other_times(mut self, times: OtherTimes) -> Self {
        self.times = times;
        self
    }

    /// Answers a call: what the contract at `to` would return; empty where there is none.
    ///
    /// # Errors
    /// Where the contract would revert.
    pub fn call(&self, call: &CallRequest<'_>) -> Result<Bytes, RpcErr> {
        if let Some(overrides) = call.overrides.as_object() {
            return self.call_with_code(call, overrides);
        }
        if let Some(pairs) = self.factories.get(&call.to) {
            return self.call_factory(call, pairs);
        }
        if let Some(pair) = self.pairs.get(&call.to) {
            return call_pair(call, pair);
        }
        if let Some(pair) = self.creatable.get(&call.to)
            && call.chain.has_created(pair.factory, pair.address, call.block_hash)
        {
            return call_pair(call, pair);
        }
        match self.tokens.get(&call.to) {
            Some(token) if call.is("balanceOf(address)") => {
                let held = self.held(call, call.to, call.address_argument(0));
                Ok(word(tokens::said(token.habit, held, call.timestamp)))
            }
            Some(token) => call_token(call, token),
            None => Ok(Bytes::new()),
        }
    }

    /// Runs code that stands nowhere: the tokens of the pairs whose code is replaced are there, and these pairs hold their reserves.
    fn call_with_code(
        &self,
        call: &CallRequest<'_>,
        overrides: &Map<String, Value>,
    ) -> Result<Bytes, RpcErr> {
        let mut parameters = Parameters::default();
        parameters.block.timestamp = self.time_of(call)?;
        let mut evm = Evm::new(&parameters);
        for (address, account) in overrides {
            let address: Address = address.parse().map_err(|_| RpcErr::new(-32602, "no address"))?;
            evm.place(address, bytes(&account["code"]).into());
            self.place_tokens(call, address, &mut evm);
        }
        let message = Message { from: call.from, to: call.to, value: U256::ZERO, data: call.data.clone() };
        evm.call(&message).map(|receipt| receipt.output).map_err(|_| RpcErr::reverted(&[]))
    }

    fn place_tokens(&self, call: &CallRequest<'_>, holder: Address, evm: &mut Evm) {
        for token in self.tokens_of(holder) {
            if let Some(known) = self.tokens.get(&token) {
                evm.place(token, tokens::token(known.habit));
                evm.set_storage(token, tokens::balance_slot(holder), self.held(call, token, holder));
            }
        }
    }

    /// The time that a call sees.
    fn time_of(&self, call: &CallRequest<'_>) -> Result<u64, RpcErr> {
        let Some(time) = call.block_overrides["time"].as_str() else { return Ok(call.timestamp) };
        match self.times {
            OtherTimes::Refused => Err(RpcErr::new(-32602, "too many arguments, want at most 3")),
            OtherTimes::Ignored => Ok(call.timestamp),
            OtherTimes::Seen => u64::from_str_radix(time.trim_start_matches("0x"), 16)
                .map_err(|_| RpcErr::new(-32602, "no time")),
        }
    }

    fn tokens_of(&self, pair: Address) -> Vec<Address> {
        let pair = self.pairs.get(&pair).or_else(|| self.creatable.get(&pair));
        pair.map(|pair| vec![pair.token0, pair.token1]).unwrap_or_default()
    }

    /// What a pair holds of a token: its reserve.
    fn held(&self, call: &CallRequest<'_>, token: Address, owner: Address) -> U256 {
        if let Some(held) = self.held.get(&(owner, token)) {
            return *held;
        }
        let pair = self.pairs.get(&owner).or_else(|| self.creatable.get(&owner));
        let Some(pair) = pair else { return U256::ZERO };
        let synced = call.chain.reserves_at(owner, call.block_hash);
        let (reserve0, reserve1) = synced.unwrap_or((U256::from(pair.reserve0), U256::from(pair.reserve1)));
        match (token == pair.token0, token == pair.token1) {
            (true, _) => reserve0,
            (_, true) => reserve1,
            _ => U256::ZERO,
        }
    }

    fn call_factory(&self, call: &CallRequest<'_>, pairs: &[Address]) -> Result<Bytes, RpcErr> {
        if call.is("allPairsLength()") {
            return Ok(word(U256::from(pairs.len())));
        }
        if call.is("allPairs(uint256)") {
            let pair = usize::try_from(call.argument(0)).ok().and_then(|index| pairs.get(index));
            return pair.map(|pair| address_word(*pair)).ok_or_else(|| RpcErr::reverted(&[]));
        }
        if call.is("getPair(address,address)") {
            let (a, b) = (call.address_argument(0), call.address_argument(1));
            let found = pairs
                .iter()
                .filter_map(|pair| self.pairs.get(pair))
                .find(|pair| (pair.token0, pair.token1) == (a, b) || (pair.token0, pair.token1) == (b, a));
            return Ok(address_word(found.map_or(Address::ZERO, |pair| pair.address)));
        }
        Err(RpcErr::reverted(&[]))
    }
}

fn call_pair(call: &CallRequest<'_>, pair: &V2Pair) -> Result<Bytes, RpcErr> {
    if call.is("token0()") {
        return Ok(address_word(pair.token0));
    }
    if call.is("token1()") {
        return Ok(address_word(pair.token1));
    }
    if call.is("factory()") {
        return Ok(address_word(pair.factory));
    }
    if call.is("getReserves()") {
        let synced = call.chain.reserves_at(pair.address, call.block_hash);
        let (reserve0, reserve1) = synced.unwrap_or((U256::from(pair.reserve0), U256::from(pair.reserve1)));
        let timestamp = U256::from(call.timestamp % (1 << 32));
        return Ok([word(reserve0), word(reserve1), word(timestamp)].concat().into());
    }
    Err(RpcErr::reverted(&[]))
}

fn call_token(call: &CallRequest<'_>, token: &V2Token) -> Result<Bytes, RpcErr> {
    if call.is("decimals()") {
        return token
            .decimals
            .map(|decimals| word(U256::from(decimals)))
            .ok_or_else(|| RpcErr::reverted(&[]));
    }
    if call.is("symbol()") || call.is("name()") {
        return Ok(string(&token.symbol));
    }
    Err(RpcErr::reverted(&[]))
}

impl CallRequest<'_> {
    /// Whether the selector is that of this signature.
    pub fn is(&self, signature: &str) -> bool {
        self.data.starts_with(&keccak256(signature)[..4])
    }

    /// The n-th word behind the selector; missing bytes are zeros.
    pub fn argument(&self, index: usize) -> U256 {
        let mut word = [0; 32];
        for (at, byte) in self.data.iter().skip(4 + 32 * index).take(32).enumerate() {
            word[at] = *byte;
        }
        U256::from_be_bytes(word)
    }

    /// The n-th word behind the selector as an address.
    pub fn address_argument(&self, index: usize) -> Address {
        Address::from_slice(&self.argument(index).to_be_bytes::<32>()[12..])
    }
}

/// One ABI word.
pub fn word(value: U256) -> Bytes {
    value.to_be_bytes::<32>().into()
}

/// An address as an ABI word.
pub fn address_word(address: Address) -> Bytes {
    address.into_word().0.into()
}

/// A single `string` return value.
pub fn string(text: &str) -> Bytes {
    let mut encoded = [word(U256::from(32)), word(U256::from(text.len()))].concat();
    encoded.extend_from_slice(text.as_bytes());
    encoded.resize(64 + text.len().next_multiple_of(32), 0);
    encoded.into()
}
