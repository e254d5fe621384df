//! A tree of blocks is written as names: `3b` is a block at height 3 on branch b. Its parent is on the same branch, and
//! where that branch has no block below, on branch a.

use alloy_primitives::keccak256;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// A block by its name. Branch x leaves branch a below height `forks[x]`.
struct Tree {
    forks: Vec<(char, u64)>,
}

impl Tree {
    /// `"b3 c5"`: branch b begins at height 3, branch c at height 5.
    fn new(forks: &str) -> Self {
        let fork =
            |text: &str| (text.chars().next().expect("a letter"), text[1..].parse().expect("a height"));
        Self { forks: forks.split_whitespace().map(fork).collect() }
    }

    fn link(&self, name: &str) -> Link {
        let (height, branch) = name.split_at(name.len() - 1);
        let number: u64 = height.parse().expect("a height");
        let branch = branch.chars().next().expect("a letter");
        let first = self.forks.iter().find(|(letter, _)| *letter == branch).map_or(0, |(_, first)| *first);
        let below = if number > first { branch } else { 'a' };
        Link { number, hash: named(number, branch), parent_hash: named(number.wrapping_sub(1), below) }
    }

    fn header(&self, hash: BlockHash) -> Link {
        let names = (0..400u64).flat_map(|number| {
            ('a'..='f').filter(move |letter| self.exists(number, *letter)).map(move |letter| (number, letter))
        });
        let (number, letter) = names
            .clone()
            .find(|(number, letter)| named(*number, *letter) == hash)
            .expect("only blocks of the tree are asked for");
        self.link(&format!("{number}{letter}"))
    }

    fn exists(&self, number: u64, letter: char) -> bool {
        letter == 'a' || self.forks.iter().any(|(fork, first)| *fork == letter && number >= *first)
    }

    fn name(&self, hash: BlockHash) -> String {
        let Link { number, .. } = self.header(hash);
        let letter = ('a'..='f').find(|letter| named(number, *letter) == hash).expect("it has a name");
        format!("{number}{letter}")
    }
}

fn named(number: u64, branch: char) -> BlockHash {
    keccak256(format!("{number}{branch}"))
}

/// Drives the machine as the shell does, and writes down what would be published and fetched.
struct Driver {
    tree: Tree,
    canonical: Canonical,
    said: Vec<String>,
}

impl Driver {
    fn new(forks: &str, anchor: &str) -> Self {
        let tree = Tree::new(forks);
        let canonical = match anchor {
            "" => Canonical::unanchored(),
            name => Canonical::anchored(tree.link(name).number, tree.link(name).hash),
        };
        Self { tree, canonical, said: Vec::new() }
    }

    fn head(&mut self, name: &str) {
        let mut step = self.canonical.advance_to(self.tree.link(name));
        loop {
            step = match step {
                Ok(Step::Known) => return self.said.push(format!("={name}")),
                Ok(Step::Fetch(hash)) => {
                    let link = self.tree.header(hash);
                    self.said.push(format!("?{}", self.tree.name(hash)));
                    self.canonical.ancestor(link)
                }
                Ok(Step::Advance(advance)) => return self.publish(&advance),
                Err(error) => return self.said.push(format!("!{error}")),
            };
        }
    }

    fn publish(&mut self, advance: &Advance) {
        if let Some(reorg) = &advance.reorg {
            let undone: Vec<String> = reorg.undone.iter().map(|hash| self.tree.name(*hash)).collect();
            self.said.push(format!("-{}", undone.join("-")));
            assert_eq!(self.canonical.head().map(|head| head.hash), Some(reorg.old_head));
            self.canonical.undo(reorg);
            let head = self.canonical.head().expect("the ancestor stays");
            assert_eq!((head.number, head.hash), (reorg.ancestor_number, reorg.ancestor_hash));
        }
        for run in self.canonical.runs(&advance.path, 3) {
            if let Some(SourceGap { from, to, filled }) = run.gap {
                assert_eq!(filled, to - from + 1);
                self.said.push(format!("gap{from}..{to}"));
            }
            for link in run.links {
                self.said.push(format!("+{}", self.tree.name(link.hash)));
                self.canonical.extend(link);
            }
        }
    }

    fn run(&mut self, heads: &str) {
        for head in heads.split_whitespace() {
            match head.strip_prefix('~') {
                // Learnt otherwise than by an announcement.
                Some(name) => self.head(name),
                // Announced, and skipped because another one waits behind it.
                None if head.starts_with('(') => {
                    self.canonical.announce(self.tree.link(head.trim_matches(['(', ')'])));
                }
                None => {
                    self.canonical.announce(self.tree.link(head));
                    self.head(head);
                }
            }
        }
    }
}

#[track_caller]
fn check(forks: &str, anchor: &str, heads: &str, expected: &str) {
    let mut driver = Driver::new(forks, anchor);
    driver.run(heads);
    assert_eq!(driver.said.join(" "), expected, "heads {heads}");
}

#[test]
fn a_chain_that_grows_is_published_as_it_is_announced() {
    check("", "4a", "5a 6a 7a", "+5a +6a +7a");
    check("", "", "5a 6a", "+5a +6a");
    check("", "0a", "1a", "+1a");
}

#[test]
fn a_head_said_again_says_nothing_new() {
    check("", "4a", "5a 5a 6a 6a 5a 4a", "+5a =5a +6a =6a =5a =4a");
}

#[test]
fn what_the_node_did_not_announce_is_a_gap_and_is_fetched_by_hash() {
    check("", "4a", "6a", "?5a gap5..5 +5a +6a");
    check("", "4a", "5a 9a 10a", "+5a ?8a ?7a ?6a gap6..8 +6a +7a +8a +9a +10a");
    check("", "4a", "9a", "?8a ?7a ?6a ?5a gap5..7 +5a +6a +7a gap8..8 +8a +9a");
}

#[test]
fn heads_out_of_order_are_put_in_order() {
    check("", "4a", "6a 5a 7a", "?5a gap5..5 +5a +6a =5a +7a");
}

#[test]
fn a_head_that_was_asked_for_belongs_to_the_gap() {
    check("", "4a", "5a ~8a 9a", "+5a ?7a ?6a gap6..8 +6a +7a +8a +9a");
    check("", "4a", "~4a ~5a", "=4a gap5..5 +5a");
}

#[test]
fn heads_that_we_skipped_ourselves_are_neither_a_gap_nor_fetched() {
    check("", "4a", "(5a) (6a) 7a", "+5a +6a +7a");
    check("", "4a", "(5a) (7a) 8a", "?6a +5a gap6..6 +6a +7a +8a");
    check("b6", "4a", "(5a) (6a) (6b) 7b", "+5a +6b +7b");
}

#[test]
fn a_reorganisation_names_what_is_undone_and_then_what_is_new() {
    check("b5", "4a", "5a 5b", "+5a -5a +5b");
    check("b5", "4a", "5a 6a 7a 5b 6b 7b 8b", "+5a +6a +7a -7a-6a-5a +5b +6b +7b +8b");
    check("b6", "4a", "5a 6a 7a 8b", "+5a +6a +7a ?7b ?6b -7a-6a gap6..7 +6b +7b +8b");
    check("b6", "4a", "5a 6a 7a (6b) (7b) 8b", "+5a +6a +7a -7a-6a +6b +7b +8b");
}

#[test]
fn a_chain_that_got_shorter_is_followed() {
    check("b6", "4a", "5a 6a 7a 8a 6b", "+5a +6a +7a +8a -8a-7a-6a +6b");
}

#[test]
fn a_chain_that_comes_back_is_published_again() {
    check("b6", "4a", "5a 6a 6b 6a 7a", "+5a +6a -6a +6b -6b +6a +7a");
    check("b6 c7", "4a", "5a 6a 7a 7c 6b 7b 7c", "+5a +6a +7a -7a +7c -7c-6a +6b +7b -7b-6b +6a +7c");
}

#[test]
fn a_reorganisation_below_the_anchor_is_refused() {
    let refused = "!the chain was reorganised below block 4, the oldest that is remembered";
    check("b4", "4a", "5a 4b", &format!("+5a {refused}"));
    check("b4", "4a", "5a 5b 6a", &format!("+5a {refused} +6a"));
    check("b3", "4a", "7b", &format!("?6b ?5b {refused}"));
}

#[test]
fn reorganisations_of_every_depth_up_to_what_is_remembered() {
    for depth in [1, 2, 3, 10, 64, 128, 254] {
        let first = 300 - depth + 1;
        let mut driver = Driver::new(&format!("b{first}"), "0a");
        (1..=300).for_each(|number| driver.run(&format!("{number}a")));
        driver.said.clear();
        driver.run("~301b");
        let undone: Vec<String> = (first..=300).rev().map(|number| format!("{number}a")).collect();
        let reorg = driver.said.iter().find(|said| said.starts_with('-')).expect("a reorganisation");
        assert_eq!(*reorg, format!("-{}", undone.join("-")));
        let added = driver.said.iter().filter(|said| said.starts_with('+')).count() as u64;
        assert_eq!(added, depth + 1);
    }
}

#[test]
fn a_reorganisation_deeper_than_what_is_remembered_is_refused() {
    let mut driver = Driver::new("b20", "0a");
    (1..=300).for_each(|number| driver.run(&format!("{number}a")));
    driver.said.clear();
    driver.run("301b");
    let last = driver.said.last().expect("it says something");
    assert_eq!(*last, "!the chain was reorganised below block 45, the oldest that is remembered");
}

#[test]
fn a_header_that_was_not_asked_for_and_a_wrong_number_are_refused() {
    let tree = Tree::new("");
    let mut canonical = Canonical::anchored(4, tree.link("4a").hash);
    assert_eq!(canonical.advance_to(tree.link("7a")), Ok(Step::Fetch(tree.link("6a").hash)));
    assert_eq!(canonical.ancestor(tree.link("5a")), Err(CanonicalError::Unconnected { child: 7 }));

    let lying = Link { number: 9, ..tree.link("5a") };
    assert_eq!(canonical.advance_to(lying), Err(CanonicalError::Unconnected { child: 9 }));
}

#[test]
fn a_head_that_is_absurdly_far_away_is_refused_at_last() {
    let mut canonical = Canonical::anchored(4, named(4, 'a'));
    let far = |number: u64| Link { number, hash: named(number, 'z'), parent_hash: named(number - 1, 'z') };
    let mut step = canonical.advance_to(far(u64::MAX));
    let mut number = u64::MAX;
    while let Ok(Step::Fetch(_)) = step {
        number -= 1;
        step = canonical.ancestor(far(number));
    }
    assert_eq!(step, Err(CanonicalError::TooFar { head: u64::MAX }));
    assert!(u64::MAX - number <= LONGEST_WAY as u64);
}

/// Whatever the node announces, in whatever order, with whatever left out: undoing and adding what is published gives
/// the chain below the last head.
#[test]
fn what_is_published_adds_up_to_the_chain_of_the_last_head() {
    for seed in 0..300 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut driver = Driver::new("b3 c7 d9 e20", "0a");
        let mut branch = 'a';
        let mut heads: Vec<String> = Vec::new();
        for number in 1..40u64 {
            if random.random_ratio(1, 4) {
                let begun: Vec<char> =
                    ('a'..='e').filter(|letter| driver.tree.exists(number, *letter)).collect();
                branch = *begun.choose(&mut random).expect("a has every height");
            }
            if random.random_ratio(3, 4) {
                heads.push(format!("{number}{branch}"));
            }
        }
        if random.random_ratio(1, 3) {
            let swap = random.random_range(0..heads.len() - 3);
            heads[swap..swap + 3].shuffle(&mut random);
        }
        let last = format!("40{branch}");
        heads.push(last.clone());
        driver.run(&heads.join(" "));

        let mut chain = vec!["0a".to_owned()];
        for said in &driver.said {
            if let Some(added) = said.strip_prefix('+') {
                chain.push(added.to_owned());
            } else if let Some(undone) = said.strip_prefix('-') {
                for name in undone.split('-') {
                    assert_eq!(chain.pop().as_deref(), Some(name), "seed {seed}");
                }
            }
        }
        let mut expected = vec![last.clone()];
        while expected.last().is_some_and(|name| name != "0a") {
            let parent = driver.tree.link(expected.last().expect("never empty")).parent_hash;
            expected.push(driver.tree.name(parent));
        }
        expected.reverse();
        assert_eq!(chain, expected, "seed {seed}: {heads:?}");
    }
}

#[test]
fn an_assumed_head_is_confirmed_undone_by_itself_or_with_its_branch() {
    let links = [1u8, 2, 3].map(|number| Link {
        number: number.into(),
        hash: BlockHash::repeat_byte(number),
        parent_hash: BlockHash::repeat_byte(number - 1),
    });
    let assumed = || {
        let mut canonical = Canonical::anchored(0, BlockHash::ZERO);
        canonical.extend(links[0]);
        canonical.extend(links[1]);
        canonical.assume(Vec::new());
        canonical
    };
    let mut confirmed = assumed();
    confirmed.confirm();
    assert_eq!(confirmed.refute(), None);
    assert_eq!(confirmed.head(), Some(&links[1]));

    let mut refuted = assumed();
    let reorg = refuted.refute().expect("it was assumed");
    assert_eq!((reorg.ancestor_number, reorg.ancestor_hash), (1, links[0].hash));
    assert_eq!(
        (reorg.undone, reorg.old_head, reorg.new_head),
        (vec![links[1].hash], links[1].hash, links[1].hash)
    );
    assert_eq!((refuted.head(), refuted.assumed()), (Some(&links[0]), None));

    let mut undone = assumed();
    undone.undo(&ReorgEvent {
        ancestor_number: 1,
        ancestor_hash: links[0].hash,
        undone: vec![links[1].hash],
        old_head: links[1].hash,
        new_head: links[2].hash,
    });
    assert_eq!((undone.head(), undone.assumed()), (Some(&links[0]), None));

    let mut extended = assumed();
    extended.extend(links[2]);
    assert_eq!(extended.assumed(), None);
}
