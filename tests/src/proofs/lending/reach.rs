//! Whom a single price can cross, by what the contracts say of everybody, and how many accounts were looked at because of it.

use alloy_primitives::{Address, U256};
use anyhow::ensure;
use headwater_reference::aave::{Release, World};
use rand::{Rng, RngExt};

const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
const MILLION: U256 = U256::from_limbs([1_000_000, 0, 0, 0]);

/// Who is so close to the threshold that it may be looked at whatever happens, in parts per million.
const NEAR: U256 = U256::from_limbs([1_000, 0, 0, 0]);

/// A price that changes, and nothing else does.
#[derive(Clone, Copy, Debug)]
pub(in crate::proofs) struct Move {
    /// Of the asset.
    pub(in crate::proofs) place: usize,
    pub(in crate::proofs) before: U256,
    pub(in crate::proofs) after: U256,
}

/// The accounts that were looked at, and those that may have been.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proofs) struct Reach {
    prices: u64,
    /// Of these, prices that reach less than half of all who owe.
    narrow: u64,
    looked_at: u64,
    reachable: u64,
    owing: u64,
}

/// What an account is to a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    OwesNothing,
    OutOfReach,
    Reachable,
}

impl Move {
    /// Of some asset that has a price, up to ten percent up or down.
    pub(in crate::proofs) fn random(world: &mut World, random: &mut impl Rng) -> anyhow::Result<Self> {
        // The second version's oracle reads nothing for ether, which it counts in.
        let place = random.random_range(usize::from(world.release == Release::V2)..world.reserves.len());
        let before = world.answer(world.reserves[place].aggregator)?;
        let after = before * U256::from(random.random_range(900..1_100)) / U256::from(1_000) + U256::ONE;
        Ok(Self { place, before, after })
    }

    /// Parts per million.
    fn part(&self) -> U256 {
        self.before.abs_diff(self.after) * MILLION / self.before + U256::ONE
    }
}

impl Reach {
    /// Judges how many accounts were looked at when one price changed.
    ///
    /// A price can cross those who hold what becomes cheaper, or owe what becomes dearer, and are near enough: of what a position
    /// could lose, three times the change would take it all. (An edge lies where half of that is gone, if all of the account were
    /// of this one asset, and a little nearer for debts, where interest has its part.) Beside these, those who are at the
    /// threshold or below it, and those with a debt at a rate of their own, are looked at every time.
    pub(in crate::proofs) fn bound(
        &mut self,
        world: &mut World,
        accounts: &[Address],
        change: &Move,
        looked_at: u64,
    ) -> anyhow::Result<()> {
        let (mut owing, mut reachable) = (0, 0);
        for account in accounts {
            let standing = standing(world, *account, change)?;
            owing += u64::from(standing != Standing::OwesNothing);
            reachable += u64::from(standing == Standing::Reachable);
        }
        ensure!(
            looked_at <= reachable,
            "{looked_at} accounts were looked at, and {change:?} reaches {reachable} of {owing}"
        );
        self.prices += 1;
        self.narrow += u64::from(reachable * 2 < owing);
        self.looked_at += looked_at;
        self.reachable += reachable;
        self.owing += owing;
        Ok(())
    }

    pub(in crate::proofs) fn verdict(&self, floor: u64) -> anyhow::Result<()> {
        let Self { narrow, looked_at, .. } = *self;
        ensure!(narrow >= floor, "only {narrow} prices reach less than half, below the floor of {floor}");
        ensure!(looked_at > 0, "nobody was ever looked at");
        Ok(())
    }

    pub(in crate::proofs) fn line(&self) -> String {
        let Self { prices, narrow, looked_at, reachable, owing } = self;
        format!(
            "  {prices} single prices: {looked_at} accounts looked at, of {reachable} that these can cross, of {owing} who owe; {narrow} \
             prices reach less than half"
        )
    }
}

fn standing(world: &mut World, account: Address, change: &Move) -> anyhow::Result<Standing> {
    let (sites, site) = (world.reserves.clone(), world.reserves[change.place]);
    let data = world.account_data(account)?;
    let has_stable = world.release != Release::V3_6;
    if data.totalDebtBase.is_zero() {
        // What is owed may be worth less than a unit.
        for site in &sites {
            if !world.balance(site.variable_debt, account)?.is_zero() {
                return Ok(Standing::Reachable);
            }
        }
        return Ok(Standing::OwesNothing);
    }
    let health = data.healthFactor;
    if health <= WAD {
        return Ok(Standing::Reachable);
    }
    let distance = health.saturating_sub(WAD) * MILLION / health;
    // Next to nothing at all is at the threshold by its roundings.
    if distance <= NEAR || data.totalCollateralBase < world.dollar {
        return Ok(Standing::Reachable);
    }
    if has_stable {
        for site in &sites {
            if !world.balance(site.stable_debt, account)?.is_zero() {
                return Ok(Standing::Reachable);
            }
        }
    }
    if distance > change.part() * U256::from(3) + NEAR {
        return Ok(Standing::OutOfReach);
    }
    let concerned = if change.after < change.before { site.a_token } else { site.variable_debt };
    let is_concerned = !world.balance(concerned, account)?.is_zero();
    Ok(if is_concerned { Standing::Reachable } else { Standing::OutOfReach })
}
