//! What is signed and what is logged comes back as what was meant; what is cut, bent or piled up comes back as malformed.
//!
//! The judge writes calls from random plans by the letter of the contract ABI (`headwater_reference::calldata`), with the meaning
//! beside each in the words of the events' own serialization. The events are written by the same encoder from random values.

use std::path::Path;

use alloy_primitives::{Address, B256, Bytes};
use anyhow::{Context, ensure};
use headwater_decoder::{Decoder, Interface, Registry};
use headwater_events::{
    Action, AsOf, BlockEvent, Call, Custom, DecodedBlock, Grade, Header, Log, Topics, Transaction,
};
use headwater_reference::calldata::{Contract, Random, Signed};
use serde_json::{Value, json};

use super::mainnet_swaps;
use crate::devnet;
use crate::proof::{Proof, ProofArgs, Report};

mod logged;

/// The decoder against an encoder that knows nothing of it.
pub const DECODER: Proof = Proof {
    name: "decoder",
    about: "100,000 signed plans (Universal Router since V4 and before, multicalls, Permit2, Aave, reports) and 100,000 events, whole, cut and bent; an extension",
    full_duration: "3 min",
    run,
};

/// How much is examined.
struct Size {
    plans: u64,
    events: u64,
    floor: u64,
    /// At least so many of each of [`Kinds`].
    each: u64,
}

const FULL: Size = Size { plans: 100_000, events: 100_000, floor: 1_000_000, each: 1_000 };
const QUICK: Size = Size { plans: 1_500, events: 3_000, floor: 18_000, each: 10 };

/// How deep plans are nested at most: less than the decoder follows.
const DEPTH: u32 = 4;

fn run(args: &ProofArgs) -> anyhow::Result<Report> {
    let size = if args.quick { QUICK } else { FULL };
    let mut report = Report { floor: size.floor, seed: args.seed, ..Report::default() };
    let plans = plans(args.seed, size.plans)?;
    plans.kinds.ensure_each(size.each)?;
    let events = logged::events(args.seed, size.events)?;
    report.checked = plans.checked() + events.checked();
    report.lines = vec![plans.line(), plans.kinds.line(), events.line()];
    match devnet::read_variable("HEADWATER_MAINNET").filter(|path| !path.is_empty()) {
        None => {
            report.skipped += 1;
            devnet::write_skip("HEADWATER_MAINNET is not set", "the calls of real blocks")?;
        }
        Some(directory) => {
            let calls = mainnet_swaps::compare_calls(Path::new(&directory))?;
            report.checked += calls.checked;
            report.lines.extend(calls.lines);
        }
    }
    Ok(report)
}

#[derive(Debug, Default)]
struct Plans {
    whole: u64,
    inside: u64,
    unknown: u64,
    extended: u64,
    cut: u64,
    only_padding: u64,
    bent: u64,
    bent_decoded: u64,
    kinds: Kinds,
}

/// How much of each kind came back as it was meant, in the judge's words.
#[derive(Clone, Debug, Default)]
struct Kinds {
    /// Neither is empty.
    plans_in_plans: u64,
    multicalls_in_multicalls: u64,
    /// Calls of Permit2 itself, and commands that call it.
    permit2: u64,
    permit2_in_plans: u64,
    aave: u64,
    /// Of prices.
    reports: u64,
    /// Plans for the Universal Router before V4; not those inside other calls.
    before_v4: u64,
}

impl Kinds {
    fn count(&mut self, signed: &Signed) {
        self.before_v4 += u64::from(signed.contract == Contract::UniversalRouterV1);
        self.count_within(&signed.meaning, false);
    }

    fn count_within(&mut self, meaning: &Value, is_in_multicall: bool) {
        match meaning {
            Value::Object(object) => {
                for (name, inner) in object {
                    let is_multicall = name == "Multicall";
                    match name.as_str() {
                        "SubPlan" => self.plans_in_plans += u64::from(inner != &json!([])),
                        "Multicall" => self.multicalls_in_multicalls += u64::from(is_in_multicall),
                        "Permit2" => self.permit2 += 1,
                        "instruction" => self.permit2_in_plans += u64::from(calls_permit2(inner)),
                        "Aave" => self.aave += 1,
                        "Transmit" => self.reports += 1,
                        _ => {}
                    }
                    self.count_within(inner, is_in_multicall || is_multicall);
                }
            }
            Value::Array(values) => values.iter().for_each(|inner| self.count_within(inner, is_in_multicall)),
            _ => {}
        }
    }

    fn all(&self) -> [(&'static str, u64); 7] {
        [
            ("plans in plans", self.plans_in_plans),
            ("multicalls in multicalls", self.multicalls_in_multicalls),
            ("calls of Permit2", self.permit2),
            ("commands that call Permit2", self.permit2_in_plans),
            ("calls of Aave", self.aave),
            ("reports", self.reports),
            ("plans for the Universal Router before V4", self.before_v4),
        ]
    }

    fn ensure_each(&self, least: u64) -> anyhow::Result<()> {
        for (kind, count) in self.all() {
            ensure!(count >= least, "only {count} {kind} of at least {least}");
        }
        Ok(())
    }

    fn line(&self) -> String {
        let counted = self.all().map(|(kind, count)| format!("{count} {kind}"));
        format!("among them {}", counted.join(", "))
    }
}

fn calls_permit2(instruction: &Value) -> bool {
    ["Permit", "TransferFrom", "TransferFromBatch"].iter().any(|name| instruction.get(name).is_some())
}

impl Plans {
    fn checked(&self) -> u64 {
        self.whole + self.extended + self.cut + self.bent
    }

    fn line(&self) -> String {
        let Self { whole, inside, unknown, extended, cut, only_padding, bent, bent_decoded, .. } = self;
        format!(
            "{whole} signed calls came back as they were meant, {inside} swaps in them, {unknown} unknown functions and commands \
             counted; {extended} read again by an extended registry; {cut} cut short, all malformed but for {only_padding} that \
             lost padding only; {bent} bent, of which {bent_decoded} still decode and the others are malformed or unknown"
        )
    }
}

fn registry() -> Registry {
    let interfaces = [
        (Interface::UniswapV2Router, Contract::V2Router),
        (Interface::UniswapV3Router, Contract::V3Router),
        (Interface::SwapRouter02, Contract::Router02),
        (Interface::UniversalRouter, Contract::UniversalRouter),
        (Interface::UniversalRouterV1, Contract::UniversalRouterV1),
        (Interface::Permit2, Contract::Permit2),
        (Interface::AavePool, Contract::AavePool),
    ];
    interfaces.into_iter().fold(Registry::default(), |registry, (interface, contract)| {
        registry.contracts(interface, [contract.address()])
    })
}

/// The functions that the judge calls and that nobody knows, taught in one line.
fn extended() -> Registry {
    (0..=255u8).fold(registry(), |registry, last| {
        registry.calls([0xee, 0xee, 0xee, last], |call| {
            Ok(Custom::new("mine").with("selector", Bytes::copy_from_slice(&call.selector)))
        })
    })
}

/// What an extended registry makes of a meaning.
fn extend(meaning: &mut Value) {
    match meaning {
        Value::Object(object) => {
            if let Some(Value::Array(selector)) = object.get("Unknown") {
                let bytes: Vec<u8> = selector.iter().filter_map(|byte| Some(byte.as_u64()? as u8)).collect();
                let fields = json!([["selector", { "Bytes": Bytes::from(bytes) }]]);
                *meaning = json!({ "Custom": { "name": "mine", "fields": fields } });
            } else {
                object.values_mut().for_each(extend);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(extend),
        _ => {}
    }
}

fn plans(seed: u64, count: u64) -> anyhow::Result<Plans> {
    let (decoder, extended) = (Decoder::with_registry(registry()), Decoder::with_registry(extended()));
    let mut plans = Plans::default();
    for number in 0..count {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let mut random = Random(seed);
        let signed = Signed::random(&mut random, DEPTH);
        let context = || format!("plan of seed {seed}");
        whole(&decoder, &signed, &mut plans).with_context(context)?;
        again(&extended, &signed, &mut plans).with_context(context)?;
        for _ in 0..4 {
            cut(&decoder, &signed, &mut random, &mut plans).with_context(context)?;
            bend(&decoder, &signed, &mut random, &mut plans).with_context(context)?;
        }
    }
    // What all of it is there for.
    ensure!(
        plans.inside * 2 > plans.whole && plans.unknown * 10 > plans.whole,
        "the plans are too simple: {plans:?}"
    );
    ensure!(plans.only_padding * 10 < plans.cut, "what was cut was padding: {plans:?}");
    Ok(plans)
}

fn whole(decoder: &Decoder, signed: &Signed, plans: &mut Plans) -> anyhow::Result<()> {
    let decoded = decode(decoder, signed, &signed.calldata);
    let call = only_call(&decoded, signed)?;
    let found = serde_json::to_value(call)?;
    ensure!(found == signed.meaning, "decoded {found:#}, meant {:#}", signed.meaning);
    let counts = [decoded.unknown_calls, decoded.malformed];
    ensure!(counts == [signed.unknown, 0], "{counts:?} unknown and malformed, meant {}", signed.unknown);
    let swaps = call.swaps().len() as u64;
    let meant = swaps_of(&signed.meaning);
    ensure!(swaps == meant, "{swaps} swaps, meant {meant}");
    plans.whole += 1;
    plans.inside += swaps;
    plans.unknown += u64::from(signed.unknown);
    plans.kinds.count(signed);
    Ok(())
}

/// How many swaps a meaning tells of: each has its exact amount.
fn swaps_of(meaning: &Value) -> u64 {
    match meaning {
        Value::Object(object) => {
            u64::from(object.contains_key("exact")) + object.values().map(swaps_of).sum::<u64>()
        }
        Value::Array(values) => values.iter().map(swaps_of).sum(),
        _ => 0,
    }
}

fn again(extended: &Decoder, signed: &Signed, plans: &mut Plans) -> anyhow::Result<()> {
    let mut meaning = signed.meaning.clone();
    extend(&mut meaning);
    let decoded = decode(extended, signed, &signed.calldata);
    let found = serde_json::to_value(only_call(&decoded, signed)?)?;
    ensure!(found == meaning, "extended: decoded {found:#}, meant {meaning:#}");
    plans.extended += 1;
    Ok(())
}

/// Without its end a call is malformed, unless only padding is missing.
fn cut(decoder: &Decoder, signed: &Signed, random: &mut Random, plans: &mut Plans) -> anyhow::Result<()> {
    let end = signed.calldata.len() - signed.tag;
    if end == 4 {
        return Ok(());
    }
    let at = 4 + random.below(end as u64 - 4) as usize;
    let decoded = decode(decoder, signed, &signed.calldata[..at]);
    match &decoded.actions[..] {
        [] => ensure!(decoded.malformed == 1, "cut at {at}: not counted as malformed: {decoded:?}"),
        _ => {
            let found = serde_json::to_value(only_call(&decoded, signed)?)?;
            let is_padding = signed.calldata[at..end].iter().all(|byte| *byte == 0);
            ensure!(found == signed.meaning && is_padding, "cut at {at}: decoded {found:#}");
            plans.only_padding += 1;
        }
    }
    plans.cut += 1;
    Ok(())
}

/// With some bytes changed a call is another one, an unknown one or a malformed one: one of these, and no more than it can
/// be.
fn bend(decoder: &Decoder, signed: &Signed, random: &mut Random, plans: &mut Plans) -> anyhow::Result<()> {
    let mut calldata = signed.calldata.clone();
    for _ in 0..=random.below(3) {
        let at = random.below(calldata.len() as u64) as usize;
        // Small numbers are what offsets, lengths and commands are made of.
        calldata[at] = if random.coin() { random.draw() as u8 } else { 1 << random.below(8) };
    }
    let decoded = decode(decoder, signed, &calldata);
    let is_known = signed.contract != Contract::Anyone;
    let ways = (decoded.actions.len(), decoded.malformed, decoded.unknown_calls);
    let is_one_of_them = match ways {
        (1, 0, _) | (0, 1, 0) => true,
        (0, 0, unknown) => unknown == u32::from(is_known),
        _ => false,
    };
    ensure!(is_one_of_them, "bent to {}: {ways:?}", Bytes::from(calldata));
    if ways.0 == 1 {
        let call = only_call(&decoded, signed)?;
        ensure!(call.walk().count() <= 4096, "more calls than are followed");
        plans.bent_decoded += 1;
    }
    plans.bent += 1;
    Ok(())
}

fn only_call<'a>(decoded: &'a DecodedBlock, signed: &Signed) -> anyhow::Result<&'a Call> {
    match &decoded.actions[..] {
        [Action::Call { transaction_index: 0, contract, call }] if *contract == signed.contract.address() => {
            Ok(call)
        }
        other => anyhow::bail!(
            "{} from {}: {other:?}, {} malformed",
            signed.meaning,
            Bytes::copy_from_slice(&signed.calldata),
            decoded.malformed
        ),
    }
}

fn decode(decoder: &Decoder, signed: &Signed, calldata: &[u8]) -> DecodedBlock {
    let transaction = Transaction {
        hash: B256::ZERO,
        from: Address::ZERO,
        to: Some(signed.contract.address()),
        value: signed.value,
        input: Bytes::copy_from_slice(calldata),
        nonce: 0,
        gas_limit: 0,
    };
    decode_block(decoder, vec![transaction], Vec::new())
}

fn decode_block(decoder: &Decoder, transactions: Vec<Transaction>, logs: Vec<Log>) -> DecodedBlock {
    let header = Header {
        number: 1,
        hash: B256::ZERO,
        parent_hash: B256::ZERO,
        timestamp: 0,
        base_fee_per_gas: None,
        gas_used: 0,
        gas_limit: 0,
        beneficiary: Address::ZERO,
        logs_bloom: Default::default(),
    };
    let block = BlockEvent { header, transactions, logs, grade: Grade::Matched };
    decoder.decode(&block, AsOf { seq: 1, number: 1, hash: B256::ZERO })
}

fn log(emitter: Address, topics: &[B256], data: &[u8]) -> Log {
    Log {
        address: emitter,
        topics: topics.iter().copied().collect::<Topics>(),
        data: Bytes::copy_from_slice(data),
        transaction_index: 0,
        log_index: 7,
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;

    use super::*;

    fn signed() -> Signed {
        (0..)
            .map(|seed| Signed::random(&mut Random(seed), DEPTH))
            .find(|signed| swaps_of(&signed.meaning) == 1)
            .expect("one of many")
    }

    #[test]
    fn one_unit_of_difference_is_found() {
        let (decoder, mut signed) = (Decoder::with_registry(registry()), signed());
        whole(&decoder, &signed, &mut Plans::default()).expect("it comes back");
        let amount = |meaning: &Value| {
            let text = meaning.to_string();
            let at = text.find("\"amount_in\":\"").expect("a swap has an input") + 13;
            let end = at + text[at..].find('"').expect("it ends");
            let more = text[at..end].parse::<U256>().expect("a number").wrapping_add(U256::from(1));
            format!("{}{more:#x}{}", &text[..at], &text[end..])
        };
        signed.meaning = serde_json::from_str(&amount(&signed.meaning)).expect("it is JSON");
        assert!(whole(&decoder, &signed, &mut Plans::default()).is_err());
    }

    #[test]
    fn a_kind_that_hardly_comes_up_is_found() -> anyhow::Result<()> {
        let mut plans = plans(1, QUICK.plans)?;
        plans.kinds.ensure_each(QUICK.each)?;
        plans.kinds.multicalls_in_multicalls = QUICK.each - 1;
        assert!(plans.kinds.ensure_each(QUICK.each).is_err());
        Ok(())
    }

    #[test]
    fn a_plan_in_the_other_dialect_is_found() {
        let other = Registry::default()
            .contracts(Interface::UniversalRouter, [Contract::UniversalRouterV1.address()]);
        let [decoder, other] = [registry(), other].map(Decoder::with_registry);
        let of_v1 = (0..).map(|seed| Signed::random(&mut Random(seed), DEPTH));
        let of_v1 = of_v1.filter(|signed| signed.contract == Contract::UniversalRouterV1);
        let mut found = 0;
        for signed in of_v1.take(20) {
            whole(&decoder, &signed, &mut Plans::default()).expect("it comes back");
            found += u64::from(whole(&other, &signed, &mut Plans::default()).is_err());
        }
        assert!(found >= 10, "{found}");
    }

    #[test]
    fn a_contract_that_nobody_named_is_found() {
        let decoder = Decoder::with_registry(Registry::default());
        assert!(whole(&decoder, &signed(), &mut Plans::default()).is_err());
    }
}
