use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::Summary;

/// Where lines are written: a file or stdout, behind a bounded queue and a thread of its own, so that a slow disk or a
/// slow reader holds no runtime thread.
#[derive(Clone, Debug)]
pub struct NdjsonSink {
    queue: mpsc::Sender<Order>,
    failure: Arc<OnceLock<NdjsonError>>,
}

/// Why results cannot be written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NdjsonError {
    /// The file cannot be made.
    #[error("cannot create {}: {reason}", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: Arc<io::Error>,
    },
    /// A write failed; what came before it may be incomplete.
    #[error("cannot write results to {to}: {reason}")]
    Write {
        /// The file, or `stdout`.
        to: String,
        /// What the system says.
        reason: Arc<io::Error>,
    },
    /// Nobody reads any longer: the pipe was closed, which is the reader's good right.
    #[error("nobody reads the results any longer")]
    PipeClosed,
    /// A line cannot be encoded.
    #[error("a line cannot be encoded: {0}")]
    Encode(Arc<serde_json::Error>),
}

#[derive(Debug)]
enum Order {
    Line(Vec<u8>),
    Finish(oneshot::Sender<()>),
}

/// Lines that wait for the thread.
const QUEUE: usize = 1024;

impl NdjsonSink {
    /// Writes to stdout.
    pub fn stdout() -> Self {
        Self::to_writer("stdout", io::stdout())
    }

    /// Writes to a file, which is made anew.
    ///
    /// # Errors
    ///
    /// [`NdjsonError::Create`].
    pub fn file(path: &Path) -> Result<Self, NdjsonError> {
        let file = File::create(path)
            .map_err(|error| NdjsonError::Create { path: path.to_owned(), reason: Arc::new(error) })?;
        Ok(Self::to_writer(path.display().to_string(), file))
    }

    /// Writes to anything; `to` names it in errors.
    pub fn to_writer(to: impl Into<String>, writer: impl Write + Send + 'static) -> Self {
        let (queue, orders) = mpsc::channel(QUEUE);
        let failure = Arc::new(OnceLock::new());
        let pen = Pen { to: to.into(), out: BufWriter::new(writer), failure: Arc::clone(&failure) };
        std::thread::spawn(move || pen.write(orders));
        Self { queue, failure }
    }

    /// Writes the last line.
    ///
    /// # Errors
    ///
    /// As [`NdjsonSink::finish`].
    pub async fn summary(&self, summary: &Summary) -> Result<(), NdjsonError> {
        self.line("summary", summary).await
    }

    /// Waits until everything is written and flushed.
    ///
    /// # Errors
    ///
    /// [`NdjsonError::Write`] where a write failed, now or earlier. That the reader closed the pipe is no error.
    pub async fn finish(&self) -> Result<(), NdjsonError> {
        let (done, written) = oneshot::channel();
        // Whether it fails here or there, the reason is in `failure`.
        let _ = self.queue.send(Order::Finish(done)).await;
        let _ = written.await;
        self.check()
    }

    /// Resolves when nothing more can be written.
    pub async fn broken(&self) -> NdjsonError {
        self.queue.closed().await;
        self.failure.get().cloned().unwrap_or(NdjsonError::PipeClosed)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Writes an object whose first member is its type.
    pub(super) async fn line(&self, kind: &'static str, view: &impl Serialize) -> Result<(), NdjsonError> {
        #[derive(Serialize)]
        struct Line<'a, V> {
            r#type: &'static str,
            #[serde(flatten)]
            view: &'a V,
        }
        let mut line = serde_json::to_vec(&Line { r#type: kind, view })
            .map_err(|error| NdjsonError::Encode(Arc::new(error)))?;
        line.push(b'\n');
        match self.queue.send(Order::Line(line)).await {
            Ok(()) => Ok(()),
            Err(_) => self.check(),
        }
    }

    fn check(&self) -> Result<(), NdjsonError> {
        match self.failure.get() {
            None | Some(NdjsonError::PipeClosed) => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }
}

/// The thread that writes.
struct Pen<W: Write> {
    to: String,
    out: BufWriter<W>,
    failure: Arc<OnceLock<NdjsonError>>,
}

impl<W: Write> Pen<W> {
    fn write(mut self, mut orders: mpsc::Receiver<Order>) {
        let result = self.follow(&mut orders);
        if let Err(error) = result {
            let failure = match error.kind() {
                ErrorKind::BrokenPipe => NdjsonError::PipeClosed,
                _ => NdjsonError::Write { to: self.to, reason: Arc::new(error) },
            };
            // Set before the queue falls, so that whoever finds it closed finds the reason.
            let _ = self.failure.set(failure);
            // What is left in the buffer would fail again when it is dropped.
            let _ = self.out.into_parts();
        }
    }

    fn follow(&mut self, orders: &mut mpsc::Receiver<Order>) -> io::Result<()> {
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order,
                // A reader sees at once what there is when nothing more is coming.
                Err(_) => {
                    self.out.flush()?;
                    let Some(order) = orders.blocking_recv() else { return Ok(()) };
                    order
                }
            };
            match order {
                Order::Line(line) => self.out.write_all(&line)?,
                Order::Finish(done) => {
                    self.out.flush()?;
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(());
                }
            }
        }
    }
}
