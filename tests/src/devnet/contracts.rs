//! The contracts' interfaces, as far as the devnet calls them.

use alloy_sol_types::sol;

sol! {
    interface Weth {
        function deposit() external payable;
    }

    /// OpenZeppelin's `StandaloneERC20`: decimals are its own choice.
    interface Token {
        function initialize(string name, string symbol, uint8 decimals, address[] minters, address[] pausers) external;
        function mint(address account, uint256 amount) external returns (bool);
        function approve(address spender, uint256 amount) external returns (bool);
        function transfer(address to, uint256 amount) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
        function decimals() external view returns (uint8);
        function symbol() external view returns (string);
    }

    interface Permit2 {
        function approve(address token, address spender, uint160 amount, uint48 expiration) external;
    }

    interface Factory {
        constructor(address feeToSetter);
        function getPair(address tokenA, address tokenB) external view returns (address);
        function allPairsLength() external view returns (uint256);
    }

    interface Pair {
        function getReserves() external view returns (uint112 reserve0, uint112 reserve1, uint32 blockTimestampLast);
    }

    /// `UniswapV2Router02`
    interface Router {
        constructor(address factory, address weth);
        function addLiquidity(address tokenA, address tokenB, uint256 amountADesired, uint256 amountBDesired,
            uint256 amountAMin, uint256 amountBMin, address to, uint256 deadline) external;
        function removeLiquidity(address tokenA, address tokenB, uint256 liquidity,
            uint256 amountAMin, uint256 amountBMin, address to, uint256 deadline) external;
        function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to,
            uint256 deadline) external;
        function swapTokensForExactTokens(uint256 amountOut, uint256 amountInMax, address[] path, address to,
            uint256 deadline) external;
        function swapExactETHForTokens(uint256 amountOutMin, address[] path, address to, uint256 deadline) external payable;
        function swapTokensForExactETH(uint256 amountOut, uint256 amountInMax, address[] path, address to,
            uint256 deadline) external;
        function swapExactTokensForETH(uint256 amountIn, uint256 amountOutMin, address[] path, address to,
            uint256 deadline) external;
        function swapETHForExactTokens(uint256 amountOut, address[] path, address to, uint256 deadline) external payable;
        function swapExactTokensForTokensSupportingFeeOnTransferTokens(uint256 amountIn, uint256 amountOutMin,
            address[] path, address to, uint256 deadline) external;
        function swapExactETHForTokensSupportingFeeOnTransferTokens(uint256 amountOutMin, address[] path, address to,
            uint256 deadline) external payable;
        function swapExactTokensForETHSupportingFeeOnTransferTokens(uint256 amountIn, uint256 amountOutMin,
            address[] path, address to, uint256 deadline) external;
    }
}
