use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::U256;
use headwater_actor::{Exit, Fault, RestartPolicy, System};
use headwater_bus::{BusConfig, EventHandler, HandlerReport, Mailbox, Outlet, Topology, Wait};
use headwater_events::{Envelope, Protocol, RunId};
use headwater_simulation::{SimulationError, Unavailable};
use tokio::task::JoinHandle;

use super::*;
use crate::executor::tests::{as_of, behind, block, finding, set};

/// What was published: `index: event` or its verdict.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl EventHandler for Heard {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        let Some((origin, index)) = &envelope.derived else { return Ok(()) };
        let said = match &envelope.event {
            BusEvent::OutcomeRecorded(outcome) => {
                assert_eq!(outcome.opportunity.detector, *origin);
                format!("{:?} of {}", outcome.verdict, outcome.opportunity.index)
            }
            other => other.name().to_owned(),
        };
        self.0.lock().expect("no panic holds it").push(format!("{}/{index} {said}", envelope.seq));
        Ok(())
    }
}

struct Setup {
    bus: EventBus,
    reports: Reports,
    mailbox: Mailbox<ExecutorMessage>,
    findings: Outlet<ExecutorMessage, Wait>,
    chain: Outlet<ExecutorMessage, Wait>,
    heard: Heard,
    hearing: JoinHandle<HandlerReport>,
}

fn setup() -> Setup {
    let (topology, timeline) = (Topology::new(), Timeline::default());
    let bus = EventBus::new(&BusConfig::default(), &topology, &timeline, None, None);
    let mailbox = Mailbox::new(&topology, "executor", 64);
    let heard = Heard::default();
    Setup {
        findings: mailbox.waiting("arbitrage", "opportunities"),
        chain: mailbox.waiting("bus", "heads and reorgs"),
        reports: Reports { bus: bus.clone(), timeline, progress: BlockProgress::new(["arbitrage".into()]) },
        hearing: bus.register("test", heard.clone()),
        mailbox,
        bus,
        heard,
    }
}

impl Setup {
    async fn head(&self, name: u8) {
        let seq = u64::from(name);
        let envelope =
            Envelope { run_id: RunId(0), seq, received_at: 0, derived: None, event: block(name, seq) };
        let message = ExecutorMessage::Chain(Delivery::Event(Arc::new(envelope)));
        self.chain.send(message).await.expect("the mailbox is open");
    }

    async fn find(&self, name: u8, findings: usize) {
        let set = set(as_of(name, name.into()), findings);
        self.findings.send(set.into()).await.expect("the mailbox is open");
    }

    /// Runs an executor over what is in the mailbox, to its end; what it said, and what could be seen of it.
    async fn run<S: Simulator + Clone>(self, simulator: S, fault: Option<Fault>) -> (Vec<String>, Counted) {
        let config =
            ExecutorConfig { concurrency: 3.try_into().expect("not zero"), ..ExecutorConfig::default() };
        let reports = self.reports.clone();
        let system = System::start().await.expect("the root starts");
        let actor = system.spawn(self.mailbox, RestartPolicy::default(), move |_| {
            let executor = Executor::new(&config);
            let given_up = watch::Sender::new(None).subscribe();
            let actor = ExecutorActor::new(executor, &config, simulator.clone(), given_up, reports.clone());
            async { Ok(actor) }
        });
        if let Some(fault) = fault {
            actor.control().inject(fault);
        }
        drop((self.findings, self.chain));
        assert_eq!(actor.control().ended().await, Exit::Drained);
        self.bus.close_source();
        self.bus.close_derived();
        let report = self.hearing.await.expect("the handler ends");
        assert_eq!((report.failed, report.panicked, report.lost), (0, 0, 0));
        let heard = std::mem::take(&mut *self.heard.0.lock().expect("no panic holds it"));
        (heard, actor.observed().expect("it stood"))
    }
}

/// Answers after ten milliseconds with what was predicted.
#[derive(Clone, Default)]
struct Faithful {
    at_once: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Simulator for Faithful {
    const HAS_STATE: bool = true;

    async fn simulate(&self, finding: &Opportunity) -> Result<Simulated, SimulationError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(at_once, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        Ok(Simulated { profit: finding.profit, gas_used: None })
    }
}

#[derive(Clone)]
struct Silent;

impl Simulator for Silent {
    const HAS_STATE: bool = true;

    async fn simulate(&self, _: &Opportunity) -> Result<Simulated, SimulationError> {
        std::future::pending().await
    }
}

/// Yields nothing for the first that it is asked about, then panics once, then is faithful.
#[derive(Clone, Default)]
struct PanicsOnce(Faithful);

impl Simulator for PanicsOnce {
    const HAS_STATE: bool = true;

    async fn simulate(&self, finding: &Opportunity) -> Result<Simulated, SimulationError> {
        let simulated = self.0.simulate(finding).await;
        match self.0.asked.load(Ordering::Relaxed) {
            1 => Ok(Simulated { profit: U256::ZERO, gas_used: None }),
            2 => panic!("in the middle of a set"),
            _ => simulated,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn findings_are_told_at_once_and_outcomes_follow_in_their_order() {
    let stage = setup();
    stage.head(1).await;
    stage.find(1, 2).await;
    let (heard, counted) = stage.run(Faithful::default(), None).await;
    assert_eq!(
        heard,
        ["1/0 opportunity_found", "1/1 opportunity_found", "1/2 WouldSend of 0", "1/3 WouldSend of 1"]
    );
    assert_eq!((counted.sets, counted.found, counted.would_send), (1, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_set_marks_its_block_as_received_and_decided_also_when_it_is_empty() {
    let stage = setup();
    let reports = stage.reports.clone();
    reports.timeline.begin(1, None);
    stage.head(1).await;
    stage.find(1, 0).await;
    stage.run(Faithful::default(), None).await;
    assert_eq!(reports.progress.finished(), 1);
    let stamps = reports.timeline.read(1).expect("it was begun");
    assert!(stamps.since_first(headwater_bus::Stage::Received).is_some());
    assert!(stamps.since_first(headwater_bus::Stage::Decided).is_some());
}

#[tokio::test(start_paused = true)]
async fn simulations_run_side_by_side_but_not_all_at_once() {
    let stage = setup();
    stage.find(1, 12).await;
    let simulator = Faithful::default();
    let (_, counted) = stage.run(simulator.clone(), None).await;
    assert_eq!((counted.would_send, simulator.most.load(Ordering::Relaxed)), (12, 3));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_answers_holds_the_mailbox_no_longer_than_the_deadline() {
    let stage = setup();
    stage.find(1, 7).await;
    let before = Instant::now();
    let (heard, counted) = stage.run(Silent, None).await;
    assert_eq!(counted.refused, 7);
    assert_eq!(heard[13], "1/13 Refused(SimulationFailed(\"no answer within 200ms\")) of 6");
    let held = before.elapsed();
    assert!(held < Duration::from_millis(400), "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_set_makes_it_late_and_it_is_told_all_the_same() {
    let stage = setup();
    stage.head(1).await;
    stage.find(1, 1).await;
    stage.head(2).await;
    stage.find(2, 1).await;
    let simulator = Faithful::default();
    let (heard, counted) = stage.run(simulator.clone(), None).await;
    assert_eq!(
        heard,
        ["1/0 opportunity_found", "1/1 Expired of 0", "2/0 opportunity_found", "2/1 WouldSend of 0"]
    );
    assert_eq!((counted.late_sets, simulator.asked.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn without_state_every_set_is_judged_however_late_it_is() {
    let stage = setup();
    stage.head(1).await;
    stage.head(2).await;
    stage.find(1, 1).await;
    stage.find(2, 1).await;
    let (heard, _) = stage.run(Unavailable, None).await;
    assert_eq!((&*heard[1], &*heard[3]), ("1/1 Unsimulated of 0", "2/1 Unsimulated of 0"));
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_a_set_neither_loses_nor_repeats() {
    let stage = setup();
    stage.head(1).await;
    stage.find(1, 3).await;
    // One at a time: the first outcome is told before the second simulation panics.
    let (heard, _) = stage.run(OneByOne::default(), None).await;
    assert_eq!(heard.len(), 6);
    assert!(heard[3].starts_with("1/3 Refused(ProfitDiffers"), "{heard:?}");
    assert_eq!(heard[4..], ["1/4 WouldSend of 1", "1/5 WouldSend of 2"]);
}

/// [`PanicsOnce`] with turns, so that the first answer is out before the second panics.
#[derive(Clone)]
struct OneByOne(PanicsOnce, Arc<tokio::sync::Semaphore>);

impl Default for OneByOne {
    fn default() -> Self {
        Self(PanicsOnce::default(), Arc::new(tokio::sync::Semaphore::new(1)))
    }
}

impl Simulator for OneByOne {
    const HAS_STATE: bool = true;

    async fn simulate(&self, finding: &Opportunity) -> Result<Simulated, SimulationError> {
        let _turn = self.1.acquire().await.expect("it is never closed");
        self.0.simulate(finding).await
    }
}

/// Says nothing of what follows a transaction.
#[derive(Clone, Default)]
struct SilentBehind(Faithful);

impl Simulator for SilentBehind {
    const HAS_STATE: bool = true;

    async fn simulate(&self, finding: &Opportunity) -> Result<Simulated, SimulationError> {
        match finding.follows() {
            Some(_) => std::future::pending().await,
            None => self.0.simulate(finding).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_simulated_behind_pending_transactions_by_its_own_executor_delays_no_finding_of_a_block() {
    let stage = setup();
    stage.head(1).await;
    stage.find(1, 1).await;
    let Setup { bus, reports, mailbox, findings, chain, heard, hearing } = stage;
    let pending_mailbox = Mailbox::<ExecutorMessage>::new(&Topology::new(), "pending-executor", 64);
    let backruns = pending_mailbox.waiting("backrun", "backruns");
    let finding = Opportunity { plan: behind(Protocol::UniswapV2), ..finding(as_of(1, 1)) };
    let standing = watch::Sender::new(Arc::new(finding.follows().into_iter().collect::<BTreeSet<_>>()));
    let set = OpportunitySet { as_of: finding.as_of, detector: "backrun".into(), items: vec![finding] };
    backruns.send(BackrunSet { set, first: 0 }.into()).await.expect("the mailbox is open");
    drop((findings, chain, backruns));

    let (before, system) = (Instant::now(), System::start().await.expect("the root starts"));
    let [pending, blocks] = [pending_mailbox, mailbox].map(|mailbox| {
        let (reports, standing) = (reports.clone(), standing.subscribe());
        system.spawn(mailbox, RestartPolicy::default(), move |_| {
            let (config, given_up) = (ExecutorConfig::default(), watch::Sender::new(None).subscribe());
            let (executor, simulator) = (Executor::new(&config), SilentBehind::default());
            let actor = ExecutorActor::new(executor, &config, simulator, given_up, reports.clone())
                .behind(standing.clone());
            async { Ok(actor) }
        })
    });
    assert_eq!(blocks.control().ended().await, Exit::Drained);
    assert!(before.elapsed() < Duration::from_millis(100), "{:?}", before.elapsed());
    assert_eq!(pending.control().ended().await, Exit::Drained);
    assert!(before.elapsed() >= Duration::from_millis(200), "{:?}", before.elapsed());
    bus.close_source();
    bus.close_derived();
    hearing.await.expect("the handler ends");
    let heard = heard.0.lock().expect("no panic holds it");
    let outcomes: Vec<_> = heard.iter().filter(|said| said.ends_with("of 0")).collect();
    let late = "1/1 Refused(SimulationFailed(\"no answer within 200ms\")) of 0";
    assert_eq!(outcomes, ["1/1 WouldSend of 0", late]);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_dies_after_a_set_does_not_tell_it_twice() {
    let stage = setup();
    stage.find(1, 2).await;
    let (heard, _) = stage.run(Faithful::default(), Some(Fault::PanicAfter)).await;
    assert_eq!(heard.len(), 4, "{heard:?}");
}
