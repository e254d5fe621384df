use alloy_primitives::aliases::U160;
use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

use super::{Custom, Transmission};

/// A call as a user signed it, or one that such a call carries inside. Amounts, recipients and other arguments are what the
/// calldata says: a router may take zero, one or two for itself or its caller, and a certain amount for all that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// A swap through a router.
    Swap(SwapCall),
    /// Several calls of the same contract, all or none.
    Multicall {
        /// Under which condition.
        guard: Guard,
        /// The calls, in the order of execution.
        calls: Vec<Call>,
    },
    /// A plan for the Universal Router.
    UniversalRouter {
        /// Seconds since the Unix epoch after which the call reverts.
        deadline: Option<U256>,
        /// The plan, in the order of execution.
        commands: Vec<Command>,
    },
    /// What a periphery router does about payment before or after a swap.
    Payment(PaymentCall),
    /// A call of Permit2.
    Permit2(Permit2Call),
    /// A call with the shape of an ERC-20 function; ERC-721 has a `transferFrom` and an `approve` of the same shapes.
    Token(TokenCall),
    /// A call of an Aave pool.
    Aave(AaveCall),
    /// A report to a Chainlink aggregator.
    Transmit(Transmission),
    /// A call through a forwarder.
    Forward {
        /// Whom it is forwarded to.
        to: Address,
        /// What is forwarded.
        call: Box<Call>,
    },
    /// What a custom bot taught the decoder.
    Custom(Custom),
    /// A call inside another whose function nobody knows here.
    Unknown([u8; 4]),
}

impl Call {
    /// The call and all that it carries inside, each before what is in it. Commands of a plan are not calls.
    pub fn walk(&self) -> impl Iterator<Item = &Call> {
        let mut waiting = vec![self];
        std::iter::from_fn(move || {
            let call = waiting.pop()?;
            match call {
                Self::Multicall { calls, .. } => waiting.extend(calls.iter().rev()),
                Self::Forward { call, .. } => waiting.push(call),
                _ => {}
            }
            Some(call)
        })
    }

    /// Every swap that it asks for, however deep inside, in the order of execution.
    pub fn swaps(&self) -> Vec<&SwapCall> {
        let mut swaps = Vec::new();
        for call in self.walk() {
            match call {
                Self::Swap(swap) => swaps.push(swap),
                Self::UniversalRouter { commands, .. } => {
                    commands.iter().for_each(|command| command.collect_swaps(&mut swaps));
                }
                _ => {}
            }
        }
        swaps
    }

    /// How many calls, commands and actions in it nobody knows here.
    pub fn unknown(&self) -> u32 {
        self.walk()
            .map(|call| match call {
                Self::Unknown(_) => 1,
                Self::UniversalRouter { commands, .. } => commands.iter().map(Command::unknown).sum(),
                _ => 0,
            })
            .sum()
    }
}

/// A swap that a user asks for, whichever router it goes through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapCall {
    /// Which of the amounts is meant exactly.
    pub exact: Exact,
    /// Exact input, or the greatest that the user would pay. For the functions that take native tokens along, this is what
    /// was sent.
    pub amount_in: U256,
    /// Exact output, or the least that the user would accept.
    pub amount_out: U256,
    /// Through which pools.
    pub route: Route,
    /// Recipient; in V4 a later action takes the output.
    pub recipient: Option<Address>,
    /// Seconds since the Unix epoch after which the call reverts, where the function itself says so.
    pub deadline: Option<U256>,
}

/// Which amount of a swap is meant exactly; the other is a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exact {
    /// The input.
    Input,
    /// The output.
    Output,
}

/// The way of a swap, from its input to its output whatever the order in the calldata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Route {
    /// Through the constant-product pools of the router's factory.
    V2 {
        /// The tokens, at least two.
        tokens: Vec<Address>,
        /// At which end the router takes or gives native tokens itself.
        native: Native,
        /// Whether the function bears tokens that keep a fee on a transfer.
        fee_on_transfer: bool,
    },
    /// Through concentrated-liquidity pools of V3.
    V3 {
        /// The tokens, at least two.
        tokens: Vec<Address>,
        /// The fee of the pool between each two, in parts per million.
        fees: Vec<u32>,
        /// The price beyond which the swap stops, if there is one; only with two tokens.
        price_limit: Option<U160>,
    },
    /// Through pools of the V4 `PoolManager`.
    V4 {
        /// The currencies, at least two; zero is the native one.
        currencies: Vec<Address>,
        /// The pool between each two.
        pools: Vec<V4Hop>,
    },
}

/// The end of a V2 route at which the router wraps or unwraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Native {
    /// Neither.
    None,
    /// The input is sent along.
    Input,
    /// The output is unwrapped.
    Output,
}

/// What tells the pool of two currencies from others of the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct V4Hop {
    /// Fee in parts per million; `0x800000` where a hook decides.
    pub fee: u32,
    /// Tick spacing.
    pub tick_spacing: i32,
    /// The contract that may interfere; zero for none.
    pub hooks: Address,
    /// For that contract.
    pub hook_data: Bytes,
}

/// The condition of a multicall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guard {
    /// None.
    None,
    /// Seconds since the Unix epoch after which it reverts.
    Deadline(U256),
    /// The block below has this hash.
    PreviousBlockHash(B256),
}

/// One command of a plan for the Universal Router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Whether the plan goes on if this one fails.
    pub allow_revert: bool,
    /// What is done.
    pub instruction: Instruction,
}

impl Command {
    fn collect_swaps<'a>(&'a self, swaps: &mut Vec<&'a SwapCall>) {
        match &self.instruction {
            Instruction::Swap { swap, .. } => swaps.push(swap),
            Instruction::V4(actions) => swaps.extend(actions.iter().filter_map(|action| match action {
                V4Instruction::Swap(swap) => Some(swap),
                _ => None,
            })),
            Instruction::SubPlan(commands) => {
                commands.iter().for_each(|command| command.collect_swaps(swaps))
            }
            _ => {}
        }
    }

    fn unknown(&self) -> u32 {
        match &self.instruction {
            Instruction::Unknown(_) => 1,
            Instruction::V4(actions) => {
                actions.iter().map(|action| u32::from(matches!(action, V4Instruction::Unknown(_)))).sum()
            }
            Instruction::SubPlan(commands) => commands.iter().map(Self::unknown).sum(),
            _ => 0,
        }
    }
}

/// What a command of the Universal Router does (universal-router `Commands.sol`, `Dispatcher.sol`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instruction {
    /// A swap through V2 or V3 pools.
    Swap {
        /// The swap.
        swap: SwapCall,
        /// Whether the user pays the pools, rather than the router out of what it has.
        payer_is_user: bool,
    },
    /// Actions of the V4 router, settled together.
    V4(Vec<V4Instruction>),
    /// A permission for the router, signed by the user, is shown to Permit2.
    Permit(Permit),
    /// The user's tokens are taken through Permit2.
    TransferFrom {
        /// The token.
        token: Address,
        /// Recipient.
        recipient: Address,
        /// Smallest units.
        amount: U160,
    },
    /// As before, for several.
    TransferFromBatch(Vec<Permit2Transfer>),
    /// Native tokens are wrapped.
    Wrap {
        /// Recipient.
        recipient: Address,
        /// Wei.
        amount: U256,
    },
    /// All wrapped native tokens are unwrapped.
    Unwrap {
        /// Recipient.
        recipient: Address,
        /// The least that they have to be, in wei.
        amount_min: U256,
    },
    /// All that the router has of a token is given away.
    Sweep {
        /// The token; zero is the native one.
        token: Address,
        /// Recipient.
        recipient: Address,
        /// The least that it has to be, in smallest units.
        amount_min: U256,
    },
    /// An amount of what the router has is given away.
    Transfer {
        /// The token; zero is the native one.
        token: Address,
        /// Recipient.
        recipient: Address,
        /// Smallest units.
        amount: U256,
    },
    /// A share of what the router has is given away.
    PayPortion {
        /// The token; zero is the native one.
        token: Address,
        /// Recipient.
        recipient: Address,
        /// In hundredths of a percent.
        bips: U256,
    },
    /// The plan ends if somebody has too little.
    BalanceCheck {
        /// Who.
        owner: Address,
        /// Of which token.
        token: Address,
        /// The least, in smallest units.
        min_balance: U256,
    },
    /// A plan in the plan, which can fail as a whole.
    SubPlan(Vec<Command>),
    /// A command that nobody knows here.
    Unknown(u8),
}

/// An action of the V4 router (v4-periphery `Actions.sol`, `V4Router.sol`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum V4Instruction {
    /// A swap.
    Swap(SwapCall),
    /// A debt to the `PoolManager` is paid.
    Settle {
        /// The currency.
        currency: Address,
        /// Smallest units.
        amount: U256,
        /// Whether the user pays, rather than the router out of what it has.
        payer_is_user: bool,
    },
    /// The whole debt is paid by the user.
    SettleAll {
        /// The currency.
        currency: Address,
        /// The greatest that the user would pay, in smallest units.
        max_amount: U256,
    },
    /// The whole debts in two currencies are paid.
    SettlePair {
        /// The one.
        currency0: Address,
        /// The other.
        currency1: Address,
    },
    /// A credit with the `PoolManager` is taken.
    Take {
        /// The currency.
        currency: Address,
        /// Recipient.
        recipient: Address,
        /// Smallest units; zero for all.
        amount: U256,
    },
    /// The whole credit is taken by the user.
    TakeAll {
        /// The currency.
        currency: Address,
        /// The least that the user would accept, in smallest units.
        min_amount: U256,
    },
    /// A share of the credit is taken.
    TakePortion {
        /// The currency.
        currency: Address,
        /// Recipient.
        recipient: Address,
        /// In hundredths of a percent.
        bips: U256,
    },
    /// The whole credits in two currencies are taken.
    TakePair {
        /// The one.
        currency0: Address,
        /// The other.
        currency1: Address,
        /// Recipient.
        recipient: Address,
    },
    /// An action that nobody knows here.
    Unknown(u8),
}

/// What periphery routers offer around a swap (v3-periphery `PeripheryPayments.sol`, `PeripheryPaymentsWithFee.sol`,
/// `SelfPermit.sol`; swap-router-contracts, the same with the caller as the recipient).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentCall {
    /// Native tokens that were sent along are wrapped.
    WrapEth {
        /// Wei.
        amount: U256,
    },
    /// All wrapped native tokens are unwrapped.
    UnwrapWeth {
        /// The least that they have to be, in wei.
        amount_min: U256,
        /// Recipient; absent where it is the caller.
        recipient: Option<Address>,
        /// Hundredths of a percent that go to somebody else.
        fee: Option<(U256, Address)>,
    },
    /// All that the router has of a token is given away.
    SweepToken {
        /// The token.
        token: Address,
        /// The least that it has to be, in smallest units.
        amount_min: U256,
        /// Recipient; absent where it is the caller.
        recipient: Option<Address>,
        /// Hundredths of a percent that go to somebody else.
        fee: Option<(U256, Address)>,
    },
    /// Native tokens that are left over go back to the caller.
    RefundEth,
    /// The caller's tokens are taken.
    Pull {
        /// The token.
        token: Address,
        /// Smallest units.
        amount: U256,
    },
    /// A permission signed by the caller is shown to the token (EIP-2612).
    SelfPermit {
        /// The token.
        token: Address,
        /// Smallest units.
        amount: U256,
        /// Seconds since the Unix epoch.
        deadline: U256,
        /// Whether it is left out where the allowance suffices.
        if_necessary: bool,
    },
    /// The same in the manner of DAI: for any amount.
    SelfPermitAllowed {
        /// The token.
        token: Address,
        /// The caller's nonce.
        nonce: U256,
        /// Seconds since the Unix epoch; zero for never.
        expiry: U256,
        /// Whether it is left out where the allowance suffices.
        if_necessary: bool,
    },
}

/// Calls of Permit2 (permit2 `IAllowanceTransfer.sol`, `ISignatureTransfer.sol`). Signatures are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Permit2Call {
    /// The caller allows somebody to take tokens.
    Approve {
        /// The token.
        token: Address,
        /// Who may take them.
        spender: Address,
        /// Smallest units.
        amount: U160,
        /// Seconds since the Unix epoch.
        expiration: u64,
    },
    /// The same, signed by the owner, for one token or several.
    Permit {
        /// Whose tokens they are.
        owner: Address,
        /// What is allowed.
        permit: Permit,
    },
    /// Tokens are taken as allowed, once or several times.
    TransferFrom(Vec<Permit2Transfer>),
    /// Tokens are taken by a signature for this once.
    PermitTransferFrom {
        /// Whose tokens they are.
        owner: Address,
        /// What is taken.
        transfers: Vec<SignatureTransfer>,
        /// Each works once.
        nonce: U256,
        /// Seconds since the Unix epoch.
        deadline: U256,
    },
}

/// A signed permission of Permit2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// What may be taken.
    pub details: Vec<PermitDetails>,
    /// Who may take it.
    pub spender: Address,
    /// Seconds since the Unix epoch after which it cannot be shown.
    pub deadline: U256,
}

/// What may be taken of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitDetails {
    /// The token.
    pub token: Address,
    /// Smallest units.
    pub amount: U160,
    /// Seconds since the Unix epoch after which nothing may be taken.
    pub expiration: u64,
    /// Each works once, in their order.
    pub nonce: u64,
}

/// A transfer by an allowance of Permit2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit2Transfer {
    /// From.
    pub from: Address,
    /// To.
    pub to: Address,
    /// Smallest units.
    pub amount: U160,
    /// The token.
    pub token: Address,
}

/// A transfer by a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureTransfer {
    /// The token.
    pub token: Address,
    /// The greatest amount that was signed.
    pub permitted: U256,
    /// Recipient.
    pub to: Address,
    /// Smallest units that are taken.
    pub requested: U256,
}

/// Calls of ERC-20 (EIP-20).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenCall {
    /// The caller's tokens are transferred.
    Transfer {
        /// Recipient.
        to: Address,
        /// Smallest units.
        amount: U256,
    },
    /// Somebody's tokens are transferred.
    TransferFrom {
        /// From.
        from: Address,
        /// To.
        to: Address,
        /// Smallest units.
        amount: U256,
    },
    /// The caller allows somebody to take tokens.
    Approve {
        /// Who may take them.
        spender: Address,
        /// Smallest units.
        amount: U256,
    },
}

/// Calls of an Aave pool (V2 `ILendingPool.sol`, V3 `IPool.sol`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AaveCall {
    /// `supply`, and `deposit` as V2 has it.
    Supply {
        /// The asset.
        asset: Address,
        /// Smallest units.
        amount: U256,
        /// Whose collateral grows.
        on_behalf_of: Address,
        /// For the protocol's own accounting.
        referral_code: u16,
    },
    /// `withdraw`.
    Withdraw {
        /// The asset.
        asset: Address,
        /// Smallest units; the greatest number for all.
        amount: U256,
        /// Recipient.
        to: Address,
    },
    /// `borrow`.
    Borrow {
        /// The asset.
        asset: Address,
        /// Smallest units.
        amount: U256,
        /// 1 stable, 2 variable.
        rate_mode: U256,
        /// For the protocol's own accounting.
        referral_code: u16,
        /// Whose debt grows.
        on_behalf_of: Address,
    },
    /// `repay`.
    Repay {
        /// The asset.
        asset: Address,
        /// Smallest units; the greatest number for all.
        amount: U256,
        /// 1 stable, 2 variable.
        rate_mode: U256,
        /// Whose debt shrinks.
        on_behalf_of: Address,
    },
    /// `liquidationCall`.
    LiquidationCall {
        /// The asset to seize.
        collateral_asset: Address,
        /// The asset to pay back.
        debt_asset: Address,
        /// Whose position it is.
        user: Address,
        /// Smallest units; the greatest number for as much as is allowed.
        debt_to_cover: U256,
        /// Whether the collateral is taken as a claim on the pool.
        receive_atoken: bool,
    },
    /// `flashLoan`.
    FlashLoan {
        /// The contract that is called back.
        receiver: Address,
        /// What is lent.
        loans: Vec<FlashLoan>,
        /// Whose debt grows, where one is kept.
        on_behalf_of: Address,
    },
    /// `flashLoanSimple` (V3).
    FlashLoanSimple {
        /// The contract that is called back.
        receiver: Address,
        /// The asset.
        asset: Address,
        /// Smallest units.
        amount: U256,
    },
    /// `setUserEMode` (V3).
    SetUserEMode {
        /// The category; 0 for none.
        category: u8,
    },
    /// `setUserUseReserveAsCollateral`.
    SetUseAsCollateral {
        /// The asset.
        asset: Address,
        /// Whether it is to count.
        enabled: bool,
    },
}

/// One asset of a flash loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlashLoan {
    /// The asset.
    pub asset: Address,
    /// Smallest units.
    pub amount: U256,
    /// 0 to be paid back, 1 and 2 to be kept as a debt.
    pub mode: U256,
}
