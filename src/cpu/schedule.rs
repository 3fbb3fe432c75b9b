//! Decides which steps run in parallel, and divides each of them into tasks for the threads and the caches.

use crate::graph::network::Network;
use crate::graph::tensor::Shape;
use crate::plan::Plan;
use std::ops::Range;

/// Steps whose tasks run together: a single step, siblings with the same input, or a pool and the convolution that
/// reads it.
pub type Group = Vec<usize>;

/// A part of a group's work.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The index of the group.
    pub group: usize,
    /// The range of the output map, in the unit of the kernel.
    pub pieces: Range<usize>,
    /// The range of the output channels in panels, numbered consecutively over siblings.
    pub panels: Range<usize>,
}

/// How a group's work can be divided.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub pieces: usize,
    /// The largest number of pieces that one task should take.
    pub block: usize,
    /// Tasks are fastest if they have a multiple of this number of pieces.
    pub multiple: usize,
    pub panels: usize,
    /// Whether dividing the map costs less than dividing the channels.
    pub prefer_pieces: bool,
    /// Whether every part of the channels repeats some work. If so, there should be no more parts than threads.
    pub repeats: bool,
    /// The cost, in multiply-adds or equivalents.
    pub cost: u64,
}

impl Extent {
    /// Work that is not divided.
    pub const WHOLE: Extent =
        Extent { pieces: 1, block: 1, multiple: 1, panels: 1, prefer_pieces: true, repeats: false, cost: 0 };

    /// Work that can be divided by output lines, which are counted over the batch.
    pub fn lines(output: Shape) -> Self {
        Extent { pieces: output.n * output.h, block: usize::MAX, ..Self::WHOLE }
    }

    /// Work that can be divided by pixels, which are counted over the batch.
    pub fn pixels(output: Shape) -> Self {
        Extent { pieces: output.pixels(), block: usize::MAX, multiple: 8, ..Self::WHOLE }
    }
}

/// Work of less than this cost, which takes about 10 microseconds, is not shared among threads.
pub const MIN_SHARED_COST: u64 = 200_000;

/// The number of tasks for each thread, so that others can take over work from a slow or late thread.
const TASKS_PER_THREAD: usize = 2;

/// Divides the groups into rounds. No group reads what another group of the same round writes.
pub fn rounds(network: &Network, plan: &Plan, groups: &[Group]) -> Vec<Vec<usize>> {
    let mut ready = vec![0; network.nodes().len()];
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        let nodes = || group.iter().map(|&step| plan.steps[step].node);
        // A concatenation in place is no step; it is ready as soon as all of its branches are.
        let after = |node: usize| -> usize { latest(network, &ready, node) };
        let outside = nodes().flat_map(|n| network.node(n).inputs.iter().copied()).filter(|&n| nodes().all(|m| m != n));
        let round = outside.map(after).max().unwrap_or(0);
        nodes().for_each(|node| ready[node] = round + 1);
        rounds.resize(rounds.len().max(round + 1), Vec::new());
        rounds[round].push(i);
    }
    rounds
}

/// The first round in which a node can be read.
fn latest(network: &Network, ready: &[usize], node: usize) -> usize {
    let inputs = network.node(node).inputs.iter();
    match ready[node] {
        0 => inputs.map(|&input| latest(network, ready, input)).max().unwrap_or(0),
        round => round,
    }
}

/// Divides a group's work into tasks for this many threads.
pub fn cut(group: usize, extent: &Extent, threads: usize) -> Vec<Task> {
    let Extent { pieces, block, multiple, panels, prefer_pieces, repeats, cost } = *extent;
    let wanted = if threads == 1 || cost < MIN_SHARED_COST { 1 } else { threads * TASKS_PER_THREAD };
    let least = pieces.div_ceil(block.max(1));
    let mut blocks = least;
    if blocks < wanted && (prefer_pieces || panels == 1) {
        blocks = wanted.min(pieces.div_ceil(multiple));
    }
    let wanted = if repeats { wanted.min(threads) } else { wanted };
    let parts = wanted.div_ceil(blocks.max(1)).min(panels);
    let size = pieces.div_ceil(blocks.max(1)).next_multiple_of(multiple);
    let ranges =
        |total: usize, size: usize| (0..total).step_by(size.max(1)).map(move |first| first..(first + size).min(total));
    let parts: Vec<_> = ranges(panels, panels.div_ceil(parts.max(1))).collect();
    ranges(pieces, size)
        .flat_map(|pieces| {
            parts.iter().map(move |panels| Task { group, pieces: pieces.clone(), panels: panels.clone() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::googlenet::Spec;
    use crate::plan::ConcatMode;

    #[test]
    fn a_module_takes_two_rounds() {
        let network = Spec { heads: false, ..Spec::default() }.build().unwrap();
        for concat in [ConcatMode::InPlace, ConcatMode::WithGains] {
            let plan = Plan::new(&network, 1, concat).unwrap();
            let groups = plan.fused(&network);
            let rounds = rounds(&network, &plan, &groups);
            // Four rounds in the stem, two in each module, two for pools between modules and three in the head; with
            // gains, one for the concatenation of each module.
            assert_eq!(rounds.len(), 4 + 9 * 2 + 2 + 3 + if concat == ConcatMode::WithGains { 9 } else { 0 });
            let mut done = vec![false; network.nodes().len()];
            for round in rounds {
                let steps = || round.iter().flat_map(|&g| &groups[g]).map(|&s| &plan.steps[s]);
                for read in steps().flat_map(|s| &s.reads) {
                    let inside = |g: &&usize| groups[**g].iter().any(|&s| plan.steps[s].writes.buffer == read.buffer);
                    let writer = round.iter().find(inside);
                    let chain = writer.is_some_and(|&g| groups[g].len() == 2);
                    assert!(writer.is_none() || chain, "a step reads what its round writes");
                }
                steps().for_each(|s| done[s.node] = true);
            }
            assert!(plan.steps.iter().all(|s| done[s.node]));
        }
    }

    #[test]
    fn every_piece_belongs_to_one_task() {
        for threads in [1, 2, 3, 8] {
            for (pieces, block, multiple, panels) in
                [(784, 240, 8, 22), (4, 8, 8, 48), (49, 72, 8, 80), (1, 1, 1, 1), (38, 1, 1, 8)]
            {
                for prefer_pieces in [false, true] {
                    let extent = Extent {
                        pieces,
                        block,
                        multiple,
                        panels,
                        prefer_pieces,
                        repeats: prefer_pieces,
                        cost: 1 << 30,
                    };
                    let tasks = cut(0, &extent, threads);
                    let mut seen = vec![0; pieces * panels];
                    for task in &tasks {
                        assert!(task.pieces.len() <= block.next_multiple_of(multiple));
                        task.pieces.clone().for_each(|p| task.panels.clone().for_each(|q| seen[p * panels + q] += 1));
                    }
                    assert!(seen.iter().all(|&n| n == 1), "{extent:?}, {threads} threads");
                    assert!(
                        tasks.len() >= threads.min(pieces * panels / multiple).min(threads)
                            || pieces * panels < threads
                    );
                }
            }
        }
        let small =
            Extent { pieces: 10, block: 10, multiple: 1, panels: 4, prefer_pieces: true, repeats: false, cost: 10 };
        assert_eq!(cut(3, &small, 8), [Task { group: 3, pieces: 0..10, panels: 0..4 }]);
    }
}
