use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use headwater_bus::{JournalHealth, Recorder, clock};
use headwater_events::Envelope;
use serde::Serialize;
use tokio::runtime::Builder;
use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info};

use crate::appender::Appender;
use crate::backlog::JournalBacklog;
use crate::config::JournalConfig;
use crate::error::JournalError;
use crate::retention::Retention;

/// Most events in one write.
const BATCH: usize = 256;

/// What the writer has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JournalStatus {
    /// The last event that is in the file and can be read.
    pub recorded: u64,
    /// The last event that was forced to the disk.
    pub synced: u64,
    /// Bytes written in this run.
    pub bytes: u64,
    /// Segments begun in this run.
    pub segments: u32,
    /// Why it cannot write for the moment, or stopped accepting events, if it did.
    pub failure: Option<String>,
    /// Whether it has ended in good order, with everything on the disk that it was handed.
    pub complete: bool,
}

/// The thread that writes a journal.
///
/// It ends when it is closed or dropped, or when every [`Recorder`] is gone. While the disk is full it keeps what it was
/// handed, takes as much as its queue holds, and tries again; the bus reports a stalled journal meanwhile. After a failed
/// sync it accepts nothing more; what was recorded until then stays readable.
#[derive(Debug)]
pub struct JournalWriter {
    directory: PathBuf,
    recorded: Arc<AtomicU64>,
    status: watch::Receiver<JournalStatus>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), JournalError>>,
    thread: JoinHandle<()>,
    needed_from: Arc<AtomicU64>,
}

/// Says from elsewhere which events retention keeps, as [`JournalWriter::keep_from`] does.
#[derive(Clone, Debug, Default)]
pub struct Keeper(Arc<AtomicU64>);

impl Keeper {
    /// Retention keeps events from `seq` on: those before it are needed by nobody any more.
    pub fn keep_from(&self, seq: u64) {
        self.0.store(seq, Ordering::Release);
    }
}

impl JournalWriter {
    pub(crate) fn start(
        config: &JournalConfig,
        appender: Appender,
        lock: File,
        retention: Retention,
        needed_from: u64,
    ) -> Result<(Self, Recorder), JournalError> {
        let (queue, events) = mpsc::channel(config.queue.max(1));
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let recorded = Arc::new(AtomicU64::new(appender.last_seq()));
        let (publish, status) = watch::channel(JournalStatus::default());
        let needed_from = Arc::new(AtomicU64::new(needed_from));
        let directory = config.directory.clone();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(JournalError::io("start the writer of", &directory))?;
        let recorder = Recorder::new(queue, Arc::clone(&recorded));
        let mut task = Task {
            appender,
            events,
            stopped,
            recorded: Arc::clone(&recorded),
            health: recorder.health().clone(),
            status: publish,
            sync_interval: config.sync_interval(),
            sync_at: None,
            retention,
            needed_from: Arc::clone(&needed_from),
            retain_at: Instant::now(),
        };
        task.publish();
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let result = runtime.block_on(task.run());
                drop(lock);
                // Nobody may be waiting for it.
                let _ = end.send(result);
            })
            .map_err(JournalError::io("start the writer of", &directory))?;
        Ok((Self { directory, recorded, status, stop, ended, thread, needed_from }, recorder))
    }

    /// Answers the bus's repairs of lag from what is recorded.
    pub fn backlog(&self) -> JournalBacklog {
        JournalBacklog::of_journal(self.directory.clone(), Arc::clone(&self.recorded))
    }

    /// Retention keeps events from `seq` on: those before it are needed by nobody any more. By default, see
    /// [`Journal::keep_from`](crate::Journal::keep_from).
    pub fn keep_from(&self, seq: u64) {
        self.keeper().keep_from(seq);
    }

    /// For whoever says later what retention keeps.
    pub fn keeper(&self) -> Keeper {
        Keeper(Arc::clone(&self.needed_from))
    }

    /// How far it is, and whether it failed.
    pub fn status(&self) -> watch::Receiver<JournalStatus> {
        self.status.clone()
    }

    /// Resolves when the writer has ended otherwise than in good order: after a failure that does not pass. Then nothing more is
    /// recorded, and [`JournalWriter::close`] says why.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut status = self.status();
        async move {
            while status.changed().await.is_ok() {}
            if status.borrow().complete {
                std::future::pending().await
            }
        }
    }

    /// Writes what was accepted, forces it to the disk and ends the thread.
    ///
    /// # Errors
    ///
    /// What the writer failed with, now or earlier.
    pub async fn close(self) -> Result<JournalStatus, JournalError> {
        // It may have failed and ended before.
        let _ = self.stop.send(());
        let result = self.ended.await;
        // It has given its last word, so this does not wait.
        self.thread.join().map_err(|_| JournalError::WriterGone)?;
        result.map_err(|_| JournalError::WriterGone)??;
        Ok(self.status.borrow().clone())
    }
}

/// Encoding a block takes a core for about as long as deciding on it does; the block goes first.
const DEFERENCE: Duration = Duration::from_millis(2);

/// How often retention looks for what is too old, beside each time a segment is begun.
const RETAIN_EVERY: Duration = Duration::from_mins(10);

/// After a write that failed.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// What the thread runs.
struct Task {
    appender: Appender,
    events: mpsc::Receiver<Arc<Envelope>>,
    stopped: oneshot::Receiver<()>,
    recorded: Arc<AtomicU64>,
    health: JournalHealth,
    status: watch::Sender<JournalStatus>,
    sync_interval: Duration,
    /// When what is written must be forced to the disk; `None` while all is.
    sync_at: Option<Instant>,
    retention: Retention,
    needed_from: Arc<AtomicU64>,
    /// When retention looks next.
    retain_at: Instant,
}

impl Task {
    async fn run(mut self) -> Result<(), JournalError> {
        let result = self.write_all().await;
        match &result {
            Ok(()) => self.status.send_modify(|status| status.complete = true),
            Err(error) => {
                self.health.set_failing(true);
                error!(%error, "the journal failed; nothing more is recorded");
                // First of all, so that whoever sees the failure cannot hand in another event.
                self.events.close();
                self.status.send_modify(|status| status.failure = Some(error.to_string()));
            }
        }
        result
    }

    async fn write_all(&mut self) -> Result<(), JournalError> {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let sync_at = self.sync_at.unwrap_or_else(Instant::now);
            select! {
                biased;
                () = sleep_until(sync_at), if self.sync_at.is_some() => self.sync()?,
                () = sleep_until(self.retain_at) => self.retain(),
                _ = &mut self.stopped, if !self.events.is_closed() => self.events.close(),
                count = self.events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return self.sync();
                    }
                    sleep(DEFERENCE).await;
                    self.persist(&batch).await?;
                    batch.clear();
                }
            }
        }
    }

    /// Writes; while there is no room, again and again.
    async fn persist(&mut self, batch: &[Arc<Envelope>]) -> Result<(), JournalError> {
        loop {
            match self.write(batch) {
                Err(error) if error.may_pass() && !self.events.is_closed() => self.fail(&error),
                Ok(()) if self.is_failing() => {
                    info!("the journal can be written again");
                    self.health.set_failing(false);
                    self.status.send_modify(|status| status.failure = None);
                    return Ok(());
                }
                outcome => return outcome,
            }
            select! {
                () = sleep(TRY_AGAIN) => {}
                _ = &mut self.stopped => self.events.close(),
            }
        }
    }

    fn fail(&mut self, error: &JournalError) {
        if self.is_failing() {
            return;
        }
        self.health.set_failing(true);
        error!(%error, "the journal cannot be written; nothing is acted upon until it can: make room");
        self.status.send_modify(|status| status.failure = Some(error.to_string()));
    }

    fn is_failing(&self) -> bool {
        self.status.borrow().failure.is_some()
    }

    fn write(&mut self, batch: &[Arc<Envelope>]) -> Result<(), JournalError> {
        let segments = self.appender.segments;
        self.appender.append(batch)?;
        if self.appender.segments > segments {
            self.retain_at = Instant::now();
        }
        self.recorded.store(self.appender.last_seq(), Ordering::Release);
        self.sync_at.get_or_insert_with(|| Instant::now() + self.sync_interval);
        self.publish();
        Ok(())
    }

    fn retain(&mut self) {
        let now = Duration::from_nanos(clock::unix_nanos());
        self.retention.apply(self.needed_from.load(Ordering::Acquire), now);
        self.retain_at = Instant::now() + RETAIN_EVERY;
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.appender.sync()?;
        self.sync_at = None;
        self.publish();
        Ok(())
    }

    fn publish(&mut self) {
        let recorded = self.appender.last_seq();
        let is_synced = self.sync_at.is_none();
        let (bytes, segments) = (self.appender.bytes, self.appender.segments);
        self.status.send_modify(|status| {
            status.recorded = recorded;
            status.synced = if is_synced { recorded } else { status.synced };
            status.bytes = bytes;
            status.segments = segments;
        });
    }
}

#[cfg(test)]
mod tests;
