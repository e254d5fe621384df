//! The examination of a block, and of the whole market.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use headwater_bench::synthetic::SyntheticMarket;
use headwater_detectors::{Arbitrage, ArbitrageConfig, Detector};

fn arbitrage(criterion: &mut Criterion) {
    for pools in [1_000, 10_000] {
        let mut market = SyntheticMarket::new(1, pools);
        let first = market.first_view();
        let views = market.views(256);
        let fresh = || Arbitrage::new(ArbitrageConfig::default(), market.base_tokens());
        let mut detector = fresh();
        detector.evaluate(&first);
        let mut round = views.iter().cycle();
        criterion.bench_function(&format!("block of 50 touched of {pools} pools"), |b| {
            b.iter(|| detector.evaluate(round.next().expect("it has no end")).len());
        });
        criterion.bench_function(&format!("whole market of {pools} pools"), |b| {
            b.iter_batched_ref(fresh, |detector| detector.evaluate(&first).len(), BatchSize::LargeInput);
        });
    }
}

criterion_group!(benches, arbitrage);
criterion_main!(benches);
