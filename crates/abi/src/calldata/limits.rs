use alloy_primitives::{Address, U256};
use headwater_events::Call;

use crate::Malformed;
use crate::calldata::Input;

/// How deep calls and plans are followed into one another. Real ones are one or two deep.
pub const MAX_DEPTH: usize = 8;

/// How many calls, commands, actions, list elements and words of copied bytes one transaction may come to. Real ones come to
/// a few dozen.
pub const MAX_STEPS: usize = 4096;

/// Reads a call that was found inside another.
pub trait ReadCall {
    /// The call; `None` where nobody knows its function.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when its arguments do not decode.
    fn read(&self, input: &Input<'_>, limits: &mut Limits) -> Result<Option<Call>, Malformed>;
}

/// What is left of what one transaction may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    steps: usize,
    depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: MAX_STEPS, depth: MAX_DEPTH }
    }
}

impl Limits {
    /// Takes so many steps.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when there are not so many left.
    pub fn spend(&mut self, steps: usize) -> Result<(), Malformed> {
        self.steps = self.steps.checked_sub(steps).ok_or(Malformed::TooLong(MAX_STEPS))?;
        Ok(())
    }

    /// Reads something one level deeper.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when that is too deep, or as `read`.
    pub fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        self.depth = self.depth.checked_sub(1).ok_or(Malformed::TooDeep(MAX_DEPTH))?;
        let found = read(self);
        self.depth += 1;
        found
    }
}

/// Reads the calldata of a call inside another.
///
/// # Errors
///
/// As [`ReadCall::read`], or when it is too much.
pub fn inner(
    reader: &dyn ReadCall,
    contract: Address,
    value: U256,
    calldata: &[u8],
    limits: &mut Limits,
) -> Result<Call, Malformed> {
    limits.spend(1)?;
    let Some(input) = Input::new(contract, value, calldata) else {
        let mut selector = [0; 4];
        selector[..calldata.len()].copy_from_slice(calldata);
        return Ok(Call::Unknown(selector));
    };
    let call = limits.deeper(|limits| reader.read(&input, limits))?;
    Ok(call.unwrap_or(Call::Unknown(input.selector)))
}
