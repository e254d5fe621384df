//! Aave V3.0 of its authors' own bytecode, its borrowers, and what becomes of them.
//!
//! A feed says what it said at the start but while a price dips; then it falls by some percent for some blocks. Who stands near the edge
//! is below it as long as that lasts, and somebody liquidates some of them. So between two dips there is nobody to liquidate.

use alloy_primitives::{Address, Bytes, U256, address, bytes, keccak256};
use alloy_sol_types::SolCall;
use anyhow::{Context, ensure};
use headwater_reference::aave::contracts::Pool;
use headwater_reference::aave::{Builder, Ground, Release, Terms};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::artifacts::Artifacts;
use super::deployment::{Lending, NONCE_WITH_A_FULL_PURSE, PriceFeed, created_by, worth};
use super::{Devnet, Extent, concentrated};

/// Anvil's last account but one: governs the pool, lends to it, and liquidates.
pub(crate) const BANKER: Address = address!("23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f");

/// How many owe something.
const BORROWERS: usize = 200;

/// What the banker supplies of each reserve, in ether.
const SUPPLY: u64 = 20_000;

/// What an ether is worth in dollars, at the start.
const DOLLARS_IN_ETHER: f64 = 2_500.0;

/// Loans are made in the second of the pool's two modes, the variable one.
const VARIABLE: U256 = U256::from_limbs([2, 0, 0, 0]);

/// At the prices of the start. One may borrow nearly as much as leads to a liquidation, so that some do.
const RESERVES: [Terms; 5] = [
    terms("WETH", 18, 2_500 * 100_000_000, [8_200, 8_250, 10_500]),
    terms("USDC", 6, 100_000_000, [7_950, 8_000, 10_450]),
    terms("DAI", 18, 100_000_000, [7_950, 8_000, 10_500]),
    terms("WBTC", 8, 62_500 * 100_000_000, [7_450, 7_500, 10_650]),
    terms("LINK", 18, 15 * 100_000_000, [6_950, 7_000, 10_700]),
];

/// What may be owed, and what stands for it: places in [`RESERVES`].
const LOANS: [(usize, usize); 7] = [(0, 1), (0, 2), (3, 1), (3, 0), (4, 1), (4, 2), (1, 0)];

/// Reserves whose price dips: what most collateral is in.
const DIPPING: [usize; 3] = [0, 3, 4];

/// A price feed: a Chainlink proxy that is its own aggregator, of eight decimals.
///
/// Called with one word it makes that its answer and says so by `AnswerUpdated`; else it answers `aggregator`, `latestRoundData`,
/// `decimals` and, to whatever else it is asked, `latestAnswer`. Storage: answer, round, time.
const FEED: [Bytes; 16] = [
    bytes!("609e8060095f395ff3"),
    // One word sets it; else the selector says what is asked.
    bytes!("36602014606057"),
    bytes!("5f3560e01c"),
    bytes!("8063245a7bfc14603257"),
    bytes!("8063feaf968c14604357"),
    bytes!("8063313ce56714603a57"),
    // The answer; its own address; eight.
    bytes!("5f545f5260205ff3"),
    bytes!("5b305f5260205ff3"),
    bytes!("5b60085f5260205ff3"),
    // Round, answer, time, time, round.
    bytes!("5b600154805f52608052"),
    bytes!("5f54602052"),
    bytes!("60025480604052606052"),
    bytes!("60a05ff3"),
    // Answer, time and round are stored and logged.
    bytes!("5b5f35805f5542806002555f52"),
    bytes!("6001546001018060015590"),
    bytes!("7f0559884fd3a460db3073b7fc896cc77986f16e378210ded43186175bf646fc5f60205fa300"),
];

/// Somebody who owes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Borrower {
    /// Who.
    pub account: Address,
    /// What stands for the debt.
    pub collateral: Address,
    /// What is owed.
    pub debt: Address,
    /// Whether a dip of a few percent takes the account below the edge.
    pub is_near: bool,
    supplied: U256,
    /// What was borrowed at the start, in smallest units.
    pub borrowed: U256,
}

/// What users and prices do, out of a seed of its own.
#[derive(Clone, Debug)]
pub(super) struct Users {
    random: ChaCha8Rng,
    /// The feed whose price dips, and what it says otherwise.
    dip: Option<(Address, u64)>,
    /// Blocks until the dip begins, or ends.
    left: u32,
    /// Nobody where there is no pool.
    borrowers: Vec<Borrower>,
}

const fn terms(symbol: &'static str, decimals: u8, price: u64, [ltv, threshold, bonus]: [u16; 3]) -> Terms {
    Terms { symbol, decimals, price, ltv, threshold, bonus, protocol_fee: 1_000, category: 0 }
}

/// Where everything will stand. The pool's proxy is the first that the provider of addresses creates, and that is the first that the
/// banker creates.
pub(super) fn derive() -> Lending {
    let provider = created_by(BANKER, NONCE_WITH_A_FULL_PURSE);
    let first = NONCE_WITH_A_FULL_PURSE + concentrated::CONTRACTS;
    let feeds = RESERVES.iter().zip(first..).map(|(terms, nonce)| PriceFeed {
        symbol: terms.symbol.to_owned(),
        address: created_by(concentrated::ARCHITECT, nonce),
    });
    Lending { pool: created_by(provider, 1), feeds: feeds.collect() }
}

/// The pool, its reserves, and everybody who lends and borrows.
pub(super) fn deploy(devnet: &Devnet, artifacts: &Artifacts) -> anyhow::Result<()> {
    let (contracts, Lending { pool, feeds }) = (artifacts.aave(Release::V3_0)?, &devnet.addresses().lending);
    let mut builder = Builder::new(OnNode(devnet), &contracts, Release::V3_0, BANKER, BANKER);
    let protocol = builder.protocol()?;
    ensure!(protocol.pool == *pool, "the pool stands at {} and not at {pool}", protocol.pool);
    for (terms, feed) in RESERVES.iter().zip(feeds) {
        say(devnet, feed.address, terms.price)?;
        builder.list(&protocol, terms, devnet.addresses().token(terms.symbol), feed.address)?;
    }
    supply(devnet)?;
    borrow(devnet)
}

/// Not part of the pool; the architect's nonces are spoken for by then.
pub(super) fn deploy_feeds(devnet: &Devnet) -> anyhow::Result<()> {
    for PriceFeed { address, .. } in &devnet.addresses().lending.feeds {
        let created = devnet.create_mined(concentrated::ARCHITECT, &FEED.concat())?;
        ensure!(created == *address, "a feed stands at {created} and not at {address}");
    }
    Ok(())
}

fn say(devnet: &Devnet, feed: Address, price: u64) -> anyhow::Result<()> {
    let answer = U256::from(price).to_be_bytes::<32>().to_vec();
    devnet.send(concentrated::ARCHITECT, feed, U256::ZERO, answer, 150_000).map(drop)
}

/// The banker lends, and supplies what the borrowers' debts stand on.
fn supply(devnet: &Devnet) -> anyhow::Result<()> {
    let pool = devnet.addresses().lending.pool;
    for terms in &RESERVES {
        let asset = devnet.addresses().token(terms.symbol);
        devnet.approve(BANKER, asset, pool)?;
        let (amount, on_behalf_of) = (worth(terms.symbol, SUPPLY), BANKER);
        send(devnet, BANKER, &supply_call(asset, amount, on_behalf_of))?;
    }
    devnet.mine()?;
    for some in borrowers(devnet).chunks(40) {
        for Borrower { account, collateral, supplied, .. } in some {
            send(devnet, BANKER, &supply_call(*collateral, *supplied, *account))?;
        }
        devnet.mine()?;
    }
    Ok(())
}

/// Each takes up its debt itself: nobody has their keys, so the node is told to do without.
fn borrow(devnet: &Devnet) -> anyhow::Result<()> {
    let rpc = devnet.rpc();
    let borrowers = borrowers(devnet);
    rpc.call::<Value>("anvil_autoImpersonateAccount", json!([true]))?;
    for some in borrowers.chunks(25) {
        for Borrower { account, debt, borrowed, .. } in some {
            rpc.call::<Value>("anvil_setBalance", json!([account, worth("WETH", 10)]))?;
            let borrow = Pool::borrowCall {
                asset: *debt,
                amount: *borrowed,
                interestRateMode: VARIABLE,
                referralCode: 0,
                onBehalfOf: *account,
            };
            send(devnet, *account, &borrow)?;
        }
        devnet.mine()?;
    }
    rpc.call::<Value>("anvil_autoImpersonateAccount", json!([false]))?;
    for (borrower, health) in borrowers.iter().zip(health_factors(devnet, &borrowers)?) {
        ensure!(health > WAD && health < U256::MAX, "{borrower:?} has a health factor of {health}");
    }
    Ok(())
}

/// One, as health factors are counted.
const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

fn health_factors(devnet: &Devnet, of: &[Borrower]) -> anyhow::Result<Vec<U256>> {
    let pool = devnet.addresses().lending.pool;
    let calls: Vec<_> =
        of.iter().map(|borrower| Pool::getUserAccountDataCall { user: borrower.account }).collect();
    let told = devnet.read(&calls.iter().map(|call| (pool, call)).collect::<Vec<_>>())?;
    told.into_iter().map(|told| Ok(told.context("there is no pool")?.healthFactor)).collect()
}

fn supply_call(asset: Address, amount: U256, on_behalf_of: Address) -> Pool::supplyCall {
    Pool::supplyCall { asset, amount, onBehalfOf: on_behalf_of, referralCode: 0 }
}

fn send<C: SolCall>(devnet: &Devnet, from: Address, call: &C) -> anyhow::Result<()> {
    let pool = devnet.addresses().lending.pool;
    devnet.send(from, pool, U256::ZERO, call.abi_encode(), GAS).map(drop)
}

/// Enough for whatever is done with the pool.
const GAS: u64 = 700_000;

/// The same on every devnet: debts of a few hundred to a hundred thousand dollars; every fifth is near the edge.
pub(super) fn borrowers(devnet: &Devnet) -> Vec<Borrower> {
    let mut random = ChaCha8Rng::seed_from_u64(0x00b0_0204_e450);
    let borrower = |number: usize| {
        let (collateral, debt) = LOANS[random.random_range(0..LOANS.len())];
        let is_near = number.is_multiple_of(5);
        let health = if is_near { random.random_range(1.008..1.03) } else { random.random_range(1.06..2.5) };
        let scale = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5][random.random_range(0..7)];
        let dollars = scale * random.random_range(0.8..1.25);
        let owed = dollars * f64::from(RESERVES[collateral].threshold) / 1e4 / health;
        Borrower {
            account: Address::from_word(keccak256(format!("borrower {number}"))),
            collateral: devnet.addresses().token(RESERVES[collateral].symbol),
            debt: devnet.addresses().token(RESERVES[debt].symbol),
            is_near,
            supplied: amount(&RESERVES[collateral], dollars),
            borrowed: amount(&RESERVES[debt], owed),
        }
    };
    (0..BORROWERS).map(borrower).collect()
}

/// Smallest units that are worth so many dollars at the start.
fn amount(terms: &Terms, dollars: f64) -> U256 {
    let per_ether = worth(terms.symbol, 1).to::<u128>() as f64;
    U256::from((dollars / DOLLARS_IN_ETHER * per_ether) as u128)
}

impl Users {
    pub(super) fn new(seed: u64, devnet: &Devnet) -> Self {
        let borrowers = match devnet.extent() {
            Extent::Whole => borrowers(devnet),
            Extent::Pairs => Vec::new(),
        };
        let random = ChaCha8Rng::seed_from_u64(seed ^ 0x1e4d_0000_a4e5);
        Self { random, dip: None, left: 6, borrowers }
    }

    /// This block's part of what happens.
    pub(super) fn act(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        if self.borrowers.is_empty() {
            return Ok(());
        }
        let is_due = self.left == 0;
        self.left = self.left.saturating_sub(1);
        match self.dip {
            None if is_due => self.begin_dip(devnet),
            None if self.random.random_range(0..3) == 0 => self.do_business(devnet),
            None => Ok(()),
            Some((feed, price)) if is_due => {
                self.dip = None;
                self.left = self.random.random_range(14..=26);
                say(devnet, feed, price)
            }
            Some(_) if self.random.random_range(0..3) == 0 => self.liquidate(devnet),
            Some(_) => Ok(()),
        }
    }

    fn begin_dip(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        let reserve = DIPPING[self.random.random_range(0..DIPPING.len())];
        let (feed, price) = (devnet.addresses().lending.feeds[reserve].address, RESERVES[reserve].price);
        let left = self.random.random_range(0.96..0.985);
        self.dip = Some((feed, price));
        self.left = self.random.random_range(4..=9);
        say(devnet, feed, (price as f64 * left) as u64)
    }

    /// Somebody supplies more, or pays a part of the debt back. The banker does it for them: who pays is of no interest.
    fn do_business(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        let borrower = self.borrowers[self.random.random_range(0..self.borrowers.len())];
        let Borrower { account, collateral, debt, supplied, borrowed, is_near } = borrower;
        let part = U256::from(self.random.random_range(50..400));
        match self.random.random_range(0..2) {
            // Whoever stands near the edge stays there.
            _ if is_near => Ok(()),
            0 => send(devnet, BANKER, &supply_call(collateral, supplied / part, account)),
            _ => {
                let repay = Pool::repayCall {
                    asset: debt,
                    amount: borrowed / part,
                    interestRateMode: VARIABLE,
                    onBehalfOf: account,
                };
                send(devnet, BANKER, &repay)
            }
        }
    }

    /// One of a few that are looked at, if any of them is below the edge.
    fn liquidate(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        let near: Vec<_> = self.borrowers.iter().copied().filter(|borrower| borrower.is_near).collect();
        let looked_at: Vec<_> = (0..5).map(|_| near[self.random.random_range(0..near.len())]).collect();
        let health = health_factors(devnet, &looked_at)?;
        let Some((borrower, _)) = looked_at.iter().zip(health).find(|(_, health)| *health < WAD) else {
            return Ok(());
        };
        let call = Pool::liquidationCallCall {
            collateralAsset: borrower.collateral,
            debtAsset: borrower.debt,
            user: borrower.account,
            debtToCover: U256::MAX,
            receiveAToken: false,
        };
        send(devnet, BANKER, &call)
    }
}

/// Every call in a block of its own.
#[derive(Debug)]
struct OnNode<'a>(&'a Devnet);

impl Ground for OnNode<'_> {
    fn create(&mut self, from: Address, code: &[u8]) -> anyhow::Result<Address> {
        self.0.create_mined(from, code)
    }

    fn send<C: SolCall>(&mut self, from: Address, to: Address, call: &C) -> anyhow::Result<()> {
        let sent = self.0.send_mined(from, to, call.abi_encode(), 5_000_000);
        sent.with_context(|| C::SIGNATURE)
    }

    fn read<C: SolCall>(&mut self, of: Address, call: &C) -> anyhow::Result<C::Return> {
        self.0.read(&[(of, call)])?.pop().flatten().context("there is no contract")
    }
}
