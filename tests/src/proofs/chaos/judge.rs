//! What the process left behind, beside the chain as it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use alloy_primitives::{B256, U256};
use anyhow::{Context, ensure};
use headwater_events::BusEvent;
use headwater_journal::Recording;
use headwater_reference::digest::state_digest;
use headwater_reference::rebuild::Rebuild;
use headwater_reference::scratch::Known;
use serde_json::Value;

use super::chain::Chain;
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
}

pub(super) fn judge(chain: &Chain, lives: &Lives) -> anyhow::Result<Judged> {
    let mut judged = Judged::default();
    judge_record(chain, lives, &mut judged).context("the record")?;
    for life in 0..lives.count() {
        let results = fs::read_to_string(lives.results(life))?;
        let told = read_results(&results).with_context(|| format!("results of life {life}"))?;
        judged.found += told.found;
        judged.crossed += told.crossed;
        if life + 1 == lives.count() {
            judge_end(chain, &told, &mut judged).context("the last life")?;
        }
        let log = fs::read_to_string(lives.log(life))?;
        judged.panics += injected_panics(&log).with_context(|| format!("the log of life {life}"))?;
    }
    Ok(judged)
}

/// One record, and in it the chain, each block once and whole.
fn judge_record(chain: &Chain, lives: &Lives, judged: &mut Judged) -> anyhow::Result<()> {
    let journal = lives.disk.seen_from_here()?.join("journal");
    let runs: Vec<_> = fs::read_dir(journal)?.collect::<Result<_, _>>()?;
    let [run] = &runs[..] else { anyhow::bail!("{} records instead of one", runs.len()) };
    let mut rebuild = Rebuild::new(FACTORIES.map(|factory| (factory, 3_000)));
    for record in Recording::open(run.path())?.records(1) {
        let envelope = record?.envelope;
        match &envelope.event {
            BusEvent::NewBlock(block) => {
                let (number, logs) = (block.header.number, block.logs.len());
                ensure!(logs >= LOGS, "block {number} has {logs} logs");
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
    Ok(())
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
}

/// Every block stands on the one before. Once anything was found on the branch behind a reorganisation, nothing is found on
/// what it undid, and nothing there would be sent; until then a finding may cross the reorganisation on its way here, as
/// events and findings are handed to whoever writes results side by side.
fn read_results(text: &str) -> anyhow::Result<Told> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let (mut told, mut orphaned) = (Told::default(), BTreeSet::new());
    // Findings on orphans: forgiven only if the block comes back, as its line comes behind them.
    let mut late: BTreeMap<B256, usize> = BTreeMap::new();
    let mut has_newer = false;
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
                has_newer = false;
            }
            Some("opportunity") => {
                told.found += 1;
                let is_late = orphaned.contains(&hash("block_hash")?);
                told.crossed += usize::from(is_late && !has_newer);
                if is_late && has_newer {
                    late.insert(hash("block_hash")?, number);
                }
                has_newer |= !is_late;
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
        let sent = format!(r#"{{"type":"outcome","block_hash":"{B}","verdict":"would_send"}}"#);
        check(&[a.clone(), b.clone(), reorg.clone(), sent], false);
        check(&[a, b.clone(), reorg, found(B), b], true);
    }

    #[test]
    fn a_panic_of_its_own_is_no_injected_one() {
        let injected = "thread 'x' panicked at a.rs:1:1:\ninjected poison\n";
        let own = "thread 'x' panicked at a.rs:1:1:\nindex out of bounds\n";
        assert_eq!(injected_panics(injected).ok(), Some(1));
        assert!(injected_panics(&[injected, own].concat()).is_err());
    }
}
