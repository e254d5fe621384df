use std::sync::Arc;

use alloy_primitives::Address;
use headwater_abi::Malformed;
use headwater_abi::calldata::Input;
use headwater_events::{Action, AsOf, BlockEvent, DecodedBlock, Log, Transaction};

use crate::registry::{Interface, Registry};

/// Turns blocks into actions. It remembers nothing of them.
#[derive(Clone, Debug)]
pub struct Decoder {
    registry: Arc<Registry>,
}

impl Decoder {
    /// A decoder of all that is built in, which takes `routers` for Uniswap V2's.
    pub fn new(routers: impl IntoIterator<Item = Address>) -> Self {
        Self::with_registry(Registry::default().contracts(Interface::UniswapV2Router, routers))
    }

    /// A decoder of what `registry` knows.
    pub fn with_registry(registry: Registry) -> Self {
        Self { registry: Arc::new(registry) }
    }

    /// What a block did: the call of each transaction before its logs, as they were executed.
    pub fn decode(&self, block: &BlockEvent, as_of: AsOf) -> DecodedBlock {
        let actions = Vec::with_capacity(block.logs.len());
        let mut decoded = DecodedBlock { actions, set_aside: false, ..Self::set_aside(as_of) };
        let mut logs = block.logs.iter().peekable();
        for (index, transaction) in (0..).zip(&block.transactions) {
            self.call(index, transaction, &mut decoded);
            while let Some(log) = logs.next_if(|log| log.transaction_index <= index) {
                self.log(log, &mut decoded);
            }
        }
        // Blocks may come without their transactions, and then the logs are all there is.
        logs.for_each(|log| self.log(log, &mut decoded));
        decoded
    }

    /// A block that must not be decoded: nothing is known of it, and it says so.
    pub fn set_aside(as_of: AsOf) -> DecodedBlock {
        DecodedBlock {
            as_of,
            actions: Vec::new(),
            unknown_logs: 0,
            unknown_calls: 0,
            malformed: 0,
            set_aside: true,
        }
    }

    fn call(&self, transaction_index: u32, transaction: &Transaction, decoded: &mut DecodedBlock) {
        let Some(input) = Input::of(transaction) else { return };
        let call = self.registry.call(&input);
        decoded.unknown_calls += match &call {
            Ok(Some(call)) => call.unknown(),
            Ok(None) => u32::from(self.registry.knows(input.contract)),
            Err(_) => 0,
        };
        let action = |call| Action::Call { transaction_index, contract: input.contract, call };
        take(call.map(|call| call.map(action)), decoded);
    }

    fn log(&self, log: &Log, decoded: &mut DecodedBlock) {
        let action = self.registry.event(log);
        decoded.unknown_logs += u32::from(matches!(action, Ok(None)));
        take(action, decoded);
    }
}

fn take(action: Result<Option<Action>, Malformed>, decoded: &mut DecodedBlock) {
    match action {
        Ok(Some(action)) => decoded.actions.push(action),
        Ok(None) => {}
        Err(_) => decoded.malformed += 1,
    }
}

#[cfg(test)]
mod tests;
