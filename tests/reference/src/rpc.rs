//! JSON-RPC over plain HTTP, as little of it as a judge needs: blocking, one connection a request, no retries, no
//! encryption. It is meant for a node on the loopback interface.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A judge that waits longer than this waits for a node that is gone.
const DEADLINE: Duration = Duration::from_secs(60);

/// A node's address; cheap to clone, nothing is kept open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpc {
    authority: String,
    path: String,
}

/// The node's own "no": the error object of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// JSON-RPC error code.
    pub code: i64,
    /// The node's words.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node refused: {} (code {})", self.message, self.code)
    }
}

impl std::error::Error for Refusal {}

impl Rpc {
    /// # Errors
    /// Anything but `http://host:port[/path]`.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").with_context(|| format!("not a plain http URL: {url}"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(authority.contains(':'), "no port in {url}");
        Ok(Self { authority: authority.to_owned(), path: format!("/{path}") })
    }

    /// The address that requests go to.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.authority, self.path)
    }

    /// Asks and waits. `params` is the JSON array of parameters.
    ///
    /// # Errors
    /// A node that is not there, a [`Refusal`] (to be found by downcasting), an answer of another shape than `T`.
    pub fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> anyhow::Result<T> {
        let answer = self
            .post(&json!({ "jsonrpc": "2.0", "id": 0, "method": method, "params": params }))
            .with_context(|| format!("asking for {method}"))?;
        let result = result_of(answer).with_context(|| format!("asking for {method}"))?;
        serde_json::from_value(result).with_context(|| format!("reading the answer to {method}"))
    }

    /// Several questions in one request; the answers come back in the order of the questions. The node may work on
    /// them in any order, so only reading belongs here.
    ///
    /// # Errors
    /// As [`Rpc::call`]; one refusal refuses all.
    pub fn batch(&self, questions: &[(&str, Value)]) -> anyhow::Result<Vec<Value>> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let body: Vec<Value> = questions
            .iter()
            .enumerate()
            .map(|(id, (method, params))| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .collect();
        let mut answers: Vec<Value> = serde_json::from_value(self.post(&Value::Array(body))?)?;
        ensure!(
            answers.len() == questions.len(),
            "{} answers to {} questions",
            answers.len(),
            questions.len()
        );
        answers.sort_by_key(|answer| answer["id"].as_u64());
        answers.into_iter().map(result_of).collect()
    }

    fn post(&self, body: &Value) -> anyhow::Result<Value> {
        let body = serde_json::to_vec(body)?;
        let mut stream = TcpStream::connect(&self.authority)
            .with_context(|| format!("connecting to {}", self.authority))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.path,
            self.authority,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)?;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        read.with_context(|| format!("no answer of {} within {DEADLINE:?}", self.authority))?;
        Ok(serde_json::from_slice(body_of(&answer)?)?)
    }
}

/// The body of an HTTP/1.1 answer that was read to its end.
fn body_of(answer: &[u8]) -> anyhow::Result<&[u8]> {
    let end =
        answer.windows(4).position(|window| window == b"\r\n\r\n").context("an answer without a head")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "the node answered {status:?}");
    ensure!(
        !head.to_ascii_lowercase().contains("transfer-encoding: chunked"),
        "a chunked answer: this client reads only answers of a known length"
    );
    Ok(&answer[end + 4..])
}

fn result_of(mut answer: Value) -> anyhow::Result<Value> {
    if let Some(error) = answer.get("error") {
        let message = error["message"].as_str().unwrap_or_default().to_owned();
        bail!(Refusal { code: error["code"].as_i64().unwrap_or_default(), message });
    }
    answer.get_mut("result").map(Value::take).context("an answer with neither result nor error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_with_a_port_is_accepted() {
        for url in ["ws://127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1", "127.0.0.1:8545"] {
            assert!(Rpc::new(url).is_err(), "{url}");
        }
        let rpc = Rpc::new("http://127.0.0.1:8545/key").expect("a good URL");
        assert_eq!(rpc.url(), "http://127.0.0.1:8545/key");
    }

    #[test]
    fn a_refusal_can_be_told_from_a_broken_answer() {
        let refused = result_of(json!({ "id": 0, "error": { "code": -32000, "message": "nonce too low" } }));
        let refusal = refused.expect_err("an error object").downcast::<Refusal>().expect("a refusal");
        assert_eq!(refusal, Refusal { code: -32000, message: "nonce too low".to_owned() });
        assert!(result_of(json!({ "id": 0 })).expect_err("no result").downcast::<Refusal>().is_err());
        assert_eq!(result_of(json!({ "id": 0, "result": null })).expect("null is a result"), Value::Null);
    }

    #[test]
    fn an_answer_that_is_not_200_is_an_error() {
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("a body"), b"{}");
        assert!(body_of(b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}").is_err());
        assert!(
            body_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n").is_err()
        );
        assert!(body_of(b"garbage").is_err());
    }

    #[test]
    fn nobody_listening_is_an_error_that_names_the_method() {
        let rpc = Rpc::new("http://127.0.0.1:1").expect("a good URL");
        let error = rpc.call::<Value>("eth_blockNumber", json!([])).expect_err("nobody listens on port 1");
        assert!(format!("{error:#}").contains("eth_blockNumber"), "{error:#}");
    }
}
