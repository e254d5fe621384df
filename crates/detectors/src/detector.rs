use alloy_primitives::{Address, U256};
use headwater_events::{Kind, Opportunity, Plan};
use headwater_market::WholeView;

/// A strategy: looks at the world as of one block and says what it finds there.
///
/// What it returns has to follow from the view alone, not from the views before it or from how many there were: live,
/// blocks may be skipped; after a failure a new instance begins in the middle; and a replay has to give the same
/// findings. State is for speed: [`WholeView::touched`] says what changed since the view before.
pub trait Detector: Send + 'static {
    /// Names its findings in sets, counters and logs.
    fn name(&self) -> &str;

    /// The findings of a block, best first, in an order that does not depend on chance.
    fn evaluate(&mut self, view: &WholeView) -> Vec<Opportunity>;

    /// A finding of a kind of its own, for information only and without amounts: the executor refuses to act on it.
    fn inform(&self, view: &WholeView, path: Vec<Address>, tokens: Vec<Address>) -> Opportunity {
        Opportunity {
            kind: Kind::Custom(self.name().to_owned()),
            as_of: view.as_of(),
            path,
            tokens,
            amount_in: U256::ZERO,
            amount_out: U256::ZERO,
            profit: U256::ZERO,
            gas: 0,
            net_profit_wei: None,
            valid_until: view.as_of().number + 1,
            plan: Plan::Inform,
        }
    }
}

impl Detector for Box<dyn Detector> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn evaluate(&mut self, view: &WholeView) -> Vec<Opportunity> {
        (**self).evaluate(view)
    }
}
