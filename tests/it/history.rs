//! A start that searches the chain's history, and goes on where the last one was.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256, keccak256};
use headwater_node::NodeConfig;
use headwater_reference::fake_node::{
    BlockBuilder, FakeLog, FakeNode, FakeTransaction, Fault, Times, address_word, word,
};
use headwater_supervisor::{Config, Live};

const CHAIN_ID: u64 = 5;
const FACTORY: Address = Address::repeat_byte(0xf3);
const INIT_CODE_HASH: B256 = B256::repeat_byte(3);
const TOKENS: [Address; 2] = [Address::repeat_byte(1), Address::repeat_byte(2)];
const BLOCKS: u64 = 1_000;
/// Blocks that are asked for at once.
const RANGE: u64 = 10;
/// Requests for 64 blocks that may have become others.
const AGAIN: usize = 7;
/// Requests for all blocks: behind 64 of them the progress is kept, and what may have become another is searched again.
const REQUESTS: usize = 100 + AGAIN;

/// The pool of a fee, told in the block of that height.
fn created(fee: u64) -> FakeLog {
    let topics = [
        keccak256("PoolCreated(address,address,uint24,int24,address)"),
        TOKENS[0].into_word(),
        TOKENS[1].into_word(),
        U256::from(fee).into(),
    ];
    let salt = keccak256([TOKENS[0].into_word(), TOKENS[1].into_word(), U256::from(fee).into()].concat());
    let pool = FACTORY.create2(salt, INIT_CODE_HASH);
    let data = [word(U256::from(10)), address_word(pool)].concat().into();
    FakeLog { address: FACTORY, topics: topics.to_vec(), data }
}

async fn chain(salt: u64) -> anyhow::Result<(FakeNode, String)> {
    let (fake, url) = FakeNode::start(CHAIN_ID).await?;
    let mut block = BlockBuilder::first(1).salt(salt).build();
    fake.push_block(block.clone());
    for number in 2..=BLOCKS {
        let logs = if number % 100 == 0 { vec![created(number)] } else { Vec::new() };
        block = BlockBuilder::child_of(&block).transaction(FakeTransaction::emitting(logs)).build();
        fake.push_block(block.clone());
    }
    Ok((fake, url))
}

fn config(journals: &Path, from_block: u64) -> anyhow::Result<Config> {
    let text = format!(
        "[journal]\ndirectory = {journals:?}\n[market]\npreset = 'none'\nwrapped_native = '{}'\n\
         [[market.factories]]\nprotocol = 'uniswap-v3'\naddress = '{FACTORY}'\ninit_code_hash = '{INIT_CODE_HASH}'\n\
         [[market.history]]\nfactory = '{FACTORY}'\nfrom_block = {from_block}\nlog_range = {RANGE}\n",
        TOKENS[0]
    );
    Ok(toml::from_str(&text)?)
}

/// Starts, and says how often the node was asked for logs, and how many pools it was asked about.
async fn start((fake, url): &(FakeNode, String), config: Config) -> anyhow::Result<(usize, usize)> {
    let before = ["eth_getLogs", "eth_call"].map(|method| fake.requests(method));
    let connected = Live::connect(config, NodeConfig::new(vec![url.parse()?])).await;
    let mut live = connected.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let positions = Mutex::new(BTreeSet::new());
    live.load(|done, of| {
        assert!(of > 0 && done <= of, "{done} of {of}");
        positions.lock().expect("no panic").insert(done);
    })
    .await?;
    let after = ["eth_getLogs", "eth_call"].map(|method| fake.requests(method));
    let asked = after[0] - before[0];
    let positions = positions.into_inner().expect("no panic").len();
    assert!(asked < REQUESTS || positions >= 100, "the bar moved {positions} times");
    Ok((asked, (after[1] - before[1]) / 6))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_of_history_is_kept_and_gone_on_with() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let node = chain(0).await?;
    let config = |from_block| config(folder.path(), from_block);

    // Whoever breaks a start off does not begin anew.
    node.0.delay("eth_getLogs", Duration::from_millis(5));
    tokio::select! {
        started = start(&node, config(1)?) => panic!("not broken off: {started:?}"),
        () = node.0.until(|node| node.requests("eth_getLogs") > 70) => {}
    }
    node.0.mend("eth_getLogs");
    let (asked, pools) = start(&node, config(1)?).await?;
    assert!(asked < REQUESTS / 2, "{asked} requests");
    assert_eq!(pools, 10);

    let (asked, pools) = start(&node, config(1)?).await?;
    assert!(asked <= 2 * AGAIN, "{asked} requests");
    assert_eq!(pools, 10);

    let kept = folder.path().join(format!("search-{FACTORY}.json"));
    std::fs::write(&kept, "{\"version\":1,")?;
    assert_eq!(start(&node, config(1)?).await?, (REQUESTS, 10), "a torn file is no checkpoint");

    let (asked, _) = start(&node, config(2)?).await?;
    assert_eq!(asked, REQUESTS, "it was for another search");
    let other = chain(1).await?;
    assert_eq!(start(&other, config(2)?).await?, (REQUESTS, 10), "another chain, of the same number");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_does_not_end_a_start() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let node = chain(0).await?;
    for (method, requests) in [("eth_getLogs", 50), ("eth_call", 0), ("eth_getLogs", 30)] {
        node.0.inject(method, Fault::Delay(Duration::ZERO), Times::Next(requests));
        node.0.inject(method, Fault::DropConnection, Times::Next(1));
    }
    let (asked, pools) = start(&node, config(folder.path(), 1)?).await?;
    assert_eq!(node.0.connections(), 4, "each failure takes a new one");
    assert!(pools >= 10);
    assert!(asked <= REQUESTS + 2 * (1 + AGAIN), "{asked} requests");
    Ok(())
}
