//! What Aave V2 has otherwise than V3.
//!
//! Sources: `ILendingPool.sol`, `LendingPoolConfigurator.sol`, `ILendingPoolAddressesProvider.sol`, `IAToken.sol`,
//! `IVariableDebtToken.sol`, `IStableDebtToken.sol` and `AaveOracle.sol` of `@aave/protocol-v2` 1.0.1.

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent, sol};
use headwater_events::{LendingLog, Log, ScaledChange};

use super::{ReserveData, read};
use crate::Malformed;
use crate::logs::MINT;

sol! {
    interface ILendingPool {
        struct ReserveData {
            uint256 configuration;
            uint128 liquidityIndex;
            uint128 variableBorrowIndex;
            uint128 currentLiquidityRate;
            uint128 currentVariableBorrowRate;
            uint128 currentStableBorrowRate;
            uint40 lastUpdateTimestamp;
            address aTokenAddress;
            address stableDebtTokenAddress;
            address variableDebtTokenAddress;
            address interestRateStrategyAddress;
            uint8 id;
        }

        event Paused();
        event Unpaused();

        function LENDINGPOOL_REVISION() external view returns (uint256);
        function getAddressesProvider() external view returns (address);
        function getReserveData(address asset) external view returns (ReserveData memory);
        function paused() external view returns (bool);
    }

    interface IConfigurator {
        event ReserveActivated(address indexed asset);
        event ReserveDeactivated(address indexed asset);
        event ReserveFrozen(address indexed asset);
        event ReserveUnfrozen(address indexed asset);
    }

    interface IProvider {
        event LendingPoolUpdated(address indexed newAddress);
        event LendingPoolConfiguratorUpdated(address indexed newAddress);
        event LendingPoolCollateralManagerUpdated(address indexed newAddress);
        event PriceOracleUpdated(address indexed newAddress);
        event AddressSet(bytes32 id, address indexed newAddress, bool hasProxy);

        function getLendingPoolConfigurator() external view returns (address);
    }

    interface IOracle {
        function WETH() external view returns (address);
    }

    interface ISupplyToken {
        event Mint(address indexed from, uint256 value, uint256 index);
        event Burn(address indexed from, address indexed target, uint256 value, uint256 index);
    }

    interface IDebtToken {
        event Mint(address indexed from, address indexed onBehalfOf, uint256 value, uint256 index);
        event Burn(address indexed user, uint256 amount, uint256 index);
    }

    interface IStableToken {
        function getSupplyData() external view returns (uint256 principal, uint256 total, uint256 averageRate, uint40 lastUpdate);
    }
}

/// The first topics of the logs that are read here, but for [`SUPPLY_MINTED`].
pub(super) const TOPICS: [B256; 14] = [
    ILendingPool::Paused::SIGNATURE_HASH,
    ILendingPool::Unpaused::SIGNATURE_HASH,
    IConfigurator::ReserveActivated::SIGNATURE_HASH,
    IConfigurator::ReserveDeactivated::SIGNATURE_HASH,
    IConfigurator::ReserveFrozen::SIGNATURE_HASH,
    IConfigurator::ReserveUnfrozen::SIGNATURE_HASH,
    IProvider::LendingPoolUpdated::SIGNATURE_HASH,
    IProvider::LendingPoolConfiguratorUpdated::SIGNATURE_HASH,
    IProvider::LendingPoolCollateralManagerUpdated::SIGNATURE_HASH,
    IProvider::PriceOracleUpdated::SIGNATURE_HASH,
    IProvider::AddressSet::SIGNATURE_HASH,
    ISupplyToken::Burn::SIGNATURE_HASH,
    DEBT_MINTED,
    IDebtToken::Burn::SIGNATURE_HASH,
];

/// `Mint` of a supply token has the words of a pair's of Uniswap V2, which is followed anyway.
pub(super) const SUPPLY_MINTED: B256 = MINT;
/// `Mint` of a variable debt token.
pub(super) const DEBT_MINTED: B256 = IDebtToken::Mint::SIGNATURE_HASH;

/// What a log of V2 says that V3 has no words for.
pub(super) fn log(log: &Log, topic: &B256) -> Result<Option<LendingLog>, Malformed> {
    Ok(Some(match *topic {
        SUPPLY_MINTED => {
            let ISupplyToken::Mint { from: account, value, index } = read(log)?;
            LendingLog::Minted(exact(account, value, index))
        }
        ISupplyToken::Burn::SIGNATURE_HASH => {
            let ISupplyToken::Burn { from: account, value, index, .. } = read(log)?;
            LendingLog::Burned(exact(account, value, index))
        }
        DEBT_MINTED => {
            let IDebtToken::Mint { onBehalfOf: account, value, index, .. } = read(log)?;
            LendingLog::Minted(exact(account, value, index))
        }
        IDebtToken::Burn::SIGNATURE_HASH => {
            let IDebtToken::Burn { user: account, amount, index } = read(log)?;
            LendingLog::Burned(exact(account, amount, index))
        }
        ILendingPool::Paused::SIGNATURE_HASH => LendingLog::PoolPaused(true),
        ILendingPool::Unpaused::SIGNATURE_HASH => LendingLog::PoolPaused(false),
        IConfigurator::ReserveActivated::SIGNATURE_HASH => {
            LendingLog::Active(read::<IConfigurator::ReserveActivated>(log)?.asset, true)
        }
        IConfigurator::ReserveDeactivated::SIGNATURE_HASH => {
            LendingLog::Active(read::<IConfigurator::ReserveDeactivated>(log)?.asset, false)
        }
        IConfigurator::ReserveFrozen::SIGNATURE_HASH => {
            LendingLog::Frozen(read::<IConfigurator::ReserveFrozen>(log)?.asset, true)
        }
        IConfigurator::ReserveUnfrozen::SIGNATURE_HASH => {
            LendingLog::Frozen(read::<IConfigurator::ReserveUnfrozen>(log)?.asset, false)
        }
        IProvider::LendingPoolUpdated::SIGNATURE_HASH
        | IProvider::LendingPoolConfiguratorUpdated::SIGNATURE_HASH
        | IProvider::LendingPoolCollateralManagerUpdated::SIGNATURE_HASH
        | IProvider::PriceOracleUpdated::SIGNATURE_HASH
        | IProvider::AddressSet::SIGNATURE_HASH => LendingLog::Reshaped,
        _ => return Ok(None),
    }))
}

/// The amount as it was asked for; the interest is not told.
fn exact(account: alloy_primitives::Address, value: U256, index: U256) -> ScaledChange {
    ScaledChange { account, value, balance_increase: U256::ZERO, index }
}

pub(super) fn revision() -> Bytes {
    ILendingPool::LENDINGPOOL_REVISIONCall {}.abi_encode().into()
}

pub(super) fn provider() -> Bytes {
    ILendingPool::getAddressesProviderCall {}.abi_encode().into()
}

pub(super) fn paused() -> Bytes {
    ILendingPool::pausedCall {}.abi_encode().into()
}

pub(super) fn configurator() -> Bytes {
    IProvider::getLendingPoolConfiguratorCall {}.abi_encode().into()
}

pub(super) fn weth() -> Bytes {
    IOracle::WETHCall {}.abi_encode().into()
}

pub(super) fn supply_data() -> Bytes {
    IStableToken::getSupplyDataCall {}.abi_encode().into()
}

pub(super) fn decode_supply_data(answer: &[u8]) -> Result<(U256, U256, u64), Malformed> {
    let told = IStableToken::getSupplyDataCall::abi_decode_returns_validate(answer)?;
    Ok((told.principal, told.averageRate, told.lastUpdate.to()))
}

pub(super) fn decode_paused(answer: &[u8]) -> Result<bool, Malformed> {
    Ok(ILendingPool::pausedCall::abi_decode_returns_validate(answer)?)
}

pub(super) fn decode_reserve_data(answer: &[u8]) -> Result<ReserveData, Malformed> {
    let told = ILendingPool::getReserveDataCall::abi_decode_returns_validate(answer)?;
    Ok(ReserveData {
        configuration: told.configuration,
        liquidity_index: U256::from(told.liquidityIndex),
        liquidity_rate: U256::from(told.currentLiquidityRate),
        variable_borrow_index: U256::from(told.variableBorrowIndex),
        variable_borrow_rate: U256::from(told.currentVariableBorrowRate),
        last_update: told.lastUpdateTimestamp.to(),
        id: told.id.into(),
        a_token: told.aTokenAddress,
        stable_debt: Some(told.stableDebtTokenAddress).filter(|token| !token.is_zero()),
        variable_debt: told.variableDebtTokenAddress,
    })
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;
    use crate::aave::{self, holders};

    fn said(event: &impl SolEvent) -> Result<Option<LendingLog>, Malformed> {
        let encoded = event.encode_log_data();
        let log = Log {
            address: Address::ZERO,
            topics: encoded.topics().iter().copied().collect(),
            data: encoded.data,
            transaction_index: 0,
            log_index: 0,
        };
        assert!(log.topics.first().is_some_and(|topic| crate::logs::FOLLOWED.contains(topic)), "not pushed");
        aave::log(&log)
    }

    #[test]
    fn a_token_of_the_second_version_names_no_interest() {
        let [one, other] = [1, 2].map(Address::repeat_byte);
        let [value, index] = [3, 5].map(|number: u64| U256::from(number));
        let minted = |account| Ok(Some(LendingLog::Minted(exact(account, value, index))));
        let burned = |account| Ok(Some(LendingLog::Burned(exact(account, value, index))));
        assert_eq!(said(&ISupplyToken::Mint { from: one, value, index }), minted(one));
        assert_eq!(said(&ISupplyToken::Burn { from: one, target: other, value, index }), burned(one));
        assert_eq!(said(&IDebtToken::Mint { from: one, onBehalfOf: other, value, index }), minted(other));
        assert_eq!(said(&IDebtToken::Burn { user: one, amount: value, index }), burned(one));
    }

    #[test]
    fn who_supplies_or_owes_something_stands_in_the_topics() {
        let [one, other] = [1, 2].map(Address::repeat_byte);
        let (value, index) = (U256::ONE, U256::ONE);
        let supplied = ISupplyToken::Mint { from: one, value, index }.encode_log_data();
        assert_eq!(holders(supplied.topics()).collect::<Vec<_>>(), [one]);
        let owed = IDebtToken::Mint { from: one, onBehalfOf: other, value, index }.encode_log_data();
        assert_eq!(holders(owed.topics()).collect::<Vec<_>>(), [other]);
        assert!([supplied, owed].iter().all(|log| aave::HOLDERS.contains(&log.topics()[0])));
    }

    #[test]
    fn what_guardians_do_is_said_in_words_of_their_own() {
        let asset = Address::repeat_byte(7);
        for (found, expected) in [
            (said(&ILendingPool::Paused {}), LendingLog::PoolPaused(true)),
            (said(&ILendingPool::Unpaused {}), LendingLog::PoolPaused(false)),
            (said(&IConfigurator::ReserveActivated { asset }), LendingLog::Active(asset, true)),
            (said(&IConfigurator::ReserveDeactivated { asset }), LendingLog::Active(asset, false)),
            (said(&IConfigurator::ReserveFrozen { asset }), LendingLog::Frozen(asset, true)),
            (said(&IConfigurator::ReserveUnfrozen { asset }), LendingLog::Frozen(asset, false)),
            (said(&IProvider::LendingPoolUpdated { newAddress: asset }), LendingLog::Reshaped),
            (said(&IProvider::LendingPoolConfiguratorUpdated { newAddress: asset }), LendingLog::Reshaped),
            (
                said(&IProvider::LendingPoolCollateralManagerUpdated { newAddress: asset }),
                LendingLog::Reshaped,
            ),
            (said(&IProvider::PriceOracleUpdated { newAddress: asset }), LendingLog::Reshaped),
        ] {
            assert_eq!(found, Ok(Some(expected)));
        }
    }
}
