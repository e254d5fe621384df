//! What a node was asked: a wire to it that remembers what goes there.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

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

impl Tap {
    /// Listens for as long as the process lives.
    pub(in crate::proofs) fn to(node: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let asked: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for (place, stream) in listener.incoming().enumerate() {
                log.lock().unwrap_or_else(PoisonError::into_inner).push(Vec::new());
                if let Ok((near, far)) = stream.and_then(|near| Ok((near, TcpStream::connect(node)?))) {
                    connect(near, far, place, &log);
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

fn connect(near: TcpStream, far: TcpStream, place: usize, log: &Arc<Mutex<Vec<Vec<u8>>>>) {
    let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { return };
    let log = Arc::clone(log);
    thread::spawn(move || {
        pass(near, far, |said| log.lock().unwrap_or_else(PoisonError::into_inner)[place].extend(said));
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
        let said = vec![unmasked(&stream)];
        assert_eq!((count(&said, &named("eth_call")), count(&said, &named("eth_getCode"))), (1, 0));
    }
}
