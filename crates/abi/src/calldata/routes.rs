//! Paths as the routers encode them.

use alloy_primitives::Address;

use crate::Malformed;
use crate::calldata::Arguments;

/// The longest path, in tokens, that is taken for meant. Every hop costs the user some 60,000 gas; real paths have two to
/// five tokens.
pub const MAX_PATH: usize = 32;

/// `address[]`, from input to output.
pub(super) fn tokens(arguments: Arguments<'_>, index: usize) -> Result<Vec<Address>, Malformed> {
    let (length, tokens) = arguments.array(index)?;
    bounded(length)?;
    (0..length).map(|index| tokens.address(index)).collect()
}

/// Bytes: tokens of 20 bytes with fees of 3 between them (v3-periphery `Path.sol`), in the order in which they are written.
pub(super) fn packed(path: &[u8]) -> Result<(Vec<Address>, Vec<u32>), Malformed> {
    const TOKEN: usize = 20;
    const HOP: usize = 23;
    let length = path.len() / HOP + 1;
    if path.len() % HOP != TOKEN {
        return Err(Malformed::Refused("a path that ends within a hop"));
    }
    bounded(length)?;
    let tokens = (0..length).map(|hop| Address::from_slice(&path[HOP * hop..][..TOKEN])).collect();
    let fees = (1..length).map(|hop| {
        let fee = &path[HOP * hop - 3..][..3];
        u32::from_be_bytes([0, fee[0], fee[1], fee[2]])
    });
    Ok((tokens, fees.collect()))
}

/// The same for a swap of an exact output, which is written from its output.
pub(super) fn packed_backwards(path: &[u8]) -> Result<(Vec<Address>, Vec<u32>), Malformed> {
    let (mut tokens, mut fees) = packed(path)?;
    tokens.reverse();
    fees.reverse();
    Ok((tokens, fees))
}

pub(super) fn bounded(tokens: usize) -> Result<(), Malformed> {
    if (2..=MAX_PATH).contains(&tokens) { Ok(()) } else { Err(Malformed::PathLength(tokens)) }
}
