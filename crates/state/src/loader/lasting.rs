use std::collections::HashMap;

use alloy_primitives::{Address, BlockHash, Bytes};
use headwater_node::Node;

use super::question::{Answer, Question, ask};
use crate::error::LoadError;

/// Answers that are the same at every block, so that nobody is asked for them again when a load has to begin at another one.
#[derive(Clone, Debug, Default)]
pub(super) struct Lasting {
    answers: HashMap<(Address, Bytes), Answer>,
}

impl Lasting {
    /// As [`ask`], but asks only for what is not known.
    pub(super) async fn ask(
        &self,
        node: &Node,
        block: BlockHash,
        questions: &[Question],
    ) -> Result<Vec<Answer>, LoadError> {
        let known: Vec<_> = questions.iter().map(|question| self.answer(question)).collect();
        let open = questions.iter().zip(&known).filter(|(_, known)| known.is_none());
        let open: Vec<_> = open.map(|(question, _)| question.clone()).collect();
        let mut told = ask(node, block, &open).await?.into_iter();
        Ok(known.into_iter().filter_map(|known| known.cloned().or_else(|| told.next())).collect())
    }

    /// The caller knows that no block changes this answer.
    pub(super) fn keep(&mut self, Question { to, data }: &Question, answer: &Answer) {
        self.answers.insert((*to, data.clone()), answer.clone());
    }

    fn answer(&self, Question { to, data }: &Question) -> Option<&Answer> {
        self.answers.get(&(*to, data.clone()))
    }
}
