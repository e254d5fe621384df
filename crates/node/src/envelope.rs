//! The JSON-RPC envelope: from a received message to the raw result in it.
//!
//! A block's logs are half a megabyte, and walking them once to find where they end costs as much as reading them.
//! Nodes write `{"jsonrpc":"2.0","id":N,"result":…}`, so for large messages the leading members are read by hand and
//! all that is left before the last brace is the result, unwalked. That is wrong where a node puts members behind the
//! result; JSON-RPC 2.0 does not forbid it. So every small message is parsed in full, and the first one that shows such
//! a habit (the answer to `eth_chainId` at the latest) turns the short cut off for the connection.

use bytes::Bytes;
use memchr::{memchr, memchr2};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::RpcError;

/// Messages up to this many bytes are always parsed in full: a few microseconds.
const ALWAYS_IN_FULL: usize = 4 * 1024;

/// A received message.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    One(Envelope),
    /// The members of a batch answer; a malformed member is an `Err`.
    Batch(Vec<Result<Envelope, Malformed>>),
}

#[derive(Debug, PartialEq)]
pub(crate) enum Envelope {
    Answer { id: AnswerId, outcome: Outcome },
    Notification { subscription: String, result: Bytes },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerId {
    Number(u64),
    /// `null` or missing: the node could not read the request.
    Absent,
    /// An id of a form that is never used here.
    Foreign,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Result(Bytes),
    Error(RpcError),
    Invalid(&'static str),
}

/// Why a message is no JSON-RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// How a message was read; for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Fast,
    Full,
}

/// The parser of one connection.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// This node was seen to write members behind `result`.
    members_behind_result: bool,
}

impl Parser {
    pub(crate) fn parse(&mut self, message: &Bytes) -> (Path, Result<Message, Malformed>) {
        if message.len() > ALWAYS_IN_FULL
            && !self.members_behind_result
            && let Some(envelope) = fast(message)
        {
            return (Path::Fast, Ok(Message::One(envelope)));
        }
        (Path::Full, self.full(message))
    }

    fn full(&mut self, message: &Bytes) -> Result<Message, Malformed> {
        match first_byte(message) {
            Some(b'{') => self.object(message, message).map(Message::One),
            Some(b'[') => self.batch(message),
            Some(_) => Err(Malformed("neither an object nor a list")),
            None => Err(Malformed("empty")),
        }
    }

    fn batch(&mut self, message: &Bytes) -> Result<Message, Malformed> {
        let members: Vec<&RawValue> = serde_json::from_slice(message).map_err(|_| Malformed("not JSON"))?;
        if members.is_empty() {
            return Err(Malformed("an empty batch"));
        }
        let envelopes = members.into_iter().map(|member| {
            if member.get().starts_with('{') {
                self.object(message, member.get().as_bytes())
            } else {
                Err(Malformed("a batch member that is no object"))
            }
        });
        Ok(Message::Batch(envelopes.collect()))
    }

    fn object(&mut self, message: &Bytes, text: &[u8]) -> Result<Envelope, Malformed> {
        let members: Members<'_> = serde_json::from_slice(text).map_err(|_| Malformed("not JSON-RPC"))?;
        if let Some(method) = members.method {
            return notification(message, method, &members);
        }
        if members.id.is_none() && members.error.is_none() && members.result.is_none() {
            return Err(Malformed("no JSON-RPC member"));
        }
        if let Some(result) = members.result {
            self.members_behind_result |= !is_last_member(text, result);
        }
        Ok(Envelope::Answer { id: answer_id(members.id), outcome: outcome(message, &members) })
    }
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SubscriptionParams<'a> {
    #[serde(borrow)]
    subscription: &'a RawValue,
    #[serde(borrow, deserialize_with = "raw")]
    result: &'a RawValue,
}

/// Tells a member that is `null` from one that is missing.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    raw(deserializer).map(Some)
}

fn raw<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<&'a RawValue, D::Error> {
    <&RawValue>::deserialize(deserializer)
}

fn notification(message: &Bytes, method: &RawValue, members: &Members<'_>) -> Result<Envelope, Malformed> {
    if members.id.is_some() || !method.get().ends_with("_subscription\"") {
        return Err(Malformed("a request from the node"));
    }
    let params = members.params.ok_or(Malformed("a notification without params"))?;
    if !params.get().starts_with('{') {
        return Err(Malformed("notification params that are no object"));
    }
    let params: SubscriptionParams<'_> =
        serde_json::from_str(params.get()).map_err(|_| Malformed("a notification without a result"))?;
    Ok(Envelope::Notification {
        subscription: subscription_id(params.subscription.get()),
        result: slice_of(message, params.result),
    })
}

/// A subscription id as text; a quoted one without its quotes.
pub(crate) fn subscription_id(raw: &str) -> String {
    serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned())
}

fn answer_id(id: Option<&RawValue>) -> AnswerId {
    let Some(text) = id.map(RawValue::get) else { return AnswerId::Absent };
    if text == "null" {
        return AnswerId::Absent;
    }
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    canonical_number(digits.as_bytes()).map_or(AnswerId::Foreign, AnswerId::Number)
}

fn canonical_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}

fn outcome(message: &Bytes, members: &Members<'_>) -> Outcome {
    match (members.error, members.result) {
        (Some(error), _) if error.get() != "null" => Outcome::Error(rpc_error(error.get())),
        (_, Some(result)) => Outcome::Result(slice_of(message, result)),
        _ => Outcome::Invalid("neither result nor error"),
    }
}

/// An error that is not of the specified form is kept in the node's words.
fn rpc_error(text: &str) -> RpcError {
    if text.starts_with('{')
        && let Ok(error) = serde_json::from_str(text)
    {
        return error;
    }
    RpcError { code: 0, message: text.chars().take(512).collect(), data: None }
}

fn slice_of(message: &Bytes, value: &RawValue) -> Bytes {
    message.slice_ref(value.get().as_bytes())
}

fn is_last_member(text: &[u8], value: &RawValue) -> bool {
    let end = value.get().as_bytes().as_ptr_range().end as usize - text.as_ptr() as usize;
    text[end..].trim_ascii() == b"}"
}

fn first_byte(message: &[u8]) -> Option<u8> {
    message.trim_ascii_start().first().copied()
}

/// The short cut; `None` where the message is not of the usual shape.
fn fast(message: &Bytes) -> Option<Envelope> {
    let mut cursor = Cursor { text: message, at: 0 };
    cursor.eat(b'{')?;
    let (mut id, mut version, mut method) = (None, false, false);
    loop {
        match cursor.key()? {
            b"jsonrpc" if !version => {
                cursor.plain_string()?;
                version = true;
            }
            b"id" if id.is_none() => id = Some(cursor.id()?),
            b"method" if !method && cursor.plain_string()?.ends_with(b"_subscription") => method = true,
            b"result" if !method => return fast_answer(message, id?, &mut cursor),
            b"params" if method && id.is_none() => return fast_notification(message, &mut cursor),
            _ => return None,
        }
        cursor.eat(b',')?;
    }
}

fn fast_answer(message: &Bytes, id: u64, cursor: &mut Cursor<'_>) -> Option<Envelope> {
    let result = rest(message, cursor, 1)?;
    Some(Envelope::Answer { id: AnswerId::Number(id), outcome: Outcome::Result(result) })
}

fn fast_notification(message: &Bytes, cursor: &mut Cursor<'_>) -> Option<Envelope> {
    cursor.eat(b'{')?;
    if cursor.key()? != b"subscription" {
        return None;
    }
    let subscription = std::str::from_utf8(cursor.plain_string()?).ok()?.to_owned();
    cursor.eat(b',')?;
    if cursor.key()? != b"result" {
        return None;
    }
    Some(Envelope::Notification { subscription, result: rest(message, cursor, 2)? })
}

/// All between the cursor and the last `braces` closing braces, if it can be one value.
fn rest(message: &Bytes, cursor: &mut Cursor<'_>, braces: usize) -> Option<Bytes> {
    cursor.skip_space();
    let mut value = message[cursor.at..].trim_ascii_end();
    for _ in 0..braces {
        value = value.strip_suffix(b"}")?.trim_ascii_end();
    }
    can_be_one_value(value).then(|| message.slice_ref(value))
}

fn can_be_one_value(value: &[u8]) -> bool {
    match value {
        [b'[', .., b']'] | [b'{', .., b'}'] => true,
        [b'"', text @ .., b'"'] => is_inside_of_string(text),
        _ => false,
    }
}

fn is_inside_of_string(mut text: &[u8]) -> bool {
    while let Some(at) = memchr2(b'"', b'\\', text) {
        if text[at] == b'"' {
            return false;
        }
        let Some(rest) = text.get(at + 2..) else { return false };
        text = rest;
    }
    true
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (*self.text.get(self.at)? == byte).then(|| self.at += 1)
    }

    /// A member's name and the colon behind it.
    fn key(&mut self) -> Option<&'a [u8]> {
        let key = self.plain_string()?;
        self.eat(b':')?;
        Some(key)
    }

    /// A string without escapes, of at most 128 bytes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.eat(b'"')?;
        let text = &self.text[self.at..];
        let text = &text[..text.len().min(129)];
        let inside = &text[..memchr(b'"', text)?];
        self.at += inside.len() + 1;
        inside.iter().all(|byte| *byte >= 0x20 && *byte != b'\\').then_some(inside)
    }

    fn id(&mut self) -> Option<u64> {
        self.skip_space();
        if self.text.get(self.at) == Some(&b'"') {
            return canonical_number(self.plain_string()?);
        }
        let digits = &self.text[self.at..];
        let digits = &digits[..digits.iter().take_while(|byte| byte.is_ascii_digit()).count()];
        self.at += digits.len();
        canonical_number(digits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Message, Malformed> {
        Parser::default().full(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[track_caller]
    fn answers(text: &str, id: AnswerId, outcome: Outcome) {
        assert_eq!(parse(text), Ok(Message::One(Envelope::Answer { id, outcome })), "{text}");
    }

    /// The short cut either agrees with the full parse or steps aside.
    #[track_caller]
    fn paths_agree(text: &str) -> bool {
        let message = Bytes::copy_from_slice(text.as_bytes());
        match fast(&message) {
            None => false,
            Some(envelope) => {
                assert_eq!(Parser::default().full(&message), Ok(Message::One(envelope)), "{text}");
                true
            }
        }
    }

    #[test]
    fn answers_are_read_in_every_shape_that_nodes_write() {
        let result = |text: &'static str| Outcome::Result(Bytes::from_static(text.as_bytes()));
        let number = AnswerId::Number;
        answers(r#"{"jsonrpc":"2.0","id":7,"result":"0x1"}"#, number(7), result(r#""0x1""#));
        answers(r#"{"jsonrpc":"2.0","result":[1, 2],"id":7}"#, number(7), result("[1, 2]"));
        answers(r#" { "id" : "7" , "result" : null } "#, number(7), result("null"));
        answers(r#"{"id":7,"result":{"a":{}},"error":null}"#, number(7), result(r#"{"a":{}}"#));
        answers(r#"{"id":-7,"result":1}"#, AnswerId::Foreign, result("1"));
        answers(r#"{"id":"x","result":1}"#, AnswerId::Foreign, result("1"));
        answers(r#"{"id":99999999999999999999,"result":1}"#, AnswerId::Foreign, result("1"));
        answers(r#"{"id":null,"result":1}"#, AnswerId::Absent, result("1"));
        answers(r#"{"result":1}"#, AnswerId::Absent, result("1"));
        answers(r#"{"id":7}"#, number(7), Outcome::Invalid("neither result nor error"));
    }

    #[test]
    fn errors_keep_code_message_and_data() {
        let error =
            |code, message: &str, data| Outcome::Error(RpcError { code, message: message.into(), data });
        let id = AnswerId::Number(1);
        let data = Some(serde_json::Value::from("0x08c3"));
        answers(
            r#"{"id":1,"error":{"code":3,"message":"reverted","data":"0x08c3"}}"#,
            id,
            error(3, "reverted", data),
        );
        answers(r#"{"id":1,"result":null,"error":{"code":-1,"message":"m"}}"#, id, error(-1, "m", None));
        answers(r#"{"id":1,"error":"rate limited"}"#, id, error(0, r#""rate limited""#, None));
        answers(r#"{"id":1,"error":{"code":"x"}}"#, id, error(0, r#"{"code":"x"}"#, None));
    }

    #[test]
    fn notifications_carry_subscription_and_result() {
        for text in [
            r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0xab","result":{"n":1}}}"#,
            r#"{"params":{"result":{"n":1},"subscription":"0xab"},"method":"eth_subscription"}"#,
        ] {
            let expected = Envelope::Notification {
                subscription: "0xab".into(),
                result: Bytes::from_static(br#"{"n":1}"#),
            };
            assert_eq!(parse(text), Ok(Message::One(expected)));
        }
    }

    #[test]
    fn a_malformed_member_does_not_spoil_its_batch() {
        let Ok(Message::Batch(members)) = parse(r#"[{"id":2,"result":1}, 5, {"id":1,"error":{"code":1}}]"#)
        else {
            panic!("a batch");
        };
        assert_eq!(members.len(), 3);
        assert_eq!(members[1], Err(Malformed("a batch member that is no object")));
        assert!(matches!(
            &members[2],
            Ok(Envelope::Answer { id: AnswerId::Number(1), outcome: Outcome::Error(_) })
        ));
    }

    #[test]
    fn what_is_no_json_rpc_is_malformed() {
        for text in [
            "",
            " ",
            "7",
            "null",
            "\"x\"",
            "{",
            "}",
            "[",
            "[]",
            "{}",
            "{\"id\":1",
            "{\"id\":1,\"result\":}",
            r#"{"id":1,"id":2,"result":1}"#,
            r#"{"id":1,"method":"eth_subscription","params":{}}"#,
            r#"{"method":"window_close","params":{}}"#,
            r#"{"method":"eth_subscription"}"#,
            r#"{"method":"eth_subscription","params":{"subscription":"0x1"}}"#,
            r#"{"method":"eth_subscription","params":["0x1",2]}"#,
            r#"{"id":1,"result":1} {"id":2,"result":2}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_short_cut_takes_the_usual_shapes() {
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"result":[{"a":"b"}]}"#,
            r#"{"id":1,"jsonrpc":"2.0","result":{"a":[]}}"#,
            r#"{"jsonrpc":"2.0","id":"12","result":"0xffff"}"#,
            "{\"jsonrpc\": \"2.0\", \"id\": 3, \"result\": [ ] }\n",
            r#"{"id":1,"result":"a \" quote \\"}"#,
            r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":{"a":"}"}}}"#,
        ] {
            assert!(paths_agree(text), "not taken: {text}");
        }
    }

    #[test]
    fn the_short_cut_steps_aside_where_it_could_be_wrong() {
        for text in [
            r#"{"result":[1],"id":1}"#,
            r#"{"id":1,"result":"a","error":"b"}"#,
            r#"{"id":1,"result":"a","x":1}"#,
            r#"{"id":1,"result":[1],"x":1}"#,
            r#"{"id":1,"result":null}"#,
            r#"{"id":1,"error":{"code":1,"message":"[]"}}"#,
            r#"{"id":1,"id":2,"result":[1]}"#,
            r#"{"method":"eth_subscription","params":{"result":[1],"subscription":"0x1"}}"#,
            r#"{"method":"eth_subscription","params":{"subscription":"0x1","result":[1]},"x":1}"#,
            r#"[{"id":1,"result":[1]}]"#,
        ] {
            assert!(!paths_agree(text), "taken: {text}");
        }
    }

    #[test]
    fn a_node_that_writes_members_behind_the_result_loses_the_short_cut() {
        let large = format!(r#"{{"id":2,"result":["{}"],"more":[1]}}"#, "x".repeat(ALWAYS_IN_FULL));
        let large = Bytes::from(large);
        let mut parser = Parser::default();
        assert_eq!(parser.parse(&Bytes::from_static(br#"{"result":"0x1","id":1}"#)).0, Path::Full);
        let (path, message) = parser.parse(&large);
        assert_eq!(path, Path::Full);
        let Ok(Message::One(Envelope::Answer { outcome: Outcome::Result(result), .. })) = message else {
            panic!("a result");
        };
        assert!(result.ends_with(b"x\"]"));
    }

    #[test]
    fn a_large_usual_answer_is_not_walked_and_not_copied() {
        let message =
            Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":["{}"]}}"#, "x".repeat(100_000)));
        let (path, parsed) = Parser::default().parse(&message);
        assert_eq!(path, Path::Fast);
        let Ok(Message::One(Envelope::Answer { outcome: Outcome::Result(result), .. })) = parsed else {
            panic!("a result");
        };
        assert!(message.as_ptr_range().contains(&result.as_ptr()), "a slice of the message");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"[a-z"\\{}\[\],:é]{0,12}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-z\"]{0,4}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn both_paths_agree_on_any_usual_answer(id in 0..u64::MAX / 2, result in json(), space in "[ \n\t]{0,2}", order: bool) {
            let head = if order { format!(r#""jsonrpc":"2.0",{space}"id":{id}"#) } else { format!(r#""id":{space}{id},"jsonrpc":"2.0""#) };
            let text = format!(r#"{{{space}{head},"result"{space}:{space}{result}{space}}}{space}"#);
            let taken = paths_agree(&text);
            prop_assert_eq!(taken, result.is_array() || result.is_object() || result.is_string());
        }

        #[test]
        fn both_paths_agree_on_any_usual_notification(subscription in "0x[0-9a-f]{1,32}", result in json()) {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{{"subscription":"{subscription}","result":{result}}}}}"#);
            paths_agree(&text);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in r#"[{}\[\]":,0-9a-z \\]{0,64}"#) {
            for message in [Bytes::from(bytes), Bytes::from(text)] {
                fast(&message);
                let _ = Parser::default().full(&message);
            }
        }

        #[test]
        fn no_cut_or_flipped_byte_makes_the_parser_panic(cut in 0usize..80, at in 0usize..80, byte: u8) {
            let mut bytes = br#"{"jsonrpc":"2.0","id":12,"result":[{"a":"\"b"},"c",null]}"#.to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            let message = Bytes::from(bytes);
            fast(&message);
            let _ = Parser::default().full(&message);
        }
    }
}
