//! Where the contracts come from: compiled in `@aave/protocol-v2` and `@aave/core-v3`, compiled here from `@aave-dao/aave-v3-origin`.

use headwater_reference::aave::{Contracts, Release};

use super::{Artifacts, Recipe};

/// Of `@aave/protocol-v2`: file and contract.
const SECOND: &[(&str, &str)] = &[
    ("protocol/configuration/LendingPoolAddressesProvider", "LendingPoolAddressesProvider"),
    ("protocol/lendingpool/LendingPool", "LendingPool"),
    ("protocol/lendingpool/LendingPoolCollateralManager", "LendingPoolCollateralManager"),
    ("protocol/lendingpool/LendingPoolConfigurator", "LendingPoolConfigurator"),
    ("protocol/lendingpool/DefaultReserveInterestRateStrategy", "DefaultReserveInterestRateStrategy"),
    ("protocol/libraries/logic/GenericLogic", "GenericLogic"),
    ("protocol/libraries/logic/ReserveLogic", "ReserveLogic"),
    ("protocol/libraries/logic/ValidationLogic", "ValidationLogic"),
    ("protocol/tokenization/AToken", "AToken"),
    ("protocol/tokenization/StableDebtToken", "StableDebtToken"),
    ("protocol/tokenization/VariableDebtToken", "VariableDebtToken"),
    ("misc/AaveOracle", "AaveOracle"),
    ("mocks/oracle/LendingRateOracle", "LendingRateOracle"),
];

/// Of `@aave/core-v3`: file and contract.
const CORE: &[(&str, &str)] = &[
    ("protocol/configuration/PoolAddressesProvider", "PoolAddressesProvider"),
    ("protocol/configuration/ACLManager", "ACLManager"),
    ("protocol/pool/Pool", "Pool"),
    ("protocol/pool/PoolConfigurator", "PoolConfigurator"),
    ("protocol/pool/DefaultReserveInterestRateStrategy", "DefaultReserveInterestRateStrategy"),
    ("protocol/libraries/logic/BorrowLogic", "BorrowLogic"),
    ("protocol/libraries/logic/BridgeLogic", "BridgeLogic"),
    ("protocol/libraries/logic/ConfiguratorLogic", "ConfiguratorLogic"),
    ("protocol/libraries/logic/EModeLogic", "EModeLogic"),
    ("protocol/libraries/logic/FlashLoanLogic", "FlashLoanLogic"),
    ("protocol/libraries/logic/LiquidationLogic", "LiquidationLogic"),
    ("protocol/libraries/logic/PoolLogic", "PoolLogic"),
    ("protocol/libraries/logic/SupplyLogic", "SupplyLogic"),
    ("protocol/tokenization/AToken", "AToken"),
    ("protocol/tokenization/StableDebtToken", "StableDebtToken"),
    ("protocol/tokenization/VariableDebtToken", "VariableDebtToken"),
    ("misc/AaveOracle", "AaveOracle"),
    ("protocol/configuration/PriceOracleSentinel", "PriceOracleSentinel"),
];

/// Of `@aave/core-v3`, for all releases that have none of their own: tokens, prices and a sequencer to play with.
const TOYS: &[(&str, &str)] = &[
    ("mocks/tokens/MintableERC20", "MintableERC20"),
    ("mocks/oracle/CLAggregators/MockAggregator", "MockAggregator"),
    ("mocks/oracle/SequencerOracle", "SequencerOracle"),
];

/// Of `@aave-dao/aave-v3-origin`: file and contract. The sequencer is its own: that of 3.0 says in `updatedAt` since when it is up, and
/// nothing in `startedAt`, from which the sentinel of 3.6 counts.
const ORIGIN: &[(&str, &str)] = &[
    ("protocol/configuration/PoolAddressesProvider", "PoolAddressesProvider"),
    ("protocol/configuration/ACLManager", "ACLManager"),
    ("instances/PoolInstance", "PoolInstance"),
    ("instances/PoolConfiguratorInstance", "PoolConfiguratorInstance"),
    ("misc/DefaultReserveInterestRateStrategyV2", "DefaultReserveInterestRateStrategyV2"),
    ("protocol/libraries/logic/BorrowLogic", "BorrowLogic"),
    ("protocol/libraries/logic/ConfiguratorLogic", "ConfiguratorLogic"),
    ("protocol/libraries/logic/FlashLoanLogic", "FlashLoanLogic"),
    ("protocol/libraries/logic/LiquidationLogic", "LiquidationLogic"),
    ("protocol/libraries/logic/PoolLogic", "PoolLogic"),
    ("protocol/libraries/logic/SupplyLogic", "SupplyLogic"),
    ("instances/ATokenInstance", "ATokenInstance"),
    ("instances/VariableDebtTokenInstance", "VariableDebtTokenInstance"),
    ("misc/AaveOracle", "AaveOracle"),
    ("misc/PriceOracleSentinel", "PriceOracleSentinel"),
    ("mocks/oracle/SequencerOracle", "SequencerOracle"),
];

const REMAPPINGS: &[&str] = &[
    "openzeppelin-contracts/contracts/=@openzeppelin/contracts/",
    "openzeppelin-contracts-upgradeable/contracts/=@openzeppelin/contracts-upgradeable/",
    "solidity-utils/=@bgd-labs/solidity-utils/src/",
];

impl Artifacts {
    /// All contracts of a release of Aave, and tokens and prices to play with.
    ///
    /// # Errors
    /// As [`Artifacts::contract`] and [`Artifacts::compile`].
    pub fn aave(&self, release: Release) -> anyhow::Result<Contracts> {
        let mut contracts = Contracts::default();
        let (own, package) = match release {
            Release::V2 => (SECOND, "protocol-v2"),
            Release::V3_0 => (CORE, "core-v3"),
            Release::V3_6 => (&[][..], ""),
        };
        let own = own.iter().map(|contract| (package, contract));
        for (package, (file, name)) in own.chain(TOYS.iter().map(|contract| ("core-v3", contract))) {
            let path = format!("@aave/{package}/artifacts/contracts/{file}.sol/{name}.json");
            contracts.0.insert((*name).to_owned(), self.contract(&path)?);
        }
        if release == Release::V3_6 {
            let files: Vec<String> = ORIGIN
                .iter()
                .map(|(file, _)| format!("@aave-dao/aave-v3-origin/src/contracts/{file}.sol"))
                .collect();
            let wanted: Vec<(&str, &str)> =
                files.iter().zip(ORIGIN).map(|(file, (_, name))| (file.as_str(), *name)).collect();
            let recipe = Recipe {
                contracts: &wanted,
                remappings: REMAPPINGS,
                optimizer_runs: 200,
                via_ir: false,
                evm_version: "shanghai",
            };
            let compiled = self.compile(&recipe)?;
            contracts.0.extend(ORIGIN.iter().map(|(_, name)| (*name).to_owned()).zip(compiled));
        }
        Ok(contracts)
    }
}
