//! What the process left behind, beside the chain as it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use alloy_primitives::{B256, U256};
use anyhow::{Context, ensure};
use headwater_events::{BusEvent, Grade};
use headwater_journal::Recording;
use headwater_reference::digest::state_digest;
use headwater_reference::rebuild::Rebuild;
use headwater_reference::scratch::Known;
use serde_json::Value;

use super::chain::Chain;
use super::faults::LOSSES;
use super::life::Lives;
use crate::latency::{FACTORIES, WETH};
use crate::proofs::replay::as_json;

/// Relevant logs of each block, at least.
const LOGS: usize = 100;

/// What was judged.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Canonical blocks on record.
    pub(super) blocks: usize,
    /// Blocks that were published and undone.
    pub(super) undone: usize,
    pub(super) reorgs: usize,
    pub(super) gaps: usize,
    /// Findings of all lives.
    pub(super) found: usize,
    /// Of them, on their way when their block was undone.
    pub(super) crossed: usize,
    /// Edges of the last life.
    pub(super) edges: usize,
    /// Panics, all of them injected.
    pub(super) panics: usize,
    /// Times that state or oracle lost the market.
    pub(super) lost: usize,
    /// Blocks of which there was no market.
    pub(super) silent: usize,
    pub(super) restarts: Restarts,
}

/// From the failure of a component to its next incarnation, its state rebuilt.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    times: Vec<Duration>,
    /// Those meanwhile the disk failed, so that the record to rebuild from was not complete.
    on_a_failing_disk: Vec<Duration>,
}

impl Restarts {
    /// Until a component is at work again.
    const WITHIN: Duration = Duration::from_secs(1);

    pub(super) fn line(&self) -> String {
        let mut times = self.times.clone();
        times.sort_unstable();
        let seconds = |time: Option<&Duration>| time.copied().unwrap_or_default().as_secs_f64();
        format!(
            "{} restarts of components: at work again after {:.3} s (p50), {:.3} s (max); {} more while the disk failed, {:.3} s (max)",
            times.len(),
            seconds(times.get(times.len() / 2)),
            seconds(times.last()),
            self.on_a_failing_disk.len(),
            seconds(self.on_a_failing_disk.iter().max())
        )
    }

    /// Restarts that took too long.
    pub(super) fn late(&self) -> usize {
        self.times.iter().filter(|time| **time > Self::WITHIN).count()
    }
}

pub(super) fn judge(chain: &Chain, lives: &Lives) -> anyhow::Result<Judged> {
    let mut judged = Judged::default();
    let recorded = judge_record(chain, lives, &mut judged).context("the record")?;
    for life in 0..lives.count() {
        let results = fs::read_to_string(lives.results(life))?;
        let told = read_results(&results).with_context(|| format!("results of life {life}"))?;
        let log = String::from_utf8_lossy(&fs::read(lives.log(life))?).into_owned();
        judge_silence(&log, &recorded, &told, &mut judged)
            .with_context(|| format!("the lost markets of life {life}"))?;
        read_restarts(&log, &mut judged.restarts);
        judged.found += told.found;
        judged.crossed += told.crossed;
        if life + 1 == lives.count() {
            judge_end(chain, &told, &mut judged).context("the last life")?;
        }
        judged.panics += injected_panics(&log).with_context(|| format!("the log of life {life}"))?;
    }
    Ok(judged)
}

/// When each block was recorded.
type Recorded = BTreeMap<B256, Vec<u64>>;

/// One record, and in it the chain, each block once and whole.
fn judge_record(chain: &Chain, lives: &Lives, judged: &mut Judged) -> anyhow::Result<Recorded> {
    let journal = lives.disk.seen_from_here()?.join("journal");
    let runs: Vec<_> = fs::read_dir(journal)?.collect::<Result<_, _>>()?;
    let [run] = &runs[..] else { anyhow::bail!("{} records instead of one", runs.len()) };
    let mut rebuild = Rebuild::new(FACTORIES.map(|factory| (factory, 3_000)));
    let mut seen = Recorded::new();
    for record in Recording::open(run.path())?.records(1) {
        let envelope = record?.envelope;
        match &envelope.event {
            BusEvent::NewBlock(block) => {
                let (number, logs) = (block.header.number, block.logs.len());
                // What is assumed may lack some, and is undone then.
                ensure!(logs >= LOGS || block.grade == Grade::Assumed, "block {number} has {logs} logs");
                seen.entry(block.header.hash).or_default().push(envelope.seq);
            }
            BusEvent::Reorg(reorg) => {
                judged.reorgs += 1;
                judged.undone += reorg.depth();
            }
            BusEvent::SourceGap(_) => judged.gaps += 1,
            _ => {}
        }
        rebuild.take(&as_json(&envelope)?)?;
    }
    let recorded: Vec<B256> = rebuild.chain().map(|at| at.hash).collect();
    let generated: Vec<B256> = chain.canonical().iter().map(|block| block.hash()).collect();
    let same = recorded.iter().zip(&generated).take_while(|(one, other)| one == other).count();
    ensure!(
        recorded == generated,
        "{} blocks on record, {} made, the first {same} the same",
        recorded.len(),
        generated.len()
    );
    judged.blocks = recorded.len();
    Ok(seen)
}

/// From where state or oracle lost the market until it was whole again nothing is found, whatever came of the block later.
fn judge_silence(log: &str, recorded: &Recorded, told: &Told, judged: &mut Judged) -> anyhow::Result<()> {
    let lost = lost_spans(log);
    judged.lost += lost.len();
    let is_lost = |seq: &u64| lost.iter().any(|(from, until)| (*from..=*until).contains(seq));
    for (hash, seqs) in recorded.iter().filter(|(_, seqs)| seqs.iter().all(is_lost)) {
        judged.silent += 1;
        ensure!(!told.found_in.contains(hash), "found in block {hash}, event {seqs:?}, without a market");
    }
    Ok(())
}

/// The events from the one with which a market was lost to the one with which it was whole again.
fn lost_spans(log: &str) -> Vec<(u64, u64)> {
    let mut spans = Vec::new();
    for (_, lost, whole) in LOSSES {
        let mut open = None;
        for line in log.lines().filter(|line| line.contains(lost) || line.contains(whole)) {
            let Ok(Some(seq)) = serde_json::from_str(line).map(|line: Value| line["seq"].as_u64()) else {
                continue;
            };
            match line.contains(lost) {
                true => open = open.or(Some(seq)),
                false => spans.extend(open.take().map(|from| (from, seq))),
            }
        }
        spans.extend(open.map(|from| (from, u64::MAX)));
    }
    spans
}

fn read_restarts(log: &str, restarts: &mut Restarts) {
    let (mut disk_fails, mut disk_failures) = (false, 0_usize);
    // By actor: at how many failures of the disk it failed, and whether the disk did.
    let mut failed: BTreeMap<String, (usize, bool)> = BTreeMap::new();
    for line in log.lines() {
        if line.contains("the journal cannot be written") {
            (disk_fails, disk_failures) = (true, disk_failures + 1);
        } else if line.contains("the journal can be written again") {
            disk_fails = false;
        } else if line.contains("failed; restarting") || line.contains("at work again") {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let Some(actor) = line["actor"].as_str() else { continue };
            let Some(took) = line["took_us"].as_u64().map(Duration::from_micros) else {
                failed.entry(actor.to_owned()).or_insert((disk_failures, disk_fails));
                continue;
            };
            let (before, failing) = failed.remove(actor).unwrap_or_default();
            match failing || disk_failures > before {
                true => restarts.on_a_failing_disk.push(took),
                false => restarts.times.push(took),
            }
        }
    }
}

/// What the results of one life say.
#[derive(Debug, Default)]
struct Told {
    /// The blocks that it published and did not undo, oldest first.
    chain: Vec<(B256, B256)>,
    found: usize,
    /// Of them, on their way when their block was undone.
    crossed: usize,
    summary: Option<Value>,
    found_in: BTreeSet<B256>,
}

/// Every block stands on the one before. Once anything was found on the branch behind a reorganisation, nothing is found on
/// what it undid, and nothing there would be sent; until then a finding may cross the reorganisation on its way here, as
/// events and findings are handed to whoever writes results side by side.
fn read_results(text: &str) -> anyhow::Result<Told> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let (mut told, mut orphaned) = (Told::default(), BTreeSet::new());
    // Findings on orphans: forgiven only if the block comes back, as its line comes behind them.
    let mut late: BTreeMap<B256, usize> = BTreeMap::new();
    // Whether anything was found on the branch behind the last reorganisation, and up to where the chain is older.
    let (mut has_newer, mut older) = (false, 0);
    for (number, line) in (1..).zip(whole.lines()) {
        let line: Value = serde_json::from_str(line).with_context(|| format!("line {number}"))?;
        let hash = |name: &str| -> anyhow::Result<B256> {
            Ok(line[name].as_str().with_context(|| format!("line {number}: {name}"))?.parse()?)
        };
        match line["type"].as_str() {
            Some("block") => {
                let (block, parent) = (hash("hash")?, hash("parent_hash")?);
                let stands = told.chain.last().is_none_or(|(last, _)| *last == parent);
                ensure!(stands, "line {number}: block {block} does not stand on the one before");
                told.chain.push((block, parent));
                orphaned.remove(&block);
                late.remove(&block);
            }
            Some("reorg") => {
                let depth = usize::try_from(line["depth"].as_u64().context("depth")?)?;
                let old_head = hash("old_head")?;
                let stands = told.chain.last().is_none_or(|(last, _)| *last == old_head);
                ensure!(stands, "line {number}: {old_head} was not the head");
                // It may undo blocks of the life before.
                let kept = told.chain.len().saturating_sub(depth);
                orphaned.extend(told.chain.drain(kept..).map(|(block, _)| block));
                (has_newer, older) = (false, kept);
            }
            Some("opportunity") => {
                let block = hash("block_hash")?;
                told.found += 1;
                told.found_in.insert(block);
                let is_late = orphaned.contains(&block);
                told.crossed += usize::from(is_late && !has_newer);
                if is_late && has_newer {
                    late.insert(block, number);
                }
                // What was found below the reorganisation may be late as well, and says nothing of its branch.
                has_newer |= !is_late && !told.chain[..older].iter().any(|(known, _)| *known == block);
            }
            Some("outcome") if line["verdict"] == "would_send" => {
                let block = hash("block_hash")?;
                if orphaned.contains(&block) {
                    late.insert(block, number);
                }
            }
            Some("summary") => told.summary = Some(line),
            _ => {}
        }
    }
    ensure!(late.is_empty(), "findings on orphaned blocks behind their reorganisation: {late:?}");
    Ok(told)
}

/// The last life ended well: on the chain's head, with every edge conserved and the state of the judge.
fn judge_end(chain: &Chain, told: &Told, judged: &mut Judged) -> anyhow::Result<()> {
    let generated: Vec<B256> = chain.canonical().iter().map(|block| block.hash()).collect();
    let published: Vec<B256> = told.chain.iter().map(|(block, _)| *block).collect();
    ensure!(!published.is_empty() && generated.ends_with(&published), "it published another chain");
    let summary = told.summary.as_ref().context("no summary")?;
    let edges = summary["edges"].as_array().context("edges")?;
    for edge in edges {
        let count = |name: &str| edge[name].as_u64().with_context(|| format!("{name} of {edge}"));
        let dropped = edge["dropped"].as_object().context("dropped")?;
        let dropped: u64 = dropped.values().filter_map(Value::as_u64).sum();
        ensure!(count("accepted")? == count("processed")? + dropped, "not conserved: {edge}");
        ensure!(edge["dropped"]["lost"].is_null(), "lost: {edge}");
    }
    ensure!(!edges.is_empty(), "no edges");
    judged.edges = edges.len();
    let known = Known {
        factories: FACTORIES.map(|factory| (factory, 3_000)).into(),
        wrapped_native: WETH,
        min_base_reserve: U256::from(10).pow(U256::from(18)),
        loaded: chain.loaded().to_vec(),
        ..Known::default()
    };
    let expected = state_digest(&known, chain.first().hash(), chain.canonical());
    let digest = summary["state_digest"].as_str().context("no digest of the state")?;
    ensure!(digest == format!("{expected:#x}"), "the state is {digest}, and {expected:#x} is right");
    Ok(())
}

/// How often it panicked; an error where that was nobody's wish.
fn injected_panics(log: &str) -> anyhow::Result<usize> {
    let mut panics = 0;
    let mut lines = log.lines();
    while let Some(line) = lines.next() {
        if line.contains("panicked at") {
            let why = lines.next().unwrap_or_default();
            ensure!(why.starts_with("injected"), "{line}\n{why}");
            panics += 1;
        }
    }
    Ok(panics)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0x0a00000000000000000000000000000000000000000000000000000000000000";
    const B: &str = "0x0b00000000000000000000000000000000000000000000000000000000000000";
    const C: &str = "0x0c00000000000000000000000000000000000000000000000000000000000000";

    fn block(hash: &str, parent: &str) -> String {
        format!(r#"{{"type":"block","hash":"{hash}","parent_hash":"{parent}"}}"#)
    }

    fn check(lines: &[String], is_right: bool) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(read_results(&text).is_ok(), is_right, "{text}");
    }

    #[test]
    fn results_are_judged() {
        let found = |hash: &str| format!(r#"{{"type":"opportunity","block_hash":"{hash}"}}"#);
        let reorg = format!(r#"{{"type":"reorg","depth":1,"old_head":"{B}","new_head":"{C}"}}"#);
        let (a, b, c) = (block(A, C), block(B, A), block(C, A));
        check(&[a.clone(), found(B), b.clone(), reorg.clone(), found(C), c.clone()], true);
        check(&[a.clone(), a.clone()], false);
        check(&[a.clone(), b.clone(), c.clone()], false);
        check(&[a.clone(), reorg.clone()], false);
        check(&[a.clone(), b.clone(), reorg.clone(), found(B), c.clone()], true);
        check(&[a.clone(), b.clone(), reorg.clone(), found(C), found(B), c], false);
        check(&[a.clone(), b.clone(), reorg.clone(), found(A), found(B), block(C, A)], true);
        let sent = format!(r#"{{"type":"outcome","block_hash":"{B}","verdict":"would_send"}}"#);
        check(&[a.clone(), b.clone(), reorg.clone(), sent], false);
        check(&[a, b.clone(), reorg, found(B), b], true);
    }

    #[test]
    fn a_lost_market_lasts_until_it_is_whole() {
        let log = r#"{"message":"the market is lost; nothing is found","seq":7}
{"message":"what prices come from is lost; nothing","seq":9}
{"message":"the market is whole again","seq":12}
{"message":"the market is lost; nothing is found","seq":20}"#;
        assert_eq!(lost_spans(log), [(7, 12), (20, u64::MAX), (9, u64::MAX)]);
        let hash: B256 = A.parse().expect("a hash");
        let check = |seqs: &[u64], is_right| {
            let told = Told { found_in: [hash].into(), ..Told::default() };
            let recorded = [(hash, seqs.to_vec())].into();
            let judged = judge_silence(
                log.lines().next().unwrap_or_default(),
                &recorded,
                &told,
                &mut Judged::default(),
            );
            assert_eq!(judged.is_ok(), is_right, "{seqs:?}");
        };
        check(&[6], true);
        check(&[7], false);
        check(&[5, 8], true);
    }

    #[test]
    fn restarts_are_timed_and_those_on_a_failing_disk_apart() {
        let log = r#"{"message":"failed; restarting","actor":"state"}
{"message":"at work again","actor":"state","took_us":1200000}
{"message":"failed; restarting","actor":"oracle"}
{"message":"the journal cannot be written; nothing is acted upon"}
{"message":"the journal can be written again"}
{"message":"at work again","actor":"oracle","took_us":1300000}"#;
        let mut restarts = Restarts::default();
        read_restarts(log, &mut restarts);
        assert_eq!((restarts.late(), restarts.times.len(), restarts.on_a_failing_disk.len()), (1, 1, 1));
    }

    #[test]
    fn a_panic_of_its_own_is_no_injected_one() {
        let injected = "thread 'x' panicked at a.rs:1:1:\ninjected poison\n";
        let own = "thread 'x' panicked at a.rs:1:1:\nindex out of bounds\n";
        assert_eq!(injected_panics(injected).ok(), Some(1));
        assert!(injected_panics(&[injected, own].concat()).is_err());
    }
}
