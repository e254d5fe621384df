//! The book as a text that anybody can write from the blocks alone.

use std::fmt::{Arguments, Write as _};

use headwater_amm::ConcentratedPool;

use super::ConcentratedBook;

impl ConcentratedBook {
    /// Appends every proven pool and every undo record, one a line, to `text`; nothing where no pool is proven. The README says
    /// what stands in a line.
    pub fn account(&self, text: &mut String) {
        let mut pools: Vec<_> =
            self.table.iter().filter(|(id, meta, _)| self.proven(&meta.address) == Some(*id)).collect();
        if pools.is_empty() {
            return;
        }
        pools.sort_unstable_by_key(|(_, meta, _)| meta.address);
        for (_, meta, pool) in pools {
            let (address, factory) = (meta.address, meta.factory);
            let (token0, token1) = (meta.token0, meta.token1);
            let (fee, spacing) = (meta.fee, meta.tick_spacing);
            let standing = standing(pool.map(AsRef::as_ref));
            line(
                text,
                format_args!(
                    "concentrated {address:#x} {factory:#x} uniswap-v3 {token0:#x} {token1:#x} {fee} {spacing} \
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
            touches.sort_unstable_by_key(|touch| self.table.meta(touch.id).map(|meta| meta.address));
            for touch in touches {
                let address = self.table.meta(touch.id).map(|meta| meta.address).unwrap_or_default();
                let created = if touch.created { "created" } else { "-" };
                let standing = standing(touch.before.as_deref());
                line(text, format_args!("was {address:#x} {standing} {created}"));
                let after = std::mem::replace(&mut current[touch.id.index()], touch.before.clone());
                let (Some(before), Some(after)) = (&touch.before, after) else { continue };
                for (index, net, gross) in before.differing_ticks(&after) {
                    line(text, format_args!("tick {index} {net} {gross}"));
                }
            }
        }
    }
}

fn standing(pool: Option<&ConcentratedPool>) -> String {
    match pool.map(|pool| (pool.price(), pool.liquidity())) {
        None => "- - -".to_owned(),
        Some((None, liquidity)) => format!("0 0 {liquidity}"),
        Some((Some(price), liquidity)) => format!("{} {} {liquidity}", price.sqrt_price, price.tick),
    }
}

fn line(text: &mut String, words: Arguments<'_>) {
    writeln!(text, "{words}").expect("a string takes everything");
}
