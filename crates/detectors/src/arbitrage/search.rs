use arrayvec::ArrayVec;
use headwater_amm::{CycleSizing, Effort, MAX_HOPS, MixedHop, may_profit, size_mixed_cycle};
use rustc_hash::FxHashMap;

use super::graph::{Graph, Hops, Member, Step, Triangle};

/// A cycle that gains before gas.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    pub(super) hops: Hops,
    /// Rank of the base token that it begins and ends at.
    pub(super) base: usize,
    /// That it is expected to use.
    pub(super) gas: u64,
    pub(super) sizing: CycleSizing,
}

/// The cycles that gain, kept where they are looked for: by pair and by triangle. Of four pools there are too many places.
#[derive(Debug, Default)]
pub(super) struct Search {
    by_pair: Standing,
    by_triangle: Standing,
    squares: Vec<Cycle>,
    examined: Examined,
}

/// What an evaluation looked at: what it costs, whatever the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Ways through two, three or four tokens whose best rates were looked up.
    pub ways: u64,
    /// Cycles whose rates may gain, and which were sized in integers.
    pub cycles: u64,
}

/// The cycles of the few places that have any.
#[derive(Debug, Default)]
struct Standing(FxHashMap<u32, Vec<Cycle>>);

impl Search {
    /// Every cycle that gains, in no particular order.
    pub(super) fn standing(&self) -> impl Iterator<Item = &Cycle> {
        self.by_pair.0.values().chain(self.by_triangle.0.values()).flatten().chain(&self.squares)
    }

    /// What the last round looked at.
    pub(super) fn examined(&self) -> Examined {
        self.examined
    }

    /// Examines the cycles through what was touched in this round, and no others.
    pub(super) fn examine(&mut self, graph: &mut Graph) {
        self.examined = Examined::default();
        let pairs = graph.touched_pairs();
        if graph.has_squares() {
            self.examine_squares(graph, &pairs);
        }
        let Self { by_pair, by_triangle, examined, .. } = self;
        for pair in pairs {
            if graph.begins_at(pair) {
                by_pair.forget_touched(pair, graph);
                examined.ways += 1;
                two_pools(graph, pair, &mut |sized| {
                    examined.cycles += 1;
                    by_pair.keep(pair, sized);
                });
            }
            for index in 0..graph.pair_at(pair).triangles.len() {
                let number = graph.pair_at(pair).triangles[index];
                let Some(triangle) = graph.unexamined(number) else { continue };
                by_triangle.forget_touched(number, graph);
                for way in ways_around(&triangle) {
                    examined.ways += 1;
                    three_pools(graph, way, &mut |sized| {
                        examined.cycles += 1;
                        by_triangle.keep(number, sized);
                    });
                }
            }
        }
    }

    fn examine_squares(&mut self, graph: &Graph, pairs: &[u32]) {
        let Self { squares, examined, .. } = self;
        squares.retain(|cycle| !cycle.hops.iter().any(|step| graph.is_pool_touched(step.pool)));
        for pair in pairs {
            graph.each_square(*pair, |way| {
                for way in [way, way_back(way)] {
                    examined.ways += 1;
                    four_pools(graph, way, &mut |sized| {
                        examined.cycles += 1;
                        squares.extend(sized);
                    });
                }
            });
        }
    }
}

impl Standing {
    fn keep(&mut self, place: u32, sized: Option<Cycle>) {
        if let Some(cycle) = sized {
            self.0.entry(place).or_default().push(cycle);
        }
    }

    fn forget_touched(&mut self, place: u32, graph: &Graph) {
        let Some(cycles) = self.0.get_mut(&place) else { return };
        cycles.retain(|cycle| !cycle.hops.iter().any(|step| graph.is_pool_touched(step.pool)));
        if cycles.is_empty() {
            self.0.remove(&place);
        }
    }
}

/// One leg of a way around: a pair and the direction through it.
type Leg = (u32, u8);

/// The two ways around the triangle `a < b < c` of the pairs `ab`, `bc`, `ac`, from `a`.
fn ways_around(triangle: &Triangle) -> [[Leg; 3]; 2] {
    let [ab, bc, ac] = triangle.pairs;
    [[(ab, 0), (bc, 0), (ac, 1)], [(ac, 0), (bc, 1), (ab, 1)]]
}

/// Sizes the cycles out through one pool of the pair and back through another, one of them touched, whose rates may gain.
fn two_pools(graph: &Graph, pair: u32, sized: &mut impl FnMut(Option<Cycle>)) {
    let best = graph.best(pair);
    if !may_profit(best[0] + best[1]) {
        return;
    }
    let members = &graph.pair_at(pair).members;
    for out in members.iter().filter(|out| may_profit(out.rates[0] + best[1])) {
        for back in members {
            let touched = graph.is_touched(out) || graph.is_touched(back);
            if touched && out.pool != back.pool && may_profit(out.rates[0] + back.rates[1]) {
                size(graph, graph.rank(pair), &[step(out, 0), step(back, 1)], sized);
            }
        }
    }
}

/// Sizes the cycles of one way around a triangle, one of their pools touched. A branch is left as soon as even the best pools for
/// the rest of the way do not gain.
fn three_pools(graph: &Graph, way: [Leg; 3], sized: &mut impl FnMut(Option<Cycle>)) {
    let best = way.map(|(pair, direction)| graph.best(pair)[direction as usize]);
    if !may_profit(best[0] + best[1] + best[2]) {
        return;
    }
    let [first, second, third] = way.map(|(pair, direction)| (graph.pair_at(pair), direction));
    let rate = |member: &Member, direction: u8| member.rates[direction as usize];
    for a in &first.0.members {
        let rate_a = rate(a, first.1);
        if !may_profit(rate_a + best[1] + best[2]) {
            continue;
        }
        for b in &second.0.members {
            let rate_ab = rate_a + rate(b, second.1);
            if !may_profit(rate_ab + best[2]) {
                continue;
            }
            for c in &third.0.members {
                let touched = graph.is_touched(a) || graph.is_touched(b) || graph.is_touched(c);
                if touched && may_profit(rate_ab + rate(c, third.1)) {
                    let steps = [step(a, first.1), step(b, second.1), step(c, third.1)];
                    size(graph, graph.rank(way[0].0), &steps, sized);
                }
            }
        }
    }
}

/// The same way in the other direction, from the same token.
fn way_back(mut way: [Leg; 4]) -> [Leg; 4] {
    way.reverse();
    way.map(|(pair, direction)| (pair, 1 - direction))
}

/// As [`three_pools`], of a way around four tokens.
fn four_pools(graph: &Graph, way: [Leg; 4], sized: &mut impl FnMut(Option<Cycle>)) {
    let best = way.map(|(pair, direction)| graph.best(pair)[direction as usize]);
    let rest = [best[1] + best[2] + best[3], best[2] + best[3], best[3], 0.0];
    if may_profit(best[0] + rest[0]) {
        let mut walk = Walk { graph, way, rest, steps: Hops::new(), sized };
        walk.go_on(0.0, false);
    }
}

/// A way around four tokens, pool by pool.
struct Walk<'a, F> {
    graph: &'a Graph,
    way: [Leg; 4],
    /// What the best pools behind each leg give.
    rest: [f64; 4],
    steps: Hops,
    sized: &'a mut F,
}

impl<F: FnMut(Option<Cycle>)> Walk<'_, F> {
    fn go_on(&mut self, rate: f64, touched: bool) {
        let at = self.steps.len();
        let Some(&(pair, direction)) = self.way.get(at) else {
            if touched {
                size(self.graph, self.graph.rank(self.way[0].0), &self.steps, self.sized);
            }
            return;
        };
        let graph = self.graph;
        for member in &graph.pair_at(pair).members {
            let rate = rate + member.rates[direction as usize];
            if may_profit(rate + self.rest[at]) {
                self.steps.push(step(member, direction));
                self.go_on(rate, touched || graph.is_touched(member));
                self.steps.pop();
            }
        }
    }
}

fn step(member: &Member, direction: u8) -> Step {
    Step { pool: member.pool, direction }
}

/// Sizes a cycle exactly; `None` where it does not gain.
fn size(graph: &Graph, base: usize, steps: &[Step], sized: &mut impl FnMut(Option<Cycle>)) {
    let hops: Option<ArrayVec<MixedHop<'_>, MAX_HOPS>> = steps.iter().map(|step| graph.hop(*step)).collect();
    let Some(hops) = hops else { return };
    sized(size_mixed_cycle(&hops, Effort::Brief).map(|sizing| {
        let inputs = std::iter::once(sizing.amount_in).chain(sizing.amounts.iter().copied());
        let crossings = hops.iter().zip(inputs).map(|(hop, amount)| hop.crossings(amount)).sum();
        let gas = graph.gas(steps, crossings);
        Cycle { hops: steps.iter().copied().collect(), base, gas, sizing }
    }));
}
