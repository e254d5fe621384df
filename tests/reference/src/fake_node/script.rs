//! How a fake node misbehaves: faults per method, and conditions that hold until they are lifted.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::heads::LogFault;

/// What happens to a request instead of, or before, its right answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The right answer, later; other requests are answered meanwhile.
    Delay(Duration),
    /// This error.
    Error(RpcErr),
    /// No answer at all.
    Silence,
    /// This result instead of the right one.
    Result(Value),
    /// This text instead of the whole message. Not for members of a batch.
    Text(String),
    /// Over HTTP this status with a body that is no JSON, as of a gateway; elsewhere no answer.
    HttpStatus(u16),
    /// Over HTTP status 429 with `Retry-After` in seconds (RFC 9110, section 10.2.3); elsewhere no answer.
    TooManyRequests(u64),
    /// Only so many items of a list: the partial answer of a node that has not indexed a block yet.
    FirstItems(usize),
    /// The connection ends without an answer.
    DropConnection,
}

/// A JSON-RPC error.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcErr {
    /// The code.
    pub code: i64,
    /// The words.
    pub message: String,
    /// The revert data or whatever else.
    pub data: Option<Value>,
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next so many requests.
    Next(u64),
    /// All, until [`Script::mend`].
    Always,
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Script {
    faults: HashMap<String, Vec<(Fault, Times)>>,
    /// Requests are taken and not answered, nothing is pushed.
    pub silent: bool,
    /// Requests are answered, nothing is pushed.
    pub mute: bool,
    /// Nothing is read from any connection, so that pings are not answered either; connections stay open.
    pub half_open: bool,
    /// New connections are taken and dropped at once.
    pub refusing: bool,
    /// What is wrong with the logs that are pushed.
    pub log_fault: Option<LogFault>,
    /// The members of a batch answer come in reverse order.
    pub reversed_batches: bool,
    /// Faults that have struck, by method.
    pub struck: HashMap<String, u64>,
}

impl RpcErr {
    /// An error without data.
    pub fn new(code: i64, message: &str) -> Self {
        Self { code, message: message.to_owned(), data: None }
    }

    /// A reverted call (geth: code 3).
    pub fn reverted(data: &[u8]) -> Self {
        let data = Some(alloy_primitives::hex::encode_prefixed(data).into());
        Self { code: 3, message: "execution reverted".to_owned(), data }
    }

    pub(super) fn json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        error
    }
}

impl Script {
    /// Whether notifications are left out.
    pub fn pushes_nothing(&self) -> bool {
        self.silent || self.mute || self.half_open
    }

    /// Puts a fault on a method, behind those that are there.
    pub fn inject(&mut self, method: &str, fault: Fault, times: Times) {
        self.faults.entry(method.to_owned()).or_default().push((fault, times));
    }

    /// Lifts all faults of a method.
    pub fn mend(&mut self, method: &str) {
        self.faults.remove(method);
    }

    /// The fault that strikes this request, if one does.
    pub fn strike(&mut self, method: &str) -> Option<Fault> {
        let faults = self.faults.get_mut(method)?;
        let (fault, times) = faults.first_mut()?;
        let struck = fault.clone();
        if let Times::Next(left) = times {
            *left = left.saturating_sub(1);
            if *left == 0 {
                faults.remove(0);
            }
        }
        *self.struck.entry(method.to_owned()).or_default() += 1;
        Some(struck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_in_order_and_as_often_as_said() {
        let mut script = Script::default();
        script.inject("m", Fault::Silence, Times::Next(2));
        script.inject("m", Fault::DropConnection, Times::Always);
        let struck: Vec<_> = (0..4).map(|_| script.strike("m")).collect();
        assert_eq!(
            struck,
            [
                Some(Fault::Silence),
                Some(Fault::Silence),
                Some(Fault::DropConnection),
                Some(Fault::DropConnection)
            ]
        );
        assert_eq!((script.strike("other"), script.struck["m"]), (None, 4));
        script.mend("m");
        assert_eq!(script.strike("m"), None);
    }
}
