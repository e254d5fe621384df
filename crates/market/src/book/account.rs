//! The book as a text that anybody can write from the blocks alone: what the digest of a run's end is made of.

use std::fmt::Write as _;

use headwater_events::Protocol;

use super::{PoolBook, Record, Reserves, Touch};

impl PoolBook {
    /// Appends every proven pool and every undo record, one a line, to `text`. The README says what stands in a line.
    pub fn account(&self, text: &mut String) {
        let hash = |hash: Option<_>| hash.map_or_else(|| "-".to_owned(), |hash| format!("{hash:#x}"));
        line(text, format_args!("book {} {}", hash(self.base), hash(self.head())));
        let mut pools: Vec<_> =
            self.table.iter().filter(|(id, meta, _)| self.proven(&meta.address) == Some(*id)).collect();
        pools.sort_unstable_by_key(|(_, meta, _)| meta.address);
        for (id, meta, held) in pools {
            let protocol = match meta.protocol {
                Protocol::UniswapV2 => "uniswap-v2",
                Protocol::UniswapV3 => "uniswap-v3",
                Protocol::UniswapV4 => "uniswap-v4",
            };
            let quoted = if self.table.quoted(id).is_some() { "quoted" } else { "-" };
            line(
                text,
                format_args!(
                    "pool {:#x} {:#x} {protocol} {:#x} {:#x} {} {} {quoted}",
                    meta.address,
                    meta.factory,
                    meta.token0,
                    meta.token1,
                    meta.fee_ppm,
                    held_text(held)
                ),
            );
        }
        self.records.iter().for_each(|record| record.account(text));
    }
}

impl Record {
    fn account(&self, text: &mut String) {
        let block = &self.block;
        line(text, format_args!("undo {} {:#x} {:#x}", block.number, block.hash, block.parent_hash));
        for Touch { address, before, created } in self.touches.iter() {
            let held = held_text(before.map(|sighting| sighting.reserves));
            let since = before.map_or_else(|| "-".to_owned(), |sighting| sighting.number.to_string());
            let created = if *created { "created" } else { "-" };
            line(text, format_args!("was {address:#x} {held} {since} {created}"));
        }
    }
}

fn held_text(held: Option<Reserves>) -> String {
    held.map_or_else(|| "- -".to_owned(), |held| format!("{} {}", held.reserve0, held.reserve1))
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a string takes everything");
}
