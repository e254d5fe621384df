//! One call of a batch.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::NodeError;

/// A method with its parameters, encoded.
#[derive(Debug, Clone)]
pub struct Call {
    pub(crate) method: Cow<'static, str>,
    pub(crate) params: Box<RawValue>,
}

impl Call {
    /// A call of `method`; `params` is a list or an object, `()` stands for none.
    ///
    /// # Errors
    /// [`NodeError::Encode`] where `params` cannot be written as JSON.
    pub fn new(method: impl Into<Cow<'static, str>>, params: impl Serialize) -> Result<Self, NodeError> {
        let method = method.into();
        let params = encode_params(&method, &params)?;
        Ok(Self { method, params })
    }

    /// What is asked.
    pub fn method(&self) -> &str {
        &self.method
    }
}

pub(crate) fn encode_params(method: &str, params: &impl Serialize) -> Result<Box<RawValue>, NodeError> {
    let failed =
        |error: serde_json::Error| NodeError::Encode { method: method.to_owned(), reason: error.to_string() };
    let encoded = serde_json::value::to_raw_value(params).map_err(failed)?;
    if encoded.get() == "null" {
        return RawValue::from_string("[]".to_owned()).map_err(failed);
    }
    Ok(encoded)
}

/// The parameters of `eth_subscribe`: the kind, and the filter if there is one.
pub(crate) fn encode_subscription(kind: &str, filter: &impl Serialize) -> Result<Box<RawValue>, NodeError> {
    let method = "eth_subscribe";
    let filter = encode_params(method, filter)?;
    match filter.get() {
        "[]" => encode_params(method, &[kind]),
        _ => encode_params(method, &(kind, filter)),
    }
}

/// One request object; `method` is escaped, the encoded parameters are copied as they are.
pub(crate) fn encode_request(id: u64, method: &str, params: &RawValue) -> Result<String, NodeError> {
    #[derive(Serialize)]
    struct Request<'a> {
        jsonrpc: &'static str,
        id: u64,
        method: &'a str,
        params: &'a RawValue,
    }
    serde_json::to_string(&Request { jsonrpc: "2.0", id, method, params })
        .map_err(|error| NodeError::Encode { method: method.to_owned(), reason: error.to_string() })
}

/// A batch of requests with consecutive ids from `first_id` on.
pub(crate) fn encode_batch(first_id: u64, calls: &[Call]) -> Result<String, NodeError> {
    let mut text = String::from("[");
    for (id, call) in (first_id..).zip(calls) {
        if id > first_id {
            text.push(',');
        }
        text.push_str(&encode_request(id, &call.method, &call.params)?);
    }
    text.push(']');
    Ok(text)
}
