//! The snapshots of state and oracle, read by their description alone (the READMEs of `crates/journal` and `crates/market`).

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use anyhow::{Context, Result, ensure};

use crate::journal::crc32c;

const MAGIC: &[u8] = b"\x89HWS\r\n\x1a\n";
const HEADER: usize = 80;

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The event of its block.
    pub seq: u64,
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
}

/// The pools of a snapshot, with what undoes its last blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// What each pool holds, if that is known.
    pub reserves: BTreeMap<Address, Option<(u128, u128)>>,
    /// The blocks that can be undone, oldest first.
    pub records: Vec<Undo>,
}

/// What undoes a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    /// The block.
    pub hash: B256,
    /// The block below.
    pub parent_hash: B256,
    /// Whose reserves it changed and what they were, in the order of its logs.
    pub before: Vec<(Address, Option<(u128, u128)>)>,
}

impl Book {
    /// Undoes the last block.
    pub fn undo(&mut self) -> Option<Undo> {
        let undo = self.records.pop()?;
        for (address, before) in undo.before.iter().rev() {
            if let Some(reserves) = self.reserves.get_mut(address) {
                *reserves = *before;
            }
        }
        Some(undo)
    }
}

/// The price of each token: wei per smallest unit, times 10^36, and the pool that weighs most in it.
pub type Prices = BTreeMap<Address, (U256, Address)>;

/// What a file says that it is of, if it is whole.
///
/// # Errors
/// A file that is no snapshot, or damaged.
pub fn taken(file: &[u8]) -> Result<Taken> {
    ensure!(file.len() >= HEADER && file.starts_with(MAGIC), "no snapshot");
    let number = |at: usize, length: usize| {
        file[at..at + length].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    ensure!(number(76, 4) == u64::from(crc32c(&file[..76])), "the header's checksum");
    ensure!(number(64, 8) == (file.len() - HEADER) as u64, "the length");
    ensure!(number(72, 4) == u64::from(crc32c(&file[HEADER..])), "the checksum");
    ensure!(number(8, 2) == 1, "another version");
    Ok(Taken { seq: number(16, 8), number: number(24, 8), hash: B256::from_slice(&file[32..64]) })
}

/// The image in a file: what stands behind the header, if it is of this version.
fn image(file: &[u8], version: u8) -> Result<(Taken, Reader<'_>)> {
    let taken = taken(file)?;
    ensure!(file[10..12] == [version, 0], "an image of another version");
    Ok((taken, Reader(&file[HEADER..])))
}

/// Reads a snapshot of the state.
///
/// # Errors
/// A file that is no snapshot, damaged, or not as described.
pub fn state(file: &[u8]) -> Result<(Taken, Book)> {
    let (taken, mut reader) = image(file, 5)?;
    let book = reader.book()?;
    ensure!(reader.option(Reader::as_of)? == Some(taken), "the world is of another block");
    let _blocks_and_malformed = (reader.integer()?, reader.integer()?);
    reader.concentrated()?;
    reader.no_lending()?;
    reader.end()?;
    Ok((taken, book))
}

/// Reads the book and the prices of a snapshot of the oracle.
///
/// # Errors
/// A file that is no snapshot, damaged, or not as described.
pub fn oracle(file: &[u8]) -> Result<(Taken, Book, Prices)> {
    let (taken, mut reader) = image(file, 7)?;
    let _min_base_reserve = reader.word()?;
    let book = reader.book()?;
    let _others = reader.list(Reader::address)?;
    let tokens = reader.list(Reader::address)?;
    let current = reader.list(|reader| reader.option(Reader::price))?;
    let _earlier =
        reader.list(|reader| reader.list(|reader| Ok((reader.integer()?, reader.option(Reader::price)?))))?;
    for _count in 0..5 {
        reader.integer()?;
    }
    let _lost = reader.flag()?;
    reader.feed_counts()?;
    reader.list(Reader::block_prices)?;
    reader.feeds()?;
    reader.concentrated()?;
    reader.end()?;
    let prices = tokens.into_iter().zip(current).filter_map(|(token, price)| Some((token, price?)));
    Ok((taken, book, prices.collect()))
}

/// bincode 2 in its standard configuration.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("it ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn end(&self) -> Result<()> {
        ensure!(self.0.is_empty(), "{} bytes are left over", self.0.len());
        Ok(())
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// Below 251 as it is; else the length of what follows, little-endian.
    fn integer(&mut self) -> Result<u128> {
        let length = match self.byte()? {
            small @ 0..=250 => return Ok(small.into()),
            251 => 2,
            252 => 4,
            253 => 8,
            254 => 16,
            other => anyhow::bail!("{other} begins no integer"),
        };
        Ok(self.take(length)?.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }

    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => anyhow::bail!("{other} is no flag"),
        }
    }

    fn option<T>(&mut self, read: impl Fn(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let length = self.integer()?;
        (0..length).map(|_| read(self)).collect()
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        ensure!(self.integer()? == N as u128, "not {N} bytes");
        Ok(self.take(N)?.try_into()?)
    }

    fn address(&mut self) -> Result<Address> {
        Ok(Address::new(self.bytes()?))
    }

    fn hash(&mut self) -> Result<B256> {
        Ok(B256::new(self.bytes()?))
    }

    fn word(&mut self) -> Result<U256> {
        Ok(U256::from_be_bytes(self.bytes::<32>()?))
    }

    fn as_of(&mut self) -> Result<Taken> {
        Ok(Taken {
            seq: self.integer()?.try_into()?,
            number: self.integer()?.try_into()?,
            hash: self.hash()?,
        })
    }

    fn reserves(&mut self) -> Result<(u128, u128)> {
        Ok((self.integer()?, self.integer()?))
    }

    /// Reserves, and the block that told them.
    fn sighting(&mut self) -> Result<(u128, u128)> {
        let reserves = self.reserves()?;
        self.integer()?;
        Ok(reserves)
    }

    /// Of a pool, what never changes; its address counts.
    fn pool(&mut self) -> Result<Address> {
        let address = self.address()?;
        let _factory = self.address()?;
        let _protocol = self.integer()?;
        let _tokens = (self.address()?, self.address()?);
        let _fee = self.integer()?;
        Ok(address)
    }

    fn price(&mut self) -> Result<(U256, Address)> {
        let _quote = self.address()?;
        let (mantissa, source) = (self.word()?, self.address()?);
        let _changed_at = (self.integer()?, self.integer()?);
        Ok((mantissa, source))
    }

    /// Seven counts.
    fn feed_counts(&mut self) -> Result<()> {
        (0..7).try_for_each(|_| self.integer().map(drop))
    }

    /// How a block changed prices: the places of the tokens, with what was before and what is after.
    fn block_prices(&mut self) -> Result<()> {
        let _number_hash_timestamp = (self.integer()?, self.hash()?, self.integer()?);
        let change = |reader: &mut Self| {
            Ok((reader.integer()?, reader.option(Self::word)?, reader.option(Self::word)?))
        };
        self.list(change).map(drop)
    }

    /// What is known of the feeds, what undoes the last blocks of it, and seven counts.
    fn feeds(&mut self) -> Result<()> {
        let proxies = self.list(Self::address)?.len();
        let heartbeats = self.list(Self::integer)?.len();
        let standing = |reader: &mut Self| Ok((reader.reading()?, reader.option(Self::integer)?));
        let settled = self.list(standing)?.len();
        let resolution = |reader: &mut Self| Ok((reader.integer()?, reader.hash()?, reader.reading()?));
        let learnt = self.list(|reader| reader.list(resolution))?.len();
        self.list(|reader| {
            let _number_and_hash = (reader.integer()?, reader.hash()?);
            let _said = (reader.list(Self::said)?, reader.flag()?);
            Ok(())
        })?;
        let _base = self.option(|reader| Ok((reader.integer()?, reader.hash()?)))?;
        let current = self.list(standing)?.len();
        ensure!([heartbeats, settled, learnt, current] == [proxies; 4], "columns of the feeds");
        self.feed_counts()
    }

    fn reading(&mut self) -> Result<()> {
        match self.integer()? {
            0..=2 | 4 => Ok(()),
            3 => {
                let _aggregator_and_phase = (self.address()?, self.integer()?);
                let _decimals_of_answer_and_token = (self.byte()?, self.byte()?);
                let _round_and_answer = (self.integer()?, self.option(Self::word)?);
                self.integer().map(drop)
            }
            other => anyhow::bail!("{other} is no reading"),
        }
    }

    fn said(&mut self) -> Result<()> {
        match self.integer()? {
            0 => {
                let _aggregator_and_round = (self.address()?, self.integer()?);
                let _answer_and_time = (self.option(Self::word)?, self.integer()?);
                Ok(())
            }
            1 => {
                let _proxy_and_aggregator = (self.address()?, self.address()?);
                Ok(())
            }
            other => anyhow::bail!("{other} is nothing that is said"),
        }
    }

    /// Pools with concentrated liquidity, what undoes the last blocks of them, fourteen counts, and what is refused.
    fn concentrated(&mut self) -> Result<()> {
        let pools = self.list(|reader| {
            let _address_and_factory = (reader.address()?, reader.address()?);
            let _tokens = (reader.address()?, reader.address()?);
            let _fee_spacing = (reader.integer()?, reader.integer()?);
            reader.make()?;
            let _standing = reader.integer()?;
            reader.option(Self::moment)
        })?;
        self.list(|reader| {
            let _number_hash_parent = (reader.integer()?, reader.hash()?, reader.hash()?);
            reader.list(|reader| {
                ensure!(reader.integer()? < pools.len() as u128, "a block touches what is not there");
                Ok((reader.option(Self::moment)?, reader.flag()?))
            })?;
            reader.list(|reader| {
                let make = reader.integer()?;
                ensure!(make < 2, "{make} is no make of a pool");
                let _contract = reader.address()?;
                if make == 1 {
                    reader.hash()?;
                }
                reader.heard()
            })?;
            reader.flag()
        })?;
        let _base = self.option(Self::hash)?;
        let _changed = (self.list(Self::integer)?, self.flag()?);
        (0..14).try_for_each(|_| self.integer().map(drop))?;
        self.list(|reader| Ok((reader.address()?, reader.hash()?))).map(drop)
    }

    /// Of V3, or of V4 with its id.
    fn make(&mut self) -> Result<()> {
        match self.integer()? {
            0 => Ok(()),
            1 => self.hash().map(drop),
            other => anyhow::bail!("{other} is no make of a pool"),
        }
    }

    /// What is held of lending pools where none is configured.
    fn no_lending(&mut self) -> Result<()> {
        ensure!(self.integer()? == 0 && self.integer()? == 0, "a lending pool that nobody configured");
        let _base = self.option(Self::hash)?;
        (0..4).try_for_each(|_| self.integer().map(drop))
    }

    /// Price and tick, liquidity, ticks with net and gross, and the protocol's fee.
    fn moment(&mut self) -> Result<()> {
        self.option(|reader| Ok((reader.word()?, reader.integer()?)))?;
        self.integer()?;
        self.list(|reader| Ok((reader.integer()?, reader.integer()?, reader.integer()?)))?;
        self.integer().map(drop)
    }

    fn heard(&mut self) -> Result<()> {
        let (words, integers) = match self.integer()? {
            0 => (1, 1),
            1 => (1, 2),
            2 => (0, 3),
            3 => (0, 1),
            other => anyhow::bail!("{other} is nothing that a pool says"),
        };
        (0..words).try_for_each(|_| self.word().map(drop))?;
        (0..integers).try_for_each(|_| self.integer().map(drop))
    }

    fn undo(&mut self) -> Result<Undo> {
        let _number = self.integer()?;
        let (hash, parent_hash) = (self.hash()?, self.hash()?);
        let before = self.list(|reader| {
            let before = (reader.address()?, reader.option(Self::sighting)?);
            let _created = reader.flag()?;
            Ok(before)
        })?;
        Ok(Undo { hash, parent_hash, before })
    }

    fn book(&mut self) -> Result<Book> {
        let pools = self.list(Self::pool)?;
        let reserves = self.list(|reader| reader.option(Self::reserves))?;
        let admitted = self.list(Self::flag)?;
        let standing = self.list(Self::integer)?;
        ensure!([reserves.len(), admitted.len(), standing.len()] == [pools.len(); 3], "columns of the pools");
        let _refused = self.list(|reader| Ok((reader.address()?, reader.flag()?)))?;
        let _candidates = self.list(|reader| Ok((reader.address()?, reader.sighting()?)))?;
        let records = self.list(Self::undo)?;
        let _base = self.option(Self::hash)?;
        let _changed = self.list(Self::integer)?;
        let _all_changed = self.flag()?;
        for _count in 0..10 {
            self.integer()?;
        }
        Ok(Book { reserves: pools.into_iter().zip(reserves).collect(), records })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn file(payload: &[u8]) -> Vec<u8> {
        file_of_version(1, payload)
    }

    fn file_of_version(version: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, 0, version, 0, 7, 7, 7, 7]].concat();
        bytes.extend(5u64.to_le_bytes());
        bytes.extend(300u64.to_le_bytes());
        bytes.extend([9; 32]);
        bytes.extend((payload.len() as u64).to_le_bytes());
        bytes.extend(crc32c(payload).to_le_bytes());
        bytes.extend(crc32c(&bytes).to_le_bytes());
        [&bytes, payload].concat()
    }

    /// A book of one pool, which held (1, 2) before the last block and holds (300, 4) now.
    fn book() -> Vec<u8> {
        let address = |byte: u8| [&[20][..], &[byte; 20]].concat();
        let hash = |byte: u8| [&[32][..], &[byte; 32]].concat();
        let pool =
            [&[1][..], &address(1), &address(2), &[0], &address(3), &address(4), &[251, 184, 11]].concat();
        let columns = [1, 1, 251, 44, 1, 4, 1, 1, 1, 2];
        let verdicts = [&[1][..], &address(3), &[0], &[0]].concat();
        let block = [&[1][..], &[251, 44, 1], &hash(9), &hash(8)].concat();
        let touches = [&[1][..], &address(1), &[1, 1, 2, 7], &[0]].concat();
        let rest = [&[1][..], &hash(8), &[0], &[0], &[0; 10]].concat();
        [&pool[..], &columns, &verdicts, &block, &touches, &rest].concat()
    }

    #[test]
    fn a_state_is_read_and_undone() {
        let last = [&[1][..], &[5, 251, 44, 1, 32], &[9; 32], &[3, 0]].concat();
        let address = |byte: u8| [&[20][..], &[byte; 20]].concat();
        let [hash8, hash9] = [8, 9].map(|byte: u8| [&[32][..], &[byte; 32]].concat());
        let moment = [&[1, 1, 32][..], &[7; 32], &[1, 9], &[1, 120, 10, 5, 3]].concat();
        let addresses = [address(1), address(2), address(3), address(4)].concat();
        let pools = [&[1][..], &addresses, &[251, 184, 11, 120, 1], &hash8, &[1], &moment].concat();
        let block = [&[1, 251, 44, 1][..], &hash9, &hash8, &[1, 0, 0, 1]].concat();
        let heard = [&[1, 0][..], &address(5), &[2, 1, 3, 10, 0]].concat();
        let refused = [&[1][..], &address(6), &hash9].concat();
        let lending = [&[0, 0, 1][..], &hash8, &[0; 4]].concat();
        let counts = [&[1][..], &hash8, &[0, 0], &[0; 14]].concat();
        let concentrated = [&pools[..], &block, &heard, &counts, &refused, &lending].concat();
        let whole = file_of_version(5, &[&book()[..], &last, &concentrated].concat());
        assert!(state(&file(&whole[HEADER..])).is_err(), "of another version");
        let (taken, mut book) = state(&whole).unwrap();
        assert_eq!((taken.seq, taken.number, taken.hash), (5, 300, B256::repeat_byte(9)));
        let pool = Address::repeat_byte(1);
        assert_eq!(book.reserves[&pool], Some((300, 4)));
        let undo = book.undo().unwrap();
        assert_eq!((undo.hash, undo.parent_hash), (B256::repeat_byte(9), B256::repeat_byte(8)));
        assert_eq!(book.reserves[&pool], Some((1, 2)));
        assert_eq!(book.undo(), None);
        assert!(state(&whole[..whole.len() - 1]).is_err());
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            assert!(state(&bent).is_err(), "byte {at}");
        }
    }

    #[test]
    fn an_oracle_is_read() {
        let address = |byte: u8| [&[20][..], &[byte; 20]].concat();
        let price = [&[1][..], &address(4), &[32], &[0; 31], &[77], &address(1), &[6, 60]].concat();
        let prices = [&[0, 1][..], &address(3), &[1], &price, &[0], &[0; 6]].concat();
        let minimum = [&[32][..], &[0; 32]].concat();
        let word = |low: u8| [&[32][..], &[0; 31], &[low]].concat();
        let window = [&[1, 5, 32][..], &[9; 32], &[60], &[1, 0, 1], &word(7), &[0]].concat();
        let reading = [&[3][..], &address(5), &[6, 8, 18, 9, 1], &word(3), &[59]].concat();
        let standing = [&[1][..], &reading, &[1, 5]].concat();
        let said = [&[1, 1][..], &address(6), &address(5)].concat();
        let records = [&[1, 5, 32][..], &[9; 32], &said, &[0]].concat();
        let feeds = [&[1][..], &address(6), &[1, 60], &standing, &[1, 0], &records, &[0], &standing, &[0; 7]]
            .concat();
        // No pool, no record, no block below them, nothing that is not told, fourteen counts, nothing refused.
        let ranged = [0; 20];
        let payload = [&minimum[..], &book(), &prices, &[0; 7], &window, &feeds, &ranged].concat();
        let (_, book, prices) = oracle(&file_of_version(7, &payload)).unwrap();
        assert!(oracle(&file(&payload)).is_err(), "of another version");
        assert_eq!(book.records.len(), 1);
        let expected = (U256::from(77), Address::repeat_byte(1));
        assert_eq!(prices, [(Address::repeat_byte(3), expected)].into());
    }
}
