use alloy_primitives::{Address, B256, Bytes};
use headwater_abi::logs;
use headwater_actor::{Exit, Fault, RestartPolicy, System};
use headwater_bus::{BusConfig, Counts, EventBus, Mailbox, Topology};
use headwater_events::{Grade, Header, Log, Reconnected, Topics};

use super::*;

#[derive(Debug)]
struct Decoded(Arc<DecodedBlock>);

impl From<Arc<DecodedBlock>> for Decoded {
    fn from(block: Arc<DecodedBlock>) -> Self {
        Self(block)
    }
}

impl Message for Decoded {
    fn seq(&self) -> Option<u64> {
        Some(self.0.as_of.seq)
    }
}

/// Keeps what a detector would evaluate.
#[derive(Default)]
struct Collector(Vec<Arc<DecodedBlock>>);

impl Component for Collector {
    type Message = Decoded;
    type Observed = Vec<AsOf>;

    async fn handle(&mut self, message: &Decoded) -> anyhow::Result<()> {
        self.0.push(Arc::clone(&message.0));
        Ok(())
    }

    fn observe(&self) -> Vec<AsOf> {
        self.0.iter().map(|block| block.as_of).collect()
    }
}

fn block(number: u8) -> BusEvent {
    let header = Header {
        number: number.into(),
        hash: B256::repeat_byte(number),
        parent_hash: B256::repeat_byte(number - 1),
        timestamp: 0,
        base_fee_per_gas: None,
        gas_used: 0,
        gas_limit: 0,
        beneficiary: Address::ZERO,
        logs_bloom: Default::default(),
    };
    let log = Log {
        address: Address::repeat_byte(1),
        topics: Topics::from_iter([logs::SYNC]),
        data: Bytes::from(vec![0; 64]),
        transaction_index: 0,
        log_index: 0,
    };
    BusEvent::NewBlock(BlockEvent { header, transactions: vec![], logs: vec![log], grade: Grade::Matched })
}

/// Runs ten blocks (and an event of no concern) through a decoder with two detectors, and a fault in the middle.
async fn run(fault: Option<Fault>) -> (Vec<Vec<AsOf>>, DecoderObserved, Vec<(String, Counts)>) {
    let (topology, timeline) = (Topology::new(), Timeline::default());
    let bus = EventBus::new(&BusConfig::default(), &topology, &timeline, None, None);
    let system = System::start().await.expect("a tree");

    let mailboxes = ["one", "other"].map(|name| Mailbox::<Decoded>::new(&topology, name, 2));
    let outlets: Vec<_> =
        mailboxes.iter().map(|mailbox| mailbox.waiting("decoder", "decoded blocks")).collect();
    let collectors = mailboxes.map(|mailbox| {
        system.spawn(mailbox, RestartPolicy::default(), |_| async { Ok(Collector::default()) })
    });

    let mailbox = Mailbox::new(&topology, "decoder", 2);
    bus.feed(mailbox.waiting("bus", "source events"), |_| true);
    let actor = system.spawn(mailbox, RestartPolicy::default(), {
        let timeline = timeline.clone();
        move |_| {
            let actor = DecoderActor::new(Decoder::new([]), outlets.clone(), timeline.clone());
            async { Ok(actor) }
        }
    });

    let publisher = bus.publisher();
    publisher
        .publish(BusEvent::Reconnected(Reconnected { epoch: 1, endpoint: 0 }), None)
        .await
        .expect("open");
    for number in 1..=10 {
        if number == 5
            && let Some(fault) = fault
        {
            actor.control().inject(fault);
        }
        let seq = publisher.publish(block(number), None).await.expect("open");
        assert_eq!(seq, u64::from(number) + 1);
    }
    bus.close_source();
    assert_eq!(actor.control().ended().await, Exit::Drained);
    assert_eq!(actor.control().status().restarts, u32::from(fault.is_some()));
    let mut seen = Vec::new();
    for collector in &collectors {
        assert_eq!(collector.control().ended().await, Exit::Drained);
        seen.push(collector.observed().expect("it ran"));
    }
    for seq in 2..=11 {
        assert!(timeline.read(seq).expect("it was begun").since_first(Stage::Decoded).is_some());
    }
    let edges =
        topology.report().into_iter().map(|edge| (format!("{} to {}", edge.from, edge.to), edge.counts));
    (seen, actor.observed().expect("it ran"), edges.collect())
}

fn all_blocks() -> Vec<AsOf> {
    (1..=10u8)
        .map(|number| AsOf {
            seq: u64::from(number) + 1,
            number: number.into(),
            hash: B256::repeat_byte(number),
        })
        .collect()
}

#[tokio::test]
async fn each_detector_gets_every_block_once_in_order() {
    let (seen, observed, edges) = run(None).await;
    assert_eq!(seen, [all_blocks(), all_blocks()]);
    assert_eq!((observed.blocks, observed.actions, observed.malformed), (10, 10, 0));
    assert_eq!(observed.as_of, all_blocks().last().copied());
    assert!(edges.iter().all(|(_, counts)| counts.conserved()), "{edges:?}");
}

#[tokio::test]
async fn a_panic_in_the_middle_neither_loses_nor_repeats_a_block() {
    for fault in [Fault::PanicBefore, Fault::PanicAfter] {
        let (seen, _, edges) = run(Some(fault)).await;
        assert_eq!(seen, [all_blocks(), all_blocks()], "{fault:?}");
        assert!(edges.iter().all(|(_, counts)| counts.conserved()), "{edges:?}");
    }
}

#[tokio::test]
async fn a_detector_that_is_gone_does_not_hold_up_the_others() {
    let topology = Topology::new();
    let [gone, alive] = ["gone", "alive"].map(|name| Mailbox::<Decoded>::new(&topology, name, 16));
    let outlets = vec![gone.waiting("decoder", "blocks"), alive.waiting("decoder", "blocks")];
    gone.into_inbox().lock().await.close();
    let mut actor = DecoderActor::new(Decoder::new([]), outlets, Timeline::default());
    let BusEvent::NewBlock(block) = block(1) else { unreachable!("it is a block") };
    actor.block(1, &block).await;
    actor.block(2, &block).await;
    let alive = alive.into_inbox();
    let mut alive = alive.lock().await;
    assert!(alive.fill().await);
    assert_eq!((alive.front().and_then(Message::seq), alive.waiting().count()), (Some(1), 1));
    assert_eq!(actor.observe().undeliverable, 2);
}
