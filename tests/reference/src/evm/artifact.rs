use std::ops::Range;

use alloy_primitives::{Address, Bytes, hex};
use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// What a compiler made of one contract, as hardhat, truffle, foundry and solc's standard JSON each write it down.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The creation code in hexadecimal, with placeholders where libraries' addresses go.
    code: String,
    /// Where they go, in bytes. Truffle's artifacts do not tell; see [`Artifact::link`].
    libraries: Vec<(String, Range<usize>)>,
    /// The contract's interface as the file holds it; null where it holds none.
    pub abi: Value,
}

impl Artifact {
    /// Reads one artifact file.
    ///
    /// # Errors
    /// Text that is no JSON, or holds no creation code.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        Self::from_json(&serde_json::from_str(text)?)
    }

    /// As [`Artifact::parse`]; takes solc's output for one contract as well (`contracts.FILE.NAME`).
    ///
    /// # Errors
    /// JSON without creation code.
    pub fn from_json(json: &Value) -> anyhow::Result<Self> {
        let bytecode =
            [&json["bytecode"], &json["evm"]["bytecode"]].into_iter().find(|value| !value.is_null());
        let bytecode = bytecode.context("no bytecode in the artifact")?;
        let code =
            bytecode.as_str().or_else(|| bytecode["object"].as_str()).context("no code in the bytecode")?;
        let code = code.trim_start_matches("0x").to_owned();
        ensure!(!code.is_empty(), "an interface or an abstract contract has no creation code");
        let references = [&json["linkReferences"], &bytecode["linkReferences"]];
        let libraries = references.into_iter().flat_map(link_references).collect();
        Ok(Self { code, libraries, abi: json["abi"].clone() })
    }

    /// The libraries that the code calls and that are not linked yet, by name.
    pub fn unlinked(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.libraries.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Puts a library's address in.
    ///
    /// # Errors
    /// A library that the code does not call.
    pub fn link(&mut self, library: &str, address: Address) -> anyhow::Result<()> {
        let address = hex::encode(address);
        let (places, others): (Vec<_>, Vec<_>) =
            self.libraries.drain(..).partition(|(name, _)| name == library);
        self.libraries = others;
        for (_, place) in &places {
            self.code.replace_range(place.start * 2..place.end * 2, &address);
        }
        // Truffle's placeholder: two underscores and the name, filled up to 40 characters.
        let placeholder = format!("{:_<40.40}", format!("__{library}"));
        let is_named = self.code.contains(&placeholder);
        self.code = self.code.replace(&placeholder, &address);
        ensure!(is_named || !places.is_empty(), "the code calls no library {library}");
        Ok(())
    }

    /// What [`Evm::deploy`](super::Evm::deploy) takes.
    ///
    /// # Errors
    /// A library that is not linked; the error names it.
    pub fn creation_code(&self) -> anyhow::Result<Bytes> {
        if !self.libraries.is_empty() {
            bail!("not linked: {}", self.unlinked().join(", "));
        }
        if let Some(place) = self.code.find("__") {
            bail!("not linked: {}", self.code[place..].chars().take(40).collect::<String>());
        }
        Ok(hex::decode(&self.code).context("the creation code is not hexadecimal")?.into())
    }
}

/// `{ file: { library: [{ start, length }] } }`
fn link_references(json: &Value) -> Vec<(String, Range<usize>)> {
    let files = json.as_object().into_iter().flat_map(|files| files.values());
    let libraries = files.filter_map(Value::as_object).flatten();
    let places = libraries
        .flat_map(|(name, places)| places.as_array().into_iter().flatten().map(move |at| (name, at)));
    places
        .filter_map(|(name, at)| {
            let start = usize::try_from(at["start"].as_u64()?).ok()?;
            Some((name.clone(), start..start + usize::try_from(at["length"].as_u64()?).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::address;
    use serde_json::json;

    use super::*;

    const LIBRARY: Address = address!("00000000000000000000000000000000deadbeef");

    fn check(artifact: Value) {
        let mut artifact = Artifact::from_json(&artifact).expect("an artifact");
        assert!(artifact.creation_code().is_err(), "it is not linked yet");
        assert!(artifact.link("Other", LIBRARY).is_err());
        artifact.link("Maths", LIBRARY).expect("it calls the library");
        let code = artifact.creation_code().expect("it is linked");
        assert_eq!(code, [&[0x73][..], LIBRARY.as_slice(), &[0xff]].concat());
    }

    #[test]
    fn a_library_is_linked_wherever_a_compiler_says_so() {
        let place = json!({ "contracts/Maths.sol": { "Maths": [{ "start": 1, "length": 20 }] } });
        let by_hash = "73__$0123456789abcdef0123456789abcdef01$__ff";
        check(json!({ "bytecode": format!("0x{by_hash}"), "linkReferences": place }));
        check(json!({ "bytecode": { "object": by_hash, "linkReferences": place } }));
        check(json!({ "evm": { "bytecode": { "object": by_hash, "linkReferences": place } } }));
        check(json!({ "bytecode": "0x73__Maths_________________________________ff" }));
    }

    #[test]
    fn an_interface_is_not_a_contract() {
        assert!(Artifact::from_json(&json!({ "bytecode": "0x", "abi": [] })).is_err());
        assert!(Artifact::from_json(&json!({ "abi": [] })).is_err());
    }
}
