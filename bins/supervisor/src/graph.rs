//! The topology as text and as Mermaid, drawn from the edges of a wired system.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use headwater_bus::{Channel, EdgeReport, OverflowPolicy};

/// As a table: one edge a line.
pub fn text(edges: &[EdgeReport]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["from", "to", "carries", "channel", "capacity", "policy"]);
    for edge in edges {
        table.add_row([
            edge.from.clone(),
            edge.to.clone(),
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
    for edge in edges {
        let arrow = match edge.channel {
            Channel::Broadcast => "==>",
            Channel::Mpsc => "-->",
            Channel::Watch => "-.->",
        };
        let _ = writeln!(
            chart,
            "    {}[{}] {arrow}|{}: {} {}, {}| {}[{}]",
            node(&edge.from),
            edge.from,
            edge.carries,
            channel(edge.channel),
            edge.capacity,
            policy(edge.policy),
            node(&edge.to),
            edge.to,
        );
    }
    chart
}

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
