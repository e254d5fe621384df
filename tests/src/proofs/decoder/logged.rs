use alloy_primitives::aliases::U160;
use alloy_primitives::{Address, B256, I256, U256, keccak256};
use anyhow::{Context, ensure};
use headwater_decoder::{Decoder, Registry};
use headwater_events::{AaveAction, Action, ChainlinkAction, CompoundAction, Custom, V3Action, V4Action};
use headwater_reference::calldata::{Abi, Random, event};

use super::{decode_block, log};

#[derive(Debug, Default)]
pub(super) struct Events {
    whole: u64,
    cut: u64,
    kinds: usize,
}

impl Events {
    pub(super) fn checked(&self) -> u64 {
        self.whole + self.cut
    }

    pub(super) fn line(&self) -> String {
        let Self { whole, cut, kinds } = self;
        format!(
            "{whole} events of {kinds} signatures came back as they were logged; {cut} with an argument more or less did not"
        )
    }
}

/// Random events of all signatures in turn, each whole and then with a topic or a word more or less.
pub(super) fn events(seed: u64, count: u64) -> anyhow::Result<Events> {
    let mine = keccak256("Mine(address,uint256)");
    let registry = Registry::default().events(mine, |event| {
        Ok(Custom::new("mine").with("who", event.indexed.address(0)?).with("what", event.data.uint256(0)?))
    });
    let decoder = Decoder::with_registry(registry);
    let mut events = Events { kinds: KINDS as usize, ..Events::default() };
    for number in 0..count {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let logged = Logged::random(&mut Random(seed), number % KINDS);
        judge(&decoder, &logged, seed, &mut events).with_context(|| format!("{logged:?} of seed {seed}"))?;
    }
    Ok(events)
}

fn judge(decoder: &Decoder, logged: &Logged, seed: u64, events: &mut Events) -> anyhow::Result<()> {
    let Logged { emitter, topics, data, action } = logged;
    let found = decode_block(decoder, Vec::new(), vec![log(*emitter, topics, data)]);
    ensure!(found.actions == [action.clone()], "decoded {:?}", found.actions);
    ensure!((found.unknown_logs, found.malformed) == (0, 0), "counted wrongly: {found:?}");
    events.whole += 1;

    let bent = match seed % 4 {
        0 if topics.len() < 4 => log(*emitter, &[&topics[..], &[B256::ZERO]].concat(), data),
        1 if topics.len() > 1 => log(*emitter, &topics[..topics.len() - 1], data),
        2 if !data.is_empty() => log(*emitter, topics, &data[..data.len() - 32]),
        // Behind arguments of variable length more is allowed.
        3 if !matches!(action, Action::Chainlink { action: ChainlinkAction::NewTransmission { .. }, .. }) => {
            log(*emitter, topics, &[&data[..], &[0; 32]].concat())
        }
        _ => return Ok(()),
    };
    let found = decode_block(decoder, Vec::new(), vec![bent.clone()]);
    let is_custom = matches!(action, Action::Custom { .. });
    ensure!(is_custom || found.actions.is_empty() && found.malformed == 1, "bent: {bent:?}: {found:?}");
    events.cut += 1;
    Ok(())
}

#[derive(Debug)]
struct Logged {
    emitter: Address,
    topics: Vec<B256>,
    data: Vec<u8>,
    action: Action,
}

const KINDS: u64 = 37;

fn u160(random: &mut Random) -> U160 {
    random.uint(160).to()
}

fn topic(value: impl Into<U256>) -> B256 {
    value.into().into()
}

/// A tick, and how it is encoded.
fn int24(random: &mut Random) -> (i32, B256) {
    let value = random.int(24);
    (value.as_i32(), value.into_raw().into())
}

impl Logged {
    fn random(random: &mut Random, kind: u64) -> Self {
        match kind {
            0..=8 => Self::v3(random, kind),
            9..=13 => Self::v4(random, kind - 9),
            14..=27 => Self::aave(random, kind - 14),
            28..=31 => Self::compound(random, kind - 28),
            32..=35 => Self::chainlink(random, kind - 32),
            _ => Self::custom(random),
        }
    }

    fn v3(random: &mut Random, kind: u64) -> Self {
        let (emitter, one, other) = (random.address(), random.address(), random.address());
        let (a, b, c, d) = (random.uint(256), random.uint(256), random.uint(256), random.uint(256));
        let ((lower, lower_word), (upper, upper_word)) = (int24(random), int24(random));
        let (price, liquidity, second) = (u160(random), random.uint(128), random.uint(128));
        let (one_word, other_word) = (one.into_word(), other.into_word());
        let (signed0, signed1) = (I256::from_raw(a), I256::from_raw(b));
        let price_word: Abi = price.to::<U256>().into();
        let ((topics, data), action) = match kind {
            0 => (
                event("Initialize(uint160,int24)", &[], &[price_word, lower_word.into()]),
                V3Action::Initialize { sqrt_price_x96: price, tick: lower },
            ),
            1 | 2 => {
                let types = "address,address,int256,int256,uint160,uint128,int24";
                let mut words: Vec<Abi> =
                    vec![signed0.into(), signed1.into(), price_word, liquidity.into(), lower_word.into()];
                let (signature, protocol_fees) = if kind == 1 {
                    (format!("Swap({types})"), None)
                } else {
                    words.extend([liquidity.into(), second.into()]);
                    (format!("Swap({types},uint128,uint128)"), Some((liquidity.to(), second.to())))
                };
                let action = V3Action::Swap {
                    sender: one,
                    recipient: other,
                    amount0: signed0,
                    amount1: signed1,
                    sqrt_price_x96: price,
                    liquidity: liquidity.to(),
                    tick: lower,
                    protocol_fees,
                };
                (event(&signature, &[one_word, other_word], &words), action)
            }
            3 => (
                event(
                    "Mint(address,address,int24,int24,uint128,uint256,uint256)",
                    &[other_word, lower_word, upper_word],
                    &[one.into(), liquidity.into(), a.into(), b.into()],
                ),
                V3Action::Mint {
                    sender: one,
                    owner: other,
                    tick_lower: lower,
                    tick_upper: upper,
                    amount: liquidity.to(),
                    amount0: a,
                    amount1: b,
                },
            ),
            4 => (
                event(
                    "Burn(address,int24,int24,uint128,uint256,uint256)",
                    &[one_word, lower_word, upper_word],
                    &[liquidity.into(), a.into(), b.into()],
                ),
                V3Action::Burn {
                    owner: one,
                    tick_lower: lower,
                    tick_upper: upper,
                    amount: liquidity.to(),
                    amount0: a,
                    amount1: b,
                },
            ),
            5 => (
                event(
                    "Collect(address,address,int24,int24,uint128,uint128)",
                    &[one_word, lower_word, upper_word],
                    &[other.into(), liquidity.into(), second.into()],
                ),
                V3Action::Collect {
                    owner: one,
                    recipient: other,
                    tick_lower: lower,
                    tick_upper: upper,
                    amount0: liquidity.to(),
                    amount1: second.to(),
                },
            ),
            6 => (
                event(
                    "Flash(address,address,uint256,uint256,uint256,uint256)",
                    &[one_word, other_word],
                    &[a.into(), b.into(), c.into(), d.into()],
                ),
                V3Action::Flash { sender: one, recipient: other, amount0: a, amount1: b, paid0: c, paid1: d },
            ),
            7 => {
                let [old0, old1, new0, new1] = [0; 4].map(|_| random.uint(8).to::<u8>());
                let words = [old0, old1, new0, new1].map(|value| u64::from(value).into());
                let action = V3Action::SetFeeProtocol { old0, old1, new0, new1 };
                (event("SetFeeProtocol(uint8,uint8,uint8,uint8)", &[], &words), action)
            }
            _ => {
                let (fee, pool) = (random.uint(24), random.address());
                (
                    event(
                        "PoolCreated(address,address,uint24,int24,address)",
                        &[one_word, other_word, topic(fee)],
                        &[lower_word.into(), pool.into()],
                    ),
                    V3Action::PoolCreated {
                        token0: one,
                        token1: other,
                        fee: fee.to(),
                        tick_spacing: lower,
                        pool,
                    },
                )
            }
        };
        Self { emitter, topics, data, action: Action::V3 { log_index: 7, emitter, action } }
    }

    fn v4(random: &mut Random, kind: u64) -> Self {
        let (emitter, id, one, other) = (random.address(), random.word(), random.address(), random.address());
        let ((lower, lower_word), (upper, upper_word)) = (int24(random), int24(random));
        let (price, fee, liquidity) = (u160(random), random.uint(24), random.uint(128));
        let (a, b, salt) = (random.uint(256), random.uint(256), random.word());
        let price_word: Abi = price.to::<U256>().into();
        let ((topics, data), action) = match kind {
            0 => {
                let hooks = random.address();
                (
                    event(
                        "Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)",
                        &[id, one.into_word(), other.into_word()],
                        &[fee.into(), lower_word.into(), hooks.into(), price_word, upper_word.into()],
                    ),
                    V4Action::Initialize {
                        id,
                        currency0: one,
                        currency1: other,
                        fee: fee.to(),
                        tick_spacing: lower,
                        hooks,
                        sqrt_price_x96: price,
                        tick: upper,
                    },
                )
            }
            1 => (
                event(
                    "ModifyLiquidity(bytes32,address,int24,int24,int256,bytes32)",
                    &[id, one.into_word()],
                    &[lower_word.into(), upper_word.into(), a.into(), salt.into()],
                ),
                V4Action::ModifyLiquidity {
                    id,
                    sender: one,
                    tick_lower: lower,
                    tick_upper: upper,
                    liquidity_delta: I256::from_raw(a),
                    salt,
                },
            ),
            2 => {
                let (amount0, amount1) = (random.int(128), random.int(128));
                let words = [
                    amount0.into(),
                    amount1.into(),
                    price_word,
                    liquidity.into(),
                    lower_word.into(),
                    fee.into(),
                ];
                let action = V4Action::Swap {
                    id,
                    sender: one,
                    amount0: i128::try_from(amount0).expect("it is of 128 bits"),
                    amount1: i128::try_from(amount1).expect("it is of 128 bits"),
                    sqrt_price_x96: price,
                    liquidity: liquidity.to(),
                    tick: lower,
                    fee: fee.to(),
                };
                let signature = "Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)";
                (event(signature, &[id, one.into_word()], &words), action)
            }
            3 => (
                event("ProtocolFeeUpdated(bytes32,uint24)", &[id], &[fee.into()]),
                V4Action::ProtocolFeeUpdated { id, protocol_fee: fee.to() },
            ),
            _ => (
                event(
                    "Donate(bytes32,address,uint256,uint256)",
                    &[id, one.into_word()],
                    &[a.into(), b.into()],
                ),
                V4Action::Donate { id, sender: one, amount0: a, amount1: b },
            ),
        };
        Self { emitter, topics, data, action: Action::V4 { log_index: 7, emitter, action } }
    }

    fn aave(random: &mut Random, kind: u64) -> Self {
        let emitter = random.address();
        let [reserve, user, other] = [0; 3].map(|_| random.address());
        let [reserve_word, user_word, other_word] = [reserve, user, other].map(|address| address.into_word());
        let (amount, rate, code) = (random.uint(256), random.uint(256), random.uint(16));
        let (flag, mode) = (random.coin(), random.uint(if kind == 3 { 8 } else { 256 }));
        let ((topics, data), action) = match kind {
            0 | 1 => {
                let name = if kind == 0 { "Supply" } else { "Deposit" };
                let signature = format!("{name}(address,address,address,uint256,uint16)");
                let action = AaveAction::Supply {
                    reserve,
                    user,
                    on_behalf_of: other,
                    amount,
                    referral_code: code.to(),
                };
                let words = [user.into(), amount.into()];
                (event(&signature, &[reserve_word, other_word, topic(code)], &words), action)
            }
            2 => (
                event(
                    "Withdraw(address,address,address,uint256)",
                    &[reserve_word, user_word, other_word],
                    &[amount.into()],
                ),
                AaveAction::Withdraw { reserve, user, to: other, amount },
            ),
            3 | 4 => {
                let mode_type = if kind == 3 { "uint8" } else { "uint256" };
                let signature = format!("Borrow(address,address,address,uint256,{mode_type},uint256,uint16)");
                let words = [user.into(), amount.into(), mode.into(), rate.into()];
                let action = AaveAction::Borrow {
                    reserve,
                    user,
                    on_behalf_of: other,
                    amount,
                    rate_mode: mode,
                    borrow_rate: rate,
                    referral_code: code.to(),
                };
                (event(&signature, &[reserve_word, other_word, topic(code)], &words), action)
            }
            5 | 6 => {
                let (signature, words): (_, Vec<Abi>) = match kind {
                    5 => ("Repay(address,address,address,uint256,bool)", vec![amount.into(), flag.into()]),
                    _ => ("Repay(address,address,address,uint256)", vec![amount.into()]),
                };
                let use_atokens = kind == 5 && flag;
                let action = AaveAction::Repay { reserve, user, repayer: other, amount, use_atokens };
                (event(signature, &[reserve_word, user_word, other_word], &words), action)
            }
            7 => {
                let liquidator = random.address();
                (
                    event(
                        "LiquidationCall(address,address,address,uint256,uint256,address,bool)",
                        &[reserve_word, other_word, user_word],
                        &[amount.into(), rate.into(), liquidator.into(), flag.into()],
                    ),
                    AaveAction::LiquidationCall {
                        collateral_asset: reserve,
                        debt_asset: other,
                        user,
                        debt_to_cover: amount,
                        liquidated_collateral_amount: rate,
                        liquidator,
                        receive_atoken: flag,
                    },
                )
            }
            8 => {
                let values = [0; 5].map(|_| random.uint(256));
                let [
                    liquidity_rate,
                    stable_borrow_rate,
                    variable_borrow_rate,
                    liquidity_index,
                    variable_borrow_index,
                ] = values;
                (
                    event(
                        "ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)",
                        &[reserve_word],
                        &values.map(Abi::from),
                    ),
                    AaveAction::ReserveDataUpdated {
                        reserve,
                        liquidity_rate,
                        stable_borrow_rate,
                        variable_borrow_rate,
                        liquidity_index,
                        variable_borrow_index,
                    },
                )
            }
            9 | 10 => {
                let name = if kind == 9 { "Enabled" } else { "Disabled" };
                let signature = format!("ReserveUsedAsCollateral{name}(address,address)");
                let action = AaveAction::UsedAsCollateral { reserve, user, enabled: kind == 9 };
                (event(&signature, &[reserve_word, user_word], &[]), action)
            }
            11 => {
                let category = random.uint(8);
                (
                    event("UserEModeSet(address,uint8)", &[user_word], &[category.into()]),
                    AaveAction::UserEModeSet { user, category: category.to() },
                )
            }
            12 => (
                event(
                    "DeficitCreated(address,address,uint256)",
                    &[user_word, reserve_word],
                    &[amount.into()],
                ),
                AaveAction::DeficitCreated { user, debt_asset: reserve, amount },
            ),
            _ => (
                event(
                    "DeficitCovered(address,address,uint256)",
                    &[reserve_word],
                    &[user.into(), amount.into()],
                ),
                AaveAction::DeficitCovered { reserve, caller: user, amount },
            ),
        };
        Self { emitter, topics, data, action: Action::Aave { log_index: 7, emitter, action } }
    }

    fn compound(random: &mut Random, kind: u64) -> Self {
        let emitter = random.address();
        let [one, borrower, asset] = [0; 3].map(|_| random.address());
        let [one_word, borrower_word, asset_word] = [one, borrower, asset].map(|address| address.into_word());
        let (a, b) = (random.uint(256), random.uint(256));
        let words = [a.into(), b.into()];
        let ((topics, data), action) = match kind {
            0 => (
                event(
                    "LiquidateBorrow(address,address,uint256,address,uint256)",
                    &[],
                    &[one.into(), borrower.into(), a.into(), asset.into(), b.into()],
                ),
                CompoundAction::LiquidateBorrow {
                    liquidator: one,
                    borrower,
                    repay_amount: a,
                    collateral: asset,
                    seize_tokens: b,
                },
            ),
            1 => (
                event("AbsorbDebt(address,address,uint256,uint256)", &[one_word, borrower_word], &words),
                CompoundAction::AbsorbDebt { absorber: one, borrower, base_paid_out: a, usd_value: b },
            ),
            2 => (
                event(
                    "AbsorbCollateral(address,address,address,uint256,uint256)",
                    &[one_word, borrower_word, asset_word],
                    &words,
                ),
                CompoundAction::AbsorbCollateral {
                    absorber: one,
                    borrower,
                    asset,
                    collateral_absorbed: a,
                    usd_value: b,
                },
            ),
            _ => (
                event("BuyCollateral(address,address,uint256,uint256)", &[one_word, asset_word], &words),
                CompoundAction::BuyCollateral { buyer: one, asset, base_amount: a, collateral_amount: b },
            ),
        };
        Self { emitter, topics, data, action: Action::Compound { log_index: 7, emitter, action } }
    }

    fn chainlink(random: &mut Random, kind: u64) -> Self {
        let (emitter, transmitter) = (random.address(), random.address());
        let (round, answer, timestamp) = (random.uint(32), random.int(192), random.uint(32));
        let observations = random.several(1, 31, |random| random.int(192));
        let listed = Abi::Array(observations.iter().map(|value| (*value).into()).collect());
        let observers: Abi = random.bytes(31).into();
        let ((topics, data), action) = match kind {
            0 => {
                let (current, round_id, updated_at) =
                    (I256::from_raw(random.uint(256)), random.uint(256), random.uint(256));
                let indexed = [topic(current.into_raw()), topic(round_id)];
                (
                    event("AnswerUpdated(int256,uint256,uint256)", &indexed, &[updated_at.into()]),
                    ChainlinkAction::AnswerUpdated { current, round_id, updated_at },
                )
            }
            1 => {
                let (previous, latest) = (random.address(), random.address());
                (
                    event(
                        "AggregatorConfirmed(address,address)",
                        &[previous.into_word(), latest.into_word()],
                        &[],
                    ),
                    ChainlinkAction::AggregatorConfirmed { previous, latest },
                )
            }
            2 => (
                event(
                    "NewTransmission(uint32,int192,address,int192[],bytes,bytes32)",
                    &[topic(round)],
                    &[answer.into(), transmitter.into(), listed, observers, random.word().into()],
                ),
                ChainlinkAction::NewTransmission {
                    round_id: round.to(),
                    answer,
                    transmitter,
                    observations,
                    observations_timestamp: None,
                },
            ),
            _ => (
                event(
                    "NewTransmission(uint32,int192,address,uint32,int192[],bytes,int192,bytes32,uint40)",
                    &[topic(round)],
                    &[
                        answer.into(),
                        transmitter.into(),
                        timestamp.into(),
                        listed,
                        observers,
                        random.int(192).into(),
                        random.word().into(),
                        random.uint(40).into(),
                    ],
                ),
                ChainlinkAction::NewTransmission {
                    round_id: round.to(),
                    answer,
                    transmitter,
                    observations,
                    observations_timestamp: Some(timestamp.to()),
                },
            ),
        };
        Self { emitter, topics, data, action: Action::Chainlink { log_index: 7, emitter, action } }
    }

    fn custom(random: &mut Random) -> Self {
        let (emitter, who, what) = (random.address(), random.address(), random.uint(256));
        let (topics, data) = event("Mine(address,uint256)", &[who.into_word()], &[what.into()]);
        let custom = Custom::new("mine").with("who", who).with("what", what);
        Self { emitter, topics, data, action: Action::Custom { log_index: 7, emitter, custom } }
    }
}
