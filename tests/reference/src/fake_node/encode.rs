//! JSON as geth writes it: logs and transactions are structs there and keep their field order, all else is a map and
//! comes out sorted.

use serde_json::Value;

/// go-ethereum `core/types/gen_log_json.go`.
const LOG: [&str; 10] = [
    "address",
    "topics",
    "data",
    "blockNumber",
    "transactionHash",
    "transactionIndex",
    "blockHash",
    "blockTimestamp",
    "logIndex",
    "removed",
];

/// go-ethereum `internal/ethapi/api.go`, `RPCTransaction`.
const TRANSACTION: [&str; 21] = [
    "blockHash",
    "blockNumber",
    "from",
    "gas",
    "gasPrice",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "maxFeePerBlobGas",
    "hash",
    "input",
    "nonce",
    "to",
    "transactionIndex",
    "value",
    "type",
    "accessList",
    "chainId",
    "v",
    "r",
    "s",
    "yParity",
];

/// The text of a value.
pub fn encode(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(index, text);
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            let mut names: Vec<&String> = members.keys().collect();
            let order = order_of(members);
            names.sort_by_key(|name| (place(order, name), name.as_str()));
            for (index, name) in names.into_iter().enumerate() {
                separate(index, text);
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(&members[name], text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn separate(index: usize, text: &mut String) {
    if index > 0 {
        text.push(',');
    }
}

fn order_of(members: &serde_json::Map<String, Value>) -> &'static [&'static str] {
    if members.contains_key("topics") && members.contains_key("data") {
        &LOG
    } else if members.contains_key("input") && members.contains_key("nonce") {
        &TRANSACTION
    } else {
        &[]
    }
}

fn place(order: &[&str], name: &str) -> usize {
    order.iter().position(|known| *known == name).unwrap_or(order.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn logs_keep_the_order_of_geth_and_maps_are_sorted() {
        let log =
            json!({"removed": false, "data": "0x", "topics": ["0x1"], "address": "0xa", "logIndex": "0x0"});
        let expected = r#"{"b":1,"logs":[{"address":"0xa","topics":["0x1"],"data":"0x","logIndex":"0x0","removed":false}]}"#;
        assert_eq!(encode(&json!({"logs": [log], "b": 1})), expected);
    }

    #[test]
    fn the_text_reads_back_as_the_same_value() {
        let value = json!({"input": "0x", "nonce": "0x1", "a\"b": [null, true, -1, "é\n"], "hash": {"z": {}, "y": []}});
        assert_eq!(serde_json::from_str::<Value>(&encode(&value)).expect("JSON"), value);
    }
}
