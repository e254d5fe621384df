//! The readable end of a run.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use alloy_primitives::Address;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use headwater_actor::Exit;
use headwater_events::Opportunity;
use headwater_market::Preset;
use headwater_telemetry::{Percentiles, SetAside, Summary};

use crate::running::Ended;

/// The whole report.
pub(crate) fn text(summary: &Summary, best: &[Opportunity], ended: &Ended) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\n{}", headline(summary));
    if !best.is_empty() {
        let _ =
            writeln!(text, "\nBest opportunities (net profit in wei, after gas)\n{}", opportunities(best));
    }
    let _ = writeln!(text, "\nEdges\n{}", edges(summary));
    for (grade, report) in &summary.latency_ns.by_grade {
        let _ = writeln!(
            text,
            "\nLatency, {} blocks graded {grade} (µs since the block's last byte)",
            report.blocks
        );
        let mut table = table(["stage", "p50", "p90", "p99", "p99.9", "max", "own p50"], 1);
        for stage in &report.stages {
            let Percentiles { p50, p90, p99, p99_9, max, .. } = stage.since_first;
            let mut row = vec![stage.stage.to_owned()];
            row.extend([p50, p90, p99, p99_9, max, stage.own.p50].map(micros));
            table.add_row(row);
        }
        let _ = writeln!(text, "{}", trimmed(&table));
    }
    let as_asked = |actor: usize, exit: &Exit| {
        // The source is the first, and stopping it is how an interruption begins.
        *exit == Exit::Drained || (actor == 0 && ended.interrupted && *exit == Exit::Stopped)
    };
    for (_, (actor, exit)) in ended.exits.iter().enumerate().filter(|(at, (_, exit))| !as_asked(*at, exit)) {
        let _ = writeln!(text, "{actor} ended otherwise than drained: {exit:?}");
    }
    for SetAside { actor, seq, reason } in &summary.quarantined {
        let event = seq.map_or_else(|| "a message".to_owned(), |seq| format!("event {seq}"));
        let _ = writeln!(text, "{actor} could not process {event}, which was set aside: {reason}");
    }
    if !summary.quarantined.is_empty() {
        let _ = writeln!(text, "(headwater journal quarantine PATH --retry SEQ hands it to them again)");
    }
    for handler in
        ended.handlers.iter().filter(|handler| handler.failed + handler.panicked + handler.lost > 0)
    {
        let _ = writeln!(text, "handler {} had trouble: {handler:?}", handler.name);
    }
    text
}

/// A line to stderr. That it cannot be written, on a full disk or after the reader has gone, is no reason to end.
pub fn say(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes the report to stdout. That nobody reads it is no error.
///
/// # Errors
///
/// When stdout cannot be written to.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn headline(summary: &Summary) -> String {
    let range = match (summary.first_block, summary.last_block) {
        (Some(first), Some(last)) => format!(" ({first} to {last})"),
        _ => String::new(),
    };
    let conserved =
        summary.edges.iter().all(|edge| edge.accepted == edge.processed + edge.dropped.values().sum::<u64>());
    let listed = |counts: Vec<(String, u64)>| {
        counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    let kinds = listed(summary.opportunities.iter().map(|(kind, count)| (kind.clone(), *count)).collect());
    let outcomes =
        listed(summary.outcomes.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect());
    format!(
        "{blocks} blocks{range}, {txs} transactions, {logs} logs, {swaps} swaps, {reorgs} reorgs, {gaps} gaps ({unfilled} blocks \
         unfilled)\n{found} opportunities{kinds}; outcomes: {outcomes}\n{resyncs}{lost} events lost, every edge {conserved}",
        blocks = summary.blocks,
        txs = summary.txs,
        logs = summary.logs,
        swaps = summary.swaps,
        reorgs = summary.reorgs,
        gaps = summary.gaps,
        unfilled = summary.unfilled,
        found = summary.found(),
        kinds = if kinds.is_empty() { String::new() } else { format!(" ({kinds})") },
        outcomes = if outcomes.is_empty() { "none".to_owned() } else { outcomes },
        resyncs = match summary.resynchronisations {
            0 => String::new(),
            times => format!("the market was lost and asked anew {times} times\n"),
        },
        lost = summary.lost(),
        conserved = if conserved { "conserved" } else { "NOT CONSERVED" },
    )
}

fn opportunities(best: &[Opportunity]) -> String {
    let mut table = table(["block", "kind", "path", "amount in", "profit", "net profit"], 3);
    for opportunity in best {
        let path = opportunity.tokens.iter().map(symbol).collect::<Vec<_>>().join(" → ");
        table.add_row([
            opportunity.as_of.number.to_string(),
            opportunity.kind.to_string(),
            path,
            opportunity.amount_in.to_string(),
            opportunity.profit.to_string(),
            opportunity.net_profit_wei.map_or_else(|| "no price".to_owned(), |net| net.to_string()),
        ]);
    }
    trimmed(&table)
}

fn edges(summary: &Summary) -> String {
    let mut table = table(["from", "to", "carries", "accepted", "processed", "dropped"], 3);
    for edge in &summary.edges {
        let dropped = edge.dropped.iter().map(|(reason, count)| format!("{count} {reason}"));
        table.add_row([
            edge.from.clone(),
            edge.to.clone(),
            edge.carries.to_owned(),
            edge.accepted.to_string(),
            edge.processed.to_string(),
            dropped.collect::<Vec<_>>().join(", "),
        ]);
    }
    trimmed(&table)
}

/// A table whose columns from `numbers` on are flush right.
fn table<const N: usize>(header: [&str; N], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table.column_iter_mut().skip(numbers).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn micros(nanos: u64) -> String {
    format!("{}.{}", nanos / 1_000, nanos / 100 % 10)
}

/// What people call a token of a known chain; else the beginning of its address.
fn symbol(token: &Address) -> String {
    let known = [Preset::Mainnet, Preset::Devnet]
        .into_iter()
        .filter_map(Preset::tables)
        .flat_map(|tables| tables.tokens);
    let named = known.into_iter().find(|(_, address)| address == token).map(|(name, _)| (*name).to_owned());
    named.unwrap_or_else(|| format!("{token:#x}")[..10].to_owned())
}
