//! The contracts as Solidity declares them. Private: others see plain functions and the types of `events`.

use alloy_sol_types::sol;

sol! {
    /// v2-core, `contracts/interfaces/IUniswapV2Factory.sol`.
    #[sol(all_derives)]
    interface IUniswapV2Factory {
        event PairCreated(address indexed token0, address indexed token1, address pair, uint256 count);

        function getPair(address tokenA, address tokenB) external view returns (address pair);
        function allPairs(uint256 index) external view returns (address pair);
        function allPairsLength() external view returns (uint256);
    }

    /// v2-core, `contracts/interfaces/IUniswapV2Pair.sol`.
    #[sol(all_derives)]
    interface IUniswapV2Pair {
        event Mint(address indexed sender, uint256 amount0, uint256 amount1);
        event Burn(address indexed sender, uint256 amount0, uint256 amount1, address indexed to);
        event Swap(
            address indexed sender,
            uint256 amount0In,
            uint256 amount1In,
            uint256 amount0Out,
            uint256 amount1Out,
            address indexed to
        );
        event Sync(uint112 reserve0, uint112 reserve1);

        function factory() external view returns (address);
        function token0() external view returns (address);
        function token1() external view returns (address);
        function getReserves() external view returns (uint112 reserve0, uint112 reserve1, uint32 blockTimestampLast);
        function swap(uint256 amount0Out, uint256 amount1Out, address to, bytes calldata data) external;
    }

    /// v3-core, `contracts/interfaces/pool/IUniswapV3PoolState.sol` and `IUniswapV3PoolImmutables.sol`: what they are asked. The answers
    /// are read by hand, because forks pack the words behind the first ones differently.
    interface IUniswapV3Pool {
        function fee() external view returns (uint24);
        function tickSpacing() external view returns (int24);
        function slot0() external view returns (uint160 sqrtPriceX96, int24 tick);
        function liquidity() external view returns (uint128);
        function tickBitmap(int16 wordPosition) external view returns (uint256);
        function ticks(int24 tick) external view returns (uint128 liquidityGross, int128 liquidityNet);
    }

    /// v4-core, `src/interfaces/IExtsload.sol`: that for many slots.
    interface IExtsload {
        function extsload(bytes32[] calldata slots) external view returns (bytes32[] memory values);
    }

    /// EIP-20.
    #[sol(all_derives)]
    interface IERC20 {
        event Transfer(address indexed from, address indexed to, uint256 value);

        function decimals() external view returns (uint8);
        function symbol() external view returns (string);
        function balanceOf(address account) external view returns (uint256);
        function transfer(address to, uint256 amount) external returns (bool);
    }

    /// canonical-weth, `contracts/WETH9.sol`.
    #[sol(all_derives)]
    interface IWETH9 {
        event Deposit(address indexed dst, uint256 wad);
        event Withdrawal(address indexed src, uint256 wad);
    }
}

#[cfg(test)]
sol! {
    /// v2-periphery, `contracts/interfaces/IUniswapV2Router01.sol` and `IUniswapV2Router02.sol`: the swap functions.
    #[sol(all_derives)]
    interface IUniswapV2Router02 {
        function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] calldata path, address to, uint256 deadline) external;
        function swapTokensForExactTokens(uint256 amountOut, uint256 amountInMax, address[] calldata path, address to, uint256 deadline) external;
        function swapExactETHForTokens(uint256 amountOutMin, address[] calldata path, address to, uint256 deadline) external payable;
        function swapTokensForExactETH(uint256 amountOut, uint256 amountInMax, address[] calldata path, address to, uint256 deadline) external;
        function swapExactTokensForETH(uint256 amountIn, uint256 amountOutMin, address[] calldata path, address to, uint256 deadline) external;
        function swapETHForExactTokens(uint256 amountOut, address[] calldata path, address to, uint256 deadline) external payable;
        function swapExactTokensForTokensSupportingFeeOnTransferTokens(uint256 amountIn, uint256 amountOutMin, address[] calldata path, address to, uint256 deadline) external;
        function swapExactETHForTokensSupportingFeeOnTransferTokens(uint256 amountOutMin, address[] calldata path, address to, uint256 deadline) external payable;
        function swapExactTokensForETHSupportingFeeOnTransferTokens(uint256 amountIn, uint256 amountOutMin, address[] calldata path, address to, uint256 deadline) external;
    }
}
