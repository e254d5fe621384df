//! The client against the fake node, over real sockets.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use headwater_node::{Call, CloseReason, Endpoint, Limits, Node, NodeConfig, NodeError, Reply, Subscription};
use headwater_reference::fake_node::{
    BlockBuilder, FakeBlock, FakeLog, FakeNode, FakeTransaction, Fault, RpcErr, Times, encode,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

type Outcome = Result<(), Box<dyn Error>>;

/// A hung test is a failed one.
const PATIENCE: Duration = Duration::from_secs(20);

fn short() -> Limits {
    Limits { request_timeout: Duration::from_millis(200), ..Limits::default() }
}

async fn start() -> Result<(FakeNode, Endpoint), Box<dyn Error>> {
    let (fake, url) = FakeNode::start(1337).await?;
    Ok((fake, url.parse()?))
}

async fn connected(limits: &Limits) -> Result<(FakeNode, Node), Box<dyn Error>> {
    let (fake, endpoint) = start().await?;
    let node = Node::connect(&endpoint, limits).await?;
    Ok((fake, node))
}

/// A block whose logs are 500 KB and more as text.
fn large_block() -> FakeBlock {
    let log =
        |byte: u16| FakeLog::sync(alloy_primitives::Address::left_padding_from(&byte.to_be_bytes()), 1, 2);
    let transactions = (0..250u16).map(|index| FakeTransaction {
        nonce: index.into(),
        ..FakeTransaction::emitting((0..4).map(|of| log(index * 4 + of)).collect())
    });
    BlockBuilder::first(1).transactions(transactions).build()
}

async fn next(subscription: &mut Subscription) -> Result<Value, Box<dyn Error>> {
    let notification = timeout(PATIENCE, subscription.recv()).await?.ok_or("the subscription ended")?;
    Ok(notification.parse()?)
}

/// A socket path that is gone with the test.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("headwater-{}-{name}.ipc", std::process::id()));
        Self(path)
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn requests_and_subscriptions_work_over_web_socket_and_ipc() -> Outcome {
    let (fake, endpoint) = start().await?;
    let path = SocketPath::new("both");
    fake.serve_ipc(&path.0)?;
    let block = large_block();
    fake.push_block(block.clone());
    let expected = encode(&json!(block.logs()));
    assert!(expected.len() > 500_000, "{}", expected.len());
    for endpoint in [endpoint, path.0.to_string_lossy().parse()?] {
        let node = Node::connect(&endpoint, &Limits::default()).await?;
        assert_eq!(node.chain_id().await?, 1337);
        let mut heads = node.subscribe("newHeads", ()).await?;
        let logs = node.request("eth_getLogs", [json!({"blockHash": block.hash()})]).await?;
        assert_eq!(logs.raw.as_ref(), expected.as_bytes(), "{endpoint}");
        fake.announce(block.hash());
        assert_eq!(next(&mut heads).await?["hash"], json!(block.hash()));
        heads.unsubscribe().await?;
        assert_eq!(fake.subscriptions("newHeads"), 0);
        let counters = node.counters();
        assert_eq!((counters.requests, counters.answers, counters.notifications), (4, 4, 1));
        assert_eq!((counters.fast_envelopes, counters.malformed), (1, 0));
    }
    Ok(())
}

#[tokio::test]
async fn requests_work_over_http_and_subscriptions_are_refused_with_a_typed_error() -> Outcome {
    let (fake, _) = start().await?;
    let block = large_block();
    fake.push_block(block.clone());
    let node = Node::connect(&fake.http_url().parse()?, &Limits::default()).await?;
    assert_eq!(node.chain_id().await?, 1337);
    let logs = node.request("eth_getLogs", [json!({"blockHash": block.hash()})]).await?;
    assert_eq!(logs.parse::<Value>()?, json!(block.logs()));
    assert!(matches!(node.subscribe("newHeads", ()).await, Err(NodeError::SubscriptionsUnsupported { .. })));
    assert_eq!(fake.connections(), 1, "the connection is kept alive");
    Ok(())
}

async fn check_batch(fake: &FakeNode, node: &Node) -> Outcome {
    let before = fake.requests("eth_getBlockByNumber");
    let calls: Result<Vec<Call>, NodeError> = (1..=25)
        .map(|number| match number {
            13 => Call::new("no_such_method", ()),
            number => Call::new("eth_getBlockByNumber", (format!("{number:#x}"), false)),
        })
        .collect();
    let answers = node.batch(&calls?).await?;
    assert_eq!(answers.len(), 25);
    for (number, answer) in (1..).zip(answers) {
        match (number, answer) {
            (13, answer) => {
                let error = answer.expect_err("no such method");
                assert_eq!(error.rpc().map(|error| error.code), Some(-32601));
            }
            (number, answer) => assert_eq!(answer?.parse::<Value>()?["number"], format!("{number:#x}")),
        }
    }
    assert_eq!(fake.requests("eth_getBlockByNumber"), before + 24);
    assert!(
        fake.asked()
            .iter()
            .filter(|asked| asked.method == "eth_getBlockByNumber")
            .all(|asked| asked.in_batch)
    );
    Ok(())
}

#[tokio::test]
async fn batches_are_chunked_and_matched_by_id_whatever_the_order() -> Outcome {
    let (fake, endpoint) = start().await?;
    let mut block = BlockBuilder::first(1).build();
    for _ in 0..25 {
        fake.push_block(block.clone());
        block = BlockBuilder::child_of(&block).build();
    }
    fake.reverse_batches();
    let limits = Limits { max_batch: 10, ..Limits::default() };
    let path = SocketPath::new("batch");
    fake.serve_ipc(&path.0)?;
    for endpoint in [endpoint, fake.http_url().parse()?, path.0.to_string_lossy().parse()?] {
        check_batch(&fake, &Node::connect(&endpoint, &limits).await?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_long_batch_may_take_longer_than_one_time_out() -> Outcome {
    let limits = Limits { max_batch: 1, request_timeout: Duration::from_millis(1_000), ..Limits::default() };
    let (fake, node) = connected(&limits).await?;
    fake.delay("eth_chainId", Duration::from_millis(400));
    let calls: Result<Vec<Call>, NodeError> = (0..12).map(|_| Call::new("eth_chainId", ())).collect();
    let calls = calls?;
    let asked_at = Instant::now();
    let answers = tokio::spawn(async move { node.batch(&calls).await }).await??;
    assert!(answers.iter().all(Result::is_ok) && answers.len() == 12);
    assert!(asked_at.elapsed() > limits.request_timeout, "{:?}", asked_at.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_batch_that_is_refused_or_answered_in_part_does_not_hang() -> Outcome {
    let (fake, endpoint) = start().await?;
    let calls = [Call::new("eth_chainId", ())?, Call::new("eth_blockNumber", ())?];
    for endpoint in [endpoint, fake.http_url().parse()?] {
        let node = Node::connect(&endpoint, &Limits::default()).await?;
        fake.inject("eth_blockNumber", Fault::Silence, Times::Next(1));
        let answers = timeout(PATIENCE, node.batch(&calls)).await??;
        assert!(answers[0].is_ok());
        assert!(matches!(answers[1], Err(NodeError::InvalidAnswer { .. })), "{:?}", answers[1]);

        let refusal = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch too large"}}"#;
        fake.inject("eth_chainId", Fault::Text(refusal.to_owned()), Times::Next(1));
        let answers = timeout(PATIENCE, node.batch(&calls)).await??;
        for answer in answers {
            assert_eq!(answer.expect_err("refused").rpc().map(|error| error.code), Some(-32600));
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_rpc_error_keeps_code_message_and_revert_data() -> Outcome {
    let (fake, node) = connected(&Limits::default()).await?;
    fake.push_block(BlockBuilder::first(1).build());
    fake.answer_calls(|_| Err(RpcErr::reverted(&[0x08, 0xc3])));
    let error = node.request("eth_call", (json!({"to": "0x01"}), "latest")).await.expect_err("reverts");
    let rpc = error.rpc().ok_or("an rpc error")?;
    assert_eq!(
        (rpc.code, rpc.message.as_str(), rpc.revert_data()),
        (3, "execution reverted", Some("0x08c3"))
    );
    assert!(!error.is_retryable());
    let unknown = node.request("eth_getLogs", [json!({"blockHash": format!("0x{}", "ab".repeat(32))})]).await;
    assert!(unknown.expect_err("unknown").rpc().is_some_and(|rpc| rpc.is_block_unknown()));
    Ok(())
}

#[tokio::test]
async fn a_request_times_out_and_its_late_answer_is_counted_and_harms_nobody() -> Outcome {
    let (fake, node) = connected(&short()).await?;
    fake.delay("eth_blockNumber", Duration::from_millis(400));
    let asked_at = Instant::now();
    let error = node.request("eth_blockNumber", ()).await.expect_err("too late");
    assert!(matches!(error, NodeError::Timeout { .. }), "{error}");
    assert!(asked_at.elapsed() < Duration::from_millis(390), "{:?}", asked_at.elapsed());
    fake.mend("eth_blockNumber");
    while node.counters().late_answers == 0 {
        assert_eq!(node.chain_id().await?, 1337);
    }
    let counters = node.counters();
    assert_eq!((counters.given_up, counters.late_answers, counters.unknown_answers), (1, 1, 0));
    Ok(())
}

#[tokio::test]
async fn a_silent_node_fails_requests_in_time_also_those_that_wait_for_a_free_slot() -> Outcome {
    let (fake, node) = connected(&Limits { max_in_flight: 1, ..short() }).await?;
    fake.go_silent();
    let calls = [Call::new("eth_chainId", ())?];
    let asked_at = Instant::now();
    let answers =
        tokio::join!(node.request("eth_chainId", ()), node.request("eth_chainId", ()), node.batch(&calls));
    assert!(matches!(
        answers,
        (Err(NodeError::Timeout { .. }), Err(NodeError::Timeout { .. }), Err(NodeError::Timeout { .. }))
    ));
    assert!(asked_at.elapsed() < Duration::from_millis(390), "{:?}", asked_at.elapsed());
    fake.speak_again();
    assert_eq!(node.chain_id().await?, 1337, "the slot is free again");
    Ok(())
}

#[tokio::test]
async fn a_lost_connection_fails_everything_at_once_and_says_why() -> Outcome {
    for over_ipc in [false, true] {
        let (fake, mut endpoint) = start().await?;
        let path = SocketPath::new("lost");
        if over_ipc {
            fake.serve_ipc(&path.0)?;
            endpoint = path.0.to_string_lossy().parse()?;
        }
        let node = Node::connect(
            &endpoint,
            &Limits { request_timeout: Duration::from_secs(3600), ..Limits::default() },
        )
        .await?;
        let mut heads = node.subscribe("newHeads", ()).await?;
        fake.inject("eth_blockNumber", Fault::Silence, Times::Always);
        let pending = tokio::spawn({
            let node = node.clone();
            async move { node.request("eth_blockNumber", ()).await }
        });
        fake.until_requested("eth_blockNumber", 1).await;
        fake.drop_connections();
        let error = timeout(PATIENCE, pending).await??.expect_err("lost");
        assert!(error.is_connection_lost() && error.is_retryable(), "{error}");
        timeout(PATIENCE, node.closed()).await?;
        assert_eq!(timeout(PATIENCE, heads.recv()).await?, None);
        let refused = timeout(PATIENCE, node.request("eth_chainId", ())).await?;
        assert!(refused.expect_err("closed").is_connection_lost());
        assert_eq!(node.close_reason(), Some(node.closed().await));
    }
    Ok(())
}

#[tokio::test]
async fn a_close_frame_gives_its_code() -> Outcome {
    let (fake, node) = connected(&Limits::default()).await?;
    node.chain_id().await?;
    fake.close_connections(1013);
    assert_eq!(timeout(PATIENCE, node.closed()).await?, CloseReason::ByNode { code: 1013 });
    Ok(())
}

#[tokio::test]
async fn a_full_queue_drops_the_newest_and_says_how_many_and_where() -> Outcome {
    let (fake, node) = connected(&Limits { subscription_capacity: 4, ..Limits::default() }).await?;
    let mut heads = node.subscribe("newHeads", ()).await?;
    let mut blocks = vec![BlockBuilder::first(0).build()];
    for index in 0..10 {
        blocks.push(BlockBuilder::child_of(&blocks[index]).build());
    }
    for block in &blocks[..10] {
        fake.push_block(block.clone());
    }
    // The answer comes behind the ten heads on the same socket, so they have been read by then.
    node.chain_id().await?;
    assert_eq!((heads.dropped(), heads.queued()), (6, 4));
    for number in 0..4 {
        let head = heads.recv().await.ok_or("queued")?;
        assert_eq!(
            (head.missed, head.parse::<Value>()?["number"].clone()),
            (0, json!(format!("{number:#x}")))
        );
    }
    fake.push_block(blocks[10].clone());
    let head = timeout(PATIENCE, heads.recv()).await?.ok_or("pushed")?;
    assert_eq!((head.missed, head.parse::<Value>()?["number"].clone()), (6, json!("0xa")));
    let counters = node.counters();
    assert_eq!((counters.notifications, counters.notifications_dropped), (5, 6));
    Ok(())
}

#[tokio::test]
async fn notifications_that_overtake_the_answer_to_their_subscription_are_not_lost() -> Outcome {
    let (fake, node) = connected(&Limits::default()).await?;
    fake.delay("eth_subscribe", Duration::from_millis(50));
    let subscribing = tokio::spawn({
        let node = node.clone();
        async move { node.subscribe("newHeads", ()).await }
    });
    fake.until_subscribed("newHeads", 1).await;
    for number in 0..3 {
        fake.push_block(BlockBuilder::first(number).build());
    }
    let mut heads = subscribing.await??;
    for number in 0..3 {
        assert_eq!(next(&mut heads).await?["number"], format!("{number:#x}"));
    }
    Ok(())
}

#[tokio::test]
async fn malformed_messages_are_counted_and_survived_up_to_the_limit() -> Outcome {
    let (fake, node) = connected(&Limits { max_malformed: 5, ..Limits::default() }).await?;
    node.chain_id().await?;
    fake.send_binary(b"\x00\x01");
    for text in ["nonsense", "{\"jsonrpc\":", "[]", "{\"method\":\"x\",\"id\":1}"] {
        fake.send_text(text);
    }
    fake.send_text(r#"{"jsonrpc":"2.0","id":4000,"result":1}"#);
    fake.send_text(r#"{"jsonrpc":"2.0","id":1,"result":1}"#);
    fake.send_text(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"whose?"}}"#);
    fake.send_text(
        r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x77","result":{}}}"#,
    );
    fake.ping();
    // With a request on its way the error without an id would be taken for its answer.
    let settled = async {
        while node.counters().unknown_notifications == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, settled).await?;
    assert_eq!(node.chain_id().await?, 1337, "five are put up with");
    fake.until(|fake| fake.pongs() == 1).await;
    let counters = node.counters();
    assert_eq!((counters.malformed, counters.binary_frames), (5, 1));
    assert_eq!((counters.unknown_answers, counters.late_answers), (1, 1));
    assert_eq!((counters.unattributed_errors, counters.unknown_notifications), (1, 1));
    fake.send_text("nonsense");
    assert_eq!(timeout(PATIENCE, node.closed()).await?, CloseReason::TooManyMalformed { count: 6 });
    fake.until(|fake| fake.open_connections() == 0).await;
    Ok(())
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_connection_with_a_named_reason() -> Outcome {
    let (fake, endpoint) = start().await?;
    let path = SocketPath::new("limit");
    fake.serve_ipc(&path.0)?;
    let block = large_block();
    fake.push_block(block.clone());
    let limits = Limits { max_message_bytes: 100_000, ..Limits::default() };
    for endpoint in [endpoint, path.0.to_string_lossy().parse()?] {
        let node = Node::connect(&endpoint, &limits).await?;
        let error =
            node.request("eth_getLogs", [json!({"blockHash": block.hash()})]).await.expect_err("too large");
        assert!(error.is_connection_lost() && !error.is_retryable(), "asking again cannot help: {error}");
        assert_eq!(node.closed().await, CloseReason::MessageTooLarge { limit: 100_000 });
    }
    let node = Node::connect(&fake.http_url().parse()?, &limits).await?;
    let error =
        node.request("eth_getLogs", [json!({"blockHash": block.hash()})]).await.expect_err("too large");
    assert!(matches!(error, NodeError::TooLarge { limit: 100_000, .. }), "{error}");
    assert_eq!(node.chain_id().await?, 1337, "over http only the answer is lost");
    Ok(())
}

#[tokio::test]
async fn an_http_request_is_sent_once_also_when_its_connection_breaks() -> Outcome {
    let (fake, _) = start().await?;
    let node = Node::connect(&fake.http_url().parse()?, &Limits::default()).await?;
    node.chain_id().await?;
    fake.inject("eth_sendRawTransaction", Fault::DropConnection, Times::Always);
    let error = node.request("eth_sendRawTransaction", ["0x00"]).await.expect_err("dropped");
    assert!(error.is_connection_lost(), "{error}");
    assert_eq!(node.chain_id().await?, 1337);
    assert_eq!(fake.requests("eth_sendRawTransaction"), 1);
    Ok(())
}

#[tokio::test]
async fn an_http_status_without_json_rpc_is_named_and_says_whether_to_ask_again() -> Outcome {
    let (fake, _) = start().await?;
    let node = Node::connect(&fake.http_url().parse()?, &Limits::default()).await?;
    for (status, retryable) in [(429, true), (503, true), (401, false)] {
        fake.inject("eth_chainId", Fault::HttpStatus(status), Times::Next(1));
        let error = node.chain_id().await.expect_err("no answer");
        assert_eq!(error, NodeError::HttpStatus { method: "eth_chainId".into(), status });
        assert_eq!(error.is_retryable(), retryable);
    }
    Ok(())
}

#[tokio::test]
async fn the_first_endpoint_on_the_right_chain_is_taken() -> Outcome {
    let (wrong, wrong_url) = FakeNode::start(5).await?;
    let (right, right_url) = FakeNode::start(1337).await?;
    let (gone, gone_url) = FakeNode::start(1337).await?;
    drop(gone);
    let urls = vec![gone_url.parse()?, wrong_url.parse()?, right_url.parse()?];
    let mut config = NodeConfig { chain_id: Some(1337), ..NodeConfig::new(urls) };
    let (node, chain_id) = Node::connect_first(&config).await?;
    assert_eq!((node.endpoint().to_string(), chain_id), (right_url, 1337));
    assert_eq!((wrong.requests("eth_chainId"), right.requests("eth_chainId")), (1, 1));
    config.urls.pop();
    let error = Node::connect_first(&config).await.expect_err("none is left");
    assert_eq!(error, NodeError::WrongChain { endpoint: wrong_url, expected: 1337, actual: 5 });
    assert_eq!(Node::connect_first(&NodeConfig::new(vec![])).await.expect_err("none"), NodeError::NoEndpoint);
    Ok(())
}

#[tokio::test]
async fn connecting_fails_in_time_and_without_the_secret() -> Outcome {
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = mute.local_addr()?.port();
    let limits = Limits { connect_timeout: Duration::from_millis(100), ..Limits::default() };
    let endpoint: Endpoint = format!("ws://user:SECRET@127.0.0.1:{port}/SECRET?k=SECRET").parse()?;
    let error = Node::connect(&endpoint, &limits).await.expect_err("no handshake");
    assert!(matches!(error, NodeError::ConnectTimeout { .. }), "{error}");
    drop(mute);
    let refused = Node::connect(&endpoint, &limits).await.expect_err("nobody listens");
    assert!(matches!(refused, NodeError::Connect { .. }) && refused.is_retryable(), "{refused}");
    for error in [error, refused] {
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_tls_endpoint_does_not_fall_back_to_plain_text() -> Outcome {
    let (fake, _) = start().await?;
    let limits = Limits { connect_timeout: Duration::from_secs(2), ..Limits::default() };
    let wss: Endpoint = fake.ws_url().replacen("ws", "wss", 1).parse()?;
    let error = Node::connect(&wss, &limits).await.expect_err("no tls there");
    assert!(matches!(error, NodeError::Connect { .. } | NodeError::ConnectTimeout { .. }), "{error}");
    let https = Node::connect(&fake.http_url().replacen("http", "https", 1).parse()?, &limits).await?;
    let error = https.chain_id().await.expect_err("no tls there");
    assert!(matches!(error, NodeError::Connect { .. } | NodeError::Timeout { .. }), "{error}");
    assert!(fake.asked().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_connection_ends_with_its_last_handle() -> Outcome {
    let (fake, node) = connected(&Limits::default()).await?;
    let heads = node.subscribe("newHeads", ()).await?;
    drop(node);
    assert_eq!(fake.open_connections(), 1, "the subscription is a handle");
    drop(heads);
    timeout(PATIENCE, fake.until(|fake| fake.open_connections() == 0)).await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_writes_members_behind_results_is_read_right() -> Outcome {
    let (fake, node) = connected(&Limits::default()).await?;
    fake.inject(
        "eth_chainId",
        Fault::Text(r#"{"jsonrpc":"2.0","result":"0x1","id":1}"#.to_owned()),
        Times::Next(1),
    );
    assert_eq!(node.chain_id().await?, 1);
    let filler = "x".repeat(10_000);
    let text = format!(r#"{{"jsonrpc":"2.0","id":2,"result":["{filler}"],"more":["y"]}}"#);
    fake.inject("eth_getLogs", Fault::Text(text), Times::Next(1));
    let reply: Reply = node.request("eth_getLogs", [json!({})]).await?;
    assert_eq!(reply.parse::<Vec<String>>()?, [filler]);
    Ok(())
}

#[tokio::test]
async fn a_peer_that_is_gone_without_a_word_is_noticed_and_a_quiet_one_is_kept() -> Outcome {
    let limits = Limits { keep_alive: Duration::from_millis(60), ..Limits::default() };
    let (fake, node) = connected(&limits).await?;
    // Quiet, but it answers pings: kept for several times as long as a silent one is.
    assert!(timeout(Duration::from_millis(500), node.closed()).await.is_err(), "{:?}", node.close_reason());
    fake.go_half_open();
    let reason = timeout(PATIENCE, node.closed()).await?;
    assert_eq!(reason, CloseReason::Silent { after: Duration::from_millis(120) });
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_over_http_before_the_node_wants_it() -> Outcome {
    let (fake, _) = start().await?;
    let node = Node::connect(&fake.http_url().parse()?, &Limits::default()).await?;
    fake.inject("eth_chainId", Fault::TooManyRequests(1), Times::Next(1));
    let error = node.chain_id().await.expect_err("too many");
    assert_eq!(error, NodeError::HttpStatus { method: "eth_chainId".into(), status: 429 });
    let asked = Instant::now();
    let error = node
        .request_within(Duration::from_millis(100), "eth_chainId", ())
        .await
        .expect_err("longer than the time allowed");
    assert!(matches!(error, NodeError::RateLimited { .. }) && error.is_retryable(), "{error}");
    assert_eq!(fake.requests("eth_chainId"), 1);
    assert_eq!(node.chain_id().await?, 1337);
    assert!(asked.elapsed() >= Duration::from_millis(900), "after {:?}", asked.elapsed());
    assert_eq!(fake.requests("eth_chainId"), 2);
    Ok(())
}
