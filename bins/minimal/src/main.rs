//! A strategy and an observer of one's own, on a recording: `cargo run -p headwater-minimal -- RECORDING`.

use std::io::{Write, stdout};

use alloy_primitives::U256;
use anyhow::Context;
use headwater_bus::EventHandler;
use headwater_detectors::Detector;
use headwater_events::{BusEvent, Envelope, Opportunity, RunId};
use headwater_journal::Recording;
use headwater_market::WholeView;
use headwater_simulation::Unavailable;
use headwater_supervisor::{Bot, Config, Strategy, commands::replay_parts};

/// Reports the two pools of a pair whose prices lie furthest apart; `profit` is the gap in parts per million.
struct PriceGap;

impl Detector for PriceGap {
    fn name(&self) -> &str {
        "price-gap"
    }

    fn evaluate(&mut self, view: &WholeView) -> Vec<Opportunity> {
        let (pools, million) = (&view.market().pools, U256::from(1_000_000));
        let quoted = || pools.iter().filter_map(|(id, pool, _)| Some((pool, pools.quoted(id)?)));
        let pairs = quoted().flat_map(|high| quoted().map(move |low| (high, low)));
        let same = pairs.filter(|((a, _), (b, _))| (a.token0, a.token1) == (b.token0, b.token1));
        let gaps = same.map(|((a, high), (b, low))| {
            let [up, under] = [(high.reserve1, low.reserve0), (high.reserve0, low.reserve1)]
                .map(|(one, other)| U256::from(one) * U256::from(other));
            let profit = (million * up / under).saturating_sub(million);
            let (path, tokens) = (vec![a.address, b.address], vec![a.token0, a.token1, a.token0]);
            Opportunity { profit, ..self.inform(view, path, tokens) }
        });
        gaps.max_by_key(|gap| gap.profit).into_iter().collect()
    }
}

/// Prints what is found.
struct Printer;

impl EventHandler for Printer {
    async fn handle(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        if let BusEvent::OpportunityFound(Opportunity { as_of, path, profit, .. }) = &envelope.event {
            writeln!(stdout(), "block {}: {profit} ppm from {} to {}", as_of.number, path[0], path[1])?;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let recording = Recording::open(std::env::args().nth(1).context("usage: headwater-minimal RECORDING")?)?;
    let mut parts = replay_parts(Config::default(), &recording, RunId(0))?;
    parts.strategies = vec![Strategy::new(|| PriceGap)];
    let mut bot = Bot::wire(parts, Unavailable).await?;
    bot.register("printer", Printer);
    let ended = bot.replay(&recording).finish(std::future::pending()).await;
    ended.fatal.map_or(Ok(()), |fatal| Err(fatal.into()))
}
