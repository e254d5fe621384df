//! What the integration tests, the proofs and the workflows share: the devnet and the registry of proofs.

pub mod devnet;
pub mod proof;
