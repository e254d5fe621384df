use alloy_primitives::Address;
use headwater_abi::{Malformed, logs, router};
use headwater_events::{Action, AsOf, BlockEvent, DecodedBlock, Log, Transaction};

/// Turns blocks into actions. It remembers nothing of them.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Ascending, without repetition.
    routers: Vec<Address>,
}

impl Decoder {
    /// A decoder that reads the calls of `routers`.
    pub fn new(routers: impl IntoIterator<Item = Address>) -> Self {
        let mut routers: Vec<_> = routers.into_iter().collect();
        routers.sort_unstable();
        routers.dedup();
        Self { routers }
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
        let is_call = transaction.input.len() >= 4;
        let is_router = transaction.to.is_some_and(|to| self.routers.binary_search(&to).is_ok());
        if !is_call || !is_router {
            return;
        }
        let swap = router::swap(transaction).map(|found| {
            decoded.unknown_calls += u32::from(found.is_none());
            found.map(|swap| Action::RouterSwap { transaction_index, swap })
        });
        take(swap, decoded);
    }

    fn log(&self, log: &Log, decoded: &mut DecodedBlock) {
        let action = logs::action(log);
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
