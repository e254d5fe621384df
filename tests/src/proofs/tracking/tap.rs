//! What a node was asked: a wire to it that remembers what goes there.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The methods that tell what the state holds.
const STATE_READERS: [&str; 6] = [
    "eth_call",
    "eth_getStorageAt",
    "eth_getStorageValues",
    "eth_getProof",
    "eth_getBalance",
    "eth_simulateV1",
];

/// Of plain HTTP only: what goes over it is not masked.
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

    /// Calls that read state so far.
    pub(in crate::proofs) fn state_calls(&self) -> usize {
        STATE_READERS.iter().map(|method| self.calls(method)).sum()
    }

    pub(in crate::proofs) fn calls(&self, method: &str) -> usize {
        let wanted = format!("\"method\":\"{method}\"");
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count =
            |said: &Vec<u8>| said.windows(wanted.len()).filter(|said| *said == wanted.as_bytes()).count();
        asked.iter().map(count).sum()
    }
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
