//! What pools of V4 give, by their manager's own code.

use std::collections::{BTreeSet, HashMap};

use alloy_primitives::U256;
use anyhow::{Context, ensure};
use headwater_events::{MixedStep, Opportunity, Plan};
use headwater_reference::arbitrage::PoolName;
use headwater_reference::evm::{Artifact, Evm};
use headwater_reference::pools::{ActV4, PlaceV4, RoutersV4};

use super::world::{self, Managed, World};

/// Has the hops through pools of V4 quoted by a real manager, up to `most` of them; answers how many.
pub(super) fn ask(
    artifacts: &[Artifact; 4],
    world: &World,
    found: &[Opportunity],
    most: usize,
) -> anyhow::Result<u64> {
    let (mut evm, routers, tokens) = RoutersV4::on_own_chain(artifacts, world::CONTRACTS)?;
    let mut places = HashMap::new();
    for pool in world.managed(routers.manager, &tokens) {
        build(&mut evm, &routers, &pool).with_context(|| format!("{:?}", pool.place))?;
        places.insert(pool.name, pool.place);
    }
    let hops: BTreeSet<_> = found.iter().flat_map(steps).filter_map(hop).collect();
    let every = hops.len() / most + 1;
    for (name, zero_for_one, amount_in, amount_out) in hops.iter().step_by(every) {
        let place: &PlaceV4 = places.get(name).with_context(|| format!("{name:?} is not of V4"))?;
        let answer = routers.answer(&mut evm, place, *zero_for_one, amount_in.to());
        ensure!(
            answer.map(U256::from) == Some(*amount_out),
            "{amount_out} predicted for {amount_in}, the manager gives {answer:?}: {place:?}"
        );
    }
    Ok(hops.len().div_ceil(every) as u64)
}

/// A pool that stands where this one stands.
fn build(evm: &mut Evm, routers: &RoutersV4, pool: &Managed<'_>) -> anyhow::Result<()> {
    let changes = pool.ticks.changes.iter().copied().map(ActV4::Modify);
    let acts = [ActV4::Initialize(pool.ticks.sqrt_price), ActV4::ProtocolFee(pool.protocol_fee)];
    for act in acts.into_iter().chain(changes) {
        routers.act(evm, &pool.place, &act).with_context(|| format!("{act:?}"))?;
    }
    Ok(())
}

fn steps(found: &Opportunity) -> &[MixedStep] {
    if let Plan::Mixed(steps) = &found.plan { steps } else { &[] }
}

fn hop(step: &MixedStep) -> Option<(PoolName, bool, U256, U256)> {
    let name = PoolName { address: step.swap.pool, id: Some(step.pool_id?) };
    Some((name, step.zero_for_one, step.swap.amount_in, step.swap.amount_out))
}
