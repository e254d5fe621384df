//! The fetched solc, for packages that ship sources only. Nothing that it makes is part of the source tree.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use alloy_primitives::keccak256;
use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

const DRIVER: &str = include_str!("../../../devnet/compile.cjs");

/// What to compile, and how. Files are named by their path below `node_modules`, as imports are after remapping.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// File and contract.
    pub contracts: &'a [(&'a str, &'a str)],
    /// solc's: `prefix=target`.
    pub remappings: &'a [&'a str],
    /// For how many runs the optimiser optimises, as the package's own configuration says.
    pub optimizer_runs: u32,
    /// Whether by the intermediate representation, as the package's own configuration says.
    pub via_ir: bool,
    /// As solc calls it: "shanghai", "cancun".
    pub evm_version: &'a str,
}

impl Recipe<'_> {
    fn input(&self) -> Value {
        let mut sources = Map::new();
        let mut selection = Map::new();
        for (file, name) in self.contracts {
            sources.insert((*file).to_owned(), json!({}));
            let names = selection.entry(*file).or_insert_with(|| json!({}));
            names[*name] = json!(["abi", "evm.bytecode.object", "evm.bytecode.linkReferences"]);
        }
        json!({
            "language": "Solidity",
            "sources": sources,
            "settings": {
                "remappings": self.remappings,
                "optimizer": { "enabled": true, "runs": self.optimizer_runs },
                "viaIR": self.via_ir,
                "evmVersion": self.evm_version,
                "metadata": { "bytecodeHash": "none" },
                "outputSelection": selection,
            },
        })
    }
}

/// solc's output, from a former run if there was one.
pub(super) fn compile(home: &Path, modules: &Path, recipe: &Recipe<'_>) -> anyhow::Result<Value> {
    let input = recipe.input().to_string();
    let kept =
        home.join(format!("compiled-{}.json", &keccak256([&input, DRIVER].concat()).to_string()[2..18]));
    if kept.exists() {
        return Ok(serde_json::from_slice(&fs::read(&kept)?)?);
    }
    ensure!(modules.join("solc").exists(), "the packages hold no solc");
    let output: Value = serde_json::from_slice(&run(home, &input)?).context("what solc wrote")?;
    let errors: Vec<_> = output["errors"].as_array().into_iter().flatten().filter_map(error).collect();
    ensure!(errors.is_empty(), "solc could not compile:\n{}", errors.join("\n"));
    let unfinished = kept.with_extension("unfinished");
    fs::write(&unfinished, output.to_string())?;
    fs::rename(unfinished, kept)?;
    Ok(output)
}

/// Input and output go through files: both are larger than a pipe.
fn run(home: &Path, input: &str) -> anyhow::Result<Vec<u8>> {
    let driver = home.join("compile.cjs");
    fs::write(&driver, DRIVER)?;
    let mut question = tempfile::tempfile_in(home)?;
    question.write_all(input.as_bytes())?;
    std::io::Seek::rewind(&mut question)?;
    let answer = home.join("solc-output.json");
    let output = Command::new("node")
        .arg("compile.cjs")
        .current_dir(home)
        .stdin(question)
        .stdout(File::create(&answer)?)
        .stderr(Stdio::piped())
        .output()
        .context("starting node")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the compiler failed:\n{complaint}");
    Ok(fs::read(answer)?)
}

fn error(message: &Value) -> Option<&str> {
    (message["severity"] == "error").then(|| message["formattedMessage"].as_str())?
}
