//! What the bot decodes of the swaps that go through `SwapRouter02` and the Universal Router.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use anyhow::{Context, ensure};
use headwater_detectors::Detector;
use headwater_events::{Action, Call, Opportunity, Route};
use headwater_market::WholeView;
use headwater_supervisor::Strategy;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::devnet::Devnet;
use crate::follower::Results;

/// By the hash of their block, the blocks that the listener was shown.
type Heard = BTreeMap<B256, Decoded>;

/// What was decoded of a block.
#[derive(Clone, Debug, Default)]
struct Decoded {
    /// In the order of the transactions.
    calls: Vec<Called>,
    malformed: u32,
}

/// A call that was decoded.
#[derive(Clone, Debug)]
struct Called {
    contract: Address,
    /// The makes of pools that it swaps in.
    makes: Vec<Make>,
    /// How much inside it is not known.
    unknown: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Make {
    V2,
    V3,
    V4,
}

/// A strategy that finds nothing, and remembers what it was shown.
struct Listener(watch::Sender<Heard>);

impl Detector for Listener {
    fn name(&self) -> &str {
        "listener"
    }

    fn evaluate(&mut self, view: &WholeView) -> Vec<Opportunity> {
        let block = view.decoded();
        let calls = block.actions.iter().filter_map(|action| match action {
            Action::Call { contract, call, .. } => {
                Some(Called { contract: *contract, makes: makes(call), unknown: call.unknown() })
            }
            _ => None,
        });
        let decoded = Decoded { calls: calls.collect(), malformed: block.malformed };
        self.0.send_modify(|heard| {
            heard.insert(block.as_of.hash, decoded);
        });
        Vec::new()
    }
}

fn makes(call: &Call) -> Vec<Make> {
    let make = |route: &Route| match route {
        Route::V2 { .. } => Make::V2,
        Route::V3 { .. } => Make::V3,
        Route::V4 { .. } => Make::V4,
    };
    call.swaps().iter().map(|swap| make(&swap.route)).collect()
}

/// The strategy, and what it has been shown.
pub(super) fn listener() -> (Strategy, Listening) {
    let (sender, heard) = watch::channel(Heard::default());
    (Strategy::new(move || Listener(sender.clone())), Listening(heard))
}

/// What the listener has been shown.
#[derive(Debug)]
pub(super) struct Listening(watch::Receiver<Heard>);

impl Listening {
    /// In every block that was evaluated, each transaction that the node has for one of the routers was decoded as a swap, and nothing
    /// remained unknown. `floor`: how many swaps of each make through each router succeeded.
    pub(super) fn judge(&self, devnet: &Devnet, results: &Results, floor: u64) -> anyhow::Result<String> {
        let heard = self.0.borrow();
        let routers = devnet.addresses().routers;
        let later = [routers.swap_router_02, routers.universal];
        let (mut swaps, mut reverted) = (BTreeMap::<(Address, Make), u64>::new(), 0u64);
        for block in results.blocks.iter().filter(|block| block.was_evaluated()) {
            let decoded = heard.get(&block.hash).context("a block that was not shown to the listener")?;
            let number = block.number;
            ensure!(decoded.malformed == 0, "block {number}: {} calls or logs malformed", decoded.malformed);
            let calls = decoded.calls.iter().filter(|called| later.contains(&called.contract));
            let calls: Vec<&Called> = calls.collect();
            let contracts: Vec<Address> = calls.iter().map(|called| called.contract).collect();
            let sent = sent_to(devnet, number, &later)?;
            ensure!(
                contracts.iter().eq(sent.iter().map(|(to, _)| to)),
                "block {number}: calls of {contracts:?} are decoded, the node has {sent:?}"
            );
            for (called, (_, has_succeeded)) in calls.iter().zip(sent) {
                ensure!(!called.makes.is_empty() && called.unknown == 0, "block {number}: {called:?}");
                if !has_succeeded {
                    reverted += 1;
                    continue;
                }
                for make in &called.makes {
                    *swaps.entry((called.contract, *make)).or_default() += 1;
                }
            }
        }
        let [second, universal] = later;
        let of = |router, make| swaps.get(&(router, make)).copied().unwrap_or_default();
        let counts = [
            of(second, Make::V2),
            of(second, Make::V3),
            of(universal, Make::V2),
            of(universal, Make::V3),
            of(universal, Make::V4),
        ];
        ensure!(counts.iter().all(|count| *count >= floor), "too few swaps, below {floor}: {counts:?}");
        let [second_v2, second_v3, v2, v3, v4] = counts;
        Ok(format!(
            "every call of the later routers decoded, none unknown: swaps through SwapRouter02 in pairs {second_v2}, in V3 \
             {second_v3}; through the Universal Router in pairs {v2}, in V3 {v3}, in V4 {v4}; {reverted} calls \
             reverted"
        ))
    }
}

/// To which of the contracts the transactions of a block are, in their order, and whether they succeeded, by the node.
fn sent_to(devnet: &Devnet, number: u64, contracts: &[Address]) -> anyhow::Result<Vec<(Address, bool)>> {
    let receipts: Vec<Value> = devnet.rpc().call("eth_getBlockReceipts", json!([format!("{number:#x}")]))?;
    let sent = receipts.iter().filter_map(|receipt| {
        let to: Address = receipt["to"].as_str()?.parse().ok()?;
        contracts.contains(&to).then(|| (to, receipt["status"] == "0x1"))
    });
    Ok(sent.collect())
}
