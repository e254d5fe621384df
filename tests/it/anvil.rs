//! A sample of the proof `anvil`.

use alloy_primitives::{Address, U256};
use headwater_node::{Answer, Node, NodeConfig, ask_with_code};
use headwater_reference::anvil::Anvil;
use headwater_reference::tokens::{Habit, balance_slot, said, token};
use headwater_simulation::{TokenFault, TokenTrial};
use headwater_tests::devnet::{self, Artifacts};
use headwater_tests::proof::{self, ProofArgs};
use serde_json::{Value, json};

const TOKEN: Address = Address::repeat_byte(0x70);
const POOL: Address = Address::repeat_byte(0x99);
const HELD: u64 = 1 << 50;

/// Whether a second look, a month later, is one at that time, and what it shows; the token passes its trial in any case.
async fn look_later(anvil: &Anvil, habit: Habit) -> anyhow::Result<Result<bool, TokenFault>> {
    anvil.rpc().call::<Value>("anvil_setCode", json!([TOKEN, token(habit)]))?;
    let slot = format!("{:#066x}", balance_slot(POOL));
    let held = U256::from(HELD);
    anvil.rpc().call::<Value>("anvil_setStorageAt", json!([TOKEN, slot, format!("{held:#066x}")]))?;
    anvil.rpc().call::<Value>("evm_mine", json!([]))?;
    let head: Value = anvil.rpc().call("eth_getBlockByNumber", json!(["latest", false]))?;
    let block = serde_json::from_value(head["hash"].clone())?;
    let timestamp: U256 = serde_json::from_value(head["timestamp"].clone())?;
    let held = said(habit, held, timestamp.to());
    let trial = TokenTrial { token: TOKEN, holder: POOL, held, max_gas: 300_000 };
    let (node, _) = Node::connect_first(&NodeConfig::new(vec![anvil.ws_url().parse()?])).await?;
    let mut answers = ask_with_code(&node, block, &[trial.question(block)]).await?;
    let Some(Answer::Returned(answer)) = answers.pop() else { anyhow::bail!("no answer") };
    trial.verdict(&answer)?;
    let later = trial.later(block, &answer);
    let mut answers = ask_with_code(&node, block, std::slice::from_ref(&later.question)).await?;
    let Some(Answer::Returned(answer)) = answers.pop() else { anyhow::bail!("no later answer") };
    Ok(later.verdict(&answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_node_shows_a_balance_that_changes_with_time_alone() -> anyhow::Result<()> {
    if !devnet::available("a token tried out on a real node")? {
        return Ok(());
    }
    let anvil = Anvil::spawn(&Artifacts::install()?.anvil()?, &[])?;
    for (habit, expected) in [
        (Habit::Ordinary, Ok(true)),
        (Habit::Accrues, Err(TokenFault::Accrues)),
        (Habit::Decays, Err(TokenFault::Accrues)),
    ] {
        assert_eq!(look_later(&anvil, habit).await?, expected, "{habit:?}");
    }
    Ok(())
}

#[test]
fn a_real_node_that_misbehaves_is_followed() -> anyhow::Result<()> {
    let args = ProofArgs { seed: 5, quick: true, rest: Vec::new() };
    let report = (proof::find("anvil")?.run)(&args)?;
    eprintln!("{report}");
    report.verdict()
}
