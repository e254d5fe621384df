//! The methods: from a request to the text of its result.

use alloy_primitives::{Address, Bytes as CallData};
use bytes::Bytes;
use serde_json::{Value, json};

use super::block::{bytes, hex_quantity, quantity};
use super::chain::{Chain, LogFilter, Stored, list_of, range_end};
use super::encode::encode;
use super::script::RpcErr;
use super::{CallRequest, Calls};

/// The text of a result, and the block whose data it is, if it is one block's.
pub(super) struct Answer {
    pub json: Bytes,
    pub block: Option<alloy_primitives::B256>,
}

type Answered = Result<Answer, RpcErr>;

/// What the methods look at.
pub(super) struct Known<'a> {
    pub chain: &'a Chain,
    pub chain_id: u64,
    pub calls: &'a Calls,
}

impl Known<'_> {
    pub(super) fn answer(&self, method: &str, params: &Value) -> Answered {
        match method {
            "eth_chainId" => Ok(value(hex_quantity(self.chain_id))),
            "net_version" => Ok(value(self.chain_id.to_string())),
            "web3_clientVersion" => Ok(value("fake-node/1.0")),
            "eth_syncing" => Ok(value(false)),
            "eth_blockNumber" => Ok(value(hex_quantity(self.chain.head().map_or(0, |head| head.number)))),
            "eth_getBlockByNumber" | "eth_getBlockByHash" => Ok(self.block(params)),
            "eth_getBlockReceipts" => Ok(self.receipts(params)),
            "eth_getLogs" => self.logs(&params[0]),
            "eth_call" => self.call(params),
            _ => Err(RpcErr::new(-32601, &format!("the method {method} does not exist/is not available"))),
        }
    }

    fn block(&self, params: &Value) -> Answer {
        let Some(block) = self.chain.by_parameter(&params[0]) else { return value(Value::Null) };
        let full = params[1].as_bool().unwrap_or(false);
        of_block(block, if full { &block.full_json } else { &block.hashes_json })
    }

    fn receipts(&self, params: &Value) -> Answer {
        match self.chain.by_parameter(&params[0]) {
            Some(block) => of_block(block, &block.receipts_json),
            None => value(Value::Null),
        }
    }

    fn logs(&self, filter: &Value) -> Answered {
        let parsed = LogFilter::parse(filter).ok_or_else(|| RpcErr::new(-32602, "invalid filter"))?;
        if let Some(hash) = filter.get("blockHash") {
            let block = self.chain.by_parameter(hash).ok_or_else(|| RpcErr::new(-32000, "unknown block"))?;
            return Ok(of_block(block, &block.logs_json(&parsed)));
        }
        let head = self.chain.head().map_or(0, |head| head.number);
        let from = range_end(self.chain, &filter["fromBlock"], head);
        let to = range_end(self.chain, &filter["toBlock"], head);
        let (Some(from), Some(to)) = (from, to) else {
            return Err(RpcErr::new(-32602, "invalid block range"));
        };
        let blocks = (from..=to.min(head)).filter_map(|number| self.chain.by_number(number));
        let logs = blocks.flat_map(|block| &block.logs).filter(|log| parsed.takes(log));
        let texts: Vec<&Bytes> = logs.map(|log| &log.json).collect();
        Ok(Answer { json: list_of(&texts), block: None })
    }

    fn call(&self, params: &Value) -> Answered {
        let block =
            self.chain.by_parameter(&params[1]).ok_or_else(|| RpcErr::new(-32000, "header not found"))?;
        if params[1]["requireCanonical"] == true && !self.chain.is_canonical(block) {
            return Err(RpcErr::new(-32000, "hash is not currently canonical"));
        }
        let data = [&params[0]["input"], &params[0]["data"]].into_iter().find(|data| data.is_string());
        let call = CallRequest {
            from: address(&params[0]["from"]),
            to: address(&params[0]["to"]),
            data: data.map_or_else(CallData::new, |data| bytes(data).into()),
            block_number: block.number,
            block_hash: block.hash,
            timestamp: quantity(&block.block.block["timestamp"]),
            overrides: &params[2],
            block_overrides: &params[3],
            chain: self.chain,
        };
        (self.calls)(&call).map(|returned| value(json!(returned)))
    }
}

fn address(text: &Value) -> Address {
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn value(value: impl Into<Value>) -> Answer {
    Answer { json: encode(&value.into()).into(), block: None }
}

fn of_block(block: &Stored, json: &Bytes) -> Answer {
    Answer { json: json.clone(), block: Some(block.hash) }
}
