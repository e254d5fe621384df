use headwater_bus::{DropReason, Mailbox, Message, Topology};

#[derive(Debug)]
struct Number(u64);

impl Message for Number {
    fn seq(&self) -> Option<u64> {
        Some(self.0)
    }
}

#[tokio::test]
async fn a_full_mailbox_drops_the_newest_and_counts_it() {
    let topology = Topology::new();
    let mailbox = Mailbox::new(&topology, "reader", 3);
    let offers = mailbox.dropping("mempool", "numbers");
    let inbox = mailbox.into_inbox();
    let taken: Vec<_> = (1..=5).map(|number| offers.offer(Number(number)).expect("open")).collect();
    assert_eq!(taken, [true, true, true, false, false]);
    let mut inbox = inbox.lock().await;
    assert!(inbox.fill().await);
    for number in 1..=3 {
        assert_eq!(inbox.front().map(|front| front.0), Some(number));
        inbox.complete();
    }
    let counts = offers.edge().counts();
    assert_eq!((counts.accepted, counts.processed, counts.dropped_for(DropReason::Full)), (5, 3, 2));
}

#[tokio::test]
async fn what_a_restarted_sender_says_again_is_dropped_and_counted_per_edge() {
    let topology = Topology::new();
    let mailbox = Mailbox::new(&topology, "reader", 16);
    let (one, other) = (mailbox.waiting("one", "numbers"), mailbox.waiting("other", "numbers"));
    let inbox = mailbox.into_inbox();
    for number in [1, 2, 3, 2, 3, 4] {
        one.send(Number(number)).await.expect("open");
    }
    other.send(Number(3)).await.expect("open");
    drop((one.clone(), other.clone()));
    let mut inbox = inbox.lock().await;
    assert!(inbox.fill().await);
    let mut seen = Vec::new();
    while let Some(Number(number)) = inbox.front() {
        seen.push(*number);
        inbox.complete();
    }
    assert_eq!(seen, [1, 2, 3, 4, 3]);
    assert_eq!(one.edge().counts().dropped_for(DropReason::Repeated), 2);
    assert!(one.edge().counts().conserved() && other.edge().counts().conserved());
}

#[tokio::test]
async fn a_mailbox_that_nobody_will_read_counts_what_was_in_it() {
    let topology = Topology::new();
    let mailbox = Mailbox::new(&topology, "reader", 64);
    let numbers = mailbox.waiting("one", "numbers");
    let inbox = mailbox.into_inbox();
    for number in 1..=50 {
        numbers.send(Number(number)).await.expect("open");
    }
    {
        let mut inbox = inbox.lock().await;
        assert!(inbox.fill().await);
        inbox.complete();
    }
    drop(inbox);
    assert!(numbers.send(Number(51)).await.is_err());
    let counts = numbers.edge().counts();
    assert_eq!((counts.accepted, counts.processed), (50, 1));
    assert_eq!(counts.dropped_for(DropReason::Abandoned), 49);
}

#[tokio::test]
async fn a_full_mailbox_makes_the_sender_wait_and_its_end_frees_it() {
    let topology = Topology::new();
    let mailbox = Mailbox::new(&topology, "reader", 1);
    let numbers = mailbox.waiting("one", "numbers");
    let inbox = mailbox.into_inbox();
    numbers.send(Number(1)).await.expect("open");
    let waiting = tokio::spawn({
        let numbers = numbers.clone();
        async move { numbers.send(Number(2)).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(inbox);
    assert!(waiting.await.expect("it ends").is_err());
    assert!(numbers.edge().counts().conserved());
}
