use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;

use headwater_bus::clock::Instant;
use headwater_bus::{Closed, SourcePublisher};
use headwater_events::BusEvent;

/// Events on their way to the bus. It outlives the incarnations of its actor.
///
/// Publishing must not be given up in the middle, and an actor can be killed at any await: so the publication that was
/// under way stays here, and the next incarnation ends it first.
pub(crate) struct Outbox {
    publisher: SourcePublisher,
    waiting: VecDeque<(BusEvent, Option<Instant>)>,
    under_way: Option<Publication>,
}

type Publication = Pin<Box<dyn Future<Output = Result<u64, Closed>> + Send>>;

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Outbox {
    pub(crate) fn new(publisher: SourcePublisher) -> Self {
        Self { publisher, waiting: VecDeque::new(), under_way: None }
    }

    /// Accepts an event; it will be published, whatever happens to the actor. `last_byte` is when its last byte was
    /// read from the socket.
    pub(crate) fn accept(&mut self, event: BusEvent, last_byte: Option<Instant>) {
        self.waiting.push_back((event, last_byte));
    }

    /// Publishes what was accepted, in order. Cancel-safe. The sequence number of the last event, if there was one.
    pub(crate) async fn flush(&mut self) -> Result<Option<u64>, Closed> {
        let mut last = None;
        loop {
            if let Some(under_way) = &mut self.under_way {
                let published = under_way.await;
                self.under_way = None;
                last = Some(published?);
            }
            let Some((event, last_byte)) = self.waiting.pop_front() else { return Ok(last) };
            let publisher = self.publisher.clone();
            self.under_way = Some(Box::pin(async move { publisher.publish(event, last_byte).await }));
        }
    }
}
