//! How good predictions are: accuracy, confusion matrix, precision and recall of each class, calibration, cross-entropy.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt::Write;

/// The number of bins of [`Evaluation::calibration`], of equal width.
const BINS: usize = 15;

/// What predictions of a set of examples are worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    pub examples: usize,
    /// The share of examples whose class has the highest probability.
    pub accuracy: f64,
    /// The mean of -ln p, where p is the probability that was predicted for the example's class.
    pub cross_entropy: f64,
    /// How many examples of each class (rows) were predicted as which class (columns).
    pub confusion: Vec<Vec<usize>>,
    pub per_class: Vec<ClassMetrics>,
    /// The expected calibration error: the mean difference, over all examples, between the predicted probability and the
    /// accuracy in its bin (Guo et al., "On calibration of modern neural networks", ICML 2017).
    pub calibration_error: f64,
    /// Bins that are not empty, by the probability of the predicted class.
    pub calibration: Vec<Bin>,
}

/// What predictions of one class are worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// The number of examples of the class.
    pub examples: usize,
    /// The share of the class's examples that were predicted as it. `None` where it has none.
    pub recall: Option<f64>,
    /// The share of the class among the examples that were predicted as it. `None` where there are none.
    pub precision: Option<f64>,
    /// The harmonic mean of precision and recall. `None` where the class has no examples and was never predicted.
    pub f1: Option<f64>,
}

/// Examples for whose predicted class the probability was in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bin {
    pub from: f64,
    pub to: f64,
    pub examples: usize,
    /// The mean probability of the predicted class.
    pub probability: f64,
    /// The share of right predictions.
    pub accuracy: f64,
}

/// The class with the highest probability; the first of them where there are several.
pub fn predicted(probabilities: &[f32]) -> usize {
    probabilities.iter().enumerate().fold(0, |best, (i, p)| if *p > probabilities[best] { i } else { best })
}

impl Evaluation {
    /// Judges predictions (examples, classes) of examples with these classes. Fails with [`Error::Argument`] where the
    /// arguments do not fit together.
    pub fn new(probabilities: &[f32], labels: &[usize], classes: usize) -> Result<Self> {
        if probabilities.len() != labels.len() * classes || labels.iter().any(|&label| label >= classes) {
            let reason = format!(
                "{} probabilities are not those of {} examples and {classes} classes",
                probabilities.len(),
                labels.len()
            );
            return Err(Error::Argument(reason));
        }
        let mut confusion = vec![vec![0; classes]; classes];
        let mut bins = [(0, 0, 0.0); BINS];
        let mut loss = 0.0;
        for (p, &label) in probabilities.chunks_exact(classes.max(1)).zip(labels) {
            let class = predicted(p);
            confusion[label][class] += 1;
            // A probability that was rounded to zero costs as much as the smallest number.
            loss -= f64::from(p[label].max(f32::MIN_POSITIVE)).ln();
            let (count, right, sum) = &mut bins[((p[class] * BINS as f32) as usize).min(BINS - 1)];
            *count += 1;
            *right += usize::from(class == label);
            *sum += f64::from(p[class]);
        }
        let right = (0..classes).map(|c| confusion[c][c]).sum();
        let per_class = (0..classes).map(|class| ClassMetrics::new(&confusion, class)).collect();
        let gap = bins.iter().map(|&(_, right, sum)| (right as f64 - sum).abs()).sum::<f64>();
        let bin = |(i, &(count, right, sum)): (usize, &(usize, usize, f64))| {
            let [from, to] = [i, i + 1].map(|edge| edge as f64 / BINS as f64);
            let probability = sum / count as f64;
            (count > 0).then(|| Bin { from, to, examples: count, probability, accuracy: part(right, count) })
        };
        Ok(Evaluation {
            examples: labels.len(),
            accuracy: part(right, labels.len()),
            cross_entropy: loss / labels.len().max(1) as f64,
            confusion,
            per_class,
            calibration_error: gap / labels.len().max(1) as f64,
            calibration: bins.iter().enumerate().filter_map(bin).collect(),
        })
    }

    /// The number of right predictions.
    pub fn right(&self) -> usize {
        (0..self.confusion.len()).map(|c| self.confusion[c][c]).sum()
    }

    /// Pairs of different classes with the number of examples of the first that were predicted as the second, the most
    /// frequent first.
    pub fn confusions(&self) -> Vec<(usize, usize, usize)> {
        let cells = self
            .confusion
            .iter()
            .enumerate()
            .flat_map(|(label, row)| row.iter().enumerate().map(move |(class, &count)| (label, class, count)));
        let mut pairs: Vec<_> = cells.filter(|(label, class, count)| label != class && *count > 0).collect();
        pairs.sort_by_key(|&(_, _, count)| std::cmp::Reverse(count));
        pairs
    }

    /// The classes' metrics and the confusion matrix as a table for people. Of many classes it has only the most frequent
    /// confusions. `names` are the classes' names.
    pub fn table(&self, names: &[String]) -> String {
        let mut text = String::new();
        self.class_table(names, &mut text);
        // More columns would not fit on a screen.
        if self.confusion.len() <= MAX_COLUMNS {
            self.matrix(names, &mut text)
        } else {
            self.most(names, &mut text)
        }
        text
    }

    fn class_table(&self, names: &[String], text: &mut String) {
        let width = names.iter().map(|name| length(name)).max().unwrap_or(0).max("class".len());
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}  pictures   recall  precision       F1", padded("class", width));
        for (name, class) in names.iter().zip(&self.per_class) {
            let [recall, precision, f1] = [class.recall, class.precision, class.f1].map(percent);
            let name = padded(name, width);
            let _ = writeln!(text, "{name}  {:>8}  {recall:>7}  {precision:>9}  {f1:>7}", class.examples);
        }
    }

    fn matrix(&self, names: &[String], text: &mut String) {
        let counts = self.confusion.iter().flatten().max().map_or(1, |most| most.to_string().len());
        let longest = names.iter().map(|name| length(name)).max().unwrap_or(0);
        // Columns have the classes' names if they fit, otherwise the rows' numbers.
        let numbered = (longest.max(counts) + 2) * names.len() > SCREEN - longest.min(SCREEN);
        let heads: Vec<String> =
            if numbered { (1..=names.len()).map(|n| n.to_string()).collect() } else { names.to_vec() };
        let column = heads.iter().map(|head| length(head)).max().unwrap_or(0).max(counts) + 2;
        let rows = names
            .iter()
            .zip(&heads)
            .map(|(name, head)| if numbered { format!("{head:>2} {name}") } else { name.clone() });
        let rows: Vec<String> = rows.collect();
        let width = rows.iter().map(|row| length(row)).max().unwrap_or(0);
        let _ = write!(text, "\nConfusion matrix: classes (rows), predicted as (columns)\n{}", padded("", width));
        heads.iter().for_each(|head| text.push_str(&flushed(head, column)));
        text.push('\n');
        for (row, counts) in rows.iter().zip(&self.confusion) {
            text.push_str(&padded(row, width));
            // Zeros are dots, so that the others are seen.
            let cell = |&count: &usize| if count == 0 { ".".to_owned() } else { count.to_string() };
            counts.iter().for_each(|count| text.push_str(&flushed(&cell(count), column)));
            text.push('\n');
        }
    }

    fn most(&self, names: &[String], text: &mut String) {
        let confusions = self.confusions();
        if confusions.is_empty() {
            return;
        }
        let _ = writeln!(text, "\nMost frequent confusions");
        for &(label, class, count) in confusions.iter().take(MAX_CONFUSIONS) {
            let of = self.per_class[label].examples;
            let _ = writeln!(text, "  {count} of {of} pictures of {} as {}", names[label], names[class]);
        }
    }
}

/// The most classes for which the confusion matrix is printed.
const MAX_COLUMNS: usize = 20;
/// The number of confusions that are printed in place of the matrix.
const MAX_CONFUSIONS: usize = 20;
/// The number of characters in a line of a screen.
const SCREEN: usize = 110;

impl ClassMetrics {
    fn new(confusion: &[Vec<usize>], class: usize) -> Self {
        let right = confusion[class][class];
        let examples: usize = confusion[class].iter().sum();
        let predicted: usize = confusion.iter().map(|row| row[class]).sum();
        let share = |whole: usize| (whole > 0).then(|| part(right, whole));
        let f1 = (examples + predicted > 0).then(|| part(2 * right, examples + predicted));
        ClassMetrics { examples, recall: share(examples), precision: share(predicted), f1 }
    }
}

fn part(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share))
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(length(text))))
}

fn flushed(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(length(text))))
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_small_case_has_the_numbers_of_a_calculation_by_hand() {
        let p = [0.9f32, 0.08, 0.02, 0.8, 0.15, 0.05, 0.3, 0.6, 0.1, 0.55, 0.25, 0.2];
        let e = Evaluation::new(&p, &[0, 1, 1, 0], 3).unwrap();
        assert_eq!((e.examples, e.right(), e.accuracy), (4, 3, 0.75));
        assert_eq!(e.confusion, [[2, 0, 0], [1, 1, 0], [0, 0, 0]]);
        let loss = -(0.9f64.ln() + 0.15f64.ln() + 0.6f64.ln() + 0.55f64.ln()) / 4.0;
        assert!((e.cross_entropy - loss).abs() < 1e-7);
        // (|1 - 0.9| + |0 - 0.8| + |1 - 0.6| + |1 - 0.55|) / 4, where each example is in a bin of its own.
        assert!((e.calibration_error - 0.4375).abs() < 1e-7, "{}", e.calibration_error);
        assert_eq!(e.calibration.len(), 4);
        let [a, b, c] = e.per_class[..] else { panic!("three classes") };
        assert_eq!((a.examples, a.recall, a.precision, a.f1), (2, Some(1.0), Some(2.0 / 3.0), Some(0.8)));
        assert_eq!((b.examples, b.recall, b.precision, b.f1), (2, Some(0.5), Some(1.0), Some(2.0 / 3.0)));
        assert_eq!((c.examples, c.recall, c.precision, c.f1), (0, None, None, None));
        assert_eq!(e.confusions(), [(1, 0, 1)]);
        let other = Evaluation::new(&p, &[0, 0, 1, 0], 3).unwrap();
        assert_ne!((e.accuracy, &e.confusion), (other.accuracy, &other.confusion));
    }

    #[test]
    fn examples_of_one_bin_are_judged_together() {
        // Ten predictions with 0.8, of which eight are right: perfectly calibrated.
        let p: Vec<f32> = (0..10).flat_map(|_| [0.8, 0.2]).collect();
        let labels: Vec<usize> = (0..10).map(|i| usize::from(i < 2)).collect();
        let e = Evaluation::new(&p, &labels, 2).unwrap();
        assert!(e.calibration_error < 1e-7);
        assert_eq!((e.calibration.len(), e.calibration[0].examples, e.calibration[0].accuracy), (1, 10, 0.8));
        assert!(Evaluation::new(&p, &[0; 10], 2).unwrap().calibration_error > 0.19);
    }

    #[test]
    fn tables_are_aligned_whatever_the_names() {
        let p = [0.9f32, 0.1, 0.4, 0.6, 0.8, 0.2];
        let e = Evaluation::new(&p, &[0, 1, 1], 2).unwrap();
        let text = e.table(&names(&["Küche", "sofa"]));
        let expected = "class  pictures   recall  precision       F1\n\
                        Küche         1  100.0 %     50.0 %   66.7 %\n\
                        sofa          2   50.0 %    100.0 %   66.7 %\n\
                        \n\
                        Confusion matrix: classes (rows), predicted as (columns)\n     \x20 Küche   sofa\n\
                        Küche      1      .\nsofa       1      1\n";
        assert_eq!(text, expected);
        // Names that are too long for columns are numbered.
        let long = names(&[&"a".repeat(60), &"b".repeat(60)]);
        let text = e.table(&long);
        assert!(text.contains(&format!(" 2 {}  1  1\n", "b".repeat(60))), "{text}");
    }

    #[test]
    fn many_classes_have_their_most_frequent_confusions() {
        let classes = 30;
        let mut p = vec![0f32; 60 * classes];
        let labels: Vec<usize> = (0..60).map(|i| i % classes).collect();
        for (i, &label) in labels.iter().enumerate() {
            let class = if label == 7 { 3 } else { label };
            p[i * classes + class] = 1.0;
        }
        let e = Evaluation::new(&p, &labels, classes).unwrap();
        let text = e.table(&(0..classes).map(|i| format!("class {i}")).collect::<Vec<_>>());
        assert!(text.contains("Most frequent confusions\n  2 of 2 pictures of class 7 as class 3\n"), "{text}");
        assert!(!text.contains("Confusion matrix"));
        assert!(e.cross_entropy.is_finite());
    }

    #[test]
    fn numbers_that_do_not_fit_together_are_errors_and_no_examples_are_none() {
        assert!(Evaluation::new(&[0.5; 5], &[0, 1], 2).is_err() && Evaluation::new(&[0.5; 4], &[0, 2], 2).is_err());
        let none = Evaluation::new(&[], &[], 2).unwrap();
        assert_eq!((none.accuracy, none.cross_entropy, none.calibration_error), (0.0, 0.0, 0.0));
    }
}
