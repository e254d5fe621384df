use alloy_primitives::{Address, B256, Bytes, I256, U256};
use serde_json::{Value, json};

use super::{Abi, Random, call, encode};

/// Whom a call is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// `UniswapV2Router02`.
    V2Router,
    /// `SwapRouter`.
    V3Router,
    /// `SwapRouter02`.
    Router02,
    /// The Universal Router.
    UniversalRouter,
    /// The Universal Router before V4.
    UniversalRouterV1,
    /// Permit2.
    Permit2,
    /// A pool of Aave.
    AavePool,
    /// Any contract at all.
    Anyone,
}

impl Contract {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::V2Router,
        Self::V3Router,
        Self::Router02,
        Self::UniversalRouter,
        Self::UniversalRouterV1,
        Self::Permit2,
        Self::AavePool,
        Self::Anyone,
    ];

    /// Where it is.
    pub fn address(self) -> Address {
        Address::repeat_byte(0xc0 + self as u8)
    }
}

/// A call as it is signed, and what it means, in words.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Whom it calls.
    pub contract: Contract,
    /// Wei sent along.
    pub value: U256,
    /// What is signed.
    pub calldata: Vec<u8>,
    /// What it means.
    pub meaning: Value,
    /// How many functions, commands and actions in it have no meaning.
    pub unknown: u32,
    /// How many bytes behind the arguments mean nothing to the contract.
    pub tag: usize,
}

/// Calldata and its meaning.
type Written = (Vec<u8>, Value);

impl Signed {
    /// Some call of some contract, with others inside up to `depth` levels.
    pub fn random(random: &mut Random, depth: u32) -> Self {
        // Those that nest more often than the others.
        let contract = match random.below(14) {
            8..=10 => Contract::UniversalRouter,
            11 => Contract::UniversalRouterV1,
            12 | 13 => Contract::Router02,
            other => Contract::ALL[other as usize],
        };
        let value = random.uint(96);
        let mut writer = Writer { random, value, unknown: 0 };
        let (mut calldata, meaning) = writer.written(contract, depth);
        let unknown = writer.unknown;
        // Front ends append tags of their own.
        let tag = if random.below(4) == 0 { random.bytes(40) } else { Vec::new() };
        calldata.extend(&tag);
        Self { contract, value, calldata, meaning, unknown, tag: tag.len() }
    }
}

/// Which commands the Universal Router knows (universal-router 1.6.0 and 2.0.0, `Commands.sol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// One of its bits means nothing, and what swaps through V4 later buys other things.
    BeforeV4,
    SinceV4,
}

struct Writer<'a> {
    random: &'a mut Random,
    value: U256,
    unknown: u32,
}

fn array<T: Copy + Into<Abi>>(values: &[T]) -> Abi {
    Abi::Array(values.iter().map(|value| (*value).into()).collect())
}

fn tuple<const N: usize>(parts: [Abi; N]) -> Abi {
    Abi::Tuple(parts.into())
}

impl Writer<'_> {
    fn written(&mut self, contract: Contract, depth: u32) -> Written {
        match contract {
            Contract::V2Router => self.v2(),
            Contract::V3Router => self.v3(depth),
            Contract::Router02 => self.router_02(depth),
            Contract::UniversalRouter => self.universal(Dialect::SinceV4, depth),
            Contract::UniversalRouterV1 => self.universal(Dialect::BeforeV4, depth),
            Contract::Permit2 => self.permit2(),
            Contract::AavePool => self.aave(),
            Contract::Anyone => self.anyone(depth),
        }
    }

    fn address(&mut self) -> Address {
        self.random.address()
    }

    fn uint256(&mut self) -> U256 {
        self.random.uint(256)
    }

    fn uint(&mut self, bits: usize) -> U256 {
        self.random.uint(bits)
    }

    fn small(&mut self, bits: usize) -> u64 {
        self.random.uint(bits).to()
    }

    fn signature(&mut self) -> Vec<u8> {
        self.random.bytes(80)
    }

    fn v2(&mut self) -> Written {
        // What is named first is exact. N: native in, n: native out, f: fees on transfer.
        let (signature, native, fees) = [
            ("swapExactTokensForTokens(uint256,uint256,address[],address,uint256)", "None", false),
            ("swapTokensForExactTokens(uint256,uint256,address[],address,uint256)", "None", false),
            ("swapExactETHForTokens(uint256,address[],address,uint256)", "Input", false),
            ("swapTokensForExactETH(uint256,uint256,address[],address,uint256)", "Output", false),
            ("swapExactTokensForETH(uint256,uint256,address[],address,uint256)", "Output", false),
            ("swapETHForExactTokens(uint256,address[],address,uint256)", "Input", false),
            (
                "swapExactTokensForTokensSupportingFeeOnTransferTokens(uint256,uint256,address[],address,uint256)",
                "None",
                true,
            ),
            (
                "swapExactETHForTokensSupportingFeeOnTransferTokens(uint256,address[],address,uint256)",
                "Input",
                true,
            ),
            (
                "swapExactTokensForETHSupportingFeeOnTransferTokens(uint256,uint256,address[],address,uint256)",
                "Output",
                true,
            ),
        ][self.random.below(9) as usize];
        let is_exact_output = signature.contains("ForExact");
        let tokens = self.random.several(2, 6, Random::address);
        let (to, deadline) = (self.address(), self.uint256());
        let (amount_in, amount_out) = match native {
            "Input" => (self.value, self.uint256()),
            _ => (self.uint256(), self.uint256()),
        };
        let mut arguments: Vec<Abi> = match (native, is_exact_output) {
            ("Input", _) => vec![amount_out.into()],
            (_, false) => vec![amount_in.into(), amount_out.into()],
            (_, true) => vec![amount_out.into(), amount_in.into()],
        };
        arguments.extend([array(&tokens), to.into(), deadline.into()]);
        let route = json!({ "V2": { "tokens": tokens, "native": native, "fee_on_transfer": fees } });
        let swap = swap(is_exact_output, amount_in, amount_out, route, Some(to), Some(deadline));
        (call(signature, &arguments), json!({ "Swap": swap }))
    }

    fn v3(&mut self, depth: u32) -> Written {
        match self.random.below(if depth > 0 { 4 } else { 3 }) {
            0 => self.v3_single(true),
            1 => self.v3_multiple(true),
            2 => self.payment(),
            _ => self.multicall(Contract::V3Router, depth),
        }
    }

    fn router_02(&mut self, depth: u32) -> Written {
        match self.random.below(if depth > 0 { 7 } else { 5 }) {
            0 => self.v3_single(false),
            1 => self.v3_multiple(false),
            2 => self.v2_of_02(),
            3 => self.payment(),
            4 => self.payment_of_02(),
            _ => self.multicall(Contract::Router02, depth),
        }
    }

    fn v3_single(&mut self, has_deadline: bool) -> Written {
        let is_exact_output = self.random.coin();
        let tokens = [self.address(), self.address()];
        let (fee, recipient, deadline) = (self.small(24), self.address(), self.uint256());
        let (exact, limit, price) = (self.uint256(), self.uint256(), self.uint(160));
        let mut parts: Vec<Abi> = vec![tokens[0].into(), tokens[1].into(), fee.into(), recipient.into()];
        if has_deadline {
            parts.push(deadline.into());
        }
        parts.extend([exact.into(), limit.into(), price.into()]);
        let name = if is_exact_output { "exactOutputSingle" } else { "exactInputSingle" };
        let types = match has_deadline {
            true => "((address,address,uint24,address,uint256,uint256,uint256,uint160))",
            false => "((address,address,uint24,address,uint256,uint256,uint160))",
        };
        let price = (price != U256::ZERO).then_some(price);
        let route = json!({ "V3": { "tokens": tokens, "fees": [fee], "price_limit": price } });
        let [amount_in, amount_out] = if is_exact_output { [limit, exact] } else { [exact, limit] };
        let deadline = has_deadline.then_some(deadline);
        let swap = swap(is_exact_output, amount_in, amount_out, route, Some(recipient), deadline);
        (call(&format!("{name}{types}"), &[Abi::Tuple(parts)]), json!({ "Swap": swap }))
    }

    /// The tokens and fees from input to output, and the path as it is written.
    fn path(&mut self, is_exact_output: bool) -> (Vec<Address>, Vec<u64>, Vec<u8>) {
        let tokens = self.random.several(2, 5, Random::address);
        let fees: Vec<u64> = tokens[1..].iter().map(|_| self.small(24)).collect();
        let (mut in_order, mut fees_in_order) = (tokens.clone(), fees.clone());
        if is_exact_output {
            in_order.reverse();
            fees_in_order.reverse();
        }
        let mut path = in_order[0].to_vec();
        for (token, fee) in in_order[1..].iter().zip(fees_in_order) {
            path.extend(&(fee as u32).to_be_bytes()[1..]);
            path.extend(token.as_slice());
        }
        (tokens, fees, path)
    }

    fn v3_multiple(&mut self, has_deadline: bool) -> Written {
        let is_exact_output = self.random.coin();
        let (tokens, fees, path) = self.path(is_exact_output);
        let (recipient, deadline, exact, limit) =
            (self.address(), self.uint256(), self.uint256(), self.uint256());
        let mut parts: Vec<Abi> = vec![path.into(), recipient.into()];
        if has_deadline {
            parts.push(deadline.into());
        }
        parts.extend([exact.into(), limit.into()]);
        let name = if is_exact_output { "exactOutput" } else { "exactInput" };
        let types = match has_deadline {
            true => "((bytes,address,uint256,uint256,uint256))",
            false => "((bytes,address,uint256,uint256))",
        };
        let route = json!({ "V3": { "tokens": tokens, "fees": fees, "price_limit": null } });
        let [amount_in, amount_out] = if is_exact_output { [limit, exact] } else { [exact, limit] };
        let deadline = has_deadline.then_some(deadline);
        let swap = swap(is_exact_output, amount_in, amount_out, route, Some(recipient), deadline);
        (call(&format!("{name}{types}"), &[Abi::Tuple(parts)]), json!({ "Swap": swap }))
    }

    fn v2_of_02(&mut self) -> Written {
        let is_exact_output = self.random.coin();
        let tokens = self.random.several(2, 5, Random::address);
        let (exact, limit, to) = (self.uint256(), self.uint256(), self.address());
        let name = match is_exact_output {
            false => "swapExactTokensForTokens(uint256,uint256,address[],address)",
            true => "swapTokensForExactTokens(uint256,uint256,address[],address)",
        };
        let route =
            json!({ "V2": { "tokens": tokens, "native": "None", "fee_on_transfer": !is_exact_output } });
        let [amount_in, amount_out] = if is_exact_output { [limit, exact] } else { [exact, limit] };
        let swap = swap(is_exact_output, amount_in, amount_out, route, Some(to), None);
        let arguments = [exact.into(), limit.into(), array(&tokens), to.into()];
        (call(name, &arguments), json!({ "Swap": swap }))
    }

    fn payment(&mut self) -> Written {
        let (token, to, collector) = (self.address(), self.address(), self.address());
        let (amount, bips, deadline) = (self.uint256(), self.uint256(), self.uint256());
        let (v, r, s) = (self.small(8), self.random.word(), self.random.word());
        let of_permit = [token.into(), amount.into(), deadline.into(), v.into(), r.into(), s.into()];
        let (calldata, meaning) = match self.random.below(9) {
            0 => (
                call("unwrapWETH9(uint256,address)", &[amount.into(), to.into()]),
                json!({ "UnwrapWeth": { "amount_min": amount, "recipient": to, "fee": null } }),
            ),
            1 => (
                call(
                    "unwrapWETH9WithFee(uint256,address,uint256,address)",
                    &[amount.into(), to.into(), bips.into(), collector.into()],
                ),
                json!({ "UnwrapWeth": { "amount_min": amount, "recipient": to, "fee": [bips, collector] } }),
            ),
            2 => (
                call("sweepToken(address,uint256,address)", &[token.into(), amount.into(), to.into()]),
                json!({ "SweepToken": { "token": token, "amount_min": amount, "recipient": to, "fee": null } }),
            ),
            3 => (
                call(
                    "sweepTokenWithFee(address,uint256,address,uint256,address)",
                    &[token.into(), amount.into(), to.into(), bips.into(), collector.into()],
                ),
                json!({ "SweepToken": {
                    "token": token, "amount_min": amount, "recipient": to, "fee": [bips, collector]
                } }),
            ),
            4 => (call("refundETH()", &[]), json!("RefundEth")),
            which @ (5 | 6) => {
                let name = if which == 5 { "selfPermit" } else { "selfPermitIfNecessary" };
                let signature = format!("{name}(address,uint256,uint256,uint8,bytes32,bytes32)");
                let meaning = json!({ "SelfPermit": {
                    "token": token, "amount": amount, "deadline": deadline, "if_necessary": which == 6
                } });
                (call(&signature, &of_permit), meaning)
            }
            which => {
                let name = if which == 7 { "selfPermitAllowed" } else { "selfPermitAllowedIfNecessary" };
                let signature = format!("{name}(address,uint256,uint256,uint8,bytes32,bytes32)");
                let meaning = json!({ "SelfPermitAllowed": {
                    "token": token, "nonce": amount, "expiry": deadline, "if_necessary": which == 8
                } });
                (call(&signature, &of_permit), meaning)
            }
        };
        (calldata, json!({ "Payment": meaning }))
    }

    fn payment_of_02(&mut self) -> Written {
        let (token, collector) = (self.address(), self.address());
        let (amount, bips) = (self.uint256(), self.uint256());
        let (calldata, meaning) = match self.random.below(6) {
            0 => (
                call("unwrapWETH9(uint256)", &[amount.into()]),
                json!({ "UnwrapWeth": { "amount_min": amount, "recipient": null, "fee": null } }),
            ),
            1 => (
                call(
                    "unwrapWETH9WithFee(uint256,uint256,address)",
                    &[amount.into(), bips.into(), collector.into()],
                ),
                json!({ "UnwrapWeth": { "amount_min": amount, "recipient": null, "fee": [bips, collector] } }),
            ),
            2 => (
                call("sweepToken(address,uint256)", &[token.into(), amount.into()]),
                json!({ "SweepToken": {
                    "token": token, "amount_min": amount, "recipient": null, "fee": null
                } }),
            ),
            3 => (
                call(
                    "sweepTokenWithFee(address,uint256,uint256,address)",
                    &[token.into(), amount.into(), bips.into(), collector.into()],
                ),
                json!({ "SweepToken": {
                    "token": token, "amount_min": amount, "recipient": null, "fee": [bips, collector]
                } }),
            ),
            4 => (call("wrapETH(uint256)", &[amount.into()]), json!({ "WrapEth": { "amount": amount } })),
            _ => (
                call("pull(address,uint256)", &[token.into(), amount.into()]),
                json!({ "Pull": { "token": token, "amount": amount } }),
            ),
        };
        (calldata, json!({ "Payment": meaning }))
    }

    fn unknown(&mut self) -> Written {
        self.unknown += 1;
        let mut calldata = vec![0xee, 0xee, 0xee, self.random.draw() as u8];
        calldata.extend(self.random.bytes(70));
        let meaning = json!({ "Unknown": calldata[..4] });
        (calldata, meaning)
    }

    fn multicall(&mut self, contract: Contract, depth: u32) -> Written {
        let mut calls = Vec::new();
        for _ in 0..self.random.below(5) {
            calls.push(match self.random.below(8) {
                0 => self.unknown(),
                _ => self.written(contract, depth - 1),
            });
        }
        let (encoded, meanings): (Vec<Abi>, Vec<Value>) =
            calls.into_iter().map(|(calldata, meaning)| (calldata.into(), meaning)).unzip();
        let encoded = Abi::Array(encoded);
        let (calldata, guard) = match self.random.below(if contract == Contract::Router02 { 3 } else { 1 }) {
            0 => (call("multicall(bytes[])", &[encoded]), json!("None")),
            1 => {
                let deadline = self.uint256();
                let calldata = call("multicall(uint256,bytes[])", &[deadline.into(), encoded]);
                (calldata, json!({ "Deadline": deadline }))
            }
            _ => {
                let hash = self.random.word();
                let calldata = call("multicall(bytes32,bytes[])", &[hash.into(), encoded]);
                (calldata, json!({ "PreviousBlockHash": hash }))
            }
        };
        (calldata, json!({ "Multicall": { "guard": guard, "calls": meanings } }))
    }

    fn universal(&mut self, dialect: Dialect, depth: u32) -> Written {
        let (commands, inputs, meanings) = self.commands(dialect, depth);
        let (calldata, deadline) = if self.random.coin() {
            (call("execute(bytes,bytes[])", &[commands.into(), inputs]), None)
        } else {
            let deadline = self.uint256();
            let arguments = [commands.into(), inputs, deadline.into()];
            (call("execute(bytes,bytes[],uint256)", &arguments), Some(deadline))
        };
        (calldata, json!({ "UniversalRouter": { "deadline": deadline, "commands": meanings } }))
    }

    /// The commands' bytes, their inputs, their meanings.
    fn commands(&mut self, dialect: Dialect, depth: u32) -> (Vec<u8>, Abi, Vec<Value>) {
        let (mut commands, mut inputs, mut meanings) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.random.below(6) {
            let (command, input, instruction) = self.command(dialect, depth);
            let allow_revert = self.random.coin();
            let has_idle_bit = dialect == Dialect::BeforeV4 && self.random.coin();
            commands.push(command | u8::from(has_idle_bit) << 6 | u8::from(allow_revert) << 7);
            inputs.push(Abi::Bytes(input));
            meanings.push(json!({ "allow_revert": allow_revert, "instruction": instruction }));
        }
        (commands, Abi::Array(inputs), meanings)
    }

    fn command(&mut self, dialect: Dialect, depth: u32) -> (u8, Vec<u8>, Value) {
        let (token, recipient, amount) = (self.address(), self.address(), self.uint256());
        let of_token = [token.into(), recipient.into(), amount.into()];
        match self.random.below(if depth > 0 { 15 } else { 13 }) {
            0 => self.command_v3(),
            1 => self.command_v2(),
            2 => {
                let amount = self.uint(160);
                let meaning = json!({ "token": token, "recipient": recipient, "amount": amount });
                let input = encode(&[token.into(), recipient.into(), amount.into()]);
                (0x02, input, json!({ "TransferFrom": meaning }))
            }
            3 => {
                let (permit, meaning) = self.permit_batch();
                (0x03, encode(&[permit, self.signature().into()]), json!({ "Permit": meaning }))
            }
            4 => {
                let meaning = json!({ "token": token, "recipient": recipient, "amount_min": amount });
                (0x04, encode(&of_token), json!({ "Sweep": meaning }))
            }
            5 => {
                let meaning = json!({ "token": token, "recipient": recipient, "amount": amount });
                (0x05, encode(&of_token), json!({ "Transfer": meaning }))
            }
            6 => {
                let meaning = json!({ "token": token, "recipient": recipient, "bips": amount });
                (0x06, encode(&of_token), json!({ "PayPortion": meaning }))
            }
            7 => {
                let (permit, meaning) = self.permit_single();
                (0x0a, encode(&[permit, self.signature().into()]), json!({ "Permit": meaning }))
            }
            8 => {
                let meaning = json!({ "recipient": recipient, "amount": amount });
                (0x0b, encode(&of_token[1..]), json!({ "Wrap": meaning }))
            }
            9 => {
                let meaning = json!({ "recipient": recipient, "amount_min": amount });
                (0x0c, encode(&of_token[1..]), json!({ "Unwrap": meaning }))
            }
            10 => {
                let (transfers, meanings) = self.transfers();
                (0x0d, encode(&[transfers]), json!({ "TransferFromBatch": meanings }))
            }
            11 => {
                let meaning = json!({ "owner": token, "token": recipient, "min_balance": amount });
                (0x0e, encode(&of_token), json!({ "BalanceCheck": meaning }))
            }
            12 => self.command_unknown(match dialect {
                Dialect::BeforeV4 => &[0x07, 0x0f, 0x10, 0x11, 0x14, 0x1e, 0x20, 0x22, 0x3f],
                Dialect::SinceV4 => &[0x07, 0x0f, 0x11, 0x14, 0x20, 0x22, 0x3f, 0x40, 0x7f],
            }),
            13 => {
                let (commands, inputs, meanings) = self.commands(dialect, depth - 1);
                (0x21, encode(&[commands.into(), inputs]), json!({ "SubPlan": meanings }))
            }
            _ => match dialect {
                Dialect::BeforeV4 => self.command_unknown(&[0x10]),
                Dialect::SinceV4 => self.command_v4(),
            },
        }
    }

    /// One of these, with anything for it.
    fn command_unknown(&mut self, commands: &[u8]) -> (u8, Vec<u8>, Value) {
        self.unknown += 1;
        let command = commands[self.random.below(commands.len() as u64) as usize];
        (command, self.random.bytes(70), json!({ "Unknown": command }))
    }

    fn command_v3(&mut self) -> (u8, Vec<u8>, Value) {
        let is_exact_output = self.random.coin();
        let (tokens, fees, path) = self.path(is_exact_output);
        let route = json!({ "V3": { "tokens": tokens, "fees": fees, "price_limit": null } });
        self.command_swap(u8::from(is_exact_output), is_exact_output, path.into(), route)
    }

    fn command_v2(&mut self) -> (u8, Vec<u8>, Value) {
        let is_exact_output = self.random.coin();
        let tokens = self.random.several(2, 5, Random::address);
        let route =
            json!({ "V2": { "tokens": tokens, "native": "None", "fee_on_transfer": !is_exact_output } });
        self.command_swap(0x08 + u8::from(is_exact_output), is_exact_output, array(&tokens), route)
    }

    fn command_swap(
        &mut self,
        command: u8,
        is_exact_output: bool,
        path: Abi,
        route: Value,
    ) -> (u8, Vec<u8>, Value) {
        let (recipient, exact, limit) = (self.address(), self.uint256(), self.uint256());
        let payer_is_user = self.random.coin();
        let input = encode(&[recipient.into(), exact.into(), limit.into(), path, payer_is_user.into()]);
        let [amount_in, amount_out] = if is_exact_output { [limit, exact] } else { [exact, limit] };
        let swap = swap(is_exact_output, amount_in, amount_out, route, Some(recipient), None);
        (command, input, json!({ "Swap": { "swap": swap, "payer_is_user": payer_is_user } }))
    }

    fn command_v4(&mut self) -> (u8, Vec<u8>, Value) {
        let (mut actions, mut parameters, mut meanings) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.random.below(6) {
            let (action, input, meaning) = self.v4_action();
            actions.push(action);
            parameters.push(Abi::Bytes(input));
            meanings.push(meaning);
        }
        (0x10, encode(&[actions.into(), Abi::Array(parameters)]), json!({ "V4": meanings }))
    }

    fn v4_action(&mut self) -> (u8, Vec<u8>, Value) {
        let (one, other, recipient) = (self.address(), self.address(), self.address());
        let (amount, is_user) = (self.uint256(), self.random.coin());
        match self.random.below(10) {
            0 | 1 => self.v4_single(),
            2 | 3 => self.v4_multiple(),
            4 => {
                let meaning = json!({ "currency": one, "amount": amount, "payer_is_user": is_user });
                (0x0b, encode(&[one.into(), amount.into(), is_user.into()]), json!({ "Settle": meaning }))
            }
            5 => {
                let meaning = json!({ "currency": one, "max_amount": amount });
                (0x0c, encode(&[one.into(), amount.into()]), json!({ "SettleAll": meaning }))
            }
            6 if is_user => {
                let meaning = json!({ "currency0": one, "currency1": other });
                (0x0d, encode(&[one.into(), other.into()]), json!({ "SettlePair": meaning }))
            }
            6 => {
                let meaning = json!({ "currency0": one, "currency1": other, "recipient": recipient });
                (0x11, encode(&[one.into(), other.into(), recipient.into()]), json!({ "TakePair": meaning }))
            }
            7 if is_user => {
                let meaning = json!({ "currency": one, "recipient": recipient, "amount": amount });
                (0x0e, encode(&[one.into(), recipient.into(), amount.into()]), json!({ "Take": meaning }))
            }
            7 => {
                let meaning = json!({ "currency": one, "recipient": recipient, "bips": amount });
                (
                    0x10,
                    encode(&[one.into(), recipient.into(), amount.into()]),
                    json!({ "TakePortion": meaning }),
                )
            }
            8 => {
                let meaning = json!({ "currency": one, "min_amount": amount });
                (0x0f, encode(&[one.into(), amount.into()]), json!({ "TakeAll": meaning }))
            }
            _ => {
                self.unknown += 1;
                let action = [0x00, 0x02, 0x05, 0x0a, 0x12, 0x14, 0x18, 0xff][self.random.below(8) as usize];
                (action, self.random.bytes(70), json!({ "Unknown": action }))
            }
        }
    }

    /// What tells a pool apart, and its meaning.
    fn pool(&mut self) -> ([Abi; 3], Vec<u8>, Value) {
        let (fee, spacing) = (self.small(24), self.random.int(24));
        let (hooks, data) = (self.address(), self.random.bytes(50));
        let meaning = json!({
            "fee": fee, "tick_spacing": spacing.as_i32(), "hooks": hooks,
            "hook_data": Bytes::copy_from_slice(&data),
        });
        ([fee.into(), spacing.into(), hooks.into()], data, meaning)
    }

    fn v4_single(&mut self) -> (u8, Vec<u8>, Value) {
        let (is_exact_output, zero_for_one) = (self.random.coin(), self.random.coin());
        let currencies = [self.address(), self.address()];
        let ([fee, spacing, hooks], data, pool) = self.pool();
        let (exact, limit) = (self.uint(128), self.uint(128));
        let key = tuple([currencies[0].into(), currencies[1].into(), fee, spacing, hooks]);
        let structure = tuple([key, zero_for_one.into(), exact.into(), limit.into(), data.into()]);
        let in_order = if zero_for_one { currencies } else { [currencies[1], currencies[0]] };
        let route = json!({ "V4": { "currencies": in_order, "pools": [pool] } });
        let [amount_in, amount_out] = if is_exact_output { [limit, exact] } else { [exact, limit] };
        let swap = swap(is_exact_output, amount_in, amount_out, route, None, None);
        (if is_exact_output { 0x08 } else { 0x06 }, encode(&[structure]), json!({ "Swap": swap }))
    }

    fn v4_multiple(&mut self) -> (u8, Vec<u8>, Value) {
        let is_exact_output = self.random.coin();
        let currencies = self.random.several(2, 5, Random::address);
        // The path names the currency at the far end of each hop, seen from the exact one.
        let (end, others) = match is_exact_output {
            false => (currencies[0], &currencies[1..]),
            true => (currencies[currencies.len() - 1], &currencies[..currencies.len() - 1]),
        };
        let (mut keys, mut pools) = (Vec::new(), Vec::new());
        for currency in others {
            let ([fee, spacing, hooks], data, pool) = self.pool();
            keys.push(tuple([(*currency).into(), fee, spacing, hooks, data.into()]));
            pools.push(pool);
        }
        let (exact, limit) = (self.uint(128), self.uint(128));
        let structure = tuple([end.into(), Abi::Array(keys), exact.into(), limit.into()]);
        let route = json!({ "V4": { "currencies": currencies, "pools": pools } });
        let [amount_in, amount_out] = if is_exact_output { [limit, exact] } else { [exact, limit] };
        let swap = swap(is_exact_output, amount_in, amount_out, route, None, None);
        (if is_exact_output { 0x09 } else { 0x07 }, encode(&[structure]), json!({ "Swap": swap }))
    }

    fn details(&mut self) -> (Abi, Value) {
        let (token, amount) = (self.address(), self.uint(160));
        let (expiration, nonce) = (self.small(48), self.small(48));
        let meaning = json!({ "token": token, "amount": amount, "expiration": expiration, "nonce": nonce });
        (tuple([token.into(), amount.into(), expiration.into(), nonce.into()]), meaning)
    }

    fn permit_single(&mut self) -> (Abi, Value) {
        let (details, meaning) = self.details();
        let (spender, deadline) = (self.address(), self.uint256());
        let meaning = json!({ "details": [meaning], "spender": spender, "deadline": deadline });
        (tuple([details, spender.into(), deadline.into()]), meaning)
    }

    fn permit_batch(&mut self) -> (Abi, Value) {
        let count = self.random.below(5);
        let (details, meanings): (Vec<_>, Vec<_>) = (0..count).map(|_| self.details()).unzip();
        let (spender, deadline) = (self.address(), self.uint256());
        let meaning = json!({ "details": meanings, "spender": spender, "deadline": deadline });
        (tuple([Abi::Array(details), spender.into(), deadline.into()]), meaning)
    }

    fn transfer(&mut self) -> ([Abi; 4], Value) {
        let (from, to, amount, token) = (self.address(), self.address(), self.uint(160), self.address());
        let meaning = json!({ "from": from, "to": to, "amount": amount, "token": token });
        ([from.into(), to.into(), amount.into(), token.into()], meaning)
    }

    fn transfers(&mut self) -> (Abi, Vec<Value>) {
        let count = self.random.below(5);
        let (transfers, meanings) =
            (0..count).map(|_| self.transfer()).map(|(parts, meaning)| (tuple(parts), meaning)).unzip();
        (Abi::Array(transfers), meanings)
    }

    fn permit2(&mut self) -> Written {
        let (owner, signature) = (self.address(), self.signature());
        let (calldata, meaning) = match self.random.below(7) {
            0 => {
                let (token, amount, expiration) = (self.address(), self.uint(160), self.small(48));
                let arguments = [token.into(), owner.into(), amount.into(), expiration.into()];
                let meaning = json!({ "Approve": {
                    "token": token, "spender": owner, "amount": amount, "expiration": expiration
                } });
                (call("approve(address,address,uint160,uint48)", &arguments), meaning)
            }
            1 => {
                let (permit, meaning) = self.permit_single();
                let name = "permit(address,((address,uint160,uint48,uint48),address,uint256),bytes)";
                let calldata = call(name, &[owner.into(), permit, signature.into()]);
                (calldata, json!({ "Permit": { "owner": owner, "permit": meaning } }))
            }
            2 => {
                let (permit, meaning) = self.permit_batch();
                let name = "permit(address,((address,uint160,uint48,uint48)[],address,uint256),bytes)";
                let calldata = call(name, &[owner.into(), permit, signature.into()]);
                (calldata, json!({ "Permit": { "owner": owner, "permit": meaning } }))
            }
            3 => {
                let (parts, meaning) = self.transfer();
                let calldata = call("transferFrom(address,address,uint160,address)", &parts);
                (calldata, json!({ "TransferFrom": [meaning] }))
            }
            4 => {
                let (transfers, meanings) = self.transfers();
                let calldata = call("transferFrom((address,address,uint160,address)[])", &[transfers]);
                (calldata, json!({ "TransferFrom": meanings }))
            }
            which => {
                let count = if which == 5 { 1 } else { self.random.below(4) };
                let (mut permitted, mut requested, mut meanings) = (Vec::new(), Vec::new(), Vec::new());
                for _ in 0..count {
                    let (token, most, to, amount) =
                        (self.address(), self.uint256(), self.address(), self.uint256());
                    permitted.push(tuple([token.into(), most.into()]));
                    requested.push(tuple([to.into(), amount.into()]));
                    meanings
                        .push(json!({ "token": token, "permitted": most, "to": to, "requested": amount }));
                }
                let (nonce, deadline) = (self.uint256(), self.uint256());
                let meaning = json!({ "PermitTransferFrom": {
                    "owner": owner, "transfers": meanings, "nonce": nonce, "deadline": deadline
                } });
                let (name, permitted, requested) = match which {
                    5 => (
                        "permitTransferFrom(((address,uint256),uint256,uint256),(address,uint256),address,bytes)",
                        permitted.remove(0),
                        requested.remove(0),
                    ),
                    _ => (
                        "permitTransferFrom(((address,uint256)[],uint256,uint256),(address,uint256)[],address,bytes)",
                        Abi::Array(permitted),
                        Abi::Array(requested),
                    ),
                };
                let permit = tuple([permitted, nonce.into(), deadline.into()]);
                (call(name, &[permit, requested, owner.into(), signature.into()]), meaning)
            }
        };
        (calldata, json!({ "Permit2": meaning }))
    }

    fn aave(&mut self) -> Written {
        let (asset, other, user) = (self.address(), self.address(), self.address());
        let (amount, mode, code) = (self.uint256(), self.uint256(), self.small(16));
        let flag = self.random.coin();
        let (calldata, meaning) = match self.random.below(9) {
            0 => {
                let name = if flag { "supply" } else { "deposit" };
                let arguments = [asset.into(), amount.into(), user.into(), code.into()];
                let meaning = json!({
                    "asset": asset, "amount": amount, "on_behalf_of": user, "referral_code": code
                });
                let calldata = call(&format!("{name}(address,uint256,address,uint16)"), &arguments);
                (calldata, json!({ "Supply": meaning }))
            }
            1 => {
                let arguments = [asset.into(), amount.into(), user.into()];
                let meaning = json!({ "asset": asset, "amount": amount, "to": user });
                (call("withdraw(address,uint256,address)", &arguments), json!({ "Withdraw": meaning }))
            }
            2 => {
                let arguments = [asset.into(), amount.into(), mode.into(), code.into(), user.into()];
                let meaning = json!({
                    "asset": asset, "amount": amount, "rate_mode": mode, "referral_code": code,
                    "on_behalf_of": user
                });
                let calldata = call("borrow(address,uint256,uint256,uint16,address)", &arguments);
                (calldata, json!({ "Borrow": meaning }))
            }
            3 => {
                let arguments = [asset.into(), amount.into(), mode.into(), user.into()];
                let meaning =
                    json!({ "asset": asset, "amount": amount, "rate_mode": mode, "on_behalf_of": user });
                (call("repay(address,uint256,uint256,address)", &arguments), json!({ "Repay": meaning }))
            }
            4 => {
                let arguments = [asset.into(), other.into(), user.into(), amount.into(), flag.into()];
                let meaning = json!({
                    "collateral_asset": asset, "debt_asset": other, "user": user,
                    "debt_to_cover": amount, "receive_atoken": flag
                });
                let calldata = call("liquidationCall(address,address,address,uint256,bool)", &arguments);
                (calldata, json!({ "LiquidationCall": meaning }))
            }
            5 => {
                let loans = self
                    .random
                    .several(0, 4, |random| (random.address(), random.uint(256), random.uint(256)));
                let assets: Vec<_> = loans.iter().map(|loan| loan.0).collect();
                let amounts: Vec<_> = loans.iter().map(|loan| loan.1).collect();
                let modes: Vec<_> = loans.iter().map(|loan| loan.2).collect();
                let arguments = [
                    other.into(),
                    array(&assets),
                    array(&amounts),
                    array(&modes),
                    user.into(),
                    self.random.bytes(70).into(),
                    code.into(),
                ];
                let loans: Vec<_> = loans
                    .iter()
                    .map(|(asset, amount, mode)| json!({ "asset": asset, "amount": amount, "mode": mode }))
                    .collect();
                let name = "flashLoan(address,address[],uint256[],uint256[],address,bytes,uint16)";
                let meaning = json!({ "receiver": other, "loans": loans, "on_behalf_of": user });
                (call(name, &arguments), json!({ "FlashLoan": meaning }))
            }
            6 => {
                let data = self.random.bytes(70);
                let arguments = [other.into(), asset.into(), amount.into(), data.into(), code.into()];
                let meaning = json!({ "receiver": other, "asset": asset, "amount": amount });
                let calldata = call("flashLoanSimple(address,address,uint256,bytes,uint16)", &arguments);
                (calldata, json!({ "FlashLoanSimple": meaning }))
            }
            7 => {
                let category = self.small(8);
                let calldata = call("setUserEMode(uint8)", &[category.into()]);
                (calldata, json!({ "SetUserEMode": { "category": category } }))
            }
            _ => {
                let arguments = [asset.into(), flag.into()];
                let meaning = json!({ "asset": asset, "enabled": flag });
                let calldata = call("setUserUseReserveAsCollateral(address,bool)", &arguments);
                (calldata, json!({ "SetUseAsCollateral": meaning }))
            }
        };
        (calldata, json!({ "Aave": meaning }))
    }

    fn anyone(&mut self, depth: u32) -> Written {
        let (from, to, amount) = (self.address(), self.address(), self.uint256());
        match self.random.below(if depth > 0 { 5 } else { 4 }) {
            0 => (
                call("transfer(address,uint256)", &[to.into(), amount.into()]),
                json!({ "Token": { "Transfer": { "to": to, "amount": amount } } }),
            ),
            1 => (
                call("transferFrom(address,address,uint256)", &[from.into(), to.into(), amount.into()]),
                json!({ "Token": { "TransferFrom": { "from": from, "to": to, "amount": amount } } }),
            ),
            2 => (
                call("approve(address,uint256)", &[to.into(), amount.into()]),
                json!({ "Token": { "Approve": { "spender": to, "amount": amount } } }),
            ),
            3 => self.transmission(),
            _ => {
                let contract = Contract::ALL[self.random.below(Contract::ALL.len() as u64) as usize];
                let (inner, meaning) = self.written(contract, depth - 1);
                let to = contract.address();
                let calldata = call("forward(address,bytes)", &[to.into(), inner.into()]);
                (calldata, json!({ "Forward": { "to": to, "call": meaning } }))
            }
        }
    }

    fn transmission(&mut self) -> Written {
        let mut observations = self.random.several(1, 31, |random| random.int(192));
        observations.sort_unstable();
        let answer = observations[observations.len() / 2];
        let (epoch_and_round, timestamp) = (self.small(40), self.small(32));
        let signatures = self.random.several(0, 4, Random::word);
        let rest = [array(&signatures), array(&signatures), self.random.word().into()];
        let observers: Abi = self.random.word().into();
        let encoded = array::<I256>(&observations);
        let (calldata, kind, timestamp) = match self.random.below(3) {
            0 => {
                let context = B256::from(U256::from(epoch_and_round) | self.random.uint(128) << 40);
                let report = encode(&[context.into(), observers, encoded]);
                let arguments = [vec![report.into()], rest.to_vec()].concat();
                let calldata = call("transmit(bytes,bytes32[],bytes32[],bytes32)", &arguments);
                (calldata, "Ocr1", None)
            }
            which => {
                let context: Vec<Abi> =
                    vec![self.random.word().into(), epoch_and_round.into(), self.random.word().into()];
                let report = encode(&[timestamp.into(), observers, encoded, self.random.int(192).into()]);
                let arguments = [context, vec![report.into()], rest.to_vec()].concat();
                let (name, kind) =
                    if which == 1 { ("transmit", "Ocr2") } else { ("transmitSecondary", "Ocr2Secondary") };
                let signature = format!("{name}(bytes32[3],bytes,bytes32[],bytes32[],bytes32)");
                (call(&signature, &arguments), kind, Some(timestamp))
            }
        };
        let meaning = json!({
            "kind": kind, "answer": answer, "observations": observations,
            "observations_timestamp": timestamp, "epoch_and_round": epoch_and_round
        });
        (calldata, json!({ "Transmit": meaning }))
    }
}

fn swap(
    is_exact_output: bool,
    amount_in: U256,
    amount_out: U256,
    route: Value,
    recipient: Option<Address>,
    deadline: Option<U256>,
) -> Value {
    json!({
        "exact": if is_exact_output { "Output" } else { "Input" },
        "amount_in": amount_in, "amount_out": amount_out, "route": route,
        "recipient": recipient, "deadline": deadline,
    })
}
