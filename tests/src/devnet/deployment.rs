//! What stands on the devnet before anybody trades: the same contracts at the same addresses every time. The pairs are put
//! here; pools with concentrated liquidity and lending behind them, by accounts of their own.

use alloy_primitives::{Address, B256, Bytes, U256, address, b256, bytes, keccak256};
use alloy_sol_types::{SolCall, SolConstructor, SolValue};
use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::artifacts::Artifacts;
use super::contracts::{Factory, Router, Token, Weth};
use super::{Devnet, concentrated, lending, routers};

/// The first account of anvil's well-known test mnemonic. Its nonces decide all addresses.
pub const DEPLOYER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

/// keccak256 of the creation code of Uniswap's `UniswapV2Pair`; the router's library has it built in, so both factories
/// share it.
pub const PAIR_INIT_CODE_HASH: B256 =
    b256!("96e8ac4277198ff8b6f785478aa9a39f403cb768dd02cbee326c3e7da348845f");

/// Burns as much gas as the calldata's first word says and succeeds: it stands for everybody else's transactions, which
/// decide the base fee. Called without data it runs into INVALID; called with data it calls itself without, with that gas.
const BURNER: Bytes = bytes!("60118060095f395ff33615600f575f5f5f5f5f305f35f1005bfe");

/// Far more than anybody trades away.
const PURSE_IN_ETHER: u64 = 200_000;

/// Symbol, decimals, smallest units that one ether buys at the start.
const TOKENS: [(&str, u8, u128); 6] = [
    ("USDC", 6, 2_500_000_000),
    ("USDT", 6, 2_500_000_000),
    ("WBTC", 8, 4_000_000),
    ("DAI", 18, 2_500_000_000_000_000_000_000),
    ("LINK", 18, 166_666_666_666_666_666_666),
    ("UNI", 18, 333_333_333_333_333_333_333),
];

/// Factory, two tokens, worth of each side in ether. Every token is paired with WETH on both factories and most with USDC,
/// so that cycles of two and three pools abound from either; at the start all agree on every price.
const POOLS: [(&str, &str, &str, u64); 20] = [
    ("uniswap", "WETH", "USDC", 2000),
    ("uniswap", "WETH", "USDT", 1500),
    ("uniswap", "WETH", "WBTC", 1200),
    ("uniswap", "WETH", "DAI", 1000),
    ("uniswap", "WETH", "LINK", 600),
    ("uniswap", "WETH", "UNI", 500),
    ("uniswap", "USDC", "USDT", 1500),
    ("uniswap", "USDC", "DAI", 1200),
    ("uniswap", "USDC", "WBTC", 800),
    ("uniswap", "USDC", "LINK", 300),
    ("sushi", "WETH", "USDC", 900),
    ("sushi", "WETH", "USDT", 700),
    ("sushi", "WETH", "WBTC", 800),
    ("sushi", "WETH", "DAI", 600),
    ("sushi", "WETH", "LINK", 300),
    ("sushi", "WETH", "UNI", 250),
    ("sushi", "USDC", "DAI", 500),
    ("sushi", "USDC", "WBTC", 400),
    ("sushi", "USDT", "WBTC", 300),
    ("sushi", "DAI", "UNI", 150),
];

/// Pairs that the trader creates later on, in this order.
pub(super) const LATE_POOLS: [(&str, &str, &str, u64); 6] = [
    ("sushi", "USDC", "USDT", 200),
    ("uniswap", "DAI", "WBTC", 200),
    ("sushi", "LINK", "UNI", 100),
    ("uniswap", "LINK", "UNI", 120),
    ("uniswap", "USDT", "DAI", 300),
    ("sushi", "DAI", "LINK", 80),
];

/// Who stands where. Committed as `tests/devnet/addresses.json`; a test holds the devnet to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// 31337, anvil's own.
    pub chain_id: u64,
    /// WETH9.
    pub weth: Address,
    /// Two Uniswap V2 factories with a router each.
    pub factories: Vec<Exchange>,
    /// Without WETH.
    pub tokens: Vec<Erc20>,
    /// The pools that exist from the start.
    pub pools: Vec<Pool>,
    /// Takes the part of everybody else's transactions.
    pub burner: Address,
    /// Uniswap V3 and V4.
    pub concentrated: Concentrated,
    /// Those that lead to pools of every make.
    pub routers: Routers,
    /// Aave, in each revision that is claimed.
    pub lending: Vec<Lending>,
}

/// The routers that came after that of V3, for the pairs of the first exchange and all pools with concentrated liquidity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routers {
    /// `SwapRouter02`.
    pub swap_router_02: Address,
    /// The Universal Router.
    pub universal: Address,
    /// Takes the users' tokens for the latter.
    pub permit2: Address,
}

/// Where liquidity is concentrated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concentrated {
    /// `UniswapV3Factory`.
    pub factory: Address,
    /// keccak256 of the creation code of `UniswapV3Pool`.
    pub init_code_hash: B256,
    /// V4's `PoolManager`.
    pub manager: Address,
    /// Its authors' `PoolSwapTest`.
    pub swaps: Address,
    /// Its authors' `PoolModifyLiquidityTest`.
    pub liquidity: Address,
    /// The pools that exist from the start: of V3, then of V4.
    pub pools: Vec<RangedPool>,
}

/// A pool with concentrated liquidity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangedPool {
    /// The lower address.
    pub token0: Address,
    /// The higher address.
    pub token1: Address,
    /// Hundredths of a basis point.
    pub fee: u32,
    /// Ticks that may be initialised are multiples of it.
    pub tick_spacing: i32,
    /// V3: the pool; V4: the manager.
    pub address: Address,
    /// V4: which of the manager's pools.
    pub id: Option<B256>,
}

/// A pool of Aave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lending {
    /// As the preset calls it.
    pub name: String,
    /// The pool's proxy.
    pub pool: Address,
    /// What says the prices, by reserve; V2 asks nobody for that of ether.
    pub feeds: Vec<PriceFeed>,
}

/// What says a price: in dollars with eight decimals, or to V2 in ether with eighteen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceFeed {
    /// Of which token.
    pub symbol: String,
    /// The contract.
    pub address: Address,
}

/// A factory and its router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// "uniswap" or "sushi".
    pub name: String,
    /// The factory.
    pub address: Address,
    /// keccak256 of the pair's creation code.
    pub init_code_hash: B256,
    /// Its `UniswapV2Router02`.
    pub router: Address,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erc20 {
    /// As the contract says.
    pub symbol: String,
    /// As the contract says.
    pub decimals: u8,
    /// The contract.
    pub address: Address,
}

/// A pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The factory's name.
    pub factory: String,
    /// The lower address.
    pub token0: Address,
    /// The higher address.
    pub token1: Address,
    /// The pair.
    pub address: Address,
}

impl Addresses {
    /// Derived from the deployer's nonces and, for pairs, from CREATE2.
    pub fn derive() -> Self {
        let nth = |nonce| created_by(DEPLOYER, nonce);
        let exchange = |name: &str, factory: u8, router: u8| Exchange {
            name: name.to_owned(),
            address: nth(factory),
            init_code_hash: PAIR_INIT_CODE_HASH,
            router: nth(router),
        };
        let tokens = TOKENS.iter().zip(5..).map(|((symbol, decimals, _), nonce)| Erc20 {
            symbol: (*symbol).to_owned(),
            decimals: *decimals,
            address: nth(nonce),
        });
        let lending = lending::derive();
        let mut addresses = Self {
            chain_id: super::CHAIN_ID,
            weth: nth(0),
            factories: vec![exchange("uniswap", 1, 3), exchange("sushi", 2, 4)],
            tokens: tokens.collect(),
            pools: Vec::new(),
            burner: nth(11),
            concentrated: concentrated::derive(),
            routers: routers::derive(),
            lending,
        };
        addresses.pools = POOLS.iter().map(|(factory, a, b, _)| addresses.pool(factory, a, b)).collect();
        addresses.concentrated.pools = concentrated::pools(&addresses);
        addresses
    }

    /// The pair of two tokens, whether or not it exists yet.
    ///
    /// # Panics
    /// On names that are not the devnet's.
    pub fn pool(&self, factory: &str, a: &str, b: &str) -> Pool {
        let (a, b) = (self.token(a), self.token(b));
        let (token0, token1) = if a < b { (a, b) } else { (b, a) };
        let salt = keccak256((token0, token1).abi_encode_packed());
        let exchange = self.exchange(factory);
        let address = exchange.address.create2(salt, exchange.init_code_hash);
        Pool { factory: factory.to_owned(), token0, token1, address }
    }

    /// WETH or one of the six.
    ///
    /// # Panics
    /// On a symbol that is not the devnet's.
    pub fn token(&self, symbol: &str) -> Address {
        if symbol == "WETH" {
            return self.weth;
        }
        self.tokens.iter().find(|token| token.symbol == symbol).expect("one of the devnet's tokens").address
    }

    /// `[market]` without a preset, for a devnet with nothing but pairs.
    pub(super) fn market_of_pairs(&self) -> String {
        let bases =
            ["WETH", "USDC", "USDT", "DAI", "WBTC"].map(|symbol| format!("\"{:#x}\"", self.token(symbol)));
        let routers = self.factories.iter().map(|exchange| format!("\"{:#x}\"", exchange.router));
        let factories = self.factories.iter().map(|exchange| {
            let Exchange { name, address, init_code_hash, .. } = exchange;
            format!(
                "\n[[market.factories]]\nprotocol = \"uniswap-v2\"\nname = \"{name}\"\naddress = \"{address:#x}\"\n\
                 init_code_hash = \"{init_code_hash:#x}\"\n"
            )
        });
        format!(
            "[market]\npreset = \"none\"\nwrapped_native = \"{:#x}\"\nbase_tokens = [{}]\nrouters = [{}]\n{}",
            self.weth,
            bases.join(", "),
            routers.collect::<Vec<_>>().join(", "),
            factories.collect::<String>()
        )
    }

    /// By name.
    ///
    /// # Panics
    /// On a name that is not the devnet's.
    pub fn exchange(&self, name: &str) -> &Exchange {
        self.factories.iter().find(|exchange| exchange.name == name).expect("one of the devnet's factories")
    }
}

/// The contract that an account creates with this nonce, below 128: keccak256 of the RLP of sender and nonce (Yellow
/// Paper, section 7).
pub(super) fn created_by(creator: Address, nonce: u8) -> Address {
    let nonce = if nonce == 0 { 0x80 } else { nonce };
    let rlp = [&[0xd6, 0x94], creator.as_slice(), &[nonce]].concat();
    Address::from_word(keccak256(rlp))
}

/// Smallest units of a token that are worth `ether` at the start.
pub(super) fn worth(symbol: &str, ether: u64) -> U256 {
    let per_ether = match TOKENS.iter().find(|token| token.0 == symbol) {
        Some(token) => token.2,
        None => 1_000_000_000_000_000_000,
    };
    U256::from(per_ether) * U256::from(ether)
}

/// Deploys, mints, approves and funds the pools.
pub(super) fn deploy(devnet: &Devnet, artifacts: &Artifacts) -> anyhow::Result<()> {
    let pair = keccak256(artifacts.pair()?);
    ensure!(
        pair == PAIR_INIT_CODE_HASH,
        "the package's pair hashes to {pair}, the router expects {PAIR_INIT_CODE_HASH}"
    );
    deploy_contracts(devnet, artifacts)?;
    fill_purses(devnet)?;
    fund_pools(devnet)
}

/// How many transactions an account has sent when its purse is full: a deposit, and an approval for each of two routers of each
/// of seven tokens.
pub(super) const NONCE_WITH_A_FULL_PURSE: u8 = 15;

/// In the order of the nonces that [`Addresses::derive`] counts on.
fn deploy_contracts(devnet: &Devnet, artifacts: &Artifacts) -> anyhow::Result<()> {
    let addresses = devnet.addresses();
    let create =
        |code: Bytes, arguments: Vec<u8>| devnet.create(DEPLOYER, [code.to_vec(), arguments].concat().into());
    create(artifacts.weth()?, Vec::new())?;
    for _ in &addresses.factories {
        create(artifacts.factory()?, Factory::constructorCall { feeToSetter: DEPLOYER }.abi_encode())?;
    }
    for exchange in &addresses.factories {
        let arguments = Router::constructorCall { factory: exchange.address, weth: addresses.weth };
        create(artifacts.router()?, arguments.abi_encode())?;
    }
    devnet.mine()?;
    for _ in &addresses.tokens {
        create(artifacts.token()?, Vec::new())?;
    }
    create(BURNER, Vec::new())?;
    devnet.mine()?;
    Ok(())
}

/// Every account gets plenty of every token and lets both routers take it.
fn fill_purses(devnet: &Devnet) -> anyhow::Result<()> {
    let addresses = devnet.addresses();
    for token in &addresses.tokens {
        let initialize = Token::initializeCall {
            name: token.symbol.clone(),
            symbol: token.symbol.clone(),
            decimals: token.decimals,
            minters: vec![DEPLOYER],
            pausers: Vec::new(),
        };
        devnet.send(DEPLOYER, token.address, U256::ZERO, initialize.abi_encode(), 1_000_000)?;
    }
    devnet.mine()?;
    for account in devnet.accounts() {
        devnet.send(
            *account,
            addresses.weth,
            worth("WETH", PURSE_IN_ETHER),
            Weth::depositCall {}.abi_encode(),
            100_000,
        )?;
        for token in &addresses.tokens {
            let mint = Token::mintCall { account: *account, amount: worth(&token.symbol, PURSE_IN_ETHER) };
            devnet.send(DEPLOYER, token.address, U256::ZERO, mint.abi_encode(), 150_000)?;
        }
        let tokens = addresses.tokens.iter().map(|token| token.address);
        for token in tokens.chain([addresses.weth]) {
            for exchange in &addresses.factories {
                devnet.approve(*account, token, exchange.router)?;
            }
        }
        devnet.mine()?;
    }
    Ok(())
}

fn fund_pools(devnet: &Devnet) -> anyhow::Result<()> {
    for chunk in POOLS.chunks(5) {
        for pool in chunk {
            devnet.fund_pool(DEPLOYER, *pool)?;
        }
        devnet.mine()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_table_is_what_the_deployer_makes() {
        let committed: Addresses =
            serde_json::from_str(include_str!("../../devnet/addresses.json")).expect("a table");
        assert_eq!(committed, Addresses::derive());
    }

    #[test]
    fn every_token_can_be_cycled_from_weth() {
        let addresses = Addresses::derive();
        for token in &addresses.tokens {
            for exchange in ["uniswap", "sushi"] {
                assert!(
                    addresses.pools.contains(&addresses.pool(exchange, "WETH", &token.symbol)),
                    "{token:?}"
                );
            }
        }
    }
}
