//! A network as a table for people: layer, output shape, parameters, multiply-adds, inputs.

use crate::graph::network::{Network, NodeId};
use std::fmt::Write;

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    pub layer: String,
    pub kind: &'static str,
    /// Height, width and channels of the output.
    pub shape: [usize; 3],
    pub params: usize,
    /// Multiply-adds for one picture.
    pub macs: u64,
    /// Height and width of a cell's receptive field in pixels, see [`crate::graph::op::Field`].
    pub field: [usize; 2],
    /// The distance between the receptive fields of neighbouring cells.
    pub jump: [usize; 2],
    /// Where the first cell's receptive field begins.
    pub start: [isize; 2],
    pub inputs: Vec<String>,
}

/// The rows of the table, one for each node.
pub fn rows(net: &Network) -> Vec<Row> {
    net.nodes()
        .iter()
        .enumerate()
        .map(|(i, node)| Row {
            layer: node.name.clone(),
            kind: node.op.kind(),
            shape: [node.shape.h, node.shape.w, node.shape.c],
            params: net.params(i),
            macs: net.macs(i),
            field: node.field.size,
            jump: node.field.jump,
            start: node.field.start,
            inputs: node.inputs.iter().map(|&j| net.node(j).name.clone()).collect(),
        })
        .collect()
}

/// The table as text, like Keras' `model.summary()`, with a line of totals.
pub fn table(net: &Network) -> String {
    let lines = rows(net).into_iter().map(|row| {
        let [layer, shape, params, macs] = cells(&row.layer, row.kind, row.shape, row.params, row.macs);
        [layer, shape, params, macs, row.inputs.join(", ")]
    });
    text(net, ["Layer (type)", "Output shape", "Params", "Multiply-adds", "Connected to"], lines)
}

/// Like [`table`], but with one line for each inception module and each auxiliary head, which has the sums of its
/// layers.
pub fn modules(net: &Network) -> String {
    let ids: Vec<NodeId> = (0..net.nodes().len()).collect();
    let together = |&a: &NodeId, &b: &NodeId| net.node(a).module.is_some() && net.node(a).module == net.node(b).module;
    let lines = ids.chunk_by(together).map(|group| {
        let last = net.node(group[group.len() - 1]);
        let (name, kind) = match &last.module {
            Some(module) if net.heads().iter().any(|head| head.name == *module) => (module, "auxiliary head"),
            Some(module) => (module, "inception module"),
            None => (&last.name, last.op.kind()),
        };
        let params = group.iter().map(|&id| net.params(id)).sum();
        let macs = group.iter().map(|&id| net.macs(id)).sum();
        cells(name, kind, [last.shape.h, last.shape.w, last.shape.c], params, macs)
    });
    text(net, ["Layer or module (type)", "Output shape", "Params", "Multiply-adds"], lines)
}

fn cells(name: &str, kind: &str, shape: [usize; 3], params: usize, macs: u64) -> [String; 4] {
    [format!("{name} ({kind})"), shape.map(|d| d.to_string()).join("x"), thousands(params as u64), thousands(macs)]
}

/// Formats lines as columns with these headings, followed by the network's totals. The third and fourth columns are
/// numbers.
fn text<const N: usize>(net: &Network, heads: [&str; N], lines: impl Iterator<Item = [String; N]>) -> String {
    let lines: Vec<[String; N]> = std::iter::once(heads.map(str::to_owned)).chain(lines).collect();
    let mut width = heads.map(str::len);
    for line in &lines {
        // The column after the numbers may have any length.
        for (w, cell) in width.iter_mut().zip(line).take(4) {
            *w = (*w).max(cell.len());
        }
    }
    let rule = "-".repeat(width.iter().sum::<usize>() + 2 * (N - 1));
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        let padded = line.iter().zip(width).enumerate().map(|(column, (cell, w))| match column {
            2 | 3 => format!("{cell:>w$}"),
            _ => format!("{cell:<w$}"),
        });
        let _ = writeln!(text, "{}", padded.collect::<Vec<_>>().join("  ").trim_end());
        if i == 0 {
            let _ = writeln!(text, "{rule}");
        }
    }
    let _ = writeln!(text, "{rule}");
    let _ = writeln!(
        text,
        "Total: {} parameters, {} multiply-adds for one picture",
        thousands(net.total_params() as u64),
        thousands(net.total_macs())
    );
    text
}

/// The number with commas between groups of three digits: `13,374,120`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::googlenet::{Spec, Variant};

    #[test]
    fn the_table_names_every_layer_and_the_total() {
        let text = table(&Spec::default().build().unwrap());
        assert!(text.contains("Total: 13,374,120 parameters"));
        let line = text.lines().find(|l| l.starts_with("inception_3a/5x5_reduce ")).unwrap();
        assert!(line.contains("28x28x16") && line.contains("3,088") && line.contains("2,408,448"));
        assert!(line.ends_with("pool2/3x3_s2"));
    }

    #[test]
    fn each_module_has_one_line_and_the_lines_add_up() {
        for variant in Variant::ALL {
            let net = Spec { variant, ..Spec::default() }.build().unwrap();
            let text = modules(&net);
            let lines: Vec<Vec<&str>> =
                text.lines().map(|l| l.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
            let [head, rule, body @ .., last_rule, _total] = &lines[..] else { panic!("{text}") };
            assert_eq!(head[..], ["Layer or module (type)", "Output shape", "Params", "Multiply-adds"]);
            assert_eq!(rule, last_rule);
            assert_eq!(text.lines().last(), table(&net).lines().last(), "the totals are the network's");
            let sum =
                |column: usize| body.iter().map(|l| l[column].replace(',', "").parse::<u64>().unwrap()).sum::<u64>();
            assert_eq!((sum(2), sum(3)), (net.total_params() as u64, net.total_macs()), "{variant}");
            let count = |kind: &str| body.iter().filter(|l| l[0].ends_with(kind)).count();
            assert_eq!(count("(inception module)"), 9);
            assert_eq!(count("(auxiliary head)"), if variant.has_heads() { 2 } else { 0 });
        }
        let text = modules(&Spec::default().build().unwrap());
        let numbers = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().rev().take(3).collect::<Vec<_>>()
        };
        assert_eq!(numbers("inception_3a "), ["128,049,152", "163,696", "28x28x256"]);
        assert_eq!(numbers("loss1 ")[1..], ["3,188,840", "1x1x1000"]);
        assert_eq!(numbers("conv1/7x7_s2 ")[1..], ["9,472", "112x112x64"]);
        assert!(!text.contains("inception_3a/"));
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            ["0", "999", "1,000", "120,422,400"],
            [0, 999, 1000, 120_422_400].map(thousands).each_ref().map(|s| s.as_str())
        );
    }
}
