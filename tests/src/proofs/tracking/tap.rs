//! What a node was asked: a wire to it that remembers what goes there.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};

/// The methods that tell what the state holds.
const STATE_READERS: [&str; 8] = [
    "eth_call",
    "eth_getStorageAt",
    "eth_getStorageValues",
    "eth_getProof",
    "eth_getBalance",
    "eth_getCode",
    "eth_getTransactionCount",
    "eth_simulateV1",
];

/// Of plain HTTP, and of WebSockets, whose frames it unmasks.
#[derive(Debug)]
pub(in crate::proofs) struct Tap {
    address: SocketAddr,
    /// By connection.
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A request that does not reach the node before this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    said: Vec<u8>,
    _go: oneshot::Sender<()>,
}

/// Requests on their way to the node, in their order; once it is dropped, none is held any longer.
pub(super) type Gate = mpsc::Receiver<Held>;

impl Held {
    /// Whether somebody wants to know which block is the newest.
    pub(super) fn asks_for_head(&self) -> bool {
        let has = |wanted: &str| self.said.windows(wanted.len()).any(|it| it == wanted.as_bytes());
        has(&named("eth_getBlockByNumber")) && has("\"latest\"")
    }
}

/// Awaits a load; whatever `between` does with a request of it that is held comes before the node hears of the request.
pub(super) async fn meanwhile<T>(
    load: impl Future<Output = T>,
    gate: &mut Gate,
    mut between: impl AsyncFnMut(&Held) -> anyhow::Result<()>,
) -> anyhow::Result<T> {
    let mut load = pin!(load);
    loop {
        let held = tokio::select! {
            biased;
            loaded = &mut load => return Ok(loaded),
            held = gate.recv() => held.context("the tap is gone")?,
        };
        between(&held).await?;
    }
}

impl Tap {
    /// Listens for as long as the process lives.
    pub(in crate::proofs) fn to(node: SocketAddr) -> io::Result<Self> {
        Self::open(node, None)
    }

    /// The same, but each request is held at a gate.
    pub(super) fn with_gate(node: SocketAddr) -> io::Result<(Self, Gate)> {
        let (held, gate) = mpsc::channel(1);
        Ok((Self::open(node, Some(held))?, gate))
    }

    fn open(node: SocketAddr, gate: Option<mpsc::Sender<Held>>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let asked: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for (place, stream) in listener.incoming().enumerate() {
                log.lock().unwrap_or_else(PoisonError::into_inner).push(Vec::new());
                if let Ok((near, far)) = stream.and_then(|near| Ok((near, TcpStream::connect(node)?))) {
                    connect(near, far, place, &log, gate.clone());
                }
            }
        });
        Ok(Self { address, asked })
    }

    pub(in crate::proofs) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(in crate::proofs) fn ws_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Calls that read state so far.
    pub(in crate::proofs) fn state_calls(&self) -> usize {
        self.readers().values().sum()
    }

    /// The same, by method.
    pub(in crate::proofs) fn readers(&self) -> BTreeMap<&'static str, usize> {
        let said = self.said();
        STATE_READERS.iter().map(|method| (*method, count(&said, &named(method)))).collect()
    }

    pub(in crate::proofs) fn calls(&self, method: &str) -> usize {
        count(&self.said(), &named(method))
    }

    /// Requests of any method.
    pub(in crate::proofs) fn requests(&self) -> usize {
        count(&self.said(), "\"method\":")
    }

    /// What was said on each connection.
    fn said(&self) -> Vec<Vec<u8>> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().map(|stream| unmasked(stream)).collect()
    }
}

fn named(method: &str) -> String {
    format!("\"method\":\"{method}\"")
}

fn count(said: &[Vec<u8>], wanted: &str) -> usize {
    let in_one = |said: &Vec<u8>| said.windows(wanted.len()).filter(|it| *it == wanted.as_bytes()).count();
    said.iter().map(in_one).sum()
}

/// The payloads of a client's frames behind its handshake (RFC 6455, section 5.2); anything else as it is.
fn unmasked(stream: &[u8]) -> Vec<u8> {
    let handshake = stream.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(handshake) = handshake.filter(|_| stream.starts_with(b"GET ")) else { return stream.to_vec() };
    let (mut rest, mut said) = (&stream[handshake + 4..], Vec::new());
    while let Some((payload, behind)) = frame(rest) {
        said.extend(payload);
        rest = behind;
    }
    said
}

/// The first whole frame, unmasked, and what is behind it.
fn frame(stream: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (head, rest) = stream.split_first_chunk::<2>()?;
    let (length, rest) = match head[1] & 0x7f {
        126 => {
            rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?
        }
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
        short => (u64::from(short), rest),
    };
    let (mask, rest) = match head[1] & 0x80 {
        0 => ([0; 4], rest),
        _ => rest.split_first_chunk().map(|(mask, rest)| (*mask, rest))?,
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect(), rest))
}

fn connect(
    near: TcpStream,
    far: TcpStream,
    place: usize,
    log: &Arc<Mutex<Vec<Vec<u8>>>>,
    gate: Option<mpsc::Sender<Held>>,
) {
    let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { return };
    let log = Arc::clone(log);
    thread::spawn(move || {
        let note = |said: &[u8]| log.lock().unwrap_or_else(PoisonError::into_inner)[place].extend(said);
        match gate {
            Some(gate) => pass_whole(near, far, &gate, note),
            None => pass(near, far, note),
        }
    });
    thread::spawn(move || pass(far_again, near_again, |_| {}));
}

/// Until one end is closed.
fn pass(mut from: TcpStream, mut to: TcpStream, mut note: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        note(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// The same, request by request, each of which is held at the gate.
fn pass_whole(mut from: TcpStream, mut to: TcpStream, gate: &mpsc::Sender<Held>, note: impl Fn(&[u8])) {
    let (mut buffer, mut waiting, mut has_frames) = (vec![0; 1 << 16], Vec::new(), false);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        note(&buffer[..length]);
        waiting.extend_from_slice(&buffer[..length]);
        let Some(said) = whole(&waiting, has_frames) else { continue };
        has_frames |= waiting.starts_with(b"GET ");
        if !said.is_empty() {
            hold(gate, said);
        }
        if to.write_all(&waiting).is_err() {
            break;
        }
        waiting.clear();
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Until it is let go, or nobody holds anything any longer.
fn hold(gate: &mpsc::Sender<Held>, said: Vec<u8>) {
    let (go, gone) = oneshot::channel();
    if gate.blocking_send(Held { said, _go: go }).is_ok() {
        let _ = gone.blocking_recv();
    }
}

/// What is asked in so many bytes, if nothing of it is missing; nothing is asked in a handshake.
fn whole(stream: &[u8], has_frames: bool) -> Option<Vec<u8>> {
    if has_frames {
        let (mut rest, mut said) = (stream, Vec::new());
        while !rest.is_empty() {
            let (payload, behind) = frame(rest)?;
            said.extend(payload);
            rest = behind;
        }
        return Some(said);
    }
    let head = stream.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    if stream.starts_with(b"GET ") {
        return Some(Vec::new());
    }
    let lines = std::str::from_utf8(&stream[..head]).ok()?.lines();
    let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    (stream.len() >= head + length?).then(|| stream[head..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_frames_of_every_length_are_read_and_a_torn_one_is_not() {
        let frame = |text: &[u8]| {
            let mask = [1, 2, 3, 4];
            let length = match text.len() {
                short @ 0..126 => vec![0x80 | short as u8],
                long @ 126..65_536 => [&[0x80 | 126], &(long as u16).to_be_bytes()[..]].concat(),
                longest => [&[0x80 | 127], &(longest as u64).to_be_bytes()[..]].concat(),
            };
            let masked: Vec<u8> =
                text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            [&[0x81][..], &length, &mask, &masked].concat()
        };
        let texts = [b"\"method\":\"eth_call\"".to_vec(), vec![b'x'; 300], vec![b'y'; 70_000]];
        let handshake = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        let frames: Vec<u8> = texts.iter().flat_map(|text| frame(text)).collect();
        let stream = [&handshake[..], &frames].concat();
        assert_eq!(unmasked(&stream), texts.concat());
        assert_eq!(unmasked(&stream[..stream.len() - 1]), texts[..2].concat());
        assert_eq!(unmasked(b"POST / HTTP/1.1\r\n\r\n{}"), b"POST / HTTP/1.1\r\n\r\n{}");
        assert_eq!(whole(&frames, true), Some(texts.concat()));
        assert_eq!(whole(&frames[..frames.len() - 1], true), None);
        let said = vec![unmasked(&stream)];
        assert_eq!((count(&said, &named("eth_call")), count(&said, &named("eth_getCode"))), (1, 0));
    }

    #[test]
    fn a_request_is_whole_with_its_last_byte_and_a_handshake_asks_nothing() {
        let request = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n1234";
        assert_eq!(whole(request, false), Some(b"1234".to_vec()));
        assert!((0..request.len()).all(|length| whole(&request[..length], false).is_none()));
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\r\n", false), Some(Vec::new()));
    }
}
