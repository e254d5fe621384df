//! First topics: the hashes of the events' canonical signatures.

use alloy_primitives::{B256, b256};

/// `Transfer(address indexed from, address indexed to, uint256 value)` (EIP-20). ERC-721 has the same topic and indexes
/// the third argument as well.
pub const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
/// `Sync(uint112 reserve0, uint112 reserve1)` (v2-core, `UniswapV2Pair.sol`).
pub const SYNC: B256 = b256!("1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1");
/// `Swap(address indexed sender, uint256 amount0In, uint256 amount1In, uint256 amount0Out, uint256 amount1Out,
/// address indexed to)` (v2-core, `UniswapV2Pair.sol`).
pub const SWAP: B256 = b256!("d78ad95fa46c994b6551d0da85fc275fe613ce37657fb8d5e3d130840159d822");
/// `Mint(address indexed sender, uint256 amount0, uint256 amount1)` (v2-core, `UniswapV2Pair.sol`). Compound V2's
/// `CToken` has an event of the same topic that indexes nothing.
pub const MINT: B256 = b256!("4c209b5fc8ad50758f13e2e1088ba56a560dff690a1c6fef26394f4c03821c4f");
/// `Burn(address indexed sender, uint256 amount0, uint256 amount1, address indexed to)` (v2-core,
/// `UniswapV2Pair.sol`).
pub const BURN: B256 = b256!("dccd412f0b1252819cb1fd330b93224ca42612892bb3f4f789976e6d81936496");
/// `PairCreated(address indexed token0, address indexed token1, address pair, uint256 count)` (v2-core,
/// `UniswapV2Factory.sol`).
pub const PAIR_CREATED: B256 = b256!("0d3648bd0f6ba80134a33ba9275ac585d9d315f0ad8355cddefde31afa28d0e9");
/// `Deposit(address indexed dst, uint256 wad)` (`WETH9.sol`).
pub const DEPOSIT: B256 = b256!("e1fffcc4923d04b559f4d29a8bfc6cda04eb5b0d3c460751c2402c5c5cc9109c");
/// `Withdrawal(address indexed src, uint256 wad)` (`WETH9.sol`).
pub const WITHDRAWAL: B256 = b256!("7fcf532c15f0a6db0bd6d0e038bea71d30d808c7d98cb3bf7268a95bf5081b65");

/// `Initialize(uint160 sqrtPriceX96, int24 tick)` (v3-core, `IUniswapV3PoolEvents.sol`).
pub const V3_INITIALIZE: B256 = b256!("98636036cb66a9c19a37435efc1e90142190214e8abeb821bdba3f2990dd4c95");
/// `Swap(address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96,
/// uint128 liquidity, int24 tick)` (v3-core, `IUniswapV3PoolEvents.sol`).
pub const V3_SWAP: B256 = b256!("c42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67");
/// `Swap(address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96,
/// uint128 liquidity, int24 tick, uint128 protocolFeesToken0, uint128 protocolFeesToken1)` (PancakeSwap V3,
/// `IPancakeV3PoolEvents.sol`).
pub const PANCAKE_V3_SWAP: B256 = b256!("19b47279256b2a23a1665c810c8d55a1758940ee09377d4f8d26497a3577dc83");
/// `Mint(address sender, address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount,
/// uint256 amount0, uint256 amount1)` (v3-core, `IUniswapV3PoolEvents.sol`).
pub const V3_MINT: B256 = b256!("7a53080ba414158be7ec69b987b5fb7d07dee101fe85488f0853ae16239d0bde");
/// `Burn(address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0,
/// uint256 amount1)` (v3-core, `IUniswapV3PoolEvents.sol`).
pub const V3_BURN: B256 = b256!("0c396cd989a39f4459b5fa1aed6a9a8dcdbc45908acfd67e028cd568da98982c");
/// `Collect(address indexed owner, address recipient, int24 indexed tickLower, int24 indexed tickUpper, uint128
/// amount0, uint128 amount1)` (v3-core, `IUniswapV3PoolEvents.sol`).
pub const V3_COLLECT: B256 = b256!("70935338e69775456a85ddef226c395fb668b63fa0115f5f20610b388e6ca9c0");
/// `Flash(address indexed sender, address indexed recipient, uint256 amount0, uint256 amount1, uint256 paid0, uint256
/// paid1)` (v3-core, `IUniswapV3PoolEvents.sol`).
pub const V3_FLASH: B256 = b256!("bdbdb71d7860376ba52b25a5028beea23581364a40522f6bcfb86bb1f2dca633");
/// `SetFeeProtocol(uint8 feeProtocol0Old, uint8 feeProtocol1Old, uint8 feeProtocol0New, uint8 feeProtocol1New)`
/// (v3-core, `IUniswapV3PoolEvents.sol`).
pub const V3_SET_FEE_PROTOCOL: B256 =
    b256!("973d8d92bb299f4af6ce49b52a8adb85ae46b9f214c4c4fc06ac77401237b133");
/// `PoolCreated(address indexed token0, address indexed token1, uint24 indexed fee, int24 tickSpacing, address pool)`
/// (v3-core, `IUniswapV3Factory.sol`).
pub const V3_POOL_CREATED: B256 = b256!("783cca1c0412dd0d695e784568c96da2e9c22ff989357a2e8b1d9b2b4e6b7118");
/// `Initialize(bytes32 indexed id, address indexed currency0, address indexed currency1, uint24 fee, int24
/// tickSpacing, address hooks, uint160 sqrtPriceX96, int24 tick)` (v4-core, `IPoolManager.sol`).
pub const V4_INITIALIZE: B256 = b256!("dd466e674ea557f56295e2d0218a125ea4b4f0f6f3307b95f85e6110838d6438");
/// `ModifyLiquidity(bytes32 indexed id, address indexed sender, int24 tickLower, int24 tickUpper, int256
/// liquidityDelta, bytes32 salt)` (v4-core, `IPoolManager.sol`).
pub const V4_MODIFY_LIQUIDITY: B256 =
    b256!("f208f4912782fd25c7f114ca3723a2d5dd6f3bcc3ac8db5af63baa85f711d5ec");
/// `Swap(bytes32 indexed id, address indexed sender, int128 amount0, int128 amount1, uint160 sqrtPriceX96, uint128
/// liquidity, int24 tick, uint24 fee)` (v4-core, `IPoolManager.sol`).
pub const V4_SWAP: B256 = b256!("40e9cecb9f5f1f1c5b9c97dec2917b7ee92e57ba5563708daca94dd84ad7112f");
/// `Donate(bytes32 indexed id, address indexed sender, uint256 amount0, uint256 amount1)` (v4-core,
/// `IPoolManager.sol`).
pub const V4_DONATE: B256 = b256!("29ef05caaff9404b7cb6d1c0e9bbae9eaa7ab2541feba1a9c4248594c08156cb");
/// `ProtocolFeeUpdated(bytes32 indexed id, uint24 protocolFee)` (v4-core, `IProtocolFees.sol`).
pub const V4_PROTOCOL_FEE_UPDATED: B256 =
    b256!("e9c42593e71f84403b84352cd168d693e2c9fcd1fdbcc3feb21d92b43e6696f9");
/// `Supply(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint16 indexed
/// referralCode)` (Aave V3, `IPool.sol`).
pub const AAVE_SUPPLY: B256 = b256!("2b627736bca15cd5381dcf80b0bf11fd197d01a037c52b927a881a10fb73ba61");
/// `Deposit(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint16 indexed
/// referral)` (Aave V2, `ILendingPool.sol`).
pub const AAVE_DEPOSIT: B256 = b256!("de6857219544bb5b7746f48ed30be6386fefc61b2f864cacf559893bf50fd951");
/// `Withdraw(address indexed reserve, address indexed user, address indexed to, uint256 amount)` (both versions of
/// Aave).
pub const AAVE_WITHDRAW: B256 = b256!("3115d1449a7b732c986cba18244e897a450f61e1bb8d589cd2e69e6c8924f9f7");
/// `Borrow(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint8 interestRateMode,
/// uint256 borrowRate, uint16 indexed referralCode)` (Aave V3, `IPool.sol`).
pub const AAVE_BORROW: B256 = b256!("b3d084820fb1a9decffb176436bd02558d15fac9b0ddfed8c465bc7359d7dce0");
/// `Borrow(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint256 borrowRateMode,
/// uint256 borrowRate, uint16 indexed referral)` (Aave V2, `ILendingPool.sol`).
pub const AAVE_BORROW_V2: B256 = b256!("c6a898309e823ee50bac64e45ca8adba6690e99e7841c45d754e2a38e9019d9b");
/// `Repay(address indexed reserve, address indexed user, address indexed repayer, uint256 amount, bool useATokens)`
/// (Aave V3, `IPool.sol`).
pub const AAVE_REPAY: B256 = b256!("a534c8dbe71f871f9f3530e97a74601fea17b426cae02e1c5aee42c96c784051");
/// `Repay(address indexed reserve, address indexed user, address indexed repayer, uint256 amount)` (Aave V2,
/// `ILendingPool.sol`).
pub const AAVE_REPAY_V2: B256 = b256!("4cdde6e09bb755c9a5589ebaec640bbfedff1362d4b255ebf8339782b9942faa");
/// `LiquidationCall(address indexed collateralAsset, address indexed debtAsset, address indexed user, uint256
/// debtToCover, uint256 liquidatedCollateralAmount, address liquidator, bool receiveAToken)` (both versions of Aave).
pub const AAVE_LIQUIDATION_CALL: B256 =
    b256!("e413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286");
/// `ReserveDataUpdated(address indexed reserve, uint256 liquidityRate, uint256 stableBorrowRate, uint256
/// variableBorrowRate, uint256 liquidityIndex, uint256 variableBorrowIndex)` (both versions of Aave).
pub const AAVE_RESERVE_DATA_UPDATED: B256 =
    b256!("804c9b842b2748a22bb64b345453a3de7ca54a6ca45ce00d415894979e22897a");
/// `ReserveUsedAsCollateralEnabled(address indexed reserve, address indexed user)` (both versions of Aave).
pub const AAVE_COLLATERAL_ENABLED: B256 =
    b256!("00058a56ea94653cdf4f152d227ace22d4c00ad99e2a43f58cb7d9e3feb295f2");
/// `ReserveUsedAsCollateralDisabled(address indexed reserve, address indexed user)` (both versions of Aave).
pub const AAVE_COLLATERAL_DISABLED: B256 =
    b256!("44c58d81365b66dd4b1a7f36c25aa97b8c71c361ee4937adc1a00000227db5dd");
/// `UserEModeSet(address indexed user, uint8 categoryId)` (Aave V3, `IPool.sol`).
pub const AAVE_USER_E_MODE_SET: B256 =
    b256!("d728da875fc88944cbf17638bcbe4af0eedaef63becd1d1c57cc097eb4608d84");
/// `DeficitCreated(address indexed user, address indexed debtAsset, uint256 amountCreated)` (Aave V3.3, `IPool.sol`).
pub const AAVE_DEFICIT_CREATED: B256 =
    b256!("2bccfb3fad376d59d7accf970515eb77b2f27b082c90ed0fb15583dd5a942699");
/// `DeficitCovered(address indexed reserve, address caller, uint256 amountCovered)` (Aave V3.3, `IPool.sol`).
pub const AAVE_DEFICIT_COVERED: B256 =
    b256!("84b203e49f1a4b553088061534231969a68ad1c81be192205e96d23a206cb26a");
/// `LiquidateBorrow(address liquidator, address borrower, uint256 repayAmount, address cTokenCollateral, uint256
/// seizeTokens)` (Compound V2, `CTokenInterfaces.sol`).
pub const LIQUIDATE_BORROW: B256 = b256!("298637f684da70674f26509b10f07ec2fbc77a335ab1e7d6215a4b2484d8bb52");
/// `AbsorbDebt(address indexed absorber, address indexed borrower, uint256 basePaidOut, uint256 usdValue)` (Compound
/// V3, `CometMainInterface.sol`).
pub const ABSORB_DEBT: B256 = b256!("1547a878dc89ad3c367b6338b4be6a65a5dd74fb77ae044da1e8747ef1f4f62f");
/// `AbsorbCollateral(address indexed absorber, address indexed borrower, address indexed asset, uint256
/// collateralAbsorbed, uint256 usdValue)` (Compound V3, `CometMainInterface.sol`).
pub const ABSORB_COLLATERAL: B256 = b256!("9850ab1af75177e4a9201c65a2cf7976d5d28e40ef63494b44366f86b2f9412e");
/// `BuyCollateral(address indexed buyer, address indexed asset, uint256 baseAmount, uint256 collateralAmount)`
/// (Compound V3, `CometMainInterface.sol`).
pub const BUY_COLLATERAL: B256 = b256!("f891b2a411b0e66a5f0a6ff1368670fefa287a13f541eb633a386a1a9cc7046b");
/// `AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt)` (Chainlink,
/// `AggregatorInterface.sol`).
pub const ANSWER_UPDATED: B256 = b256!("0559884fd3a460db3073b7fc896cc77986f16e378210ded43186175bf646fc5f");
/// `AggregatorConfirmed(address indexed previous, address indexed latest)` (Chainlink, proxies later than version 0.6).
pub const AGGREGATOR_CONFIRMED: B256 =
    b256!("33745f67a407dcb785417f9c123dd3641479a102674b6e35c1f10975625b90e9");
/// `NewTransmission(uint32 indexed aggregatorRoundId, int192 answer, address transmitter, int192[] observations,
/// bytes observers, bytes32 rawReportContext)` (libocr, `OffchainAggregator.sol`).
pub const NEW_TRANSMISSION_OCR1: B256 =
    b256!("f6a97944f31ea060dfde0566e4167c1a1082551e64b60ecb14d599a9d023d451");
/// `NewTransmission(uint32 indexed aggregatorRoundId, int192 answer, address transmitter, uint32
/// observationsTimestamp, int192[] observations, bytes observers, int192 juelsPerFeeCoin, bytes32 configDigest,
/// uint40 epochAndRound)` (libocr, `OCR2Aggregator.sol`).
pub const NEW_TRANSMISSION_OCR2: B256 =
    b256!("c797025feeeaf2cd924c99e9205acb8ec04d5cad21c41ce637a38fb6dee6016a");

/// The first topics of all logs that are decoded here.
pub const TOPICS: &[B256] = &[
    TRANSFER,
    SYNC,
    SWAP,
    MINT,
    BURN,
    PAIR_CREATED,
    DEPOSIT,
    WITHDRAWAL,
    V3_INITIALIZE,
    V3_SWAP,
    PANCAKE_V3_SWAP,
    V3_MINT,
    V3_BURN,
    V3_COLLECT,
    V3_FLASH,
    V3_SET_FEE_PROTOCOL,
    V3_POOL_CREATED,
    V4_INITIALIZE,
    V4_MODIFY_LIQUIDITY,
    V4_SWAP,
    V4_DONATE,
    V4_PROTOCOL_FEE_UPDATED,
    AAVE_SUPPLY,
    AAVE_DEPOSIT,
    AAVE_WITHDRAW,
    AAVE_BORROW,
    AAVE_BORROW_V2,
    AAVE_REPAY,
    AAVE_REPAY_V2,
    AAVE_LIQUIDATION_CALL,
    AAVE_RESERVE_DATA_UPDATED,
    AAVE_COLLATERAL_ENABLED,
    AAVE_COLLATERAL_DISABLED,
    AAVE_USER_E_MODE_SET,
    AAVE_DEFICIT_CREATED,
    AAVE_DEFICIT_COVERED,
    LIQUIDATE_BORROW,
    ABSORB_DEBT,
    ABSORB_COLLATERAL,
    BUY_COLLATERAL,
    ANSWER_UPDATED,
    AGGREGATOR_CONFIRMED,
    NEW_TRANSMISSION_OCR1,
    NEW_TRANSMISSION_OCR2,
];
