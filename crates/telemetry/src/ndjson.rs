//! Results for other programs: one JSON object a line.

mod sink;
mod views;

use headwater_bus::{EventHandler, Timeline};
use headwater_events::{BusEvent, Envelope};

pub use self::sink::{NdjsonError, NdjsonSink};
#[cfg(test)]
pub(crate) use self::views::SWAPS;
use self::views::{BlockView, GapView, OpportunityView, OutcomeView, ReorgView};
pub(crate) use self::views::{reason, swaps, verdict};
use crate::in_flight::InFlight;

/// Writes results into a sink; to be registered on the bus.
#[derive(Debug)]
pub struct Ndjson {
    sink: NdjsonSink,
    chain: InFlight<ChainLine>,
}

/// A line that keeps the order of the chain.
#[derive(Debug)]
enum ChainLine {
    Block(Box<BlockView>),
    Reorg(ReorgView),
    Gap(GapView),
}

impl Ndjson {
    /// Writes into `sink`, with the latencies that `timeline` tells.
    pub fn new(sink: &NdjsonSink, timeline: &Timeline) -> Self {
        Self { sink: sink.clone(), chain: InFlight::new(timeline) }
    }

    async fn write_done(&mut self) -> anyhow::Result<()> {
        while let Some((line, stamps)) = self.chain.pop_done() {
            self.write(line, stamps).await?;
        }
        Ok(())
    }

    async fn write(&self, line: ChainLine, stamps: Option<headwater_bus::Stamps>) -> Result<(), NdjsonError> {
        match line {
            ChainLine::Block(view) => self.sink.line("block", &view.stamped(stamps)).await,
            ChainLine::Reorg(view) => self.sink.line("reorg", &view).await,
            ChainLine::Gap(view) => self.sink.line("gap", &view).await,
        }
    }
}

impl EventHandler for Ndjson {
    fn interested_in(&self, event: &BusEvent) -> bool {
        matches!(
            event,
            BusEvent::NewBlock(_)
                | BusEvent::Reorg(_)
                | BusEvent::SourceGap(_)
                | BusEvent::OpportunityFound(_)
                | BusEvent::OutcomeRecorded(_)
        )
    }

    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        if self.sink.is_broken() {
            // Why is told once, by [`NdjsonSink::broken`] and [`NdjsonSink::finish`].
            return Ok(());
        }
        match &envelope.event {
            BusEvent::NewBlock(block) => {
                let line = ChainLine::Block(Box::new(BlockView::new(block)));
                self.chain.push(Some(envelope.seq), line);
            }
            BusEvent::Reorg(reorg) => self.chain.push(None, ChainLine::Reorg(ReorgView::new(reorg))),
            BusEvent::SourceGap(gap) => self.chain.push(None, ChainLine::Gap(GapView::new(gap))),
            BusEvent::OpportunityFound(found) => {
                let view = OpportunityView::new(found, envelope.derived.as_ref());
                self.sink.line("opportunity", &view).await?;
            }
            BusEvent::OutcomeRecorded(outcome) => {
                self.sink.line("outcome", &OutcomeView::new(outcome)).await?;
            }
            _ => {}
        }
        self.write_done().await
    }

    /// A block without findings is done without a further event.
    async fn lull(&mut self) -> anyhow::Result<bool> {
        if self.sink.is_broken() {
            return Ok(false);
        }
        self.write_done().await?;
        Ok(!self.chain.is_empty())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        while let Some((line, stamps)) = self.chain.pop_any() {
            self.write(line, stamps).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
