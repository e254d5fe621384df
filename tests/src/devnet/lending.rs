//! Aave V2, V3.0 and V3.6 of their authors' own bytecode, their borrowers, and what becomes of them.
//!
//! The three list the same tokens; those of V3 ask the same feeds, in dollars, and V2 feeds of its own, in ether. A feed says what it
//! said at the start but while a price dips: then that falls by some percent for some blocks. Who stands near the edge is below it as long
//! as that lasts, and somebody liquidates some of them. So between two dips there is nobody to liquidate.

#![expect(non_snake_case, reason = "the pool's parameters keep their names in Solidity")]

use alloy_primitives::{Address, U256, address, hex, keccak256};
use alloy_sol_types::SolCall;
use anyhow::{Context, ensure};
use headwater_reference::aave::contracts::{Pool, PoolV2};
use headwater_reference::aave::{Builder, Ground, Release, Terms};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::artifacts::Artifacts;
use super::deployment::{Lending, NONCE_WITH_A_FULL_PURSE, PriceFeed, created_by, worth};
use super::{Devnet, Extent, concentrated};

/// Anvil's last account but one: governs the pool of V3.0, lends to all of them, and liquidates.
pub(crate) const BANKER: Address = address!("23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f");

/// Whose contracts, how people call the pool, and who governs it: an account with a full purse, and nothing else to its name by then.
const POOLS: [(Release, &str, Address); 3] = [
    (Release::V3_0, "aave-v3.0", BANKER),
    (Release::V3_6, "aave-v3.6", address!("976EA74026E726554dB657fA54763abd0C3a0aa9")),
    (Release::V2, "aave-v2", address!("9965507D1a55bcC2695C58ba16FB37d819B0A4dc")),
];

/// How many owe something to one of the pools: each of them has a third.
const BORROWERS: usize = 200;

/// What the banker supplies of each reserve of each pool, in ether.
const SUPPLY: u64 = 20_000;

/// What an ether is worth in dollars, at the start.
const DOLLARS_IN_ETHER: f64 = 2_500.0;

/// Loans are made in the second of the pool's two modes, the variable one.
const VARIABLE: U256 = U256::from_limbs([2, 0, 0, 0]);

/// The first is ether, which V2 counts in. At the prices of the start. One may borrow nearly as much as leads to a liquidation, so that some do.
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

/// What feeds count in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    /// With eight decimals.
    Dollar,
    /// With eighteen. Of ether itself there is no such feed: one is one.
    Ether,
}

/// In dollars with eight decimals, reserve by reserve.
type Prices = [u64; RESERVES.len()];

/// Somebody who owes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Borrower {
    /// Who.
    pub account: Address,
    /// To whom it is owed.
    pub pool: Address,
    release: Release,
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
    prices: Prices,
    /// Blocks until the dip begins, or ends.
    left: u32,
    /// Nobody where there are no pools.
    borrowers: Vec<Borrower>,
}

const fn terms(symbol: &'static str, decimals: u8, price: u64, [ltv, threshold, bonus]: [u16; 3]) -> Terms {
    Terms { symbol, decimals, price, ltv, threshold, bonus, protocol_fee: 1_000, category: 0 }
}

/// The feeds in the order of their creation: what they count in, and the reserve.
fn feeds() -> impl Iterator<Item = (Unit, usize)> {
    let dollars = (0..RESERVES.len()).map(|reserve| (Unit::Dollar, reserve));
    dollars.chain((1..RESERVES.len()).map(|reserve| (Unit::Ether, reserve)))
}

/// Every feed's address, behind what it says of what.
fn addressed_feeds() -> impl Iterator<Item = ((Unit, usize), Address)> {
    let nonces = NONCE_WITH_A_FULL_PURSE + concentrated::CONTRACTS..;
    feeds().zip(nonces.map(|nonce| created_by(concentrated::ARCHITECT, nonce)))
}

impl Unit {
    fn of(release: Release) -> Self {
        match release {
            Release::V2 => Self::Ether,
            Release::V3_0 | Release::V3_6 => Self::Dollar,
        }
    }

    fn decimals(self) -> u8 {
        match self {
            Self::Dollar => 8,
            Self::Ether => 18,
        }
    }

    /// What a feed answers.
    fn price(self, of: usize, prices: &Prices) -> U256 {
        let price = U256::from(prices[of]);
        match self {
            Self::Dollar => price,
            Self::Ether => price * WAD / U256::from(prices[0]),
        }
    }
}

/// The creation code of a price feed: a Chainlink proxy that is its own aggregator.
///
/// Called with one word it makes that its answer and says so by `AnswerUpdated`; else it answers `aggregator`, `latestRoundData`,
/// `decimals` and, to whatever else it is asked, `latestAnswer`. Storage: answer, round, time.
fn feed(decimals: u8) -> Vec<u8> {
    let code: [&[u8]; 18] = [
        &hex!("609e8060095f395ff3"),
        // One word sets it; else the selector says what is asked.
        &hex!("36602014606057"),
        &hex!("5f3560e01c"),
        &hex!("8063245a7bfc14603257"),
        &hex!("8063feaf968c14604357"),
        &hex!("8063313ce56714603a57"),
        // The answer; its own address; its decimals.
        &hex!("5f545f5260205ff3"),
        &hex!("5b305f5260205ff3"),
        &hex!("5b60"),
        &[decimals],
        &hex!("5f5260205ff3"),
        // Round, answer, time, time, round.
        &hex!("5b600154805f52608052"),
        &hex!("5f54602052"),
        &hex!("60025480604052606052"),
        &hex!("60a05ff3"),
        // Answer, time and round are stored and logged.
        &hex!("5b5f35805f5542806002555f52"),
        &hex!("6001546001018060015590"),
        &hex!("7f0559884fd3a460db3073b7fc896cc77986f16e378210ded43186175bf646fc5f60205fa300"),
    ];
    code.concat()
}

/// Where everything will stand. A pool's proxy is the first that its provider of addresses creates, and that is the first that whoever
/// governs it creates.
pub(super) fn derive() -> Vec<Lending> {
    let lending = POOLS.map(|(release, name, governor)| {
        let provider = created_by(governor, NONCE_WITH_A_FULL_PURSE);
        let feeds = addressed_feeds().filter(|((unit, _), _)| *unit == Unit::of(release));
        let feeds = feeds.map(|((_, reserve), address)| PriceFeed {
            symbol: RESERVES[reserve].symbol.to_owned(),
            address,
        });
        Lending { name: name.to_owned(), pool: created_by(provider, 1), feeds: feeds.collect() }
    });
    lending.into()
}

/// The pools, their reserves, and everybody who lends and borrows.
pub(super) fn deploy(devnet: &Devnet, artifacts: &Artifacts) -> anyhow::Result<()> {
    let addresses = devnet.addresses();
    for ((release, name, governor), Lending { pool, feeds, .. }) in POOLS.iter().zip(&addresses.lending) {
        let contracts = artifacts.aave(*release)?;
        let mut builder = Builder::new(OnNode(devnet), &contracts, *release, *governor, BANKER);
        let protocol = builder.protocol(addresses.weth)?;
        ensure!(protocol.pool == *pool, "{name} stands at {} and not at {pool}", protocol.pool);
        for terms in &RESERVES {
            let feed = feeds.iter().find(|feed| feed.symbol == terms.symbol);
            let source = feed.map_or(Address::ZERO, |feed| feed.address);
            builder.list(&protocol, terms, addresses.token(terms.symbol), source)?;
        }
    }
    supply(devnet)?;
    borrow(devnet)
}

/// Not part of the pools; the architect's nonces are spoken for by then.
pub(super) fn deploy_feeds(devnet: &Devnet) -> anyhow::Result<()> {
    for ((unit, _), address) in addressed_feeds() {
        let created = devnet.create_mined(concentrated::ARCHITECT, &feed(unit.decimals()))?;
        ensure!(created == address, "a feed stands at {created} and not at {address}");
    }
    for ((unit, reserve), feed) in addressed_feeds() {
        say(devnet, feed, unit.price(reserve, &at_the_start()))?;
    }
    Ok(())
}

fn at_the_start() -> Prices {
    RESERVES.map(|terms| terms.price)
}

fn say(devnet: &Devnet, feed: Address, answer: U256) -> anyhow::Result<()> {
    let answer = answer.to_be_bytes::<32>().to_vec();
    devnet.send(concentrated::ARCHITECT, feed, U256::ZERO, answer, 150_000).map(drop)
}

/// The banker lends, and supplies what the borrowers' debts stand on.
fn supply(devnet: &Devnet) -> anyhow::Result<()> {
    for ((release, ..), Lending { pool, .. }) in POOLS.iter().zip(&devnet.addresses().lending) {
        for terms in &RESERVES {
            let asset = devnet.addresses().token(terms.symbol);
            devnet.approve(BANKER, asset, *pool)?;
            let lent = Supply { asset, amount: worth(terms.symbol, SUPPLY), on_behalf_of: BANKER };
            lent.send(devnet, *release, *pool)?;
        }
    }
    devnet.mine()?;
    for some in borrowers(devnet).chunks(40) {
        for borrower in some {
            borrower.supply(devnet, borrower.supplied)?;
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
        for Borrower { account, pool, debt, borrowed, .. } in some {
            rpc.call::<Value>("anvil_setBalance", json!([account, worth("WETH", 10)]))?;
            let borrow = Pool::borrowCall {
                asset: *debt,
                amount: *borrowed,
                interestRateMode: VARIABLE,
                referralCode: 0,
                onBehalfOf: *account,
            };
            send(devnet, *account, *pool, &borrow)?;
        }
        devnet.mine()?;
    }
    rpc.call::<Value>("anvil_autoImpersonateAccount", json!([false]))?;
    for (borrower, health) in borrowers.iter().zip(health_factors(devnet, &borrowers)?) {
        ensure!(health > WAD && health < U256::MAX, "{borrower:?} has a health factor of {health}");
    }
    Ok(())
}

/// One, as health factors are counted, and ether.
const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

fn health_factors(devnet: &Devnet, of: &[Borrower]) -> anyhow::Result<Vec<U256>> {
    let calls: Vec<_> =
        of.iter().map(|borrower| Pool::getUserAccountDataCall { user: borrower.account }).collect();
    let calls: Vec<_> = of.iter().zip(&calls).map(|(borrower, call)| (borrower.pool, call)).collect();
    let told = devnet.read(&calls)?;
    told.into_iter().map(|told| Ok(told.context("there is no pool")?.healthFactor)).collect()
}

/// What the banker puts into a pool.
struct Supply {
    asset: Address,
    amount: U256,
    on_behalf_of: Address,
}

impl Supply {
    fn send(&self, devnet: &Devnet, release: Release, pool: Address) -> anyhow::Result<()> {
        let Self { asset, amount, on_behalf_of: onBehalfOf } = *self;
        match release {
            Release::V2 => {
                let deposit = PoolV2::depositCall { asset, amount, onBehalfOf, referralCode: 0 };
                send(devnet, BANKER, pool, &deposit)
            }
            Release::V3_0 | Release::V3_6 => {
                let supply = Pool::supplyCall { asset, amount, onBehalfOf, referralCode: 0 };
                send(devnet, BANKER, pool, &supply)
            }
        }
    }
}

impl Borrower {
    /// More of its collateral, from the banker.
    fn supply(&self, devnet: &Devnet, amount: U256) -> anyhow::Result<()> {
        let supply = Supply { asset: self.collateral, amount, on_behalf_of: self.account };
        supply.send(devnet, self.release, self.pool)
    }
}

fn send<C: SolCall>(devnet: &Devnet, from: Address, pool: Address, call: &C) -> anyhow::Result<()> {
    devnet.send(from, pool, U256::ZERO, call.abi_encode(), GAS).map(drop)
}

/// Enough for whatever is done with a pool.
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
        let place = number % POOLS.len();
        Borrower {
            account: Address::from_word(keccak256(format!("borrower {number}"))),
            pool: devnet.addresses().lending[place].pool,
            release: POOLS[place].0,
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
        Self { random, prices: at_the_start(), left: 6, borrowers }
    }

    /// This block's part of what happens.
    pub(super) fn act(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        if self.borrowers.is_empty() {
            return Ok(());
        }
        let is_due = self.left == 0;
        self.left = self.left.saturating_sub(1);
        let is_dip = self.prices != at_the_start();
        match is_dip {
            false if is_due => self.begin_dip(devnet),
            false if self.random.random_range(0..3) == 0 => self.do_business(devnet),
            true if is_due => {
                self.left = self.random.random_range(14..=26);
                self.report(devnet, at_the_start())
            }
            true if self.random.random_range(0..3) == 0 => self.liquidate(devnet),
            _ => Ok(()),
        }
    }

    fn begin_dip(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        let reserve = DIPPING[self.random.random_range(0..DIPPING.len())];
        let left = self.random.random_range(0.96..0.985);
        self.left = self.random.random_range(4..=9);
        let mut prices = at_the_start();
        prices[reserve] = (prices[reserve] as f64 * left) as u64;
        self.report(devnet, prices)
    }

    /// Each feed whose answer is another one says so.
    fn report(&mut self, devnet: &Devnet, prices: Prices) -> anyhow::Result<()> {
        for ((unit, reserve), feed) in addressed_feeds() {
            let answer = unit.price(reserve, &prices);
            if answer != unit.price(reserve, &self.prices) {
                say(devnet, feed, answer)?;
            }
        }
        self.prices = prices;
        Ok(())
    }

    /// Somebody supplies more, or pays a part of the debt back. The banker does it for them: who pays is of no interest.
    fn do_business(&mut self, devnet: &Devnet) -> anyhow::Result<()> {
        let borrower = self.borrowers[self.random.random_range(0..self.borrowers.len())];
        let Borrower { account, pool, debt, supplied, borrowed, is_near, .. } = borrower;
        let part = U256::from(self.random.random_range(50..400));
        match self.random.random_range(0..2) {
            // Whoever stands near the edge stays there.
            _ if is_near => Ok(()),
            0 => borrower.supply(devnet, supplied / part),
            _ => {
                let repay = Pool::repayCall {
                    asset: debt,
                    amount: borrowed / part,
                    interestRateMode: VARIABLE,
                    onBehalfOf: account,
                };
                send(devnet, BANKER, pool, &repay)
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
        send(devnet, BANKER, borrower.pool, &call)
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
