use alloy_primitives::U256;

/// `⌊√(a·b)⌋`.
pub(super) fn floor_sqrt_of_product(a: u128, b: u128) -> u128 {
    let product = U256::from(a) * U256::from(b);
    if product.is_zero() {
        return 0;
    }
    // Newton's iteration from above descends to the root; the guess is 2⁻⁵⁰ off, so that two steps suffice, and the
    // comparison below does not take that on trust.
    let mut root = guess_from_above(product);
    loop {
        let next = average(root, quotient(product, root));
        if next >= root {
            return root;
        }
        root = next;
    }
}

/// A little more than the root.
fn guess_from_above(product: U256) -> u128 {
    let shift = product.bit_len().saturating_sub(64) & !1;
    let leading = (product >> shift).to::<u128>() as f64;
    let scale = (1u128 << (shift / 2)) as f64;
    // The conversion saturates.
    ((leading.sqrt() * scale * (1.0 + 1e-15)) as u128).saturating_add(1)
}

fn quotient(product: U256, root: u128) -> u128 {
    (product / U256::from(root)).saturating_to()
}

fn average(a: u128, b: u128) -> u128 {
    (a & b) + ((a ^ b) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn the_root_is_the_floor(a: u128, b: u128, shift_a in 0u32..128, shift_b in 0u32..128) {
            let (a, b) = (a >> shift_a, b >> shift_b);
            let root = floor_sqrt_of_product(a, b);
            let product = U256::from(a) * U256::from(b);
            prop_assert!(U256::from(root) * U256::from(root) <= product);
            prop_assert!(root == u128::MAX || U256::from(root + 1) * U256::from(root + 1) > product);
        }
    }

    #[test]
    fn the_ends_of_the_range_have_their_roots() {
        let check = |a, b, root| assert_eq!(floor_sqrt_of_product(a, b), root, "{a} * {b}");
        check(0, u128::MAX, 0);
        check(1, 1, 1);
        check(1, 3, 1);
        check(2, 2, 2);
        check(u128::MAX, u128::MAX, u128::MAX);
        check(u128::MAX, 1, u128::from(u64::MAX));
        check(1 << 127, 1 << 127, 1 << 127);
    }
}
