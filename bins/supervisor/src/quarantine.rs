//! What was set aside: remembered beside the journal.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use headwater_actor::{Aside, Quarantine, Quarantined};
use headwater_decoder::{Decoder, Registry};
use headwater_events::{AsOf, BlockEvent, BusEvent, DecodedBlock, Envelope, OpportunitySet};
use headwater_executor::{Circumstances, Executor};
use headwater_journal::{JournalError, Recording, SetAside, note_set_aside};
use headwater_market::{ResolvedMarket, Touched, WholeView};
use headwater_oracle::Oracle;
use headwater_state::World;

use crate::bot::extended;
use crate::commands::{bundled_strategies, chain_of};
use crate::config::Config;

/// What was set aside while a recording was made is set aside again when it is replayed, so that the replay finds the same.
pub(crate) fn of_recording(recording: &Recording) -> Result<Quarantine, JournalError> {
    Ok(Quarantine::new(earlier(recording)?, None))
}

/// As [`of_recording`], of a journal that is gone on with; what is set aside now is noted there.
pub(crate) fn of_journal(directory: &Path) -> Result<Quarantine, JournalError> {
    let known = earlier(&Recording::open(directory)?)?;
    let directory = directory.to_owned();
    let aside: Aside = Arc::new(move |set_aside: &Quarantined| {
        let Quarantined { actor, from, seq, reason } = set_aside.clone();
        Ok(note_set_aside(&directory, &SetAside { seq, actor, from, reason })?)
    });
    Ok(Quarantine::new(known, Some(aside)))
}

fn earlier(recording: &Recording) -> Result<Vec<Quarantined>, JournalError> {
    let known = recording.set_aside()?.into_iter();
    Ok(known.map(|SetAside { seq, actor, from, reason }| Quarantined { actor, from, seq, reason }).collect())
}

/// Hands a message that was set aside to its actor again, which is rebuilt as of the event before; says why it fails, if it
/// still does.
///
/// # Errors
///
/// When the record does not hold the event, or the actor cannot be rebuilt.
pub(crate) fn retry(
    config: &Config,
    recording: &Recording,
    set_aside: &SetAside,
) -> anyhow::Result<Result<(), String>> {
    let seq = set_aside.seq.context("it stems from no event of the record")?;
    let market = ResolvedMarket::resolve(&config.market, chain_of(recording)?)?;
    let mut rebuilt = Rebuilt {
        world: World::new(&market),
        oracle: Oracle::new(&market, &config.oracle),
        executor: Executor::new(&config.executor),
        quarantine: of_recording(recording)?,
    };
    let mut event = None;
    for record in recording.records(recording.first_seq()) {
        let envelope = record?.envelope;
        if envelope.seq >= seq {
            event = Some(envelope);
            break;
        }
        rebuilt.take(&envelope).with_context(|| format!("event {}", envelope.seq))?;
    }
    let event =
        event.filter(|event| event.seq == seq).with_context(|| format!("event {seq} is not on record"))?;
    let strategies = bundled_strategies(config, &market);
    let concerns = |name: &str| set_aside.actor == name || set_aside.from == name;
    let strategy = strategies.iter().find(|strategy| concerns(&strategy.name));
    let decoder = Decoder::with_registry(extended(Registry::default(), config, &market));
    let decode = |block: &BlockEvent, as_of| decoder.decode(block, as_of);
    let again = || -> anyhow::Result<()> {
        match (&*set_aside.actor, strategy, &event.event) {
            ("state", ..) => drop(rebuilt.world.apply(&event)?),
            ("oracle", ..) => drop(rebuilt.oracle.apply(&event)?),
            ("decoder", _, BusEvent::NewBlock(block)) => drop(decode(block, as_of(&event, block))),
            ("executor" | "pending-executor", None, change) => rebuilt.executor.apply(seq, change),
            (actor, Some(strategy), BusEvent::NewBlock(block)) => {
                let view = rebuilt.view(&event, decode(block, as_of(&event, block)))?;
                let items = (strategy.build)().evaluate(&view);
                if actor == "executor" {
                    let set = OpportunitySet { as_of: view.as_of(), detector: strategy.name.clone(), items };
                    let circumstances =
                        Circumstances { has_state: false, journal_stalled: false, ending: false };
                    rebuilt.executor.receive(&set, circumstances);
                }
            }
            (actor, ..) => bail!("{actor} is none of the bundled actors that process events of the record"),
        }
        Ok(())
    };
    Ok(match catch_unwind(AssertUnwindSafe(again)) {
        Ok(done) => done.map_err(|error| format!("{error:#}")),
        Err(panic) => Err(words_of(&*panic)),
    })
}

/// The actors that remember, as of an event.
struct Rebuilt {
    world: World,
    oracle: Oracle,
    executor: Executor,
    quarantine: Quarantine,
}

impl Rebuilt {
    fn take(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        let is_left_out = |actor| self.quarantine.contains(actor, envelope.seq);
        match is_left_out("state") {
            true => self.world.leave_out(envelope),
            false => drop(self.world.apply(envelope)?),
        }
        match is_left_out("oracle") {
            true => self.oracle.leave_out(envelope),
            false => drop(self.oracle.apply(envelope)?),
        }
        match is_left_out("executor") {
            true => self.executor.lose_track(envelope.seq),
            false => self.executor.apply(envelope.seq, &envelope.event),
        }
        Ok(())
    }

    fn view(&mut self, event: &Envelope, decoded: DecodedBlock) -> anyhow::Result<WholeView> {
        let block = self.world.apply(event)?.context("the market is lost")?;
        let priced = self.oracle.apply(event)?.context("the prices are lost")?;
        self.executor.apply(event.seq, &event.event);
        Ok(WholeView::new(block.snapshot, priced.snapshot, Arc::new(decoded), Touched::All)?)
    }
}

fn as_of(event: &Envelope, block: &BlockEvent) -> AsOf {
    AsOf { seq: event.seq, number: block.header.number, hash: block.header.hash }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panics".to_owned())
}
