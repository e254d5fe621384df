use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use headwater_events::{BusEvent, Envelope, Origin};
use serde::Serialize;
use tracing::warn;

use crate::lane::{Delivery, Reader};

/// A custom subscriber: sees every event that it is interested in, a derived event after the source event that caused
/// it, each once.
pub trait EventHandler: Send + 'static {
    /// Takes an event. An error or a panic concerns this handler only: it is logged and counted, and the next event
    /// follows.
    fn handle(&mut self, envelope: &Envelope) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Whether to call [`EventHandler::handle`] with this event.
    fn interested_in(&self, _event: &BusEvent) -> bool {
        true
    }

    /// Called when no event has come for a while, for what ripens without one. Whether to call it again after another
    /// while without events.
    fn lull(&mut self) -> impl Future<Output = anyhow::Result<bool>> + Send {
        async { Ok(false) }
    }

    /// Called once, after the last event.
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }
}

/// What became of a handler's events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HandlerReport {
    /// Its name.
    pub name: String,
    /// Handled without complaint.
    pub handled: u64,
    /// Of no interest.
    pub passed: u64,
    /// Ended in an error.
    pub failed: u64,
    /// Ended in a panic.
    pub panicked: u64,
    /// Gone before the handler came to them.
    pub lost: u64,
}

pub(crate) async fn run_handler<H: EventHandler>(
    name: Origin,
    handler: H,
    source: Option<Reader>,
    derived: Option<Reader>,
) -> HandlerReport {
    let report = HandlerReport { name: name.to_string(), ..HandlerReport::default() };
    let mut runner = Runner { handler, report };
    if let (Some(source), Some(derived)) = (source, derived) {
        runner.run(source, derived).await;
    }
    runner.finish().await;
    runner.report
}

/// About as long as a block takes from its last byte to its outcome.
const DEFERENCE: Duration = Duration::from_millis(2);

/// A pause in the events.
const LULL: Duration = Duration::from_millis(20);

struct Runner<H> {
    handler: H,
    report: HandlerReport,
}

impl<H: EventHandler> Runner<H> {
    /// Merges both lanes, so that a derived event comes after its cause.
    async fn run(&mut self, mut source: Reader, mut derived: Reader) {
        let mut seen = 0;
        let mut source_open = true;
        let mut derived_open = true;
        while source_open || derived_open {
            self.give_way(&mut source, &mut derived).await;
            tokio::select! {
                biased;
                delivery = source.next(), if source_open => match delivery {
                    Some(delivery) => seen = self.take(delivery).await.unwrap_or(seen),
                    None => source_open = false,
                },
                delivery = derived.next(), if derived_open => {
                    let Some(delivery) = delivery else {
                        derived_open = false;
                        continue;
                    };
                    let cause = cause(&delivery);
                    while source_open && seen < cause {
                        match source.next().await {
                            Some(delivery) => seen = self.take(delivery).await.unwrap_or(seen),
                            None => source_open = false,
                        }
                    }
                    self.take(delivery).await;
                }
            }
        }
    }

    /// Waits while there is nothing, and then a little longer: whoever decides on a block goes before whoever only hears
    /// of it. What has piled up meanwhile is handled without a pause.
    async fn give_way(&mut self, source: &mut Reader, derived: &mut Reader) {
        let mut ripening = true;
        while source.is_idle() && derived.is_idle() {
            tokio::select! {
                () = source.wake() => {}
                () = derived.wake() => {}
                () = tokio::time::sleep(LULL), if ripening => {
                    ripening = self.lull().await;
                    continue;
                }
            }
            tokio::time::sleep(DEFERENCE).await;
            return;
        }
    }

    async fn lull(&mut self) -> bool {
        match AssertUnwindSafe(self.handler.lull()).catch_unwind().await {
            Ok(Ok(ripening)) => return ripening,
            Ok(Err(error)) => {
                self.report.failed += 1;
                let error = format!("{error:#}");
                warn!(handler = self.report.name, error, "the handler failed in a lull");
            }
            Err(_) => {
                self.report.panicked += 1;
                warn!(handler = self.report.name, "the handler panicked in a lull");
            }
        }
        false
    }

    /// Handles a delivery; says the sequence number that it brought the handler to.
    async fn take(&mut self, delivery: Delivery) -> Option<u64> {
        match delivery {
            Delivery::Event(envelope) => {
                let seq = envelope.seq;
                self.handle(envelope).await;
                Some(seq)
            }
            Delivery::Resync(gone) => {
                self.report.lost += gone.to - gone.from + 1;
                warn!(
                    handler = self.report.name,
                    from = gone.from,
                    to = gone.to,
                    "the handler missed events"
                );
                None
            }
        }
    }

    async fn handle(&mut self, envelope: Arc<Envelope>) {
        if !self.handler.interested_in(&envelope.event) {
            self.report.passed += 1;
            return;
        }
        let event = envelope.event.name();
        match AssertUnwindSafe(self.handler.handle(&envelope)).catch_unwind().await {
            Ok(Ok(())) => self.report.handled += 1,
            Ok(Err(error)) => {
                self.report.failed += 1;
                warn!(
                    handler = self.report.name,
                    event,
                    seq = envelope.seq,
                    error = format!("{error:#}"),
                    "the handler failed"
                );
            }
            Err(_) => {
                self.report.panicked += 1;
                warn!(handler = self.report.name, event, seq = envelope.seq, "the handler panicked");
            }
        }
    }

    async fn finish(&mut self) {
        match AssertUnwindSafe(self.handler.finish()).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.report.failed += 1;
                warn!(
                    handler = self.report.name,
                    error = format!("{error:#}"),
                    "the handler failed to finish"
                );
            }
            Err(_) => {
                self.report.panicked += 1;
                warn!(handler = self.report.name, "the handler panicked while finishing");
            }
        }
    }
}

/// The source event that a delivery of the derived lane follows from.
fn cause(delivery: &Delivery) -> u64 {
    match delivery {
        Delivery::Event(envelope) => envelope.seq,
        Delivery::Resync(_) => 0,
    }
}
