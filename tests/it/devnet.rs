//! The devnet is what it says it is.

use std::collections::BTreeSet;
use std::process::Command;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolValue, sol};
use headwater_reference::evm::{Evm, Parameters};
use headwater_reference::rpc::Rpc;
use headwater_tests::devnet::{self, Addresses, Artifacts, Devnet, Head, Recipe, Trader};
use serde_json::{Value, json};

/// A view function's answer, by its selector and one optional argument.
fn view(rpc: &Rpc, to: Address, selector: &str, argument: Option<u64>) -> U256 {
    let argument = argument.map(|value| format!("{value:064x}")).unwrap_or_default();
    let call = json!([{ "to": to, "data": format!("{selector}{argument}") }, "latest"]);
    let answer: String = rpc.call("eth_call", call).expect("an answer");
    answer.parse().expect("one word")
}

/// Traded blocks, a reorg in the middle.
fn traded(seed: u64, blocks: u64) -> (Devnet, Trader, Vec<Head>) {
    let devnet = Devnet::start().expect("a devnet");
    let mut trader = Trader::new(seed, &devnet);
    let heads = (0..blocks).map(|count| {
        if count == blocks / 2 {
            return devnet.reorg(3, &mut trader).expect("a reorg");
        }
        trader.trade(&devnet).expect("trades");
        devnet.mine().expect("a block")
    });
    let heads = heads.collect();
    (devnet, trader, heads)
}

#[test]
fn the_contracts_stand_where_the_committed_table_says() -> anyhow::Result<()> {
    if !devnet::available("the devnet's contracts")? {
        return Ok(());
    }
    let devnet = Devnet::start()?;
    let rpc = devnet.rpc();
    let table: Addresses = serde_json::from_str(include_str!("../devnet/addresses.json"))?;
    assert_eq!(table.tokens.iter().map(|token| token.decimals).collect::<Vec<_>>(), [6, 6, 8, 18, 18, 18]);
    for token in &table.tokens {
        assert_eq!(
            view(rpc, token.address, "0x313ce567", None),
            U256::from(token.decimals),
            "{}",
            token.symbol
        );
    }
    assert_eq!(view(rpc, table.weth, "0x313ce567", None), U256::from(18));
    let mut pools = BTreeSet::new();
    for exchange in &table.factories {
        let known = view(rpc, exchange.router, "0xc45a0155", None);
        assert_eq!(Address::from_word(B256::from(known)), exchange.address, "the router's factory");
        for index in 0..view(rpc, exchange.address, "0x574f2ba3", None).to::<u64>() {
            let pool = view(rpc, exchange.address, "0x1e3dd18b", Some(index));
            pools.insert(Address::from_word(B256::from(pool)));
        }
    }
    assert!(pools.len() >= 16, "{} pools", pools.len());
    assert_eq!(pools, table.pools.iter().map(|pool| pool.address).collect());
    for pool in &table.pools {
        let token = |selector| Address::from_word(B256::from(view(rpc, pool.address, selector, None)));
        assert_eq!((token("0x0dfe1681"), token("0xd21220a7")), (pool.token0, pool.token1));
    }
    Ok(())
}

#[test]
fn one_seed_makes_one_chain() -> anyhow::Result<()> {
    if !devnet::available("the devnet's determinism")? {
        return Ok(());
    }
    let [heads, again, other] = [7, 7, 8].map(|seed| traded(seed, 40).2);
    assert_eq!(heads, again);
    assert_ne!(heads, other);
    let transactions: usize = heads.iter().map(|head| head.transactions).sum();
    assert!(transactions > 100, "only {transactions} transactions in 40 blocks");
    assert!(heads.iter().all(|head| (100_000_000..10_000_000_000).contains(&head.base_fee_per_gas)));
    Ok(())
}

#[test]
fn a_reorg_replaces_blocks_and_ends_higher() -> anyhow::Result<()> {
    if !devnet::available("the devnet's reorgs")? {
        return Ok(());
    }
    let (devnet, mut trader, heads) = traded(3, 12);
    let last = heads[11];
    for depth in 1..=3 {
        let ancestor = devnet.head()?.number - depth;
        let hash_at = |number: u64| -> anyhow::Result<B256> {
            let block: Value =
                devnet.rpc().call("eth_getBlockByNumber", json!([format!("{number:#x}"), false]))?;
            Ok(serde_json::from_value(block["hash"].clone())?)
        };
        let before: Vec<_> = (ancestor..=ancestor + depth).map(hash_at).collect::<Result<_, _>>()?;
        let head = devnet.reorg(depth, &mut trader)?;
        let after: Vec<_> = (ancestor..=ancestor + depth).map(hash_at).collect::<Result<_, _>>()?;
        assert_eq!(head.number, ancestor + depth + 1);
        assert_eq!(before[0], after[0], "the common ancestor stays");
        assert!(before[1..].iter().zip(&after[1..]).all(|(old, new)| old != new), "all above it are others");
    }
    assert!(devnet.head()?.number > last.number);
    Ok(())
}

#[test]
fn anvil_is_gone_with_its_owner() -> anyhow::Result<()> {
    if !devnet::available("the end of anvil")? {
        return Ok(());
    }
    let devnet = Devnet::start()?;
    let rpc = devnet.rpc().clone();
    assert!(rpc.call::<Value>("eth_blockNumber", json!([])).is_ok());
    drop(devnet);
    assert!(rpc.call::<Value>("eth_blockNumber", json!([])).is_err());
    Ok(())
}

#[test]
fn a_killed_owner_takes_anvil_with_it() -> anyhow::Result<()> {
    use std::io::{BufRead, BufReader, Read};
    if !devnet::available("the end of a killed devnet")? {
        return Ok(());
    }
    let mut owner = Command::new(env!("CARGO_BIN_EXE_workbench"))
        .args(["devnet", "--block-time-ms", "50"])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(owner.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line)?;
    let url = line.split("requests: ").nth(1).and_then(|rest| rest.split(')').next()).expect("a URL");
    let rpc = Rpc::new(url)?;
    assert!(rpc.call::<Value>("eth_blockNumber", json!([])).is_ok());
    owner.kill()?; // SIGKILL: no destructor runs
    owner.wait()?;
    output.read_to_string(&mut line)?;
    let gone = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(25)); // polling another process, with a deadline
        rpc.call::<Value>("eth_blockNumber", json!([])).is_err()
    });
    assert!(gone, "anvil still answers five seconds after its owner was killed");
    Ok(())
}

/// Runs one test of this binary in an environment of its own.
fn run_test(name: &str, prepare: impl FnOnce(&mut Command)) -> anyhow::Result<std::process::Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", name, "--nocapture"])
        .env_remove("HEADWATER_OFFLINE")
        .env_remove("HEADWATER_SKIPS");
    prepare(&mut command);
    Ok(command.output()?)
}

#[test]
fn what_offline_leaves_out_is_said_and_counted() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let skips = directory.path().join("skips");
    let output = run_test("devnet::anvil_is_gone_with_its_owner", |command| {
        command.env("HEADWATER_OFFLINE", "1").env("HEADWATER_SKIPS", &skips).env("PATH", "");
    })?;
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr)?.contains("SKIPPED (offline): the end of anvil"));
    assert_eq!(std::fs::read_to_string(skips)?, "the end of anvil (offline)\n");
    Ok(())
}

#[test]
fn a_machine_without_node_js_fails_and_names_the_remedy() -> anyhow::Result<()> {
    let output = run_test("devnet::anvil_is_gone_with_its_owner", |command| {
        command.env("PATH", "");
    })?;
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr)? + &String::from_utf8(output.stdout)?;
    assert!(said.contains("the end of anvil was not run") && said.contains("--offline"), "{said}");
    Ok(())
}

#[test]
fn a_live_devnet_keeps_its_pace_and_reorganises() -> anyhow::Result<()> {
    if !devnet::available("the devnet's pace")? {
        return Ok(());
    }
    let devnet = Devnet::start()?;
    let mut trader = Trader::new(5, &devnet);
    let block_time = std::time::Duration::from_millis(40);
    let started = tokio::time::Instant::now();
    let mut heads = Vec::new();
    devnet.run(
        &mut trader,
        devnet::Pace { block_time, reorg_every: std::num::NonZeroU64::new(5) },
        |head| {
            heads.push(*head);
            heads.len() < 20
        },
    )?;
    assert!(started.elapsed() >= block_time * 19);
    assert!(
        heads.windows(2).all(|pair| pair[1].number == pair[0].number + 1),
        "a reorg ends one higher, as a block does"
    );
    assert_eq!(heads[19], devnet.head()?);
    Ok(())
}

#[test]
fn contracts_that_come_as_sources_are_compiled_and_the_outcome_is_kept() -> anyhow::Result<()> {
    sol! {
        function balanceOf(address account) external returns (uint256 balance);
    }
    if !devnet::available("the compiler of the devnet")? {
        return Ok(());
    }
    let recipe = Recipe {
        contracts: &[("@uniswap/v4-core/src/test/TestERC20.sol", "TestERC20")],
        remappings: &[],
        optimizer_runs: 200,
        via_ir: false,
        evm_version: "cancun",
    };
    let artifacts = Artifacts::install()?;
    let codes =
        [artifacts.compile(&recipe)?, artifacts.compile(&recipe)?].map(|made| made[0].creation_code());
    let [first, second] = codes;
    assert_eq!(&first?, second.as_ref().expect("the code"));

    let mut evm = Evm::new(&Parameters::default());
    let owner = Address::repeat_byte(1);
    let token = evm.deploy(owner, &second?, &U256::from(42).abi_encode())?;
    assert_eq!(evm.read(token, &balanceOfCall { account: owner })?, U256::from(42));

    let unknown = Recipe { contracts: &[("@uniswap/v4-core/src/test/TestERC20.sol", "Nobody")], ..recipe };
    assert!(artifacts.compile(&unknown).is_err());
    Ok(())
}
