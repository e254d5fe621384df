//! Accounts and storage with an undo log.

use std::convert::Infallible;

use alloy_primitives::map::{AddressMap, B256Map, U256Map};
use alloy_primitives::{Address, B256, Bytes, U256};
use anyhow::ensure;
use revm::Database;
use revm::bytecode::Bytecode;
use revm::state::{Account, AccountInfo, EvmState};

use super::{Block, pretended_hash};

/// A point to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How many changes were remembered before it.
    position: usize,
    /// Tells it from one that was taken at the same position later.
    number: u64,
    block: Block,
}

/// What stands where.
#[derive(Debug, Default)]
pub(super) struct World {
    accounts: AddressMap<AccountInfo>,
    codes: B256Map<Bytecode>,
    storage: AddressMap<U256Map<U256>>,
    undo: Vec<Undo>,
    /// The snapshots that are good, by position and number; in the order of their positions.
    snapshots: Vec<(usize, u64)>,
    snapshots_taken: u64,
}

/// What was there before a change.
#[derive(Debug)]
enum Undo {
    Account(Address, Option<AccountInfo>),
    Slot(Address, U256, U256),
    Storage(Address, U256Map<U256>),
}

impl World {
    pub(super) fn balance(&self, account: Address) -> U256 {
        self.accounts.get(&account).map_or(U256::ZERO, |info| info.balance)
    }

    pub(super) fn nonce(&self, account: Address) -> u64 {
        self.accounts.get(&account).map_or(0, |info| info.nonce)
    }

    pub(super) fn code(&self, account: Address) -> Bytes {
        let hash = self.accounts.get(&account).map(|info| info.code_hash);
        hash.and_then(|hash| self.codes.get(&hash)).map_or_else(Bytes::new, Bytecode::original_bytes)
    }

    pub(super) fn slot(&self, account: Address, slot: U256) -> U256 {
        self.storage.get(&account).and_then(|slots| slots.get(&slot)).copied().unwrap_or_default()
    }

    pub(super) fn set_balance(&mut self, account: Address, balance: U256) {
        let info = self.accounts.get(&account).cloned().unwrap_or_default();
        self.set_account(account, Some(AccountInfo { balance, ..info }));
    }

    pub(super) fn place(&mut self, account: Address, code: Bytes) {
        let info = self.accounts.get(&account).cloned().unwrap_or_default();
        let with_code = info.with_code(Bytecode::new_raw(code));
        self.set_account(account, Some(with_code));
    }

    pub(super) fn set_slot(&mut self, account: Address, slot: U256, value: U256) {
        let slots = self.storage.entry(account).or_default();
        let before = if value.is_zero() { slots.remove(&slot) } else { slots.insert(slot, value) };
        self.remember(|| Undo::Slot(account, slot, before.unwrap_or_default()));
    }

    /// Takes over what a transaction changed.
    pub(super) fn apply(&mut self, changes: EvmState) {
        for (address, account) in changes {
            if account.is_touched() {
                self.apply_account(address, account);
            }
        }
    }

    fn apply_account(&mut self, address: Address, account: Account) {
        if account.is_selfdestructed() {
            self.clear_storage(address);
            return self.set_account(address, None);
        }
        if account.is_created() {
            self.clear_storage(address);
        }
        for (slot, value) in account.changed_storage_slots() {
            self.set_slot(address, *slot, value.present_value);
        }
        let info = (!account.info.is_empty()).then_some(account.info);
        if self.accounts.get(&address) != info.as_ref() {
            self.set_account(address, info);
        }
    }

    fn set_account(&mut self, address: Address, mut info: Option<AccountInfo>) {
        if let Some(code) = info.as_mut().and_then(|info| info.code.take())
            && let Some(info) = &info
        {
            self.codes.entry(info.code_hash).or_insert(code);
        }
        let before = match info {
            Some(info) => self.accounts.insert(address, info),
            None => self.accounts.remove(&address),
        };
        self.remember(|| Undo::Account(address, before));
    }

    fn clear_storage(&mut self, address: Address) {
        if let Some(slots) = self.storage.remove(&address) {
            self.remember(|| Undo::Storage(address, slots));
        }
    }

    fn remember(&mut self, change: impl FnOnce() -> Undo) {
        if !self.snapshots.is_empty() {
            self.undo.push(change());
        }
    }

    pub(super) fn snapshot(&mut self, block: Block) -> Snapshot {
        self.snapshots_taken += 1;
        let (position, number) = (self.undo.len(), self.snapshots_taken);
        self.snapshots.push((position, number));
        Snapshot { position, number, block }
    }

    pub(super) fn revert(&mut self, snapshot: &Snapshot) -> anyhow::Result<Block> {
        let index = self.snapshots.iter().position(|known| *known == (snapshot.position, snapshot.number));
        ensure!(index.is_some(), "that snapshot is gone");
        self.snapshots.truncate(index.unwrap_or_default() + 1);
        while self.undo.len() > snapshot.position {
            match self.undo.pop() {
                Some(Undo::Account(address, Some(info))) => drop(self.accounts.insert(address, info)),
                Some(Undo::Account(address, None)) => drop(self.accounts.remove(&address)),
                Some(Undo::Slot(address, slot, value)) => self.put_slot_back(address, slot, value),
                Some(Undo::Storage(address, slots)) => drop(self.storage.insert(address, slots)),
                None => break,
            }
        }
        Ok(snapshot.block)
    }

    fn put_slot_back(&mut self, address: Address, slot: U256, value: U256) {
        let slots = self.storage.entry(address).or_default();
        if value.is_zero() {
            slots.remove(&slot);
        } else {
            slots.insert(slot, value);
        }
    }

    pub(super) fn forget_snapshots(&mut self) {
        self.snapshots.clear();
        self.undo.clear();
    }
}

impl Database for World {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.accounts.get(&address).cloned())
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.codes.get(&code_hash).cloned().unwrap_or_default())
    }

    fn storage(&mut self, address: Address, index: U256) -> Result<U256, Infallible> {
        Ok(self.slot(address, index))
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Infallible> {
        Ok(pretended_hash(number))
    }
}
