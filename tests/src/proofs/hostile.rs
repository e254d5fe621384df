//! Hostile tokens, factories, pools and prices, loaded by the bot's own loader from a node whose tokens are EVM programs: refused with
//! a reason, never quoted and never in a finding, each beside an honest twin that is. What is found is carried out on the pairs' own
//! bytecode, with the tokens as they are.

mod exchange;
mod floods;
mod follower;
mod market;
mod prices;
mod ranged;

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, Bytes};
use anyhow::{Context, ensure};
use headwater_events::{BusEvent, Opportunity, Plan, TokenVerdict};
use headwater_node::{Node, NodeConfig};
use headwater_reference::fake_node::{BlockBuilder, FakeNode, V2Pair, V2World};
use headwater_state::{BulkLoad, bulk_load};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::exchange::{Exchange, hostile_steps, pair_code};
use self::follower::{Followed, Follower, RESEARCH, sync_of};
use self::market::{Case, Coins, Depth, Kind, Places, TOKENS, other};
use crate::devnet::Artifacts;
use crate::proof::{Proof, ProofArgs, Report};
use crate::replayed::runtime;

/// Tokens, lying factories, greatest reserves, unjudged tokens, manipulated prices, a feed that stops, floods.
pub const HOSTILE: Proof = Proof {
    name: "hostile",
    about: "hostile tokens of eighteen kinds in pools of V2, V3 and V4, lying factories, greatest reserves, manipulated prices, a feed that stops and floods of fake pools: never quoted, acted upon or remembered without bound; honest twins are quoted, and every finding gains when carried out",
    full_duration: "1 min",
    run,
};

#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    quoted: u64,
    findings: u64,
    manipulated: u64,
    avoided: u64,
    lies: u64,
    created: u64,
    floods: floods::Counts,
    ranged: ranged::Counts,
    prices: prices::Counts,
    reasons: BTreeMap<String, u64>,
}

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let mut tally = Tally::default();
    let rounds = if args.quick { 3 } else { 300 };
    let runtime = runtime(2)?;
    let pair = pair_code(&Artifacts::install()?)?;
    for round in 0..rounds {
        runtime
            .block_on(play(&mut random, &pair, &mut tally))
            .with_context(|| format!("round {round}, seed {}", args.seed))?;
    }
    let Tally {
        refused,
        quoted,
        findings,
        manipulated,
        avoided,
        lies,
        created,
        floods,
        ranged,
        prices,
        reasons,
    } = &tally;
    ensure!(ranged.rarest() >= rounds, "a hostile case came {} times in pools of V3 and V4", ranged.rarest());
    let told = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>();
    let lines = vec![
        format!("{refused} hostile tokens refused before their pools were quoted: {}", told.join(", ")),
        format!("  {quoted} pools of honest twins quoted, some of them at the greatest reserves"),
        format!(
            "  {findings} findings, and {manipulated} in blocks that push prices: every honest twin whose pools are not full is in \
             one, no hostile token is, and carried out on the pairs' bytecode each gains what it says"
        ),
        format!(
            "  {avoided} cycles through hostile tokens that would gain, if they were what they say, do not"
        ),
        format!("{lies} contracts that a lying factory lists refused"),
        format!("{created} pools that blocks created not quoted before the verdict, and then"),
        ranged.to_string(),
        floods.to_string(),
        prices.to_string(),
    ];
    let checked = refused
        + quoted
        + findings
        + manipulated
        + avoided
        + lies
        + created
        + floods.all()
        + ranged.all()
        + prices.all();
    let floor = rounds * (TOKENS as u64 * 4 + floods::FLOOR + ranged::FLOOR + prices::FLOOR);
    Ok(Report { checked, floor, skipped: 0, seed: args.seed, lines })
}

async fn play(random: &mut ChaCha8Rng, pair: &Bytes, tally: &mut Tally) -> anyhow::Result<()> {
    let places = Places::new(random);
    let market = places.market(random)?;
    let native = places.native;
    let world = V2World::default().token(native, 18, "NATIVE");
    let world = places.factories.into_iter().fold(world, V2World::factory);
    let (world, cases) = market::populate(random, world, &market, native);
    let coins = Coins::new(random, &market, &places);
    let mut world = coins.add_to(world);
    let lies = [(); 2].map(|()| {
        let [honest, _] = market::pools(random, &market, native, Depth::Usual, false);
        V2Pair { address: Address::from(random.random::<[u8; 20]>()), ..honest }
    });
    for lie in lies {
        world = world.token(other(&lie, native), 18, "LIE").pair(lie);
    }
    let (fake, url) = FakeNode::start(market::CHAIN_ID).await?;
    let block = BlockBuilder::first(100).build();
    fake.push_block(block.clone());
    fake.answer_v2(world);
    let (node, _) = Node::connect_first(&NodeConfig::new(vec![url.parse()?])).await?;
    let load = bulk_load(&node, &market, block.hash(), |_, _| {}).await?;
    ensure!(load.report.refused == 2, "{} contracts of the lying factory were refused", load.report.refused);
    tally.lies += load.report.refused;

    let mut follower = Follower::new(&market, (100, block.hash()));
    for event in &load.events {
        follower.take(event.clone())?;
    }
    follower.take(coins.resolved(100, block.hash()))?;
    let mut exchange = Exchange::new(pair);
    market::place(&mut exchange, native, &cases, &coins);

    let [created, _] = market::pools(random, &market, native, Depth::Usual, false);
    let followed = floods::judge_fakes(random, &mut follower, &created, &mut tally.floods)?;
    for lie in &lies {
        ensure!(followed.market().pools.find(&lie.address).is_none(), "a lie of its factory is tracked");
    }
    judge_verdicts(&load, &followed, &cases, tally)?;
    tally.findings += judge_findings(&followed, &cases, &coins, &mut exchange)?;
    tally.avoided += avoided(&cases, native, &mut exchange)?;
    floods::judge_created(random, &mut follower, &followed, &created, native)?;
    tally.created += 1;
    tally.manipulated += manipulate(random, &mut follower, &cases, &coins, native, &mut exchange)?;
    prices::judge(random, &mut follower, &coins, &mut tally.prices)?;
    ranged::judge(random, &mut follower, &market, native, &cases, &exchange, &mut tally.ranged)
        .context("pools of V3 and V4")?;
    floods::judge_flood(random, &mut follower, &market, native, &mut tally.floods)
}

fn judge_verdicts(
    load: &BulkLoad,
    followed: &Followed,
    cases: &[Case],
    tally: &mut Tally,
) -> anyhow::Result<()> {
    for Case { pools, token, kind, .. } in cases {
        let quoted = pools.iter().filter(|pool| followed.is_quoted(pool.address)).count();
        let Kind::Hostile(hostile) = kind else {
            ensure!(refusal(load, *token).is_none(), "an honest token is refused");
            ensure!(quoted == pools.len(), "a pool of an honest token is not quoted");
            tally.quoted += quoted as u64;
            continue;
        };
        let reason = refusal(load, *token).with_context(|| format!("{:?} is not refused", hostile.habit))?;
        ensure!(reason.starts_with(hostile.reason), "{:?}: {reason}", hostile.habit);
        ensure!(quoted == 0, "a pool of {:?} is quoted", hostile.habit);
        *tally.reasons.entry(hostile.reason.to_owned()).or_default() += 1;
        tally.refused += 1;
    }
    Ok(())
}

/// The two pools of every token disagree, so that each would be in a finding if it were quoted.
fn judge_findings(
    followed: &Followed,
    cases: &[Case],
    coins: &Coins,
    exchange: &mut Exchange,
) -> anyhow::Result<u64> {
    let found = followed.findings(&RESEARCH)?;
    let used: BTreeSet<Address> = found.iter().flat_map(|found| found.path.iter().copied()).collect();
    // Nothing can be added to what a pair holds at most.
    let honest =
        cases.iter().filter(|case| matches!(case.kind, Kind::Honest(_)) && case.depth != Depth::Full);
    let honest = honest.flat_map(|case| &case.pools).chain(coins.disagreeing());
    let honest: BTreeSet<Address> = honest.map(|pool| pool.address).collect();
    ensure!(used == honest, "findings lead through {used:?}, and honest pools are {honest:?}");
    for found in &found {
        carry_out(found, exchange).with_context(|| format!("carrying out {found:?}"))?;
    }
    Ok(found.len() as u64)
}

fn carry_out(found: &Opportunity, exchange: &mut Exchange) -> anyhow::Result<()> {
    let Plan::Swaps(steps) = &found.plan else { anyhow::bail!("it is no plan of swaps") };
    let left = exchange.carry_out(steps)?;
    ensure!(left == found.amount_in + found.profit, "{left} are left");
    ensure!(!found.profit.is_zero(), "it gains nothing");
    Ok(())
}

/// What a bot that believes hostile tokens would do loses, or fails: these cases are tempting, and the exchange can tell.
fn avoided(cases: &[Case], native: Address, exchange: &mut Exchange) -> anyhow::Result<u64> {
    let mut avoided = 0;
    for Case { pools, kind, .. } in cases {
        let Kind::Hostile(hostile) = kind else { continue };
        if !hostile.bites_at_once() {
            continue;
        }
        for [first, second] in [[&pools[0], &pools[1]], [&pools[1], &pools[0]]] {
            let Some(steps) = hostile_steps(first, second, native) else { continue };
            if let Ok(left) = exchange.carry_out(&steps) {
                ensure!(left < steps[1].amount_out, "{:?} does no harm: {left} are left", hostile.habit);
            }
            avoided += 1;
        }
    }
    Ok(avoided)
}

/// Somebody pushes the price in one pool of every token, within one block.
fn manipulate(
    random: &mut ChaCha8Rng,
    follower: &mut Follower,
    cases: &[Case],
    coins: &Coins,
    native: Address,
    exchange: &mut Exchange,
) -> anyhow::Result<u64> {
    let mut logs = Vec::new();
    for case in cases.iter().filter(|case| case.depth == Depth::Usual) {
        let pushed = market::pushed(&case.pools[0], native, random.random_range(2..1_000), random.random());
        exchange.hold(&pushed);
        logs.push(sync_of(&pushed));
    }
    let followed = follower.block(random, 12, logs)?;
    judge_findings(&followed, cases, coins, exchange)
}

fn refusal(load: &BulkLoad, token: Address) -> Option<&str> {
    load.events.iter().find_map(|event| match event {
        BusEvent::TokenJudged(judged) if judged.token == token => match &judged.verdict {
            TokenVerdict::Refused(reason) => Some(reason.as_str()),
            TokenVerdict::Accepted { .. } => None,
        },
        _ => None,
    })
}
