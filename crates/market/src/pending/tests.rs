use alloy_primitives::{B256, Bytes, U256};
use headwater_events::{Grade, Header, Transaction};
use proptest::prelude::*;

use super::*;

const LIMITS: PoolLimits = PoolLimits { transactions: 4, bytes: 1 << 20, age: Duration::from_secs(60) };

fn pending(hash: u8, sender: u8, nonce: u64, fee: u128) -> Arc<PendingTxEvent> {
    let transaction = Transaction {
        hash: B256::repeat_byte(hash),
        from: Address::repeat_byte(sender),
        to: None,
        value: U256::ZERO,
        input: Bytes::new(),
        nonce,
        gas_limit: 0,
    };
    Arc::new(PendingTxEvent { transaction, max_fee_per_gas: fee, max_priority_fee_per_gas: None })
}

fn block(hash: u8, mined: &[&Arc<PendingTxEvent>]) -> BlockEvent {
    let header = Header {
        number: 1,
        hash: B256::repeat_byte(hash),
        parent_hash: B256::ZERO,
        timestamp: 0,
        base_fee_per_gas: None,
        gas_used: 0,
        gas_limit: 0,
        beneficiary: Address::ZERO,
        logs_bloom: Default::default(),
    };
    let transactions = mined.iter().map(|pending| pending.transaction.clone()).collect();
    BlockEvent { header, transactions, logs: Vec::new(), grade: Grade::Proven }
}

fn reorg(undone: &[u8]) -> ReorgEvent {
    ReorgEvent {
        ancestor_number: 0,
        ancestor_hash: B256::ZERO,
        undone: undone.iter().map(|hash| B256::repeat_byte(*hash)).collect(),
        old_head: B256::ZERO,
        new_head: B256::ZERO,
    }
}

fn hashes(pool: &PendingPool) -> Vec<u8> {
    let mut hashes: Vec<_> = pool.newest().map(|pending| pending.transaction.hash[0]).collect();
    hashes.sort_unstable();
    hashes
}

const NOW: Duration = Duration::ZERO;

#[test]
fn one_that_comes_twice_is_there_once() {
    let mut pool = PendingPool::new(LIMITS);
    assert_eq!(pool.see(pending(1, 1, 0, 5), NOW), Arrival::New);
    assert_eq!(pool.see(pending(1, 1, 0, 5), NOW), Arrival::Duplicate);
    assert_eq!(hashes(&pool), [1]);
}

#[test]
fn of_one_nonce_only_the_one_that_pays_most_is_pending() {
    let mut pool = PendingPool::new(LIMITS);
    pool.see(pending(1, 1, 0, 5), NOW);
    assert_eq!(pool.see(pending(2, 1, 0, 5), NOW), Arrival::Outbid);
    assert_eq!(pool.see(pending(3, 1, 0, 6), NOW), Arrival::Replacing(B256::repeat_byte(1)));
    assert_eq!(pool.see(pending(4, 1, 1, 5), NOW), Arrival::New);
    assert_eq!(hashes(&pool), [3, 4]);
}

#[test]
fn what_was_mined_is_gone_with_every_lower_nonce_and_whatever_had_the_same() {
    let mut pool = PendingPool::new(LIMITS);
    for seen in [pending(1, 1, 0, 5), pending(2, 1, 1, 5), pending(3, 1, 2, 5), pending(4, 2, 1, 5)] {
        pool.see(seen, NOW);
    }
    pool.mine(&block(9, &[&pending(7, 1, 1, 1)]), NOW);
    assert_eq!(hashes(&pool), [3, 4]);
}

#[test]
fn what_an_orphaned_block_had_mined_is_pending_again() {
    let mut pool = PendingPool::new(LIMITS);
    let (one, two) = (pending(1, 1, 0, 5), pending(2, 2, 0, 5));
    pool.see(Arc::clone(&one), NOW);
    pool.see(Arc::clone(&two), NOW);
    pool.mine(&block(8, &[&one]), NOW);
    pool.mine(&block(9, &[&two]), NOW);
    assert!(hashes(&pool).is_empty());
    pool.undo(&reorg(&[9]), NOW);
    assert_eq!(hashes(&pool), [2]);
    pool.mine(&block(10, &[&two]), NOW);
    pool.undo(&reorg(&[10, 8]), NOW);
    assert_eq!(hashes(&pool), [1, 2]);
}

#[test]
fn what_is_old_goes_and_what_is_too_much_crowds_out_the_oldest() {
    let mut pool = PendingPool::new(LIMITS);
    for hash in 1..=5 {
        pool.see(pending(hash, hash, 0, 5), Duration::from_secs(hash.into()));
    }
    assert_eq!(hashes(&pool), [2, 3, 4, 5]);
    pool.see(pending(6, 6, 0, 5), Duration::from_secs(64));
    assert_eq!(hashes(&pool), [4, 5, 6]);
    let tight = PoolLimits { bytes: 2 * size_of::<PendingTxEvent>(), ..LIMITS };
    let mut pool = PendingPool::new(tight);
    for hash in 1..=3 {
        pool.see(pending(hash, hash, 0, 5), NOW);
    }
    assert_eq!((hashes(&pool), pool.bytes()), (vec![2, 3], tight.bytes));
}

proptest! {
    /// Nothing is lost without being counted, and no bound is passed, whatever comes.
    #[test]
    fn every_transaction_is_accounted_for(
        steps in proptest::collection::vec((0u8..4, 0u8..40, 0u8..5, 0u64..4, 1u128..4, 0u64..9), 0..200)
    ) {
        let mut pool = PendingPool::new(LIMITS);
        let mut now = Duration::ZERO;
        for (step, hash, sender, nonce, fee, seconds) in steps {
            now += Duration::from_secs(seconds);
            match step {
                0 => pool.mine(&block(hash, &[&pending(hash, sender, nonce, fee)]), now),
                1 => pool.undo(&reorg(&[hash]), now),
                _ => {
                    pool.see(pending(hash, sender, nonce, fee), now);
                }
            }
            let PoolCounts { seen, duplicates, outbid, returned, mined, replaced, aged, crowded_out, pending } =
                pool.counts();
            prop_assert_eq!(
                seen + returned,
                pending + duplicates + outbid + mined + replaced + aged + crowded_out
            );
            prop_assert!(pending <= 4);
            prop_assert_eq!(pending as usize, pool.newest().count());
            let senders: std::collections::BTreeSet<_> =
                pool.newest().map(|it| (it.transaction.from, it.transaction.nonce)).collect();
            prop_assert_eq!(senders.len() as u64, pending);
        }
    }
}
