//! The lending pools as a text that anybody can write from the blocks alone: a part of the digest of a run's end.

use std::fmt::Write as _;

use super::{LendingBook, Place};

impl LendingBook {
    /// Appends every followed pool, its reserves, categories, prices and accounts, and which blocks can be undone; one a
    /// line. Nothing where no pool is configured.
    pub fn account(&self, text: &mut String) {
        self.pools.iter().for_each(|place| place.account(text));
        if !self.pools.is_empty() {
            self.records.iter().for_each(|record| {
                line(text, format_args!("lending-undo {} {:#x}", record.block.number, record.block.hash));
            });
        }
    }
}

impl Place {
    fn account(&self, text: &mut String) {
        let Some(following) = self.following.as_ref().filter(|_| !self.is_lost) else {
            return line(text, format_args!("lending {:#x} -", self.pool));
        };
        let market = following.market();
        let (revision, allowed) = (market.revision(), market.is_liquidation_allowed());
        let sequencer = following.sequencer();
        line(text, format_args!("lending {:#x} {revision} {allowed} {sequencer:?}", self.pool));
        market.reserves().for_each(|reserve| line(text, format_args!("{reserve:?}")));
        market.e_mode_categories().for_each(|(id, category)| line(text, format_args!("{id} {category:?}")));
        market.prices().for_each(|(source, price)| line(text, format_args!("{source:#x} {price}")));
        market.accounts().for_each(|(account, held)| line(text, format_args!("{account:#x} {held:?}")));
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a string takes everything");
}
