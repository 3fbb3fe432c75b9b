//! What a training says at its end, as text and as JSON.

use super::features::Skipped;
use googlenet::train::dataset::File;
use googlenet::train::head::Candidate;
use googlenet::train::history::Epoch;
use googlenet::train::metrics::{ClassMetrics, Evaluation, predicted};
use serde::Serialize;
use std::fmt::Write;

/// The most wrong predictions that are printed.
const MAX_WRONG: usize = 10;

/// The results of a training as JSON.
#[derive(Serialize)]
pub struct Report {
    pub model: String,
    pub base: String,
    pub depth: String,
    pub backend: &'static str,
    pub adapter: String,
    pub seed: u32,
    /// The number of pictures that the model was trained on.
    pub pictures: usize,
    /// The chosen penalty, and all that were tried.
    pub penalty: f64,
    pub candidates: Vec<Candidate>,
    pub held_out: HeldOut,
    pub seconds: Seconds,
    /// Empty where a training has no epochs.
    pub epochs: Vec<()>,
    pub skipped: Vec<Skipped>,
    /// Pictures that are the same in several files, the first of them first.
    pub copies: Vec<Vec<String>>,
}

/// The results of a training with epochs as JSON.
#[derive(Serialize)]
pub struct DeepReport {
    pub model: String,
    /// The model that the training began with; `None` where it began with random weights.
    pub base: Option<String>,
    pub depth: String,
    pub backend: &'static str,
    pub adapter: String,
    pub seed: u32,
    /// The number of pictures that the model was trained on.
    pub pictures: usize,
    pub held_out: HeldOut,
    pub seconds: Seconds,
    pub epochs: Vec<Epoch>,
    pub skipped: Vec<Skipped>,
}

/// How pictures were predicted that the model, or the fold's classifier, was not trained on.
#[derive(Serialize)]
pub struct HeldOut {
    /// `kfold:N`, the share, or `folder`.
    pub validation: String,
    pub pictures: usize,
    pub accuracy: f64,
    pub cross_entropy: f64,
    pub calibration_error: f64,
    /// The names of the classes, in the order of `confusion` and `per_class`.
    pub classes: Vec<String>,
    /// Rows are classes, columns are predictions.
    pub confusion: Vec<Vec<usize>>,
    pub per_class: Vec<ClassMetrics>,
    /// The most certain first.
    pub wrong: Vec<Wrong>,
}

/// A picture that was predicted as another class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wrong {
    pub image: String,
    pub class: String,
    pub predicted: String,
    /// The probability of the predicted class.
    pub probability: f32,
}

#[derive(Serialize)]
pub struct Seconds {
    pub features: f64,
    pub fit: f64,
}

impl HeldOut {
    pub fn new(
        validation: String,
        evaluation: &Evaluation,
        classes: &[String],
        files: &[File],
        probabilities: &[f32],
    ) -> Self {
        let wrong = |(file, p): (&File, &[f32])| {
            let class = predicted(p);
            (class != file.class).then(|| Wrong {
                image: file.path.display().to_string(),
                class: classes[file.class].clone(),
                predicted: classes[class].clone(),
                probability: p[class],
            })
        };
        let predictions = files.iter().zip(probabilities.chunks_exact(classes.len().max(1)));
        let mut wrong: Vec<Wrong> = predictions.filter_map(wrong).collect();
        wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        HeldOut {
            validation,
            pictures: evaluation.examples,
            accuracy: evaluation.accuracy,
            cross_entropy: evaluation.cross_entropy,
            calibration_error: evaluation.calibration_error,
            classes: classes.to_vec(),
            confusion: evaluation.confusion.clone(),
            per_class: evaluation.per_class.clone(),
            wrong,
        }
    }

    /// The wrong predictions as lines of text.
    pub fn wrong_text(&self) -> String {
        let mut text = String::new();
        if self.wrong.is_empty() {
            return text;
        }
        // Writing into a String cannot fail.
        let _ = match self.wrong.len() {
            count @ 2.. if count > MAX_WRONG => {
                writeln!(text, "{count} pictures were predicted wrong. The {MAX_WRONG} most certain:")
            }
            1 => writeln!(text, "One picture was predicted wrong:"),
            count => writeln!(text, "{count} pictures were predicted wrong, the most certain first:"),
        };
        for Wrong { image, class, predicted, probability } in self.wrong.iter().take(MAX_WRONG) {
            let _ = writeln!(text, "  {image}: {predicted} ({:.1} %) instead of {class}", 100.0 * probability);
        }
        text
    }

    /// A warning where predictions are worth nothing.
    pub fn warning(&self) -> Option<String> {
        let counts = self.per_class.iter().map(|class| class.examples);
        let guess = counts.max().unwrap_or(0) as f64 / self.pictures.max(1) as f64;
        (self.accuracy <= guess).then(|| {
            format!(
                "this is not better than to name the most frequent class for every picture, which is right for {:.1} % \
                 of them",
                100.0 * guess
            )
        })
    }
}

/// A number with three digits.
pub fn short(value: f64) -> String {
    let digits = (2.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_out(labels: &[usize], probabilities: &[f32]) -> HeldOut {
        let classes = ["cat", "dog"].map(String::from);
        let file = |(i, &class): (usize, &usize)| File { path: format!("{i}.png").into(), class };
        let files: Vec<File> = labels.iter().enumerate().map(file).collect();
        let evaluation = Evaluation::new(probabilities, labels, 2).unwrap();
        HeldOut::new("kfold:5".into(), &evaluation, &classes, &files, probabilities)
    }

    #[test]
    fn wrong_predictions_are_named_the_most_certain_first() {
        let few = held_out(&[0, 1, 1], &[0.9, 0.1, 0.6, 0.4, 0.8, 0.2]);
        let text = "2 pictures were predicted wrong, the most certain first:\n  2.png: cat (80.0 %) instead of dog\n  \
                    1.png: cat (60.0 %) instead of dog\n";
        assert_eq!(few.wrong_text(), text);
        assert!(held_out(&[0], &[0.4, 0.6]).wrong_text().starts_with("One picture was predicted wrong:\n"));
        assert_eq!(held_out(&[0], &[0.6, 0.4]).wrong_text(), "");
        let many = held_out(&[0; 30], &[0.3, 0.7].repeat(30));
        assert!(many.wrong_text().starts_with("30 pictures were predicted wrong. The 10 most certain:\n"));
        assert_eq!((many.wrong_text().lines().count(), many.wrong.len()), (11, 30));
    }

    #[test]
    fn predictions_that_are_worth_nothing_are_called_so() {
        let p = |right: usize| [[0.9f32, 0.1].repeat(right), [0.1, 0.9].repeat(10 - right)].concat();
        // Six of ten are of class 0.
        let labels = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1];
        assert!(held_out(&labels, &p(10)).warning().unwrap().contains("right for 60.0 %"));
        assert_eq!(held_out(&labels, &p(6)).warning(), None);
    }

    #[test]
    fn numbers_are_short() {
        let texts = [1e4, 316.2277, 31.6227, 1.0, 0.0316227, 0.01].map(short);
        assert_eq!(texts, ["10000", "316", "31.6", "1", "0.0316", "0.01"]);
    }
}
