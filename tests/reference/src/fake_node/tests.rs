//! The fake node, spoken to without a client library of the project.

use alloy_primitives::U256;
use anyhow::ensure;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(url: &str) -> Result<Self> {
        let address = url.strip_prefix("ws://").context("a ws url")?;
        let socket = TcpStream::connect(address).await?;
        Ok(Self(tokio_tungstenite::client_async(url, socket).await?.0))
    }

    async fn next(&mut self) -> Result<String> {
        Ok(self.0.next().await.context("the stream ended")??.into_text()?.to_string())
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.0.send(Message::text(request.to_string())).await?;
        let answer: Value = serde_json::from_str(&self.next().await?)?;
        ensure!(answer["id"] == 1, "another answer: {answer}");
        Ok(answer)
    }

    async fn call(&mut self, to: Address, signature: &str, arguments: &[U256]) -> Result<Value> {
        let mut data = alloy_primitives::keccak256(signature)[..4].to_vec();
        for argument in arguments {
            data.extend_from_slice(&word(*argument));
        }
        let call = json!({"to": to, "data": Bytes::from(data)});
        Ok(self.ask("eth_call", json!([call, "latest"])).await?["result"].take())
    }
}

fn block_with_logs(parent: &FakeBlock) -> FakeBlock {
    let logs = (1..4).map(|byte| FakeLog::sync(Address::repeat_byte(byte), 5, 7)).collect();
    BlockBuilder::child_of(parent).transaction(FakeTransaction::emitting(logs)).build()
}

#[tokio::test]
async fn heads_and_logs_are_pushed_and_served_in_the_order_of_geth() -> Result<()> {
    let (node, url) = FakeNode::start(1337).await?;
    let first = BlockBuilder::first(100).build();
    node.push_block(first.clone());
    let mut client = Client::connect(&url).await?;
    assert_eq!(client.ask("eth_chainId", json!([])).await?["result"], "0x539");
    let heads = client.ask("eth_subscribe", json!(["newHeads"])).await?["result"].take();
    let logs =
        client.ask("eth_subscribe", json!(["logs", {"address": Address::repeat_byte(2)}])).await?["result"]
            .take();
    node.until_subscribed("logs", 1).await;

    let block = block_with_logs(&first);
    node.push_block(block.clone());
    let head: Value = serde_json::from_str(&client.next().await?)?;
    assert_eq!(head["params"]["subscription"], heads);
    assert_eq!(head["params"]["result"]["hash"], json!(block.hash()));
    assert_eq!(head["params"]["result"].get("transactions"), None);
    let text = client.next().await?;
    let expected = format!(
        r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{{"subscription":{logs},"result":{{"address":"0x0202"#
    );
    assert!(text.starts_with(&expected), "{text}");

    let answer = client.ask("eth_getLogs", json!([{"blockHash": block.hash()}])).await?;
    assert_eq!(answer["result"], json!(block.logs()));
    node.until(|node| node.sent_at(block.hash(), "eth_getLogs").is_some()).await;
    assert!(node.sent_at(block.hash(), "eth_getLogs") >= node.sent_at(block.hash(), "newHeads"));
    assert_eq!(client.ask("eth_getBlockByHash", json!([block.hash(), true])).await?["result"], block.block);
    assert_eq!(client.ask("eth_getBlockByNumber", json!(["0x999", true])).await?["result"], Value::Null);
    assert_eq!(
        client.ask("eth_getLogs", json!([{"fromBlock": "0x0", "toBlock": "latest"}])).await?["result"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    Ok(())
}

#[tokio::test]
async fn a_reorg_pushes_removed_logs_and_the_new_branch() -> Result<()> {
    let (node, url) = FakeNode::start(1).await?;
    let first = BlockBuilder::first(1).build();
    let (old, new) = (block_with_logs(&first), BlockBuilder::child_of(&first).salt(9).build());
    node.push_block(first);
    node.push_block(old.clone());
    let mut client = Client::connect(&url).await?;
    client.ask("eth_subscribe", json!(["logs", {}])).await?;
    client.ask("eth_subscribe", json!(["newHeads"])).await?;
    node.reorg_to([new.clone()]);
    for log in old.logs() {
        let pushed: Value = serde_json::from_str(&client.next().await?)?;
        let pushed = &pushed["params"]["result"];
        assert_eq!((&pushed["removed"], &pushed["logIndex"]), (&json!(true), &log["logIndex"]));
    }
    let head: Value = serde_json::from_str(&client.next().await?)?;
    assert_eq!(head["params"]["result"]["hash"], json!(new.hash()));
    assert_eq!(node.canonical_hashes().last(), Some(&new.hash()));
    Ok(())
}

/// What is pushed about a reorganisation, in order: `h102` a new head, `l102` a log, `r102` a removed one.
async fn pushed(announcing: Announcing, faults: &[HeadFault]) -> Result<String> {
    let (node, url) = FakeNode::start(1).await?;
    let first = BlockBuilder::first(100).build();
    let old = [block_with_logs(&first)];
    let new = [BlockBuilder::child_of(&first).salt(9).build()];
    let new = [new[0].clone(), block_with_logs(&new[0])];
    node.push_block(first);
    node.push_branch(old, announcing, &[]);
    let mut client = Client::connect(&url).await?;
    client.ask("eth_subscribe", json!(["logs", {"address": Address::repeat_byte(2)}])).await?;
    let heads = client.ask("eth_subscribe", json!(["newHeads"])).await?["result"].take();
    node.push_branch(new.clone(), announcing, faults);
    assert_eq!(node.canonical_hashes().last(), Some(&new[1].hash()));
    node.send_text("end");
    let mut said = Vec::new();
    loop {
        let text = client.next().await?;
        if text == "end" {
            return Ok(said.join(" "));
        }
        let pushed: Value = serde_json::from_str(&text)?;
        let (id, result) = (&pushed["params"]["subscription"], &pushed["params"]["result"]);
        let kind = match result["removed"].as_bool() {
            _ if *id == heads => "h",
            Some(true) => "r",
            _ => "l",
        };
        let number = if *id == heads { &result["number"] } else { &result["blockNumber"] };
        said.push(format!("{kind}{}", quantity(number)));
    }
}

#[tokio::test]
async fn a_reorg_is_announced_in_the_manner_of_each_client() -> Result<()> {
    assert_eq!(pushed(Announcing::Geth, &[]).await?, "r101 h101 h102 l102");
    assert_eq!(pushed(Announcing::Reth, &[]).await?, "h101 h102 l102");
    assert_eq!(pushed(Announcing::Anvil, &[]).await?, "h102 l102");
    let faults = [HeadFault::OutOfOrder(2), HeadFault::Twice];
    assert_eq!(pushed(Announcing::Geth, &faults).await?, "r101 h102 l102 h102 l102 h101 h101");
    // The orphan of block 101 comes late.
    assert_eq!(pushed(Announcing::Anvil, &[HeadFault::Late]).await?, "h102 l102 h101 l101");
    Ok(())
}

#[tokio::test]
async fn a_call_that_requires_a_canonical_block_is_refused_on_an_orphan() -> Result<()> {
    let (node, url) = FakeNode::start(1).await?;
    let first = BlockBuilder::first(1).build();
    let orphan = block_with_logs(&first);
    node.push_block(first.clone());
    node.push_block(orphan.clone());
    node.push_branch([BlockBuilder::child_of(&first).salt(1).build()], Announcing::Reth, &[]);
    let mut client = Client::connect(&url).await?;
    for (block, required, is_answered) in
        [(&orphan, true, false), (&orphan, false, true), (&first, true, true)]
    {
        let at = json!({"blockHash": block.hash(), "requireCanonical": required});
        let answer = client.ask("eth_call", json!([{"to": Address::ZERO}, at])).await?;
        assert_eq!(answer["error"].is_null(), is_answered, "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn v2_contracts_answer_with_the_reserves_of_the_block() -> Result<()> {
    let (node, url) = FakeNode::start(1).await?;
    let [factory, address, token0, token1] = [10, 2, 20, 21].map(Address::repeat_byte);
    let pair = V2Pair { address, factory, token0, token1, reserve0: 1, reserve1: 2 };
    node.answer_v2(V2World::default().pair(pair).token(token0, 6, "USDC"));
    let first = BlockBuilder::first(1).build();
    node.push_block(first.clone());
    let mut client = Client::connect(&url).await?;
    let number = |value: u64| json!(word(U256::from(value)));
    assert_eq!(client.call(factory, "allPairsLength()", &[]).await?, number(1));
    assert_eq!(client.call(factory, "allPairs(uint256)", &[U256::ZERO]).await?, json!(address_word(address)));
    let tokens = [token1, token0].map(|token| U256::from_be_bytes(token.into_word().0));
    assert_eq!(
        client.call(factory, "getPair(address,address)", &tokens).await?,
        json!(address_word(address))
    );
    assert_eq!(client.call(address, "token1()", &[]).await?, json!(address_word(token1)));
    assert_eq!(client.call(token0, "decimals()", &[]).await?, number(6));
    let symbol = client.call(token0, "symbol()", &[]).await?;
    assert!(symbol.as_str().is_some_and(|hex| hex.contains("55534443")), "{symbol}");
    let before = client.call(address, "getReserves()", &[]).await?;
    node.push_block(block_with_logs(&first));
    let after = client.call(address, "getReserves()", &[]).await?;
    assert_eq!(&before.as_str().context("hex")?[..66], number(1).as_str().context("hex")?);
    assert_eq!(&after.as_str().context("hex")?[..66], number(5).as_str().context("hex")?);
    Ok(())
}

#[tokio::test]
async fn faults_strike_as_scripted() -> Result<()> {
    let (node, url) = FakeNode::start(1).await?;
    let mut client = Client::connect(&url).await?;
    node.answer_with_error("eth_chainId", RpcErr::new(-32005, "limit"), 1);
    assert_eq!(client.ask("eth_chainId", json!([])).await?["error"]["code"], -32005);
    assert_eq!(client.ask("eth_chainId", json!([])).await?["result"], "0x1");
    node.inject("eth_chainId", Fault::DropConnection, Times::Always);
    assert!(client.ask("eth_chainId", json!([])).await.is_err());
    node.until(|node| node.open_connections() == 0).await;
    assert_eq!((node.requests("eth_chainId"), node.connections()), (3, 1));
    Ok(())
}

#[tokio::test]
async fn a_mute_node_answers_and_a_half_open_one_does_not_even_pong() -> Result<()> {
    let (node, url) = FakeNode::start(1).await?;
    let first = BlockBuilder::first(1).build();
    node.push_block(first.clone());
    let mut client = Client::connect(&url).await?;
    client.ask("eth_subscribe", json!(["newHeads"])).await?;
    node.go_mute();
    node.push_block(BlockBuilder::child_of(&first).build());
    assert_eq!(client.ask("eth_blockNumber", json!([])).await?["result"], "0x2", "and no head before it");
    client.0.send(Message::Ping(b"x".as_slice().into())).await?;
    assert!(matches!(client.0.next().await.context("a pong")??, Message::Pong(_)));

    node.go_half_open();
    client.0.send(Message::Ping(b"y".as_slice().into())).await?;
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []});
    client.0.send(Message::text(request.to_string())).await?;
    let heard = tokio::time::timeout(Duration::from_millis(100), client.0.next()).await;
    assert!(heard.is_err(), "{heard:?}");
    let dialled = tokio::time::timeout(Duration::from_millis(100), Client::connect(&url)).await;
    assert!(dialled.is_err(), "the handshake is not answered");
    assert_eq!((node.open_connections(), node.connected_at().len()), (1, 2));
    node.speak_again();
    node.change_chain_id(5);
    assert!(matches!(client.0.next().await.context("a pong")??, Message::Pong(_)));
    assert_eq!(client.ask("eth_chainId", json!([])).await?["result"], "0x5");
    Ok(())
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (node, url) = FakeNode::start(1).await?;
    node.inject("eth_chainId", Fault::TooManyRequests(7), Times::Next(1));
    let mut socket = TcpStream::connect(url.strip_prefix("ws://").context("a ws url")?).await?;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
    let request = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await?;
    let mut answer = [0; 256];
    let length = socket.read(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    ensure!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 7\r\n"), "{answer}");
    Ok(())
}
