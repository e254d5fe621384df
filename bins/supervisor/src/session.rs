//! What a run has beside the bot: results, counts, latencies, and its end.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use headwater_actor::Quarantined;
use headwater_bus::EventHandler;
use headwater_events::{BusEvent, Envelope, Opportunity};
use headwater_telemetry::{Latencies, Ndjson, NdjsonError, NdjsonSink, SetAside, Summary, Tally};

use crate::bot::Bot;
use crate::failure::Failure;
use crate::report::{self, say};
use crate::running::{Ended, Running};

/// The observers of a run.
#[derive(Debug)]
pub struct Session {
    tally: Tally,
    latencies: Latencies,
    best: Best,
    results: Option<NdjsonSink>,
    /// Whether stdout is taken by the results.
    piped: bool,
}

/// How long after an interruption whoever reads the results may take to come to their end.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Findings that the report shows.
const SHOWN: usize = 10;

impl Session {
    /// Registers the observers on a wired bot; `ndjson` is where results go: a file, or `-` for stdout.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn observe(bot: &mut Bot, ndjson: Option<&Path>) -> Result<Self, NdjsonError> {
        let piped = ndjson == Some(Path::new("-"));
        let results = match ndjson {
            Some(_) if piped => Some(NdjsonSink::stdout()),
            Some(path) => Some(NdjsonSink::file(path)?),
            None => None,
        };
        Ok(Self { piped, ..Self::with_sink(bot, results) })
    }

    /// Registers the observers on a wired bot, with results into `results`.
    pub fn with_sink(bot: &mut Bot, results: Option<NdjsonSink>) -> Self {
        let (tally, latencies, best) = (Tally::default(), Latencies::new(&bot.timeline), Best::default());
        bot.register("tally", tally.handler());
        bot.register("latencies", latencies.handler());
        bot.register("best", best.clone());
        if let Some(sink) = &results {
            bot.register("ndjson", Ndjson::new(sink, &bot.timeline));
        }
        Self { tally, latencies, best, results, piped: false }
    }

    /// Works until the source is exhausted or `interrupt` resolves, then drains, writes the summary and prints it.
    ///
    /// # Errors
    ///
    /// When an actor was given up, or the results could not be written.
    pub async fn conclude(
        self,
        running: Running,
        interrupt: impl Future<Output = ()>,
    ) -> Result<(Summary, Ended), Failure> {
        let piped = self.piped;
        let best = self.best.clone();
        let (summary, ended, written) = self.finish(running, interrupt).await;
        let text = report::text(&summary, &best.take(), &ended);
        if piped {
            say(text.trim_end());
        } else {
            report::print(&text).context("stdout").map_err(Failure::runtime)?;
        }
        written.map_err(Failure::runtime)?;
        match &ended.fatal {
            Some(fatal) => Err(Failure::given_up(fatal.clone(), ended.source())),
            None => Ok((summary, ended)),
        }
    }

    /// As [`Session::conclude`], without printing.
    pub async fn finish(
        self,
        running: Running,
        interrupt: impl Future<Output = ()>,
    ) -> (Summary, Ended, Result<(), NdjsonError>) {
        let topology = running.topology.clone();
        let broken = async {
            match &self.results {
                Some(sink) => drop(sink.broken().await),
                None => std::future::pending().await,
            }
        };
        let stopped = AtomicBool::new(false);
        let mut stop = std::pin::pin!(async {
            tokio::select! {
                () = interrupt => {}
                () = broken => {}
            }
            stopped.store(true, Ordering::Relaxed);
        });
        let ended = running.finish(stop.as_mut()).await;
        let mut summary = self.tally.summary(&topology, &self.latencies);
        summary.quarantined = ended.quarantined.iter().map(set_aside).collect();
        summary.state_digest = ended.state_digest;
        let last_line = async {
            match &self.results {
                Some(sink) => match sink.summary(&summary).await {
                    Ok(()) => sink.finish().await,
                    Err(error) => Err(error),
                },
                None => Ok(()),
            }
        };
        let patience = async {
            if !stopped.load(Ordering::Relaxed) {
                stop.await;
            }
            tokio::time::sleep(LAST_LINE).await;
        };
        let written = tokio::select! {
            biased;
            written = last_line => written,
            () = patience => Err(NdjsonError::Write {
                to: "whoever reads them".to_owned(),
                reason: Arc::new(io::ErrorKind::TimedOut.into()),
            }),
        };
        let written = match written {
            Err(NdjsonError::PipeClosed) => Ok(()),
            other => other,
        };
        (summary, ended, written)
    }
}

fn set_aside(Quarantined { actor, seq, reason, .. }: &Quarantined) -> SetAside {
    SetAside { actor: actor.clone(), seq: *seq, reason: reason.clone() }
}

/// Keeps the best findings for the report.
#[derive(Clone, Debug, Default)]
struct Best {
    found: Arc<Mutex<Vec<Opportunity>>>,
}

impl Best {
    fn take(&self) -> Vec<Opportunity> {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl EventHandler for Best {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        if let BusEvent::OpportunityFound(opportunity) = &envelope.event {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let place = found.partition_point(|better| better.net_profit_wei >= opportunity.net_profit_wei);
            if place < SHOWN {
                found.insert(place, opportunity.clone());
                found.truncate(SHOWN);
            }
        }
        Ok(())
    }

    fn interested_in(&self, event: &BusEvent) -> bool {
        matches!(event, BusEvent::OpportunityFound(_))
    }
}
