use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_actor::{Command, Exit, Fault, RestartPolicy, Source, StopSignal, System};

/// Counts up to an end, or until told to stop; fails once where it is told to.
struct Counting {
    count: Arc<AtomicU64>,
    end: Option<u64>,
    fails_at: Option<u64>,
}

impl Source for Counting {
    type Observed = u64;

    async fn run(
        &mut self,
        mut stop: StopSignal,
        observe: &(dyn Fn(u64) + Send + Sync),
    ) -> anyhow::Result<()> {
        while !stop.is_stopped() {
            let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            observe(count);
            anyhow::ensure!(Some(count) != self.fails_at, "at {count}");
            match self.end {
                Some(end) if count == end => return Ok(()),
                Some(_) => tokio::task::yield_now().await,
                None => stop.stopped().await,
            }
        }
        Ok(())
    }
}

async fn run(end: Option<u64>, fails_at: Option<u64>, command: Option<Command>) -> (Exit, u64, u32) {
    let system = System::start().await.expect("the root starts");
    let count = Arc::<AtomicU64>::default();
    let shared = count.clone();
    let source = system.spawn_source("counting", RestartPolicy::default(), move |_| {
        let counting = Counting { count: shared.clone(), end, fails_at };
        async { Ok(counting) }
    });
    if let Some(command) = command {
        source.observer().wait_for(|count| count.is_some()).await.expect("it counts");
        source.control().tell(command);
    }
    let exit = source.control().ended().await;
    (exit, count.load(Ordering::Relaxed), source.control().status().restarts)
}

#[tokio::test]
async fn a_source_that_has_no_more_to_say_has_drained() {
    assert_eq!(run(Some(100), None, None).await, (Exit::Drained, 100, 0));
}

#[tokio::test]
async fn a_source_that_is_told_to_stops() {
    assert_eq!(run(None, None, Some(Command::Drain)).await, (Exit::Stopped, 1, 0));
    assert_eq!(run(None, None, Some(Command::Stop)).await, (Exit::Stopped, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_started_anew() {
    assert_eq!(run(Some(100), Some(50), None).await, (Exit::Drained, 100, 1));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_started_anew() {
    let system = System::start().await.expect("the root starts");
    let count = Arc::<AtomicU64>::default();
    let shared = count.clone();
    let source = system.spawn_source("counting", RestartPolicy::default(), move |_| {
        let counting = Counting { count: shared.clone(), end: Some(10), fails_at: None };
        async { Ok(counting) }
    });
    source.control().inject(Fault::PanicBefore);
    assert_eq!(source.control().ended().await, Exit::Drained);
    assert_eq!((count.load(Ordering::Relaxed), source.control().status().restarts), (10, 1));
}
