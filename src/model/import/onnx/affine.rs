//! Normalisation of the input by the graph itself, before the first convolution, e.g. torchvision's `transform_input`.

use super::graph::Graph;

/// Expresses a value as channels of the graph's input, each as (channel, factor, offset). `None` where that is not
/// possible. `budget` is the number of nodes that may still be visited. torchvision's `transform_input` has 16; with
/// nested concatenations the number could double with each level.
pub(super) fn affine(graph: &Graph, value: &str, input: &str, budget: &mut usize) -> Option<Vec<(usize, f32, f32)>> {
    if value == input {
        return Some((0..3).map(|c| (c, 1.0, 0.0)).collect());
    }
    let node = graph.producer(value)?;
    *budget = budget.checked_sub(1)?;
    let mut of = |value: &str| affine(graph, value, input, budget).filter(|channels| channels.len() <= 3);
    let first = *node.inputs.first()?;
    let constant = |input: usize| graph.constant(node.inputs.get(input)?);
    match node.op {
        "Identity" | "Unsqueeze" | "Dropout" => of(first),
        "Concat" if node.int("axis", 1) == 1 && node.inputs.len() <= 3 => {
            let parts: Option<Vec<_>> = node.inputs.iter().map(|part| of(part)).collect();
            Some(parts?.concat())
        }
        "Gather" if node.int("axis", 0) == 1 => {
            let channels = of(first)?;
            let indices = constant(1)?.ints();
            let at = |&i: &i64| usize::try_from(if i < 0 { i + channels.len() as i64 } else { i }).ok();
            indices.iter().map(|i| channels.get(at(i)?).copied()).collect()
        }
        "Mul" | "Add" | "Sub" | "Div" => {
            let (from, by) = match constant(1) {
                Some(by) => (first, by),
                None if matches!(node.op, "Mul" | "Add") => (*node.inputs.get(1)?, constant(0)?),
                None => return None,
            };
            let channels = of(from)?;
            // The constant has one number, or one for each channel, (3, 1, 1).
            let (by, dims) = (by.floats().ok()?, &by.dims);
            let each = by.len() == channels.len() && dims.len() >= 3 && dims[dims.len() - 2..] == [1, 1];
            if by.len() != 1 && !each {
                return None;
            }
            let by = by.iter().copied().cycle();
            let apply = |((c, factor, offset), by): ((usize, f32, f32), f32)| match node.op {
                "Mul" => (c, factor * by, offset * by),
                "Div" => (c, factor / by, offset / by),
                "Add" => (c, factor, offset + by),
                _ => (c, factor, offset - by),
            };
            Some(channels.into_iter().zip(by).map(apply).collect())
        }
        _ => None,
    }
}

/// The factor and offset of each channel. `None` where these are not the three input channels in their order, with
/// usable numbers.
pub(super) fn plain(channels: &[(usize, f32, f32)]) -> Option<[(f32, f32); 3]> {
    match *channels {
        [(0, a, d), (1, b, e), (2, c, f)] => {
            let usable = [a, b, c].iter().all(|v| v.is_normal()) && [d, e, f].iter().all(|v| v.is_finite());
            usable.then_some([(a, d), (b, e), (c, f)])
        }
        _ => None,
    }
}
