mod bulk;
mod concentrated;
mod history;
mod lasting;
mod lazy;
mod lending;
mod patience;
mod question;
mod remembered;
mod resync;
mod token;

pub use bulk::{BulkLoad, BulkLoader, LoadReport, bulk_load};
pub use history::{FoundPool, HistorySearch, PoolSearch, Searched};
pub use lazy::{Loader, LoaderObserved};
pub use lending::{BlockPlace, LendingChain, LendingLoader, LendingLoaderObserved, LendingScan};
pub use patience::{Patience, load_market};
pub use resync::{Resynchroniser, ResynchroniserObserved};

use alloy_primitives::Address;
use headwater_events::PoolProof;
use headwater_market::Factory;

/// The proof that a factory made a pool of which it or its own address speaks; `None` if the tokens say otherwise. A
/// factory with an init-code hash is taken at nobody's word.
fn proof_of(factory: &Factory, pool: Address, token0: Address, token1: Address) -> Option<PoolProof> {
    if token0 >= token1 {
        return None;
    }
    match factory.init_code_hash {
        Some(init_code_hash) => {
            let derived = factory.derive(token0, token1) == Some(pool);
            derived.then_some(PoolProof::Create2 { init_code_hash })
        }
        None => Some(PoolProof::FactoryAnswer),
    }
}

#[cfg(test)]
mod tests;
