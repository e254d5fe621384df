use std::collections::HashSet;

use alloy_primitives::{Address, BlockHash, U256};
use headwater_abi::calls;
use headwater_market::{Factory, LoadFilter};
use headwater_node::Node;
use tracing::warn;

use super::{Answer, LoadError, PAGE, Question};
use crate::loader::lasting::Lasting;
use crate::loader::question::ask;

/// Pools without proof in a row after which a factory is taken for a liar and left.
const MOST_REFUSED_IN_A_ROW: u64 = 1_000;

/// What a factory is asked for, and how far.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    pub(super) factory: &'a Factory,
    places: Places,
    next: u64,
    /// What the last page listed, until it was asked about.
    pub(super) listed: Option<Vec<Address>>,
    pub(super) refused_in_a_row: u64,
}

/// Where a factory's pools are looked for.
#[derive(Debug)]
enum Places {
    /// Everywhere, oldest first.
    All { length: u64 },
    /// The pools of two listed tokens.
    Of(Vec<(Address, Address)>),
}

impl<'a> Listing<'a> {
    /// One for each factory.
    pub(super) async fn all(
        node: &Node,
        block: BlockHash,
        factories: &'a [Factory],
        filter: &LoadFilter,
    ) -> Result<Vec<Self>, LoadError> {
        let questions: Vec<_> = factories
            .iter()
            .map(|factory| Question { to: factory.address, data: calls::all_pairs_length() })
            .collect();
        let answers = ask(node, block, &questions).await?;
        let lengths = factories.iter().zip(&answers);
        lengths.map(|(factory, answer)| Self::new(factory, filter, answer)).collect()
    }

    fn new(factory: &'a Factory, filter: &LoadFilter, length: &Answer) -> Result<Self, LoadError> {
        let length = length
            .read(calls::decode_uint256)
            .map_err(|reason| LoadError::NoFactory { factory: factory.name.clone(), reason })?;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let tokens = &filter.tokens;
        let pairs = tokens.len() as u64 * (tokens.len() as u64).saturating_sub(1) / 2;
        let places = if tokens.is_empty() || pairs > length {
            Places::All { length }
        } else {
            let rest = |index: usize| tokens[index + 1..].iter();
            Places::Of(
                tokens
                    .iter()
                    .enumerate()
                    .flat_map(|(at, one)| rest(at).map(|other| (*one, *other)))
                    .collect(),
            )
        };
        Ok(Self { factory, places, next: 0, listed: None, refused_in_a_row: 0 })
    }

    pub(super) fn left(&self) -> u64 {
        let length = match &self.places {
            Places::All { length } => *length,
            Places::Of(pairs) => pairs.len() as u64,
        };
        length - self.next
    }

    /// Asks for the next pools, if the last ones were asked about; says how many places were looked at, and how many of them list
    /// what is no address or was `seen` before.
    pub(super) async fn turn_page(
        &mut self,
        node: &Node,
        block: BlockHash,
        most: usize,
        seen: &mut HashSet<Address>,
        lasting: &mut Lasting,
    ) -> Result<(u64, u64), LoadError> {
        if self.listed.is_some() {
            return Ok((0, 0));
        }
        let places: Vec<_> = (self.next..self.next + self.left().min(most as u64)).collect();
        let questions: Vec<_> = places.iter().map(|place| self.question(*place)).collect();
        let answers = lasting.ask(node, block, &questions).await?;
        let (mut listed, mut refused) = (Vec::with_capacity(answers.len()), 0);
        for ((place, question), answer) in places.iter().zip(&questions).zip(&answers) {
            match answer.read(calls::decode_address) {
                // No pool of these two tokens.
                Ok(Address::ZERO) => {}
                Ok(pool) if seen.insert(pool) => {
                    if self.is_settled(*place) {
                        lasting.keep(question, answer);
                    }
                    listed.push(pool);
                }
                _ => refused += 1,
            }
        }
        self.next += places.len() as u64;
        self.listed = Some(listed);
        Ok((places.len() as u64, refused))
    }

    fn question(&self, place: u64) -> Question {
        let data = match &self.places {
            Places::All { .. } => calls::all_pairs(U256::from(place)),
            Places::Of(pairs) => {
                let (token0, token1) = pairs[usize::try_from(place).expect("an index")];
                calls::get_pair(token0, token1)
            }
        };
        Question { to: self.factory.address, data }
    }

    /// Whether another block says the same of this place: where addresses derive, two tokens have one pool for ever, and only the
    /// end of a list can be another one behind a reorganisation.
    fn is_settled(&self, place: u64) -> bool {
        let derives = self.factory.init_code_hash.is_some();
        derives
            && match &self.places {
                Places::All { length } => place.saturating_add(PAGE as u64) < *length,
                Places::Of(_) => true,
            }
    }

    /// A contract does not prove to be the factory's.
    pub(super) fn refuse(&mut self) {
        self.refused_in_a_row += 1;
        if self.refused_in_a_row == MOST_REFUSED_IN_A_ROW {
            let factory = &self.factory.name;
            warn!(
                factory,
                refused = MOST_REFUSED_IN_A_ROW,
                "lists what is not its own; the rest is not asked for"
            );
            self.places = Places::All { length: self.next };
        }
    }
}
