use std::sync::Arc;

use headwater_actor::Component;
use headwater_bus::{Delivery, Message, Outlet, Stage, Timeline, Wait};
use headwater_events::{AsOf, BlockEvent, BusEvent, DecodedBlock};
use serde::Serialize;
use tracing::warn;

use crate::decoder::Decoder;

/// What the decoder's mailbox carries: source events.
#[derive(Clone, Debug)]
pub struct DecoderMessage(pub Delivery);

impl DecoderMessage {
    /// What the decoder reads of the bus.
    pub fn interest(event: &BusEvent) -> bool {
        matches!(event, BusEvent::NewBlock(_))
    }
}

impl From<Delivery> for DecoderMessage {
    fn from(delivery: Delivery) -> Self {
        Self(delivery)
    }
}

impl Message for DecoderMessage {
    fn seq(&self) -> Option<u64> {
        Some(match &self.0 {
            Delivery::Event(envelope) => envelope.seq,
            Delivery::Resync(gone) => gone.to,
        })
    }
}

/// What can be seen of the decoder from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecoderObserved {
    /// Blocks decoded by this incarnation.
    pub blocks: u64,
    /// Calls and events decoded.
    pub actions: u64,
    /// Logs of shapes that are nobody's that is known here.
    pub unknown_logs: u64,
    /// Calls of known routers to other functions.
    pub unknown_calls: u64,
    /// Known topics and selectors with arguments that do not decode.
    pub malformed: u64,
    /// Blocks not handed to a detector because it was gone for good.
    pub undeliverable: u64,
    /// The last block.
    pub as_of: Option<AsOf>,
}

/// The decoder as an actor. `M` is what the detectors' mailboxes carry.
#[derive(Debug)]
pub struct DecoderActor<M> {
    decoder: Decoder,
    detectors: Vec<Outlet<M, Wait>>,
    timeline: Timeline,
    observed: DecoderObserved,
}

impl<M> DecoderActor<M> {
    /// A decoder that hands every block to each of `detectors`.
    pub fn new(decoder: Decoder, detectors: Vec<Outlet<M, Wait>>, timeline: Timeline) -> Self {
        Self { decoder, detectors, timeline, observed: DecoderObserved::default() }
    }
}

impl<M: Message + From<Arc<DecodedBlock>>> DecoderActor<M> {
    async fn block(&mut self, seq: u64, block: &BlockEvent) {
        let as_of = AsOf { seq, number: block.header.number, hash: block.header.hash };
        let decoded = Arc::new(self.decoder.decode(block, as_of));
        self.timeline.stamp(seq, Stage::Decoded);
        self.note(&decoded);
        self.hand_out(&decoded).await;
    }

    async fn hand_out(&mut self, decoded: &Arc<DecodedBlock>) {
        for detector in &self.detectors {
            if detector.send(M::from(Arc::clone(decoded))).await.is_err() {
                if self.observed.undeliverable == 0 {
                    warn!(detector = %detector.edge().to, block = %decoded.as_of, "the detector is gone; it gets no more blocks");
                }
                self.observed.undeliverable += 1;
            }
        }
    }

    fn note(&mut self, decoded: &DecodedBlock) {
        let observed = &mut self.observed;
        observed.blocks += 1;
        observed.actions += decoded.actions.len() as u64;
        observed.unknown_logs += u64::from(decoded.unknown_logs);
        observed.unknown_calls += u64::from(decoded.unknown_calls);
        observed.malformed += u64::from(decoded.malformed);
        observed.as_of = Some(decoded.as_of);
    }
}

impl<M: Message + From<Arc<DecodedBlock>>> Component for DecoderActor<M> {
    type Message = DecoderMessage;
    type Observed = DecoderObserved;

    async fn handle(&mut self, message: &DecoderMessage) -> anyhow::Result<()> {
        match &message.0 {
            Delivery::Event(envelope) => {
                if let BusEvent::NewBlock(block) = &envelope.event {
                    self.block(envelope.seq, block).await;
                }
            }
            // It knows nothing that could have become wrong.
            Delivery::Resync(_) => {}
        }
        Ok(())
    }

    /// The detectors are told that there is no view of the block.
    async fn set_aside(&mut self, message: &DecoderMessage) -> anyhow::Result<()> {
        if let Delivery::Event(envelope) = &message.0
            && let BusEvent::NewBlock(BlockEvent { header, .. }) = &envelope.event
        {
            let as_of = AsOf { seq: envelope.seq, number: header.number, hash: header.hash };
            self.hand_out(&Arc::new(Decoder::set_aside(as_of))).await;
        }
        Ok(())
    }

    fn observe(&self) -> DecoderObserved {
        self.observed
    }
}

#[cfg(test)]
mod tests;
