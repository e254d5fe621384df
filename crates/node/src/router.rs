//! Which answer belongs to which request, which notification to which subscription. No input or output in here.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::counters::{Live, add_one, worth_a_line};
use crate::envelope::{AnswerId, Envelope, Malformed, Message, Outcome, Parser, Path, subscription_id};
use crate::subscription::{Delivery, Route};
use crate::{CloseReason, Reply, RpcError};

/// Over which malformed messages are counted against the limit.
const MALFORMED_WINDOW: Duration = Duration::from_secs(10);

/// Notifications kept whose subscription the node has not confirmed yet: some nodes push before they answer.
const MAX_EARLY: usize = 128;

/// How a request ended other than with a result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Failure {
    Rpc(RpcError),
    Invalid(&'static str),
    Lost(CloseReason),
}

type Answer = Result<Reply, Failure>;

/// The books of one connection, shared by its handles and its reader.
#[derive(Debug)]
pub(crate) struct Router {
    books: Mutex<Books>,
    next_id: AtomicU64,
    closed: watch::Sender<Option<CloseReason>>,
    pub(crate) counters: Live,
}

#[derive(Debug, Default)]
struct Books {
    pending: HashMap<u64, Pending>,
    routes: HashMap<String, Route>,
    early: VecDeque<(String, Bytes, Instant)>,
    closed: Option<CloseReason>,
}

#[derive(Debug)]
struct Pending {
    /// The first id of the batch that the request is part of; its own id if it went alone.
    group: u64,
    answer: oneshot::Sender<Answer>,
    /// For `eth_subscribe`: where the notifications go, from the moment of the answer on.
    route: Option<Route>,
}

/// What the reader of the socket keeps for itself.
#[derive(Debug)]
pub(crate) struct Reading {
    parser: Parser,
    max_malformed: u64,
    window_start: Instant,
    malformed_in_window: u64,
}

/// Requests on their way. Dropping it forgets those that are still unanswered.
#[derive(Debug)]
pub(crate) struct Ticket {
    router: Arc<Router>,
    pub(crate) first_id: u64,
    answers: Vec<oneshot::Receiver<Answer>>,
}

impl Reading {
    pub(crate) fn new(max_malformed: u64) -> Self {
        let parser = Parser::default();
        Self { parser, max_malformed, window_start: Instant::now(), malformed_in_window: 0 }
    }
}

impl Router {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            books: Mutex::default(),
            next_id: AtomicU64::new(1),
            closed: watch::Sender::new(None),
            counters: Live::default(),
        })
    }

    /// Books `count` requests with consecutive ids. The reason of the end is the error of a connection that is gone.
    pub(crate) fn book(self: &Arc<Self>, count: usize, route: Option<Route>) -> Result<Ticket, CloseReason> {
        let mut books = self.books();
        if let Some(reason) = &books.closed {
            return Err(reason.clone());
        }
        let first_id = self.next_id.fetch_add(count as u64, Relaxed);
        let mut route = route;
        let answers = (first_id..).take(count).map(|id| {
            let (answer, receiver) = oneshot::channel();
            books.pending.insert(id, Pending { group: first_id, answer, route: route.take() });
            receiver
        });
        let answers = answers.collect();
        self.counters.requests.fetch_add(count as u64, Relaxed);
        Ok(Ticket { router: self.clone(), first_id, answers })
    }

    /// Takes a message in. A reason given back is the end of the connection.
    pub(crate) fn on_message(
        &self,
        message: &Bytes,
        received_at: Instant,
        reading: &mut Reading,
    ) -> Option<CloseReason> {
        self.counters.bytes_received.fetch_add(message.len() as u64, Relaxed);
        let (path, parsed) = reading.parser.parse(message);
        add_one(match path {
            Path::Fast => &self.counters.fast_envelopes,
            Path::Full => &self.counters.full_envelopes,
        });
        match parsed {
            Ok(Message::One(envelope)) => {
                self.on_envelope(envelope, received_at);
                None
            }
            Ok(Message::Batch(members)) => self.on_batch(members, received_at, reading),
            Err(Malformed(what)) => self.on_malformed(what, reading),
        }
    }

    pub(crate) fn on_binary(&self, reading: &mut Reading) -> Option<CloseReason> {
        add_one(&self.counters.binary_frames);
        self.on_malformed("a binary frame", reading)
    }

    pub(crate) fn on_malformed(&self, what: &str, reading: &mut Reading) -> Option<CloseReason> {
        let count = add_one(&self.counters.malformed);
        if worth_a_line(count) {
            warn!(what, count, "the node sent a malformed message");
        }
        let now = Instant::now();
        if now.duration_since(reading.window_start) > MALFORMED_WINDOW {
            (reading.window_start, reading.malformed_in_window) = (now, 0);
        }
        reading.malformed_in_window += 1;
        let count = reading.malformed_in_window;
        (count > reading.max_malformed).then_some(CloseReason::TooManyMalformed { count })
    }

    /// Ends everything: pending requests fail now, subscriptions run dry, later requests are refused. The first
    /// reason stands.
    pub(crate) fn close(&self, reason: CloseReason) {
        let mut books = self.books();
        if books.closed.is_some() {
            return;
        }
        books.closed = Some(reason.clone());
        books.routes.clear();
        books.early.clear();
        for (_, pending) in books.pending.drain() {
            let _ = pending.answer.send(Err(Failure::Lost(reason.clone())));
        }
        drop(books);
        self.closed.send_replace(Some(reason));
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.closed.borrow().clone()
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        let mut closed = self.closed.subscribe();
        let reason = closed.wait_for(Option::is_some).await.expect("the sender is in self");
        reason.clone().expect("waited for it")
    }

    pub(crate) fn forget_subscription(&self, id: &str) {
        self.books().routes.remove(id);
    }

    fn on_batch(
        &self,
        members: Vec<Result<Envelope, Malformed>>,
        received_at: Instant,
        reading: &mut Reading,
    ) -> Option<CloseReason> {
        let (mut groups, mut end) = (Vec::new(), None);
        for member in members {
            match member {
                Ok(envelope) => groups.extend(self.on_envelope(envelope, received_at)),
                Err(Malformed(what)) => end = end.or(self.on_malformed(what, reading)),
            }
        }
        groups.dedup();
        for group in groups {
            self.fail_group(group, &Failure::Invalid("missing from the answer to its batch"));
        }
        end
    }

    /// The group of the request that was answered, if one was.
    fn on_envelope(&self, envelope: Envelope, received_at: Instant) -> Option<u64> {
        match envelope {
            Envelope::Answer { id: AnswerId::Number(id), outcome } => {
                self.on_answer(id, outcome, received_at)
            }
            Envelope::Answer { id: AnswerId::Absent, outcome } => self.on_unattributed(outcome),
            Envelope::Answer { id: AnswerId::Foreign, .. } => self.on_unknown_answer(),
            Envelope::Notification { subscription, result } => {
                self.on_notification(subscription, result, received_at);
                None
            }
        }
    }

    fn on_answer(&self, id: u64, outcome: Outcome, received_at: Instant) -> Option<u64> {
        let mut books = self.books();
        let Some(pending) = books.pending.remove(&id) else {
            drop(books);
            if id == 0 || id >= self.next_id.load(Relaxed) {
                return self.on_unknown_answer();
            }
            add_one(&self.counters.late_answers);
            return None;
        };
        let answer = match outcome {
            Outcome::Result(raw) => Ok(Reply { raw, received_at }),
            Outcome::Error(error) => Err(Failure::Rpc(error)),
            Outcome::Invalid(what) => Err(Failure::Invalid(what)),
        };
        if let (Ok(reply), Some(route)) = (&answer, pending.route) {
            self.open_route(&mut books, &reply.raw, route);
        }
        drop(books);
        add_one(&self.counters.answers);
        let _ = pending.answer.send(answer);
        Some(pending.group)
    }

    /// The route exists before the next message is read, so that no notification can overtake it.
    fn open_route(&self, books: &mut Books, raw_id: &[u8], mut route: Route) {
        let Ok(id) = std::str::from_utf8(raw_id).map(subscription_id) else { return };
        let early = std::mem::take(&mut books.early);
        for (subscription, raw, received_at) in early {
            if subscription == id {
                self.count_delivery(route.deliver(raw, received_at));
            } else {
                books.early.push_back((subscription, raw, received_at));
            }
        }
        books.routes.insert(id, route);
    }

    fn on_notification(&self, subscription: String, raw: Bytes, received_at: Instant) {
        let mut books = self.books();
        let Some(route) = books.routes.get_mut(&subscription) else {
            let awaited = books.pending.values().any(|pending| pending.route.is_some());
            let unclaimed = if awaited { 0 } else { books.early.drain(..).count() };
            if awaited && books.early.len() < MAX_EARLY {
                books.early.push_back((subscription, raw, received_at));
            } else {
                self.count_unknown_notifications(unclaimed + 1);
            }
            return;
        };
        let delivery = route.deliver(raw, received_at);
        if delivery == Delivery::ConsumerGone {
            books.routes.remove(&subscription);
        }
        self.count_delivery(delivery);
    }

    fn count_delivery(&self, delivery: Delivery) {
        match delivery {
            Delivery::Queued => drop(add_one(&self.counters.notifications)),
            Delivery::ConsumerGone => self.count_unknown_notifications(1),
            Delivery::Dropped => {
                let count = add_one(&self.counters.notifications_dropped);
                if worth_a_line(count) {
                    warn!(count, "a subscription's queue is full, notifications are dropped");
                }
            }
        }
    }

    fn count_unknown_notifications(&self, more: usize) {
        let before = self.counters.unknown_notifications.fetch_add(more as u64, Relaxed);
        if worth_a_line(before + 1) {
            debug!(count = before + more as u64, "notifications of an unknown subscription");
        }
    }

    fn on_unknown_answer(&self) -> Option<u64> {
        let count = add_one(&self.counters.unknown_answers);
        if worth_a_line(count) {
            warn!(count, "an answer to a request that was never made");
        }
        None
    }

    /// A node that cannot read a request, or refuses a batch as a whole, answers without an id. If only one thing is
    /// on its way, it is the answer to that.
    fn on_unattributed(&self, outcome: Outcome) -> Option<u64> {
        let failure = match outcome {
            Outcome::Error(error) => Failure::Rpc(error),
            Outcome::Result(_) | Outcome::Invalid(_) => return self.on_unknown_answer(),
        };
        let mut groups: Vec<u64> = self.books().pending.values().map(|pending| pending.group).collect();
        groups.sort_unstable();
        groups.dedup();
        if let [group] = groups[..] {
            self.fail_group(group, &failure);
            return None;
        }
        let count = add_one(&self.counters.unattributed_errors);
        if worth_a_line(count) {
            warn!(?failure, count, "the node sent an error without an id");
        }
        None
    }

    fn fail_group(&self, group: u64, failure: &Failure) {
        let mut books = self.books();
        let members: Vec<u64> =
            books.pending.iter().filter(|(_, pending)| pending.group == group).map(|(id, _)| *id).collect();
        for id in members {
            if let Some(pending) = books.pending.remove(&id) {
                add_one(&self.counters.answers);
                let _ = pending.answer.send(Err(failure.clone()));
            }
        }
    }

    /// Forgets requests without an answer: nothing here grows with a silent node.
    fn give_up(&self, first_id: u64, count: usize) {
        let mut books = self.books();
        let removed = (first_id..).take(count).filter(|id| books.pending.remove(id).is_some()).count();
        self.counters.given_up.fetch_add(removed as u64, Relaxed);
    }

    /// The books stay consistent in every step, so a panic elsewhere does not spoil them.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The answers in the order of the ids, when all have come. Cancelling gives the requests up.
    pub(crate) async fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(self.answers.len());
        for receiver in &mut self.answers {
            let answer = receiver.await;
            answers.push(answer.unwrap_or(Err(Failure::Lost(CloseReason::ReaderEnded))));
        }
        answers
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.router.give_up(self.first_id, self.answers.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::subscription::route;

    struct Wire {
        router: Arc<Router>,
        reading: Reading,
    }

    impl Wire {
        fn new() -> Self {
            Self { router: Router::new(), reading: Reading::new(1_000) }
        }

        fn takes(&mut self, text: &str) -> Option<CloseReason> {
            self.router.on_message(
                &Bytes::copy_from_slice(text.as_bytes()),
                Instant::now(),
                &mut self.reading,
            )
        }

        fn book(&self, count: usize) -> Ticket {
            self.router.book(count, None).expect("open")
        }
    }

    #[tokio::test]
    async fn answers_go_to_their_requests_in_any_order() {
        let mut wire = Wire::new();
        let (mut first, mut second) = (wire.book(1), wire.book(1));
        wire.takes(r#"{"id":2,"result":"b"}"#);
        wire.takes(r#"{"id":1,"result":"a"}"#);
        for (ticket, expected) in [(&mut first, "\"a\""), (&mut second, "\"b\"")] {
            let answer = ticket.answers().await.remove(0).expect("a result");
            assert_eq!(answer.raw, expected);
        }
    }

    #[tokio::test]
    async fn an_error_without_an_id_is_for_the_only_request_on_its_way_or_for_nobody() {
        let mut wire = Wire::new();
        let (mut first, second) = (wire.book(1), wire.book(1));
        let error = r#"{"id":null,"error":{"code":-32700,"message":"parse error"}}"#;
        wire.takes(error);
        assert_eq!(wire.router.counters.snapshot().unattributed_errors, 1);
        drop(second);
        wire.takes(error);
        assert!(matches!(first.answers().await.remove(0), Err(Failure::Rpc(RpcError { code: -32700, .. }))));
    }

    #[tokio::test]
    async fn a_closed_router_answers_all_and_takes_no_more() {
        let wire = Wire::new();
        let mut ticket = wire.book(2);
        let reason = CloseReason::Broken("test".to_owned());
        wire.router.close(reason.clone());
        wire.router.close(CloseReason::ReaderEnded);
        assert_eq!(ticket.answers().await, vec![Err(Failure::Lost(reason.clone())); 2]);
        assert_eq!(wire.router.book(1, None).map(drop), Err(reason.clone()));
        assert_eq!(wire.router.closed().await, reason, "the first reason stands");
    }

    #[tokio::test(start_paused = true)]
    async fn malformed_messages_are_limited_per_ten_seconds_not_for_life() {
        let mut wire = Wire { reading: Reading::new(2), ..Wire::new() };
        for _ in 0..4 {
            assert_eq!(wire.takes("x"), None);
            assert_eq!(wire.takes("x"), None);
            tokio::time::advance(Duration::from_secs(11)).await;
        }
        assert_eq!(wire.takes("x"), None);
        assert_eq!(wire.takes("x"), None);
        assert_eq!(wire.takes("x"), Some(CloseReason::TooManyMalformed { count: 3 }));
    }

    #[tokio::test]
    async fn early_notifications_are_bounded_and_those_nobody_claims_are_counted() {
        let mut wire = Wire::new();
        let (sender, receiving) = route(1_000);
        let ticket = wire.router.book(1, Some(sender)).expect("open");
        let push = |id: &str| {
            format!(r#"{{"method":"eth_subscription","params":{{"subscription":"{id}","result":1}}}}"#)
        };
        for _ in 0..MAX_EARLY + 5 {
            wire.takes(&push("0xother"));
        }
        assert_eq!(wire.router.counters.snapshot().unknown_notifications, 5);
        drop((ticket, receiving));
        wire.takes(&push("0xother"));
        assert_eq!(wire.router.counters.snapshot().unknown_notifications, 5 + MAX_EARLY as u64 + 1);
        assert!(wire.router.books().early.is_empty());
    }

    proptest! {
        /// Whatever arrives, every request ends exactly once and nothing stays behind.
        #[test]
        fn requests_are_conserved(steps in prop::collection::vec((0u8..6, 0u64..20), 0..60)) {
            let mut wire = Wire::new();
            let mut tickets = Vec::new();
            for (step, id) in steps {
                match step {
                    0 => tickets.push(wire.book(1)),
                    1 => tickets.push(wire.book(1 + (id % 4) as usize)),
                    2 => drop(wire.takes(&format!(r#"{{"id":{id},"result":0}}"#))),
                    3 => drop(wire.takes(&format!(r#"[{{"id":{id},"error":{{"code":1}}}},{{"id":{},"result":0}}]"#, id + 1))),
                    4 => drop(wire.takes(r#"{"id":null,"error":{"code":1}}"#)),
                    _ => drop(tickets.pop()),
                }
            }
            let open = wire.router.books().pending.len() as u64;
            let counters = wire.router.counters.snapshot();
            prop_assert_eq!(counters.requests, counters.answers + counters.given_up + open);
            drop(tickets);
            prop_assert!(wire.router.books().pending.is_empty());
        }
    }
}
