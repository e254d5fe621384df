/// The base fee of the block after one with these fields, in wei per gas (EIP-1559; elasticity 2, denominator 8).
///
/// Integer arithmetic in the order that the EIP states, because each division rounds down.
pub fn next_base_fee(base_fee_per_gas: u64, gas_used: u64, gas_limit: u64) -> u64 {
    const ELASTICITY: u64 = 2;
    const DENOMINATOR: u128 = 8;
    let target = gas_limit / ELASTICITY;
    if target == 0 || gas_used == target {
        return base_fee_per_gas;
    }
    let change = |distance: u64| {
        let change = u128::from(base_fee_per_gas) * u128::from(distance) / u128::from(target) / DENOMINATOR;
        u64::try_from(change).unwrap_or(u64::MAX)
    };
    if gas_used > target {
        base_fee_per_gas.saturating_add(change(gas_used - target).max(1))
    } else {
        base_fee_per_gas - change(target - gas_used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base_fee: u64, used: u64, limit: u64, expected: u64) {
        assert_eq!(next_base_fee(base_fee, used, limit), expected, "{base_fee} at {used}/{limit}");
    }

    #[test]
    fn it_follows_the_eip() {
        check(1_000_000_000, 30_000_000, 30_000_000, 1_125_000_000);
        check(1_000_000_000, 0, 30_000_000, 875_000_000);
        check(1_000_000_000, 15_000_000, 30_000_000, 1_000_000_000);
        check(7, 15_000_001, 30_000_000, 8);
        check(7, 0, 30_000_000, 7);
        check(0, 30_000_000, 30_000_000, 1);
        check(5, 1, 1, 5);
        check(u64::MAX, 30_000_000, 30_000_000, u64::MAX);
    }
}
