//! The topology as text and as Mermaid, drawn from the edges of a wired system.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use headwater_bus::{Channel, EdgeReport, OverflowPolicy};

/// As a table: one edge a line.
pub fn text(edges: &[EdgeReport]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["from", "to", "carries", "channel", "capacity", "policy"]);
    for (from, to, edge) in drawn(edges) {
        table.add_row([
            from,
            to,
            edge.carries.to_owned(),
            channel(edge.channel).to_owned(),
            edge.capacity.to_string(),
            policy(edge.policy).to_owned(),
        ]);
    }
    if let Some(column) = table.column_mut(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// As a Mermaid flow chart.
pub fn mermaid(edges: &[EdgeReport]) -> String {
    let mut chart = String::from("flowchart TD\n");
    for (from, to, edge) in drawn(edges) {
        let arrow = match edge.channel {
            Channel::Broadcast => "==>",
            Channel::Mpsc => "-->",
            Channel::Watch => "-.->",
        };
        let _ = writeln!(
            chart,
            "    {}[{}] {arrow}|{}: {} {}, {}| {}[{}]",
            node(&from),
            from,
            edge.carries,
            channel(edge.channel),
            edge.capacity,
            policy(edge.policy),
            node(&to),
            to,
        );
    }
    chart
}

/// Every edge with the names of its ends. What reaches an actor from the broadcast passes two of them: the broadcast's
/// ring, read by a forwarder of the actor's own, and the actor's mailbox; the ring comes first.
fn drawn(edges: &[EdgeReport]) -> impl Iterator<Item = (String, String, &EdgeReport)> {
    let forwarded = |to: &str| edges.iter().any(|edge| edge.from == FORWARDER && edge.to == to);
    let forwarder = |of: &str| format!("{of}'s {FORWARDER}");
    let rings = edges.iter().filter(|edge| edge.channel == Channel::Broadcast);
    let others = edges.iter().filter(|edge| edge.channel != Channel::Broadcast);
    rings.chain(others).map(move |edge| {
        let (from, to) = (edge.from.clone(), edge.to.clone());
        match edge.channel {
            Channel::Broadcast if forwarded(&to) => (from, forwarder(&to), edge),
            _ if from == FORWARDER => (forwarder(&to), to, edge),
            _ => (from, to, edge),
        }
    })
}

/// Who sends what a mailbox takes from the broadcast, as the wiring names it.
const FORWARDER: &str = "forwarder";

/// A name that Mermaid takes for an identifier.
fn node(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

fn channel(channel: Channel) -> &'static str {
    match channel {
        Channel::Broadcast => "broadcast",
        Channel::Mpsc => "mpsc",
        Channel::Watch => "watch",
    }
}

fn policy(policy: OverflowPolicy) -> &'static str {
    match policy {
        OverflowPolicy::Wait => "wait",
        OverflowPolicy::DropNewest => "drop newest",
        OverflowPolicy::Latest => "latest",
        OverflowPolicy::Repair => "repair",
    }
}
