//! Other people's programs: anvil and the contracts' bytecode. Fetched from the package registry by the committed lock
//! file into `target/`, never part of the source tree. Some of them (Uniswap V3 and V4, Aave V3) are under the Business Source
//! License 1.1, which allows to run them in tests, and Aave V2 is under the AGPL; so nothing of them is copied, and nothing that is compiled from them is kept.
//!
//! The lock file is made with `npm install --package-lock-only --omit-lockfile-registry-resolved --legacy-peer-deps`, so that it names no
//! registry. The entries of anvil's platforms other than Linux on x86-64 were added by hand, without the hash that only a download
//! tells; npm skips them elsewhere.

mod aave;
mod compiler;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy_primitives::{Bytes, keccak256};
use anyhow::{Context, bail, ensure};
use headwater_reference::evm::Artifact;

pub use self::compiler::Recipe;

const PACKAGE: &str = include_str!("../../devnet/package.json");
const LOCK: &str = include_str!("../../devnet/package-lock.json");

/// The fetched packages.
#[derive(Clone, Debug)]
pub struct Artifacts {
    home: PathBuf,
    modules: PathBuf,
}

impl Artifacts {
    /// Fetches the packages unless a former run has. Safe to call from many processes at once.
    ///
    /// # Errors
    /// No `npm`, no way to the registry, or a package whose hash is not the locked one.
    pub fn install() -> anyhow::Result<Self> {
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/devnet");
        let home = cache.join(&keccak256([PACKAGE, LOCK].concat()).to_string()[2..18]);
        let modules = home.join("node_modules");
        fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
        let _turn = take_turn(&home)?;
        let finished = home.join(".finished");
        if !finished.exists() {
            fs::write(home.join("package.json"), PACKAGE)?;
            fs::write(home.join("package-lock.json"), LOCK)?;
            fetch(&home)?;
            File::create(finished)?;
        }
        Ok(Self { home, modules })
    }

    /// Beside the packages, so that what a killed devnet leaves behind goes with the rest of `target/`.
    pub(super) fn temporary_directory(&self) -> anyhow::Result<tempfile::TempDir> {
        Ok(tempfile::Builder::new().prefix("states-").tempdir_in(&self.home)?)
    }

    /// The native anvil of this platform.
    ///
    /// # Errors
    /// A platform that anvil's authors publish nothing for.
    pub fn anvil(&self) -> anyhow::Result<PathBuf> {
        let platform = match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => "linux-amd64",
            ("linux", "aarch64") => "linux-arm64",
            ("macos", "x86_64") => "darwin-amd64",
            ("macos", "aarch64") => "darwin-arm64",
            (os, architecture) => bail!("there is no anvil for {os} on {architecture}"),
        };
        let binary = self.modules.join(format!("@foundry-rs/anvil-{platform}/bin/anvil"));
        ensure!(binary.exists(), "npm installed no anvil for {platform}: {} is missing", binary.display());
        Ok(binary)
    }

    pub(super) fn factory(&self) -> anyhow::Result<Bytes> {
        self.creation_code("@uniswap/v2-core/build/UniswapV2Factory.json")
    }

    pub(super) fn pair(&self) -> anyhow::Result<Bytes> {
        self.creation_code("@uniswap/v2-core/build/UniswapV2Pair.json")
    }

    pub(super) fn router(&self) -> anyhow::Result<Bytes> {
        self.creation_code("@uniswap/v2-periphery/build/UniswapV2Router02.json")
    }

    pub(super) fn weth(&self) -> anyhow::Result<Bytes> {
        self.creation_code("@uniswap/v2-periphery/build/WETH9.json")
    }

    pub(super) fn token(&self) -> anyhow::Result<Bytes> {
        self.creation_code("@openzeppelin/contracts-ethereum-package/build/contracts/StandaloneERC20.json")
    }

    /// `UniswapV2Factory`, which creates its pairs itself.
    ///
    /// # Errors
    /// As [`Artifacts::contract`].
    pub fn factory_v2(&self) -> anyhow::Result<Artifact> {
        self.contract("@uniswap/v2-core/build/UniswapV2Factory.json")
    }

    /// `UniswapV3Factory`, which creates its pools itself.
    ///
    /// # Errors
    /// As [`Artifacts::contract`].
    pub fn factory_v3(&self) -> anyhow::Result<Artifact> {
        self.contract("@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json")
    }

    /// `PancakeV3Pool`, which its deployer deploys.
    ///
    /// # Errors
    /// As [`Artifacts::contract`].
    pub fn pool_pancake(&self) -> anyhow::Result<Artifact> {
        self.contract("@pancakeswap/v3-core/artifacts/contracts/PancakeV3Pool.sol/PancakeV3Pool.json")
    }

    /// V4's `PoolManager`, and its authors' routers and token for tests: swaps, liquidity, token.
    ///
    /// # Errors
    /// As [`Artifacts::contract`].
    pub fn manager_v4(&self) -> anyhow::Result<[Artifact; 4]> {
        let contract = |name: &str| self.contract(&format!("@uniswap/v4-core/out/{name}.sol/{name}.json"));
        let [manager, swaps] = [contract("PoolManager")?, contract("PoolSwapTest")?];
        Ok([manager, swaps, contract("PoolModifyLiquidityTest")?, contract("TestERC20")?])
    }

    /// Permit2 as it stands on chains: its package ships no creation code, but what its authors place for tests of others.
    pub(crate) fn permit2(&self) -> anyhow::Result<Bytes> {
        let path = "@uniswap/universal-router/lib/permit2/test/utils/DeployPermit2.sol";
        let text = fs::read_to_string(self.modules.join(path)).with_context(|| format!("reading {path}"))?;
        let code = text.split_once("hex\"").and_then(|(_, rest)| Some(rest.split_once('"')?.0));
        Ok(code.with_context(|| format!("no code in {path}"))?.parse()?)
    }

    fn creation_code(&self, path: &str) -> anyhow::Result<Bytes> {
        self.contract(path)?.creation_code().with_context(|| format!("the bytecode in {path}"))
    }

    /// What a package ships of a compiled contract; the path begins with the package's name.
    ///
    /// # Errors
    /// A file that is not there, or holds no bytecode.
    pub fn contract(&self, path: &str) -> anyhow::Result<Artifact> {
        let path = self.modules.join(path);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Artifact::parse(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Compiles contracts of packages that ship their sources only, with the fetched compiler, once: the outcome is kept beside
    /// the packages. The answer is in the order of the contracts.
    ///
    /// # Errors
    /// Sources that do not compile, or a contract that is not in its file.
    pub fn compile(&self, recipe: &Recipe<'_>) -> anyhow::Result<Vec<Artifact>> {
        let _turn = take_turn(&self.home)?;
        let output = compiler::compile(&self.home, &self.modules, recipe)?;
        let contracts = recipe.contracts.iter().map(|(file, name)| {
            let json = &output["contracts"][*file][*name];
            Artifact::from_json(json).with_context(|| format!("contract {name} of {file}"))
        });
        contracts.collect()
    }
}

/// Only one process at a time fetches or compiles; the others find its work done.
fn take_turn(home: &Path) -> anyhow::Result<File> {
    let turn = File::create(home.join(".turn"))?;
    turn.lock().context("waiting for another process that fetches the same packages")?;
    Ok(turn)
}

/// Whether `npm` can be run here.
pub(super) fn npm_is_there() -> bool {
    Command::new("npm").arg("--version").output().is_ok_and(|output| output.status.success())
}

fn fetch(home: &Path) -> anyhow::Result<()> {
    ensure!(npm_is_there(), NO_NPM);
    // Peer dependencies would bring in the token package's own deployment tools, which nobody here runs.
    let arguments =
        ["ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--loglevel=error"];
    let output = Command::new("npm").args(arguments).current_dir(home).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "npm could not fetch the devnet's packages:\n{complaint}");
    Ok(())
}

pub(super) const NO_NPM: &str = "the devnet needs Node.js (20 or newer) with npm, and `npm` cannot be run here: \
     nothing that talks to anvil was run. Install Node.js, or run `cargo xtask test --offline`, which leaves those parts out and \
     says so";

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_lock_file_names_versions_and_no_registry() {
        assert!(!LOCK.contains("\"resolved\"") && !LOCK.contains("://"));
        let lock: Value = serde_json::from_str(LOCK).expect("JSON");
        let wanted: Value = serde_json::from_str(PACKAGE).expect("JSON");
        for (name, version) in wanted["dependencies"].as_object().expect("dependencies") {
            let locked = &lock["packages"][format!("node_modules/{name}")];
            // Another version of a package goes by another name: `npm:package@version`.
            let version = version.as_str().and_then(|version| version.rsplit('@').next());
            assert_eq!(locked["version"].as_str(), version, "{name}");
            assert!(version.is_some(), "{name}");
            assert!(locked["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{name}");
        }
    }
}
