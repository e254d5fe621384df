use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Mutex;

use alloy_primitives::B256;
use headwater_market::LendingProtocol;
use headwater_node::{Node, NodeConfig, NodeError, RpcError};
use headwater_reference::fake_node::{BlockBuilder, FakeLog, FakeNode, FakeTransaction, RpcErr};

use super::*;

const POOL: Address = Address::repeat_byte(0x90);
const PROVIDER: Address = Address::repeat_byte(0x91);
const CONFIGURATOR: Address = Address::repeat_byte(0x92);
const ORACLE: Address = Address::repeat_byte(0x93);
const ASSETS: [Address; 2] = [Address::repeat_byte(0xa0), Address::repeat_byte(0xa1)];
const PROXY: Address = Address::repeat_byte(0xe0);
const ADAPTER: Address = Address::repeat_byte(0xe1);
const FEED: Address = Address::repeat_byte(0xf0);
const BORROWER: Address = Address::repeat_byte(0xbb);
const SUPPLIER: Address = Address::repeat_byte(0xcc);
const GONE: Address = Address::repeat_byte(0xdd);
const BLOCK: B256 = B256::repeat_byte(7);
const HEIGHT: u64 = 1_000;
const NOW: u64 = 1_700_000_000;
const RAY: U256 = U256::from_limbs([0x9fd0803ce8000000, 0x33b2e3c, 0, 0]);

fn supply_token(place: usize) -> Address {
    Address::repeat_byte(0xc0 + place as u8)
}

fn debt_token(place: usize) -> Address {
    Address::repeat_byte(0xd0 + place as u8)
}

/// Words of the ABI, one after the other.
fn words(values: impl IntoIterator<Item = U256>) -> Bytes {
    values.into_iter().flat_map(|value| value.to_be_bytes::<32>()).collect::<Vec<_>>().into()
}

fn number(value: u64) -> U256 {
    U256::from(value)
}

fn address(value: Address) -> U256 {
    value.into_word().into()
}

/// A pool as a table of answers; what it does not know fails, as a contract does.
struct Scripted {
    answers: HashMap<(Address, Bytes), Bytes>,
    asked: Mutex<usize>,
    /// Token, account and block.
    held: Vec<(Address, Address, u64)>,
    /// Blocks that are searched at once at most.
    most: u64,
    searched: Mutex<Vec<(u64, u64)>>,
}

impl Scripted {
    /// Two reserves, a borrower with 100 of the first against 70 of the second, and a supplier of the second.
    fn new(revision: u64) -> Self {
        let mut scripted = Self {
            answers: HashMap::new(),
            asked: Mutex::new(0),
            held: vec![
                (supply_token(0), BORROWER, 3),
                (debt_token(1), BORROWER, HEIGHT),
                (supply_token(1), SUPPLIER, 500),
                (supply_token(1), GONE, 501),
            ],
            most: u64::MAX,
            searched: Mutex::new(Vec::new()),
        };
        scripted.say(POOL, aave::pool_revision(), [number(revision)]);
        scripted.say(POOL, aave::addresses_provider(), [address(PROVIDER)]);
        scripted.say(PROVIDER, aave::pool_configurator(), [address(CONFIGURATOR)]);
        scripted.say(PROVIDER, aave::price_oracle(), [address(ORACLE)]);
        scripted.say(PROVIDER, aave::price_oracle_sentinel(), [U256::ZERO]);
        let list = [number(32), number(2), address(ASSETS[0]), address(ASSETS[1])];
        scripted.say(POOL, aave::reserves_list(), list);
        for place in 0..2 {
            scripted.reserve(place);
        }
        for id in 1..=u8::MAX {
            let nothing =
                [number(32), U256::ZERO, U256::ZERO, U256::ZERO, U256::ZERO, number(160), U256::ZERO];
            scripted.say(POOL, aave::e_mode_category(id), nothing);
            scripted.say(POOL, aave::e_mode_collateral(id), [U256::ZERO]);
            scripted.say(POOL, aave::e_mode_ltv_zero(id), [U256::ZERO]);
        }
        scripted.say(PROXY, chainlink::aggregator(), [address(FEED)]);
        scripted.answer(PROXY, 100_000_000);
        // As an adapter that makes something else of a feed's answer.
        scripted.say(ADAPTER, chainlink::aggregator(), [address(FEED)]);
        scripted.answer(ADAPTER, 99_000_000);
        for (account, uses, e_mode) in [(BORROWER, 0b0110u64, 0), (SUPPLIER, 0, 1), (GONE, 0, 0)] {
            scripted.say(POOL, aave::user_configuration(account), [number(uses)]);
            scripted.say(POOL, aave::user_e_mode(account), [number(e_mode)]);
        }
        for (token, account, balance) in [
            (supply_token(0), BORROWER, 100),
            (debt_token(1), BORROWER, 70),
            (supply_token(1), SUPPLIER, 1_000),
            (supply_token(1), GONE, 0),
        ] {
            scripted.say(token, aave::scaled_balance(account), [number(balance)]);
        }
        let data = [100, 70, 5, 8_000, 7_500, 1_142_857_142_857_142_857].map(number);
        scripted.say(POOL, aave::user_account_data(BORROWER), data);
        let nothing = [U256::ZERO, U256::ZERO, U256::ZERO, U256::ZERO, U256::ZERO, U256::MAX];
        scripted.say(POOL, aave::user_account_data(SUPPLIER), nothing);
        scripted
    }

    /// The same pool, as V2 tells of it; all of it is paused, and the second asset is ether.
    fn second(revision: u64) -> Self {
        let mut scripted = Self::new(10);
        let said = |answers: &HashMap<(Address, Bytes), Bytes>, to, data| answers.get(&(to, data)).cloned();
        for (place, asset) in ASSETS.into_iter().enumerate() {
            let stable = Address::repeat_byte(0x55);
            let told = said(&scripted.answers, POOL, aave::reserve_data(asset)).expect("a reserve");
            let configuration = U256::from_be_slice(&told[..32]);
            let tokens = [supply_token(place), stable, debt_token(place), Address::ZERO].map(address);
            let rates = [RAY, RAY, U256::ZERO, U256::ZERO, U256::ZERO, number(NOW)];
            let data = [configuration].into_iter().chain(rates).chain(tokens).chain([number(place as u64)]);
            scripted.say(POOL, aave::reserve_data(asset), data);
            scripted.say(stable, aave::stable_supply(), [number(40), number(41), RAY, number(NOW - 5)]);
        }
        scripted.answers.remove(&(POOL, aave::pool_revision()));
        scripted.say(POOL, aave::lending_pool_revision(), [number(revision)]);
        scripted.say(POOL, aave::lending_pool_provider(), [address(PROVIDER)]);
        scripted.say(POOL, aave::lending_pool_paused(), [number(1)]);
        scripted.say(PROVIDER, aave::lending_pool_configurator(), [address(CONFIGURATOR)]);
        scripted.say(ORACLE, aave::oracle_weth(), [address(ASSETS[1])]);
        scripted
    }

    fn say(&mut self, to: Address, data: Bytes, answer: impl IntoIterator<Item = U256>) {
        self.answers.insert((to, data), words(answer));
    }

    fn answer(&mut self, proxy: Address, answer: u64) {
        let id = (number(1) << 64) | number(9);
        self.say(proxy, chainlink::latest_round_data(), [id, number(answer), number(NOW), number(NOW), id]);
    }

    /// 75 %, 80 % and a bonus of 5 %; eight decimals, active.
    fn reserve(&mut self, place: usize) {
        let asset = ASSETS[place];
        let configuration =
            number(7_500) | number(8_000) << 16 | number(10_500) << 32 | number(8) << 48 | number(1) << 56;
        let tokens = [supply_token(place), Address::repeat_byte(0x55), debt_token(place)].map(address);
        let rates = [RAY, U256::ZERO, RAY, U256::ZERO, U256::ZERO];
        let rest = [U256::ZERO; 4];
        let data = [configuration].into_iter().chain(rates).chain([number(NOW), number(place as u64)]);
        self.say(POOL, aave::reserve_data(asset), data.chain(tokens).chain(rest));
        self.say(POOL, aave::grace_period(asset), [U256::ZERO]);
        self.say(debt_token(place), aave::scaled_total_supply(), [number([0, 70][place])]);
        self.say(supply_token(place), aave::scaled_total_supply(), [number([100, 1_000][place])]);
        self.say(ORACLE, aave::asset_price(asset), [number(100_000_000)]);
        self.say(ORACLE, aave::source_of_asset(asset), [address([PROXY, ADAPTER][place])]);
    }
}

impl LendingChain for Scripted {
    async fn place(&self, block: BlockHash) -> Result<BlockPlace, LoadError> {
        assert_eq!(block, BLOCK);
        Ok(BlockPlace { number: HEIGHT, timestamp: NOW })
    }

    async fn ask(&self, _: BlockHash, questions: &[Question]) -> Result<Vec<Answer>, LoadError> {
        *self.asked.lock().expect("whole") += questions.len();
        let answer = |question: &Question| {
            let known = self.answers.get(&(question.to, question.data.clone())).cloned();
            known.map_or_else(|| Answer::Failed("reverted".to_owned()), Answer::Returned)
        };
        Ok(questions.iter().map(answer).collect())
    }

    async fn holders(
        &self,
        tokens: &[Address],
        from: u64,
        to: u64,
    ) -> Result<Vec<(Address, Address)>, LoadError> {
        if to - from >= self.most {
            let error = RpcError { code: -32_005, message: "too many blocks".to_owned(), data: None };
            return Err(NodeError::Rpc { method: "eth_getLogs".to_owned(), error }.into());
        }
        self.searched.lock().expect("whole").push((from, to));
        let held =
            self.held.iter().filter(|(token, _, at)| tokens.contains(token) && (from..=to).contains(at));
        Ok(held.map(|(token, account, _)| (*token, *account)).collect())
    }

    async fn ensure_canonical(&self, block: BlockHash, number: u64) -> Result<(), LoadError> {
        assert_eq!((block, number), (BLOCK, HEIGHT));
        Ok(())
    }
}

fn scan(log_range: u64) -> LendingScan {
    scan_of(LendingProtocol::AaveV3, log_range)
}

fn scan_of(protocol: LendingProtocol, log_range: u64) -> LendingScan {
    LendingScan::new(LendingPool {
        name: "the pool".to_owned(),
        protocol,
        pool: POOL,
        from_block: 1,
        log_range: NonZeroU64::new(log_range).expect("not zero"),
    })
}

#[tokio::test]
async fn a_load_tells_terms_prices_and_everybody_who_has_something() {
    let loaded = scan(10_000).load(&Scripted::new(10), BLOCK).await.expect("it is a pool");
    assert_eq!((loaded.number, loaded.hash, loaded.revision, loaded.sequencer), (HEIGHT, BLOCK, 10, None));
    assert_eq!(loaded.contracts.configurator, CONFIGURATOR);
    let tokens: Vec<_> =
        loaded.reserves.iter().map(|reserve| (reserve.a_token, reserve.variable_debt)).collect();
    assert_eq!(tokens, [0, 1].map(|place| (supply_token(place), debt_token(place))));
    assert_eq!(loaded.reserves[0].stable_debt, None, "3.6 has no such thing, whatever it names");
    assert!(loaded.categories.is_empty());
    let feeds: Vec<_> = loaded.prices.iter().map(|price| (price.proxy, price.feed)).collect();
    assert_eq!(feeds, [(PROXY, Some(FEED)), (ADAPTER, None)], "an adapter's price does not follow its feed");
    let accounts: Vec<_> = loaded.accounts.iter().map(|held| (held.account, held.e_mode)).collect();
    assert_eq!(accounts, [(BORROWER, 0), (SUPPLIER, 1)], "who has nothing any longer is left out");
    let [supply, debt] = loaded.accounts[0].holdings[..] else { panic!("two holdings") };
    assert_eq!((supply.scaled_supply, supply.collateral), (number(100), true));
    assert_eq!((debt.scaled_debt, debt.collateral), (number(70), false));
}

#[tokio::test]
async fn a_feed_with_two_faces_is_not_followed() {
    let mut scripted = Scripted::new(10);
    let told = [number(32), number(20), U256::from_be_slice(b"DualAggregator 1.0.0\0\0\0\0\0\0\0\0\0\0\0\0")];
    scripted.say(FEED, chainlink::type_and_version(), told);
    let loaded = scan(10_000).load(&scripted, BLOCK).await.expect("it is a pool");
    assert!(loaded.prices.iter().all(|price| price.feed.is_none()), "{:?}", loaded.prices);
}

#[tokio::test]
async fn a_revision_that_is_not_proven_is_refused_by_its_number() {
    for revision in [2, 9, 11] {
        let scripted = Scripted::new(revision);
        let error = scan(10_000).load(&scripted, BLOCK).await.expect_err("not proven");
        assert!(!error.is_retryable(), "{error}");
        let said = error.to_string();
        assert!(said.contains("the positions of the pool are refused"), "{said}");
        assert!(said.contains(&format!("revision {revision} ")), "{said}");
        assert_eq!(*scripted.asked.lock().expect("whole"), 1, "nothing else is asked");
    }
}

#[tokio::test]
async fn a_pool_of_the_second_version_is_asked_in_its_own_words() {
    let mut scan = scan_of(LendingProtocol::AaveV2, 10_000);
    let loaded = scan.load(&Scripted::second(2), BLOCK).await.expect("it is a pool");
    assert_eq!((loaded.protocol, loaded.revision, loaded.paused), (LendingProtocol::AaveV2, 2, true));
    assert_eq!(loaded.contracts.configurator, CONFIGURATOR);
    assert!(loaded.categories.is_empty() && loaded.sequencer.is_none());
    assert_eq!(loaded.reserves[1].variable_debt, debt_token(1));
    assert_eq!(loaded.reserves[1].stable_debt, Some(Address::repeat_byte(0x55)));
    let supply =
        LendingStableSupply { reserve: 1, principal: number(40), average_rate: RAY, last_update: NOW - 5 };
    assert_eq!(loaded.stable_supplies[1], supply);
    let feeds: Vec<_> = loaded.prices.iter().map(|price| (price.proxy, price.feed)).collect();
    assert_eq!(feeds, [(PROXY, Some(FEED)), (ORACLE, Some(ORACLE))], "an ether stays an ether");
}

#[tokio::test]
async fn a_lending_pool_of_another_revision_or_version_is_refused() {
    let mut scan = scan_of(LendingProtocol::AaveV2, 10_000);
    let scripted = Scripted::second(3);
    let error = scan.load(&scripted, BLOCK).await.expect_err("not proven");
    assert!(!error.is_retryable() && error.to_string().contains("revision 3 of the lending pool"), "{error}");
    assert_eq!(*scripted.asked.lock().expect("whole"), 1, "nothing else is asked");
    let error = scan.load(&Scripted::new(10), BLOCK).await.expect_err("a pool of V3");
    assert!(matches!(error, LoadError::NoPool { .. }), "{error}");
}

#[tokio::test]
async fn an_account_that_is_not_what_the_pool_says_is_an_error() {
    let mut scripted = Scripted::new(10);
    let data = [100, 71, 4, 8_000, 7_500, 1_126_760_563_380_281_690].map(number);
    scripted.say(POOL, aave::user_account_data(BORROWER), data);
    let error = scan(10_000).load(&scripted, BLOCK).await.expect_err("71 are owed");
    assert!(matches!(error, LoadError::Differs { account: BORROWER, .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn whoever_the_logs_leave_out_is_missed_and_searched_for_again() {
    let mut scripted = Scripted::new(10);
    let left_out = scripted.held.remove(2);
    let mut scan = scan(10_000);
    let error = scan.load(&scripted, BLOCK).await.expect_err("the supplier is missing");
    let (token, found) = (supply_token(1), U256::ZERO);
    assert!(
        matches!(&error, LoadError::Incomplete { token: of, found: so_much, .. } if (*of, *so_much) == (token, found)),
        "{error}"
    );
    scripted.held.push(left_out);
    let loaded = scan.load(&scripted, BLOCK).await.expect("now everybody is there");
    assert_eq!(loaded.accounts.len(), 2);
    let searched = scripted.searched.lock().expect("whole").clone();
    assert_eq!(searched, [(1, HEIGHT), (1, HEIGHT)]);
}

#[tokio::test]
async fn a_contract_that_answers_otherwise_is_no_lending_pool() {
    let mut scripted = Scripted::new(10);
    scripted.answers.remove(&(ORACLE, aave::asset_price(ASSETS[1])));
    let error = scan(10_000).load(&scripted, BLOCK).await.expect_err("no price");
    assert!(matches!(error, LoadError::NoPool { .. }), "{error}");
}

#[tokio::test]
async fn where_the_node_refuses_so_many_blocks_fewer_are_asked_for() {
    let scripted = Scripted { most: 300, ..Scripted::new(10) };
    let loaded = scan(1_000).load(&scripted, BLOCK).await.expect("it is a pool");
    assert_eq!(loaded.accounts.len(), 2);
    let searched = scripted.searched.lock().expect("whole").clone();
    assert_eq!(searched, [(1, 250), (251, 500), (501, 750), (751, 1_000)]);
    let stubborn = Scripted { most: 0, ..Scripted::new(10) };
    assert!(scan(1_000).load(&stubborn, BLOCK).await.is_err(), "not even one block");
}

#[tokio::test]
async fn a_search_goes_on_where_it_was_left() {
    let scripted = Scripted::new(10);
    let mut scan = scan(400);
    assert_eq!(scan.search(&scripted, BLOCK, 2).await, Ok(false));
    assert_eq!(scan.search(&scripted, BLOCK, 2).await, Ok(true));
    let loaded = scan.load(&scripted, BLOCK).await.expect("it is a pool");
    assert_eq!(loaded.accounts.len(), 2);
    let searched = scripted.searched.lock().expect("whole").clone();
    // Each time some blocks again: they may have been others.
    assert_eq!(searched, [(1, 400), (401, 800), (737, 1_000), (937, 1_000)]);
}

#[tokio::test]
async fn a_search_tells_how_far_it_has_come_behind_each_range() {
    let scripted = Scripted::new(10);
    let told = Mutex::new(Vec::new());
    let tell = |next| told.lock().expect("whole").push(next);
    assert_eq!(scan(400).search_telling(&scripted, BLOCK, 9, &tell).await, Ok(true));
    assert_eq!(told.into_inner().expect("whole"), [401, 801, 1_001]);
}

/// As `Mint` of a token of the pool.
fn minted(token: Address, account: Address) -> FakeLog {
    let topics = vec![aave::HOLDERS[0], account.into_word(), account.into_word()];
    FakeLog { address: token, topics, data: words([number(1), U256::ZERO, RAY]) }
}

#[tokio::test]
async fn a_node_is_asked_as_of_the_block_and_for_the_logs_of_the_tokens_alone() {
    let (fake, url) = FakeNode::start(5).await.expect("a port");
    let scripted = Scripted::new(10);
    fake.answer_calls(move |call| {
        let known = scripted.answers.get(&(call.to, call.data.clone())).cloned();
        known.ok_or_else(|| RpcErr::new(3, "execution reverted"))
    });
    let first = BlockBuilder::first(100)
        .transaction(FakeTransaction::emitting(vec![minted(supply_token(0), BORROWER), minted(POOL, GONE)]))
        .build();
    let second = BlockBuilder::child_of(&first)
        .timestamp(NOW)
        .transaction(FakeTransaction::emitting(vec![
            minted(debt_token(1), BORROWER),
            minted(supply_token(1), SUPPLIER),
        ]))
        .build();
    let third = BlockBuilder::child_of(&second)
        .transaction(FakeTransaction::emitting(vec![minted(supply_token(1), GONE)]))
        .build();
    let hash = second.hash();
    [first, second, third].into_iter().for_each(|block| fake.push_block(block));
    let config = NodeConfig::new(vec![url.parse().expect("a URL")]);
    let (node, _) = Node::connect_first(&config).await.expect("it listens");
    let loaded = scan(1).load(&node, hash).await.expect("a pool");
    let everybody: Vec<_> = loaded.accounts.iter().map(|held| held.account).collect();
    assert_eq!((loaded.number, everybody), (101, vec![BORROWER, SUPPLIER]));
    let unknown = scan(1).load(&node, B256::repeat_byte(9)).await.expect_err("no such block");
    assert!(matches!(unknown, LoadError::BlockGone { .. }), "{unknown}");
}
