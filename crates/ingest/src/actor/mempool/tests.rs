//! Against a node that pushes whole transactions, over a real socket.

use std::time::Duration;

use alloy_primitives::B256;
use headwater_actor::{Command, System};
use headwater_bus::{Mailbox, Message, Topology};
use headwater_events::PendingTxEvent;
use headwater_reference::fake_node::FakeNode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Seen(Arc<PendingTxEvent>);

impl Message for Seen {
    fn seq(&self) -> Option<u64> {
        None
    }
}

impl From<Arc<PendingTxEvent>> for Seen {
    fn from(pending: Arc<PendingTxEvent>) -> Self {
        Self(pending)
    }
}

fn transaction(number: u8, price: Option<&str>) -> Value {
    json!({
        "hash": B256::repeat_byte(number), "from": "0x2222222222222222222222222222222222222222", "to": null,
        "value": "0x0", "input": "0x", "nonce": "0x0", "gas": "0x5208", "gasPrice": price, "blockHash": null,
    })
}

#[tokio::test]
async fn each_pending_transaction_is_shown_once_and_what_cannot_be_read_is_counted() -> anyhow::Result<()> {
    let (node, url) = FakeNode::start(1).await?;
    let mail = Mailbox::<Seen>::new(&Topology::new(), "reader", 16);
    let mut mempool = Mempool::new();
    mempool.subscribe(mail.dropping("mempool", "pending transactions"));
    let config = NodeConfig::new(vec![url.parse()?]);
    let system = System::start().await?;
    let ingest = MempoolIngest::new(&config, const { NonZeroUsize::new(4).expect("not zero") }, mempool);
    let handle = ingest.spawn(&system, RestartPolicy::default());
    timeout(PATIENCE, node.until_subscribed("newPendingTransactions", 1)).await?;
    for pushed in [
        transaction(1, Some("0x5")),
        transaction(1, Some("0x5")),
        transaction(2, None),
        transaction(3, Some("0x7")),
    ] {
        node.push_pending(pushed);
    }
    let inbox = mail.into_inbox();
    let mut inbox = headwater_bus::Inbox::lock(&inbox).await;
    for expected in [1, 3] {
        assert!(timeout(PATIENCE, inbox.fill()).await?);
        let found = inbox.front().map(|seen| seen.0.transaction.hash);
        assert_eq!(found, Some(B256::repeat_byte(expected)));
        inbox.complete();
    }
    let mut observed = handle.observer();
    let told = timeout(
        PATIENCE,
        observed.wait_for(|status| status.as_ref().is_some_and(|status| status.pushed == 4)),
    );
    let status = told.await??.clone().unwrap_or_default();
    assert_eq!((status.shown, status.repeated, status.malformed), (2, 1, 1));
    handle.control().tell(Command::Stop);
    timeout(PATIENCE, handle.control().ended()).await?;
    Ok(())
}

fn notification(value: &Value) -> Notification {
    let received_at = headwater_bus::clock::now();
    Notification { raw: value.to_string().into(), received_at, missed: 0 }
}

#[test]
fn a_hash_that_was_dropped_for_lack_of_room_is_asked_for_when_it_is_pushed_again() {
    let config = NodeConfig::new(vec!["ws://127.0.0.1:1".parse().expect("a URL")]);
    let mut ingest = MempoolIngest::new(&config, NonZeroUsize::MIN, Mempool::new());
    let mut recent = Recent::default();
    let mut push = |number: u8, has_room| {
        let hash = B256::repeat_byte(number);
        let asked = ingest.take(&notification(&json!(hash)), &mut recent, has_room);
        assert!(asked.is_none_or(|asked| asked == hash));
        let MempoolStatus { asked, repeated, dropped, pushed, .. } = ingest.status;
        assert_eq!(pushed, asked + repeated + dropped, "each has one fate");
        (asked, repeated, dropped)
    };
    assert_eq!(push(1, true), (1, 0, 0));
    assert_eq!(push(2, false), (1, 0, 1));
    assert_eq!(push(2, false), (1, 0, 2), "it is no repetition: nobody asked for it");
    assert_eq!(push(1, false), (1, 1, 2), "it is one, room or not");
    assert_eq!(push(2, true), (2, 1, 2));
    assert_eq!(push(2, true), (2, 2, 2));
}
