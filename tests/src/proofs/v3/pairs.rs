//! Pairs of constant product, asked both ways: what comes out for an input, and the least input for an output.

use anyhow::{Context, ensure};
use headwater_amm::{Fee, Hop, MAX_RESERVE};
use headwater_reference::evm::Artifact;
use headwater_reference::pools::{FeeV2, PairV2};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A quarter of the swaps is of either kind at least.
const LEAST_SHARE: u64 = 4;

/// What a pair charges: as its contract has it, and as it is configured.
pub(super) struct Charged {
    pub(super) name: &'static str,
    pub(super) contract: FeeV2,
    pub(super) fee: Fee,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Carried out.
    pub(super) swaps: u64,
    exact_out: u64,
    /// One unit more out, or one less in.
    refused: u64,
    /// Inputs that are too little for a single unit, and outputs that are too much for every input.
    impossible: u64,
}

impl Tally {
    pub(super) fn line(&self, name: &str) -> anyhow::Result<String> {
        let Self { swaps, exact_out, refused, impossible } = self;
        let exact_in = swaps - exact_out;
        ensure!((*exact_out).min(exact_in) >= swaps / LEAST_SHARE, "too few of a kind for {name}: {self:?}");
        ensure!(*impossible > 0, "nothing impossible was asked of {name}");
        Ok(format!(
            "{name}: {swaps} swaps carried out, {exact_out} of them for an output at the least input, reserves equal; {refused} times \
             one unit more out or less in refused by the pair, and {impossible} more swaps that give nothing or cannot be paid"
        ))
    }
}

/// One pair, and swaps in it until `most` more were carried out.
pub(super) fn run(
    random: &mut ChaCha8Rng,
    most: u64,
    charged: &Charged,
    [factory, token]: [&Artifact; 2],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut reserve = || {
        let bits = random.random_range(20..105);
        random.random_range(0..1u128 << bits) + 100_000
    };
    let mut real = PairV2::create_fork(factory, token, [reserve(), reserve()], charged.contract)?;
    let until = tally.swaps + most;
    // A pair that is driven into a corner gives nothing any longer.
    for _ in 0..4 * most {
        if tally.swaps == until {
            break;
        }
        let zero_for_one = random.random_range(0..2) == 0;
        let [reserve_in, reserve_out] = by_direction(real.reserves(), zero_for_one);
        let hop = Hop::new(reserve_in, reserve_out, charged.fee)?;
        if random.random() {
            exact_in(random, &mut real, &hop, zero_for_one, tally).with_context(|| format!("in: {hop:?}"))?;
        } else {
            exact_out(random, &mut real, &hop, zero_for_one, tally)
                .with_context(|| format!("out: {hop:?}"))?;
        }
    }
    Ok(())
}

fn exact_in(
    random: &mut ChaCha8Rng,
    real: &mut PairV2,
    hop: &Hop,
    zero_for_one: bool,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    // From dust to several times the reserve.
    let amount_in = (hop.reserve_in() >> random.random_range(0..40)).max(1) * random.random_range(1..4u128);
    let amount_in = amount_in.min(hop.max_input()).max(1);
    let amount_out = hop.quote(amount_in);
    ensure!(!real.swap(zero_for_one, amount_in, amount_out + 1)?, "it gives more than {amount_out}");
    if amount_out == 0 {
        ensure!(!real.swap(zero_for_one, amount_in, 0)?, "it swaps for nothing");
        tally.impossible += 1;
        return Ok(());
    }
    tally.refused += 1;
    carry_out(real, hop, zero_for_one, amount_in, amount_out, tally)
}

fn exact_out(
    random: &mut ChaCha8Rng,
    real: &mut PairV2,
    hop: &Hop,
    zero_for_one: bool,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let held = hop.reserve_out();
    // From a unit to all but a few, and now and then more than there is.
    let amount_out = match random.random_range(0..16) {
        0 => held.saturating_sub(random.random_range(1..10)).max(1),
        1 => held + random.random_range(0..10),
        _ => {
            let part = (held >> random.random_range(1..40)).max(1);
            random.random_range(1..=part)
        }
    };
    let Some(amount_in) = hop.least_input(amount_out) else {
        let most = MAX_RESERVE - hop.reserve_in();
        ensure!(!real.swap(zero_for_one, most, amount_out)?, "it gives {amount_out} for {most}");
        tally.impossible += 1;
        return Ok(());
    };
    ensure!(!real.swap(zero_for_one, amount_in - 1, amount_out)?, "less than {amount_in} is enough");
    tally.refused += 1;
    tally.exact_out += 1;
    carry_out(real, hop, zero_for_one, amount_in, amount_out, tally)
}

fn carry_out(
    real: &mut PairV2,
    hop: &Hop,
    zero_for_one: bool,
    amount_in: u128,
    amount_out: u128,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    ensure!(real.swap(zero_for_one, amount_in, amount_out)?, "no {amount_out} for {amount_in}");
    let after = hop.after(amount_in, amount_out)?;
    let expected = [after.reserve_in(), after.reserve_out()];
    let found = by_direction(real.reserves(), zero_for_one);
    ensure!(found == expected, "{expected:?} expected, the pair has {found:?}");
    tally.swaps += 1;
    Ok(())
}

fn by_direction([reserve0, reserve1]: [u128; 2], zero_for_one: bool) -> [u128; 2] {
    if zero_for_one { [reserve0, reserve1] } else { [reserve1, reserve0] }
}
