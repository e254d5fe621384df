//! The life of one anvil process: started on a free port, gone with its owner.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::rpc::Rpc;

/// Anvil is up within 100 ms; a machine under load gets more.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Runs anvil in the background and kills it as soon as standard input closes, which happens when the owner drops it,
/// panics, exits or is killed outright: the kernel closes the pipe in every case, so no anvil outlives its owner.
const KEEPER: &str = r#""$@" 2>&1 & anvil=$!; exec >&-; read -r _; kill "$anvil"; wait "$anvil""#;

/// A running anvil.
#[derive(Debug)]
pub struct Anvil {
    keeper: Child,
    lifeline: Option<ChildStdin>,
    authority: String,
    rpc: Rpc,
}

impl Anvil {
    /// Starts `binary` (the native program of the platform's package: the script that npm puts beside it leaves the node
    /// running when it is killed) on a free port of the loopback interface, with nothing in its log from then on.
    ///
    /// # Errors
    /// A binary that cannot be run, or one that is not listening within the deadline; its last words are in the error.
    pub fn spawn(binary: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        Self::spawn_at(binary, "0", arguments)
    }

    fn spawn_at(binary: &Path, port: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(binary)
            .args(["--host", "127.0.0.1", "--port", port])
            .args(arguments)
            .process_group(0) // Ctrl-C is for the owner, who may still want to drain what it reads from here
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting sh, which keeps anvil")?;
        let lifeline = keeper.stdin.take();
        let output = keeper.stdout.take().context("anvil has no output")?;
        let (announce, announced) = sync_channel(1);
        thread::spawn(move || listen(BufReader::new(output), &announce));
        let authority = match announced.recv_timeout(START_DEADLINE) {
            Ok(Ok(authority)) => authority,
            Ok(Err(last_words)) => {
                drop(lifeline);
                keeper.wait()?;
                bail!("{} ended at once:\n{last_words}", binary.display());
            }
            Err(_) => {
                drop(lifeline);
                keeper.wait()?;
                bail!("{} is not listening after {START_DEADLINE:?}", binary.display());
            }
        };
        let rpc = Rpc::new(&format!("http://{authority}"))?;
        let anvil = Self { keeper, lifeline, authority, rpc };
        anvil.rpc.call::<Value>("anvil_setLoggingEnabled", json!([false]))?;
        Ok(anvil)
    }

    /// Ends it and starts another in its place, on the same port: with nothing of its chain, unless the arguments say so.
    ///
    /// # Errors
    /// As [`Anvil::spawn`].
    pub fn restart(&mut self, binary: &Path, arguments: &[String]) -> anyhow::Result<()> {
        self.end();
        let port = self.authority.rsplit(':').next().unwrap_or("0").to_owned();
        *self = Self::spawn_at(binary, &port, arguments)?;
        Ok(())
    }

    fn end(&mut self) {
        drop(self.lifeline.take());
        // The keeper ends with anvil; there is nobody left to tell if waiting for it fails.
        let _ended = self.keeper.wait();
    }

    /// For requests.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// `http://127.0.0.1:port`
    pub fn http_url(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// `ws://127.0.0.1:port`
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.authority)
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.end();
    }
}

/// Finds the address that anvil listens on, or its last words, and then reads on to the end, so that anvil never blocks on a
/// full pipe.
fn listen(output: impl BufRead, announce: &SyncSender<Result<String, String>>) {
    let mut lines = output.lines().map_while(Result::ok);
    let mut said = Vec::new();
    let address = lines.by_ref().find_map(|line| {
        let address = line.strip_prefix("Listening on ").map(|address| address.trim().to_owned());
        said.push(line);
        address
    });
    if announce.send(address.ok_or_else(|| said.join("\n"))).is_ok() {
        lines.for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_behind_any_banner() {
        let banner = "(0) 0xf39F\n".repeat(500);
        for (output, expected) in [
            (format!("{banner}Listening on 127.0.0.1:4242\nmore\n"), Ok("127.0.0.1:4242".to_owned())),
            ("error: no such option".to_owned(), Err("error: no such option".to_owned())),
        ] {
            let (announce, announced) = sync_channel(1);
            listen(output.as_bytes(), &announce);
            assert_eq!(announced.recv().expect("an announcement"), expected);
        }
    }
}
