//! The table a person reads: layer, output shape, parameters, multiply-adds, connected to.

use crate::network::Network;
use std::fmt::Write;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    pub layer: String,
    pub kind: &'static str,
    /// Height, width, channels.
    pub shape: [usize; 3],
    pub params: usize,
    /// Multiply-adds for one picture.
    pub macs: u64,
    /// What of the network's input a cell sees, as [`crate::op::Field`] has it: how much, in pixels down and right,
    pub field: [usize; 2],
    /// how far one cell's is from the next's,
    pub jump: [usize; 2],
    /// and where the first cell's begins.
    pub start: [isize; 2],
    pub inputs: Vec<String>,
}

/// The rows of the table, one a node.
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

/// The table as text, in the manner of Keras' `model.summary()`, with a line of totals.
pub fn table(net: &Network) -> String {
    let mut lines =
        vec![["Layer (type)", "Output shape", "Params", "Multiply-adds", "Connected to"].map(str::to_owned)];
    lines.extend(rows(net).into_iter().map(|r| {
        [
            format!("{} ({})", r.layer, r.kind),
            r.shape.map(|d| d.to_string()).join("x"),
            thousands(r.params as u64),
            thousands(r.macs),
            r.inputs.join(", "),
        ]
    }));
    let mut width = [0; 5];
    for line in &lines {
        for (w, cell) in width.iter_mut().zip(line) {
            *w = (*w).max(cell.len());
        }
    }
    let rule = "-".repeat(width[..4].iter().sum::<usize>() + 8 + "Connected to".len());
    let mut text = String::new();
    for (i, [layer, shape, params, macs, inputs]) in lines.iter().enumerate() {
        let line = format!(
            "{layer:<w0$}  {shape:<w1$}  {params:>w2$}  {macs:>w3$}  {inputs}",
            w0 = width[0],
            w1 = width[1],
            w2 = width[2],
            w3 = width[3],
        );
        let _ = writeln!(text, "{}", line.trim_end());
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

/// `13,374,120`.
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
    use crate::googlenet::Spec;

    #[test]
    fn the_table_names_every_layer_and_the_total() {
        let text = table(&Spec::default().build().unwrap());
        assert!(text.contains("Total: 13,374,120 parameters"));
        let line = text.lines().find(|l| l.starts_with("inception_3a/5x5_reduce ")).unwrap();
        assert!(line.contains("28x28x16") && line.contains("3,088") && line.contains("2,408,448"));
        assert!(line.ends_with("pool2/3x3_s2"));
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            ["0", "999", "1,000", "120,422,400"],
            [0, 999, 1000, 120_422_400].map(thousands).each_ref().map(|s| s.as_str())
        );
    }
}
