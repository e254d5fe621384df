//! An endpoint that passes on what the node says, but for a lie about one pool.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use alloy_primitives::{U256, hex, keccak256};
use anyhow::Context;
use serde_json::Value;

use super::bot::Name;

/// Of plain HTTP only, one request at a time on a connection.
#[derive(Debug)]
pub(super) struct Liar {
    address: SocketAddr,
    about: Arc<Mutex<Option<Name>>>,
}

impl Liar {
    /// Listens for as long as the process lives.
    pub(super) fn in_front_of(node: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let about: Arc<Mutex<Option<Name>>> = Arc::default();
        let lie = Arc::clone(&about);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let lie = Arc::clone(&lie);
                // Whoever hangs up in between is served no longer.
                thread::spawn(move || serve(&stream, node, &lie));
            }
        });
        Ok(Self { address, about })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn lie_about(&self, pool: Name) {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = Some(pool);
    }

    pub(super) fn be_honest(&self) {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn serve(stream: &TcpStream, node: SocketAddr, lie: &Mutex<Option<Name>>) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(body) = read_message(&mut reader)? {
        let asked: Value = serde_json::from_slice(&body)?;
        let mut answer: Value = serde_json::from_slice(&pass_on(node, &body)?)?;
        if let Some(about) = *lie.lock().unwrap_or_else(PoisonError::into_inner) {
            bend(&asked, &mut answer, about);
        }
        let body = serde_json::to_vec(&answer)?;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut writer = stream;
        writer.write_all(&[head.as_bytes(), &body].concat())?;
    }
    Ok(stream.shutdown(Shutdown::Both)?)
}

/// The body of a request; `None` where there comes no more.
fn read_message(reader: &mut BufReader<&TcpStream>) -> anyhow::Result<Option<Vec<u8>>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(number) = line.strip_prefix("content-length:") {
            length = Some(number.trim().parse()?);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length.context("a request without a length")?];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

/// What the node answers, on a connection of its own.
fn pass_on(node: SocketAddr, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(node)?;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {node}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut reader = BufReader::new(&stream);
    read_message(&mut reader)?.context("the node does not answer")
}

/// One bit of the first word of each answer about the pool is another one.
fn bend(asked: &Value, answer: &mut Value, (address, id): Name) {
    let place = id.map(|id| keccak256([id.0, U256::from(6).to_be_bytes()].concat()));
    let is_about = |question: &Value| {
        let call = &question["params"][0];
        let to = call["to"].as_str().and_then(|to| to.parse().ok());
        let data = call["data"].as_str().or(call["input"].as_str()).unwrap_or_default().to_ascii_lowercase();
        question["method"] == "eth_call"
            && to == Some(address)
            && place.is_none_or(|place| data.contains(&hex::encode(place)))
    };
    let questions = asked.as_array().map_or(std::slice::from_ref(asked), Vec::as_slice);
    let lies: Vec<_> =
        questions.iter().filter(|question| is_about(question)).map(|question| &question["id"]).collect();
    let bend_one = |answer: &mut Value| {
        let Some(result) = answer["result"].as_str().filter(|_| lies.contains(&&answer["id"])) else {
            return;
        };
        let Ok(mut bytes) = hex::decode(result) else { return };
        // Of a manager, offset and length of the words come first.
        let last = if place.is_some() { 95 } else { 31 };
        if let Some(byte) = bytes.get_mut(last) {
            *byte ^= 1;
            answer["result"] = Value::String(hex::encode_prefixed(bytes));
        }
    };
    match answer {
        Value::Array(answers) => answers.iter_mut().for_each(bend_one),
        one => bend_one(one),
    }
}
