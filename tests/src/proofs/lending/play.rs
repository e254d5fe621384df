//! What happens in a world: users supply, borrow, repay, withdraw and liquidate; prices move, time passes, guardians act.

use alloy_primitives::{Address, Log, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use anyhow::{Context, bail};
use headwater_reference::aave::contracts::{
    Configurator, ConfiguratorV2, ConfiguratorV3_6, Pool, PoolV2, StableToken, Token,
};
use headwater_reference::aave::{CATEGORIES, RESERVES, Release, Site, World};
use headwater_reference::evm::Failure;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const VARIABLE: u64 = 2;
const STABLE: u64 = 1;

/// What one turn left behind.
#[derive(Debug, Default)]
pub(in crate::proofs) struct Turn {
    pub(in crate::proofs) logs: Vec<Log>,
    /// Price sources and what they say now.
    pub(in crate::proofs) prices: Vec<(Address, U256)>,
    pub(in crate::proofs) done: u64,
    pub(in crate::proofs) reverted: u64,
    /// Repayments of stable debt that were smaller than the interest.
    pub(in crate::proofs) interest_left: u64,
}

/// Who plays, and how it goes on.
pub(in crate::proofs) struct Play {
    pub(in crate::proofs) random: ChaCha8Rng,
    pub(in crate::proofs) users: Vec<Address>,
    pub(in crate::proofs) whale: Address,
    pub(in crate::proofs) liquidator: Address,
}

impl Play {
    pub(in crate::proofs) fn new(seed: u64, users: usize) -> Self {
        let named = |name: String| Address::from_word(keccak256(name));
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            users: (0..users).map(|number| named(format!("user {number} of {seed}"))).collect(),
            whale: named("whale".to_owned()),
            liquidator: named("liquidator".to_owned()),
        }
    }

    /// Everybody whose account is compared.
    pub(in crate::proofs) fn accounts(&self, world: &World) -> Vec<Address> {
        let others = [self.whale, self.liquidator, world.treasury];
        self.users.iter().copied().chain(others).collect()
    }

    /// Tokens for all, something to borrow from, and a first position for everyone.
    pub(in crate::proofs) fn open(&mut self, world: &mut World) -> anyhow::Result<Turn> {
        let mut turn = Turn::default();
        let plenty = U256::from(10).pow(U256::from(30));
        let rich = [self.whale, self.liquidator];
        for site in world.reserves.clone() {
            for account in rich.into_iter().chain(self.users.clone()) {
                world.endow(account, &site, plenty)?;
            }
            let worth = worth(world, &site, 400_000 * self.users.len() as u64 / 40)?;
            self.supply(world, self.whale, site.asset, worth, &mut turn)?;
        }
        for user in self.users.clone() {
            self.enter(world, user, &mut turn)?;
        }
        Ok(turn)
    }

    /// One block.
    pub(in crate::proofs) fn turn(&mut self, world: &mut World) -> anyhow::Result<Turn> {
        let mut turn = Turn::default();
        // Now and then nothing happens for weeks, so that interest alone decides.
        let quiet = self.random.random_range(0..10) == 0;
        let seconds = match self.random.random_range(0..20) {
            _ if quiet => self.random.random_range(5..30) * 86_400,
            0..=3 => self.random.random_range(3_600..86_400),
            4..=9 => self.random.random_range(60..3_600),
            _ => 12,
        };
        world.evm.advance(seconds);
        if quiet {
            return Ok(turn);
        }
        match self.random.random_range(0..10) {
            0..=3 => self.move_price(world, &mut turn)?,
            4 => {
                self.move_price(world, &mut turn)?;
                self.move_price(world, &mut turn)?;
            }
            _ => {}
        }
        for _ in 0..self.random.random_range(0..6) {
            let user = self.user();
            self.do_something(world, user, &mut turn)?;
        }
        if self.random.random_range(0..4) == 0 {
            self.govern(world, &mut turn)?;
        }
        Ok(turn)
    }

    fn user(&mut self) -> Address {
        self.users[self.random.random_range(0..self.users.len())]
    }

    fn site(&mut self, world: &World) -> Site {
        world.reserves[self.random.random_range(0..world.reserves.len())]
    }

    /// Between 200 and 60,000 of the base currency's units, small ones as often as great ones.
    fn dollars(&mut self) -> u64 {
        let magnitude = self.random.random_range(0..8);
        self.random.random_range(200..450) << magnitude
    }

    fn act<C: SolCall>(
        &mut self,
        world: &mut World,
        from: Address,
        call: &C,
        turn: &mut Turn,
    ) -> anyhow::Result<bool> {
        let pool = world.pool;
        self.act_on(world, from, pool, call, turn)
    }

    fn act_on<C: SolCall>(
        &mut self,
        world: &mut World,
        from: Address,
        to: Address,
        call: &C,
        turn: &mut Turn,
    ) -> anyhow::Result<bool> {
        match world.act(from, to, call) {
            Ok(receipt) => {
                turn.logs.extend(receipt.logs);
                turn.done += 1;
                Ok(true)
            }
            Err(Failure::Reverted(_)) => {
                turn.reverted += 1;
                Ok(false)
            }
            Err(failure) => bail!("{} did not run: {failure}", C::SIGNATURE),
        }
    }

    /// Supplies one to three assets, perhaps in a category, and borrows most of what that allows.
    fn enter(&mut self, world: &mut World, user: Address, turn: &mut Turn) -> anyhow::Result<()> {
        let category = match self.random.random_range(0..3) {
            0 => self.random.random_range(1..=CATEGORIES.len() as u64),
            _ => 0,
        };
        let category = if world.release == Release::V2 { 0 } else { category };
        if category != 0 {
            let call = Pool::setUserEModeCall { categoryId: u8::try_from(category)? };
            self.act(world, user, &call, turn)?;
        }
        for _ in 0..self.random.random_range(1..4) {
            let site = self.member(world, category);
            let dollars = self.dollars();
            let amount = worth(world, &site, dollars)?;
            self.supply(world, user, site.asset, amount, turn)?;
        }
        for _ in 0..self.random.random_range(1..4) {
            let site = self.member(world, category);
            self.borrow(world, user, &site, turn)?;
        }
        Ok(())
    }

    fn member(&mut self, world: &World, category: u64) -> Site {
        loop {
            let place = self.random.random_range(0..RESERVES.len());
            if category == 0 || u64::from(RESERVES[place].category) == category {
                return world.reserves[place];
            }
        }
    }

    /// Half to all of what the account may.
    fn borrow(
        &mut self,
        world: &mut World,
        user: Address,
        site: &Site,
        turn: &mut Turn,
    ) -> anyhow::Result<()> {
        let available = world.account_data(user)?.availableBorrowsBase;
        let part = U256::from(self.random.random_range(500..1_000));
        let price = world.price(site.asset)?;
        let unit = U256::from(10).pow(U256::from(site.decimals));
        let amount = available * part / U256::from(1_000) * unit / price;
        let stable = world.release != Release::V3_6 && self.random.random_range(0..6) == 0;
        let call = Pool::borrowCall {
            asset: site.asset,
            amount,
            interestRateMode: U256::from(if stable { STABLE } else { VARIABLE }),
            referralCode: 0,
            onBehalfOf: user,
        };
        self.act(world, user, &call, turn).map(drop)
    }

    fn do_something(&mut self, world: &mut World, user: Address, turn: &mut Turn) -> anyhow::Result<()> {
        let site = self.site(world);
        let asset = site.asset;
        let dollars = self.dollars();
        let amount = worth(world, &site, dollars)?;
        let mode = U256::from(if self.random.random_range(0..4) == 0 { STABLE } else { VARIABLE });
        match self.random.random_range(0..13) {
            0 => self.supply(world, user, asset, amount, turn)?,
            1..=3 => return self.borrow(world, user, &site, turn),
            4 => {
                let all = self.random.random_range(0..2) == 0;
                let amount = if all { U256::MAX } else { amount };
                let call = Pool::repayCall { asset, amount, interestRateMode: mode, onBehalfOf: user };
                self.act(world, user, &call, turn)?
            }
            5 => {
                let all = self.random.random_range(0..2) == 0;
                let amount = if all { U256::MAX } else { amount };
                self.act(world, user, &Pool::withdrawCall { asset, amount, to: user }, turn)?
            }
            6 if world.release == Release::V2 => {
                let call = PoolV2::rebalanceStableBorrowRateCall { asset, user: self.user() };
                self.act(world, user, &call, turn)?
            }
            6 => {
                let call = Pool::repayWithATokensCall { asset, amount, interestRateMode: mode };
                self.act(world, user, &call, turn)?
            }
            7 => {
                let use_it = self.random.random_range(0..2) == 0;
                let call = Pool::setUserUseReserveAsCollateralCall { asset, useAsCollateral: use_it };
                self.act(world, user, &call, turn)?
            }
            8 if world.release == Release::V2 => return self.repay_little(world, user, turn),
            8 => {
                let category = self.random.random_range(0..=2);
                self.act(world, user, &Pool::setUserEModeCall { categoryId: category }, turn)?
            }
            9 => {
                let to = self.user();
                self.act_on(world, user, site.a_token, &Token::transferCall { to, value: amount }, turn)?
            }
            10 if world.release != Release::V3_6 => {
                let call = Pool::swapBorrowRateModeCall { asset, interestRateMode: mode };
                self.act(world, user, &call, turn)?
            }
            10 => self.act(world, user, &Pool::mintToTreasuryCall { assets: vec![asset] }, turn)?,
            _ => return self.liquidate_somebody(world, turn),
        };
        Ok(())
    }

    /// A millionth of what is owed at a stable rate, which is less than a day's interest.
    fn repay_little(&mut self, world: &mut World, user: Address, turn: &mut Turn) -> anyhow::Result<()> {
        for site in world.reserves.clone() {
            let owed = world.balance(site.stable_debt, user)?;
            if owed.is_zero() {
                continue;
            }
            let call = Pool::repayCall {
                asset: site.asset,
                amount: owed / U256::from(1_000_000) + U256::ONE,
                interestRateMode: U256::from(STABLE),
                onBehalfOf: user,
            };
            let before = turn.logs.len();
            self.act(world, user, &call, turn)?;
            let is_mint = |log: &Log| StableToken::Mint::decode_log_data(&log.data).is_ok();
            turn.interest_left += turn.logs[before..].iter().filter(|log| is_mint(log)).count() as u64;
        }
        Ok(())
    }

    fn supply(
        &mut self,
        world: &mut World,
        user: Address,
        asset: Address,
        amount: U256,
        turn: &mut Turn,
    ) -> anyhow::Result<bool> {
        let (on_behalf_of, referral_code) = (user, 0);
        if world.release == Release::V2 {
            let call =
                PoolV2::depositCall { asset, amount, onBehalfOf: on_behalf_of, referralCode: referral_code };
            return self.act(world, user, &call, turn);
        }
        let call = Pool::supplyCall { asset, amount, onBehalfOf: on_behalf_of, referralCode: referral_code };
        self.act(world, user, &call, turn)
    }

    /// For good; whether it is let through is the contract's business.
    fn liquidate_somebody(&mut self, world: &mut World, turn: &mut Turn) -> anyhow::Result<()> {
        let user = self.user();
        for _ in 0..3 {
            let [collateral, debt] = [0; 2].map(|_| self.site(world).asset);
            let call = Pool::liquidationCallCall {
                collateralAsset: collateral,
                debtAsset: debt,
                user,
                debtToCover: U256::MAX,
                receiveAToken: self.random.random_range(0..2) == 0,
            };
            let liquidator = self.liquidator;
            self.act(world, liquidator, &call, turn)?;
        }
        Ok(())
    }

    /// Some percent up or down, and back towards where it began.
    fn move_price(&mut self, world: &mut World, turn: &mut Turn) -> anyhow::Result<()> {
        let own = world.category_source.filter(|_| self.random.random_range(0..6) == 0);
        let (source, aggregator, home) = match own {
            Some((source, aggregator)) => (source, aggregator, world.dollar),
            None => {
                let place = self.random.random_range(0..RESERVES.len());
                let place = if world.is_fixed(place) { place + 1 } else { place };
                let site = world.reserves[place];
                (site.asset, site.aggregator, world.home(place))
            }
        };
        let price = world.answer(aggregator)?;
        let percent = match self.random.random_range(0..10) {
            0 => self.random.random_range(700..930),
            1..=5 => self.random.random_range(975..1_020),
            _ => self.random.random_range(995..1_006),
        };
        let moved = if price * U256::from(2) < home {
            home
        } else {
            price * U256::from(percent) / U256::from(1_000) + U256::from(self.random.random_range(0..9))
        };
        world.set_price(aggregator, moved);
        turn.prices.push((source, moved));
        Ok(())
    }

    fn govern(&mut self, world: &mut World, turn: &mut Turn) -> anyhow::Result<()> {
        let place = self.random.random_range(0..RESERVES.len());
        let (asset, terms) = (world.reserves[place].asset, &RESERVES[place]);
        let some = self.random.random_range(0..200);
        if world.release == Release::V2 {
            return self.govern_second(world, asset, some, turn);
        }
        match self.random.random_range(0..12) {
            0 => return self.pause(world, asset, true, 0, turn),
            1..=4 => {
                let grace = self.random.random_range(0..3) * 1_800;
                return self.pause(world, asset, false, grace, turn);
            }
            5 => world.set_sequencer(true, 0)?,
            6 | 7 => world.set_sequencer(false, world.evm.block().timestamp)?,
            8 => {
                let fee = U256::from(terms.protocol_fee + some);
                let call = Configurator::setLiquidationProtocolFeeCall { asset, newFee: fee };
                self.configure(world, &call, turn)?;
            }
            9 => self.change_terms(world, asset, some, turn)?,
            10 => {
                let freeze = self.random.random_range(0..3) == 0;
                let call = Configurator::setReserveFreezeCall { asset, freeze };
                self.configure(world, &call, turn)?;
            }
            _ => self.change_category(world, asset, some, turn)?,
        }
        Ok(())
    }

    /// All is paused at once, and never for long, as nothing else happens then.
    fn govern_second(
        &mut self,
        world: &mut World,
        asset: Address,
        some: u16,
        turn: &mut Turn,
    ) -> anyhow::Result<()> {
        let idle = world.reserves[RESERVES.len()].asset;
        match self.random.random_range(0..12) {
            0 => return self.pause(world, asset, true, 0, turn),
            1..=6 => return self.pause(world, asset, false, 0, turn),
            7 => self.configure(world, &ConfiguratorV2::activateReserveCall { asset: idle }, turn)?,
            8 => self.configure(world, &ConfiguratorV2::deactivateReserveCall { asset: idle }, turn)?,
            9 => self.configure(world, &ConfiguratorV2::freezeReserveCall { asset }, turn)?,
            10 => self.configure(world, &ConfiguratorV2::unfreezeReserveCall { asset }, turn)?,
            _ => return self.change_terms(world, asset, some, turn),
        }
        Ok(())
    }

    fn change_terms(
        &mut self,
        world: &mut World,
        asset: Address,
        some: u16,
        turn: &mut Turn,
    ) -> anyhow::Result<()> {
        let place = world.reserves.iter().position(|site| site.asset == asset).context("a listed asset")?;
        let terms = &RESERVES[place];
        let call = Configurator::configureReserveAsCollateralCall {
            asset,
            ltv: U256::from(terms.ltv - some),
            liquidationThreshold: U256::from(terms.threshold - some / 2),
            liquidationBonus: U256::from(terms.bonus),
        };
        self.configure(world, &call, turn)
    }

    fn pause(
        &mut self,
        world: &mut World,
        asset: Address,
        paused: bool,
        grace: u64,
        turn: &mut Turn,
    ) -> anyhow::Result<()> {
        match world.set_pause(asset, paused, grace) {
            Ok(receipt) => turn.logs.extend(receipt.logs),
            Err(_) => turn.reverted += 1,
        }
        Ok(())
    }

    fn configure<C: SolCall>(&mut self, world: &mut World, call: &C, turn: &mut Turn) -> anyhow::Result<()> {
        let (admin, configurator) = (world.admin, world.configurator);
        self.act_on(world, admin, configurator, call, turn).map(drop)
    }

    fn change_category(
        &mut self,
        world: &mut World,
        asset: Address,
        some: u16,
        turn: &mut Turn,
    ) -> anyhow::Result<()> {
        let category = CATEGORIES[self.random.random_range(0..CATEGORIES.len())];
        let (id, threshold) = (category.id, category.threshold - some / 8);
        let flag = self.random.random_range(0..3) == 0;
        if world.release == Release::V3_0 {
            let own = world.category_source.filter(|_| id == 1).map(|(source, _)| source);
            let call = Configurator::setEModeCategoryCall {
                categoryId: id,
                ltv: category.ltv,
                liquidationThreshold: threshold,
                liquidationBonus: category.bonus,
                oracle: own.unwrap_or_default(),
                label: id.to_string(),
            };
            return self.configure(world, &call, turn);
        }
        if self.random.random_range(0..2) == 0 {
            let call = ConfiguratorV3_6::setEModeCategoryCall {
                categoryId: id,
                ltv: category.ltv,
                liquidationThreshold: threshold,
                liquidationBonus: category.bonus,
                label: id.to_string(),
            };
            return self.configure(world, &call, turn);
        }
        let call = ConfiguratorV3_6::setAssetLtvzeroInEModeCall { asset, categoryId: id, ltvzero: flag };
        self.configure(world, &call, turn)
    }
}

/// So many dollars in units of the asset.
fn worth(world: &mut World, site: &Site, dollars: u64) -> anyhow::Result<U256> {
    let unit = U256::from(10).pow(U256::from(site.decimals));
    let price = world.price(site.asset)?;
    Ok(U256::from(dollars) * world.dollar * unit / price)
}
