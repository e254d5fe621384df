//! The book as a text that anybody can write from the blocks alone.

use std::fmt::{Arguments, Write as _};

use headwater_amm::ConcentratedPool;

use super::{ConcentratedBook, ConcentratedKind, ConcentratedMeta};

impl ConcentratedBook {
    /// Appends every proven pool and every undo record, one a line, to `text`; nothing where no pool is proven. The README says
    /// what stands in a line.
    pub fn account(&self, text: &mut String) {
        let mut pools: Vec<_> =
            self.table.iter().filter(|(id, meta, _)| self.proven_key(&meta.key()) == Some(*id)).collect();
        if pools.is_empty() {
            return;
        }
        pools.sort_unstable_by_key(|(_, meta, _)| meta.key());
        for (_, meta, pool) in pools {
            let (name, factory) = (name(meta), meta.factory);
            let protocol = match meta.kind {
                ConcentratedKind::V3 => "uniswap-v3",
                ConcentratedKind::V4 { .. } => "uniswap-v4",
            };
            let (token0, token1) = (meta.token0, meta.token1);
            let (fee, spacing) = (meta.fee, meta.tick_spacing);
            let standing = standing(meta, pool.map(AsRef::as_ref));
            line(
                text,
                format_args!(
                    "concentrated {name} {factory:#x} {protocol} {token0:#x} {token1:#x} {fee} {spacing} \
                     {standing}"
                ),
            );
            for tick in pool.into_iter().flat_map(|pool| pool.ticks()) {
                let (net, gross) = (tick.liquidity_net, tick.liquidity_gross);
                line(text, format_args!("tick {} {net} {gross}", tick.index));
            }
        }
        self.undo_account(text);
    }

    fn undo_account(&self, text: &mut String) {
        let mut current: Vec<_> = self.table.iter().map(|(.., pool)| pool.cloned()).collect();
        for record in self.records.iter().rev() {
            line(text, format_args!("unfold {}", record.block.number));
            let mut touches: Vec<_> = record.touches.iter().collect();
            touches.sort_unstable_by_key(|touch| self.table.meta(touch.id).map(ConcentratedMeta::key));
            for touch in touches {
                let Some(meta) = self.table.meta(touch.id) else { continue };
                let created = if touch.created { "created" } else { "-" };
                let standing = standing(meta, touch.before.as_deref());
                line(text, format_args!("was {} {standing} {created}", name(meta)));
                let after = std::mem::replace(&mut current[touch.id.index()], touch.before.clone());
                let (Some(before), Some(after)) = (&touch.before, after) else { continue };
                for (index, net, gross) in before.differing_ticks(&after) {
                    line(text, format_args!("tick {index} {net} {gross}"));
                }
            }
        }
    }
}

fn name(meta: &ConcentratedMeta) -> String {
    match meta.kind {
        ConcentratedKind::V3 => format!("{:#x}", meta.address),
        ConcentratedKind::V4 { id } => format!("{id:#x}"),
    }
}

fn standing(meta: &ConcentratedMeta, pool: Option<&ConcentratedPool>) -> String {
    let stands = match pool.map(|pool| (pool.price(), pool.liquidity())) {
        None => "- - -".to_owned(),
        Some((None, liquidity)) => format!("0 0 {liquidity}"),
        Some((Some(price), liquidity)) => format!("{} {} {liquidity}", price.sqrt_price, price.tick),
    };
    match (meta.kind, pool) {
        (ConcentratedKind::V3, _) => stands,
        (ConcentratedKind::V4 { .. }, None) => format!("{stands} -"),
        (ConcentratedKind::V4 { .. }, Some(pool)) => format!("{stands} {}", pool.fee().packed_protocol()),
    }
}

fn line(text: &mut String, words: Arguments<'_>) {
    writeln!(text, "{words}").expect("a string takes everything");
}
