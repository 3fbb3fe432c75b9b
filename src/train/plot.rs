//! A plot of a training as an SVG file: the loss of each head, the accuracy, and the learning rate over the epochs.
//!
//! The file has no scripts and loads nothing. It is dark where the reader prefers dark pages.

use crate::train::history::Epoch;

const WIDTH: f64 = 720.0;
/// The space at the left for the numbers of the axes, and at the right.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
/// The space above the first panel for the title, and above and below the lines of each panel.
const TOP: f64 = 44.0;
const HEADING: f64 = 34.0;
const BELOW: f64 = 14.0;
/// The space below the last panel for the numbers and the name of the axis.
const BOTTOM: f64 = 40.0;
/// The greatest number of epochs for which each value has a dot.
const DOTS: usize = 40;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#59636e}\
.t{font-size:16px;font-weight:600;fill:#1f2328}.h{font-size:13px;font-weight:600;fill:#1f2328}\
.p{fill:#fff}.g{stroke:#e4e8ec}.a{stroke:#b6bfc8}path{fill:none;stroke-width:1.8;stroke-linejoin:round}\
.s0{stroke:#0969da}.s1{stroke:#d9590f}.s2{stroke:#8250df}.s3{stroke:#1a7f37}.s4{stroke:#0e7c86}\
.d0{fill:#0969da}.d1{fill:#d9590f}.d2{fill:#8250df}.d3{fill:#1a7f37}.d4{fill:#0e7c86}\
@media(prefers-color-scheme:dark){text{fill:#9aa4ae}.t,.h{fill:#e6edf3}.p{fill:#0d1117}.g{stroke:#222932}\
.a{stroke:#4b5560}.s0{stroke:#58a6ff}.s1{stroke:#f0883e}.s2{stroke:#bc8cff}.s3{stroke:#3fb950}.s4{stroke:#39c5cf}\
.d0{fill:#58a6ff}.d1{fill:#f0883e}.d2{fill:#bc8cff}.d3{fill:#3fb950}.d4{fill:#39c5cf}}";

/// The number of a colour in [`STYLE`].
const ACCURACY: usize = 3;
const RATE: usize = 4;

/// One line of a panel.
struct Series {
    name: String,
    colour: usize,
    /// The value of each epoch. Values that are not finite are gaps.
    values: Vec<f64>,
}

/// One coordinate system, with the epochs across.
struct Panel {
    heading: String,
    /// Pixels.
    height: f64,
    series: Vec<Series>,
    /// Whether the axis begins at 0.
    from_zero: bool,
    /// Values and their differences are shares, and are shown as percentages.
    percent: bool,
}

/// An SVG file of these epochs, the first of which has the number 1. Panels without any finite value are left out.
pub fn svg(title: &str, epochs: &[Epoch]) -> String {
    let mut names: Vec<&String> = epochs.iter().flat_map(|epoch| epoch.heads.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let series = |name: &str, colour: usize, value: &dyn Fn(&Epoch) -> f32| Series {
        name: name.to_owned(),
        colour,
        values: epochs.iter().map(|epoch| f64::from(value(epoch))).collect(),
    };
    let head = |(index, name): (usize, &&String)| {
        let value = |epoch: &Epoch| epoch.heads.get(*name).copied().unwrap_or(f32::NAN);
        // The last head, which gives the answer, always has the first colour.
        series(name, (names.len() - 1 - index) % ACCURACY, &value)
    };
    let mut losses: Vec<Series> = names.iter().enumerate().map(head).collect();
    if losses.is_empty() {
        losses.push(series("loss", 0, &|epoch| epoch.loss));
    }
    let accuracy = series("held-out accuracy", ACCURACY, &|epoch| epoch.accuracy.unwrap_or(f32::NAN));
    let panel = |heading: &str, height, series: Vec<Series>, from_zero, percent| Panel {
        heading: heading.to_owned(),
        height,
        series,
        from_zero,
        percent,
    };
    let panels = [
        panel(if names.len() > 1 { "Training loss of each head" } else { "Training loss" }, 190.0, losses, true, false),
        panel(&accuracy_heading(&accuracy.values), 140.0, vec![accuracy], false, true),
        panel("Learning rate", 80.0, vec![series("learning rate", RATE, &|epoch| epoch.rate)], true, false),
    ];
    let panels: Vec<Panel> = panels.into_iter().filter(|panel| panel.values().next().is_some()).collect();

    let height = TOP + BOTTOM + panels.iter().map(|panel| HEADING + panel.height + BELOW).sum::<f64>();
    let title = escape(title);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"p\" width=\"{WIDTH}\" height=\"{height}\"/>\n<text class=\"t\" x=\"{LEFT}\" y=\"28\">{title}</text>\n"
    );
    let mut top = TOP;
    for panel in &panels {
        panel.draw(&mut out, top, epochs.len());
        top += HEADING + panel.height + BELOW;
    }
    for epoch in epoch_ticks(epochs.len()) {
        let (x, y) = (number(across(epoch, epochs.len())), number(top + 6.0));
        out += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>\n", epoch + 1);
    }
    let (x, y) = (number((LEFT + WIDTH - RIGHT) / 2.0), number(height - 10.0));
    let below = if panels.is_empty() { "No epoch is finished yet" } else { "Epoch" };
    out += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{below}</text>\n</svg>\n");
    out
}

fn accuracy_heading(values: &[f64]) -> String {
    let mut finite = values.iter().enumerate().filter(|(_, v)| v.is_finite());
    // The first epoch of those with the greatest accuracy.
    let best = finite.clone().fold(None, |best: Option<(usize, f64)>, (i, &v)| match best {
        Some((_, most)) if v <= most => best,
        _ => Some((i, v)),
    });
    match (best, finite.next_back()) {
        (Some((epoch, best)), Some((last, end))) => {
            let [best, end] = [best, *end].map(|v| format!("{:.1} %", 100.0 * v));
            let best =
                if epoch == last { "its best value".to_owned() } else { format!("{best} in epoch {}", epoch + 1) };
            format!("Held-out accuracy: {end} at the end, {best}")
        }
        _ => "Held-out accuracy".to_owned(),
    }
}

impl Panel {
    fn values(&self) -> impl Iterator<Item = f64> {
        self.series.iter().flat_map(|series| &series.values).copied().filter(|v| v.is_finite())
    }

    fn draw(&self, out: &mut String, top: f64, epochs: usize) {
        *out += &format!("<text class=\"h\" x=\"{LEFT}\" y=\"{}\">{}</text>\n", number(top + 20.0), self.heading);
        self.draw_legend(out, top + 16.0);
        let bottom = top + HEADING + self.height;
        let least = if self.from_zero { 0.0 } else { self.values().fold(f64::INFINITY, f64::min) };
        let most = self.values().fold(f64::NEG_INFINITY, f64::max);
        let limits = if self.percent { [0.0, 1.0] } else { [f64::NEG_INFINITY, f64::INFINITY] };
        let axis = Axis::new(least, most, limits, (self.height / 40.0) as usize);
        let down = |value: f64| bottom - axis.share(value) * self.height;
        for at in axis.ticks() {
            let y = number(down(axis.value(at)));
            let class = if at == axis.first { "a" } else { "g" };
            let (x1, x2, label) = (LEFT, WIDTH - RIGHT, axis.label(at, self.percent));
            *out += &format!("<line class=\"{class}\" x1=\"{x1}\" x2=\"{x2}\" y1=\"{y}\" y2=\"{y}\"/>\n");
            let (x, y) = (LEFT - 8.0, number(down(axis.value(at)) + 4.0));
            *out += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{label}</text>\n");
        }
        for epoch in epoch_ticks(epochs) {
            let (x, y1, y2) = (number(across(epoch, epochs)), number(bottom), number(bottom + 4.0));
            *out += &format!("<line class=\"a\" x1=\"{x}\" x2=\"{x}\" y1=\"{y1}\" y2=\"{y2}\"/>\n");
        }
        for Series { colour, values, .. } in &self.series {
            let mut path = String::new();
            let mut dots = String::new();
            let mut pen = "M";
            for (epoch, &value) in values.iter().enumerate() {
                if !value.is_finite() {
                    pen = "M";
                    continue;
                }
                let (x, y) = (number(across(epoch, epochs)), number(down(value)));
                path += &format!("{pen}{x} {y}");
                pen = "L";
                if epochs <= DOTS {
                    dots += &format!("<circle class=\"d{colour}\" cx=\"{x}\" cy=\"{y}\" r=\"2.4\"/>\n");
                }
            }
            *out += &format!("<path class=\"s{colour}\" d=\"{path}\"/>\n{dots}");
        }
    }

    /// Draws the colour and the name of each line, if there are several, in the right corner above the panel.
    fn draw_legend(&self, out: &mut String, y: f64) {
        if self.series.len() < 2 {
            return;
        }
        let mut right = WIDTH - RIGHT;
        for Series { name, colour, .. } in self.series.iter().rev() {
            // The width of text is not known here. Letters are about 7 pixels wide.
            let left = right - 7.0 * name.chars().count() as f64;
            let (x, line) = (number(left), number(left - 22.0));
            *out += &format!("<path class=\"s{colour}\" d=\"M{line} {}h16\"/>\n", number(y));
            *out += &format!("<text x=\"{x}\" y=\"{}\">{}</text>\n", number(y + 4.0), escape(name));
            right = left - 38.0;
        }
    }
}

/// A vertical axis, whose ticks are the multiples `first ..= last` of `digit * 10^power`.
struct Axis {
    digit: f64,
    power: i32,
    first: i64,
    last: i64,
}

impl Axis {
    /// The axis with about this number of intervals that shows all values from `least` to `most`, but nothing outside the
    /// limits.
    fn new(least: f64, most: f64, [low, high]: [f64; 2], intervals: usize) -> Self {
        // Where all values are the same, the axis still has a length.
        let length = if most > least { most - least } else { least.abs().max(1e-12) };
        let rough = length / intervals.max(1) as f64;
        let power = rough.log10().floor() as i32;
        let enough = |digit: &f64| digit * 10f64.powi(power) >= rough * 0.99;
        let (digit, power) = [1.0, 2.0, 5.0].into_iter().find(enough).map_or((1.0, power + 1), |digit| (digit, power));
        let step = digit * 10f64.powi(power);
        // A value that is a tick but for rounding needs no further tick.
        let first = (least / step + 1e-9).floor() as i64;
        let last = ((most / step - 1e-9).ceil() as i64).max(first + 1);
        let (lowest, highest) = ((low / step).ceil() as i64, (high / step + 1e-9).floor() as i64);
        let axis = Axis { digit, power, first: first.max(lowest), last: last.min(highest) };
        // An axis at the upper limit grows downwards.
        if axis.first < axis.last { axis } else { Axis { first: axis.last - 1, ..axis } }
    }

    fn ticks(&self) -> impl Iterator<Item = i64> {
        self.first..=self.last
    }

    fn value(&self, tick: i64) -> f64 {
        tick as f64 * self.digit * 10f64.powi(self.power)
    }

    /// Where a value is between the ends of the axis, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let [first, last] = [self.first, self.last].map(|tick| self.value(tick));
        ((value - first) / (last - first)).clamp(0.0, 1.0)
    }

    fn label(&self, tick: i64, percent: bool) -> String {
        let (value, power) =
            if percent { (100.0 * self.value(tick), self.power + 2) } else { (self.value(tick), self.power) };
        let text = if tick == 0 && !percent {
            "0".to_owned()
        } else if percent || (-4..5).contains(&power) {
            format!("{value:.*}", usize::try_from(-power).unwrap_or(0))
        } else {
            format!("{value:.1e}").replace(".0e", "e")
        };
        if percent { text + " %" } else { text }
    }
}

/// The indices of the epochs that have a number at the axis: at most 10, at even distances.
fn epoch_ticks(epochs: usize) -> impl Iterator<Item = usize> {
    let steps = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10usize.pow(power)));
    let step = steps.take(40).find(|step| epochs / step <= 10).unwrap_or(usize::MAX);
    (0..epochs).filter(move |epoch| (epoch + 1) % step == 0)
}

/// The place of an epoch, in pixels from the left.
fn across(epoch: usize, epochs: usize) -> f64 {
    let width = WIDTH - LEFT - RIGHT;
    if epochs < 2 { LEFT + width / 2.0 } else { LEFT + width * epoch as f64 / (epochs - 1) as f64 }
}

/// A coordinate, to a tenth of a pixel.
fn number(value: f64) -> String {
    format!("{value:.1}").replace(".0", "")
}

/// Text as XML writes it. Control characters, which XML 1.0 forbids, are replaced.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(n: usize) -> Vec<Epoch> {
        let at = |i: usize| i as f32 / n.max(2) as f32;
        let heads = |i: usize| {
            let values = [("loss1", 2.0), ("loss2", 1.9), ("loss3", 2.3)];
            values.map(|(name, top)| (name.to_owned(), top * (-2.5 * at(i)).exp() + 0.1 * (i % 3) as f32)).into()
        };
        let epoch = |i| Epoch {
            loss: 3.0 - at(i),
            heads: heads(i),
            accuracy: Some(0.93 - 0.6 * (-4.0 * at(i)).exp()),
            rate: 3e-3 * (1.0 - at(i)).sqrt(),
        };
        (0..n).map(epoch).collect()
    }

    /// The numbers of the attributes of this name.
    fn attributes(svg: &str, name: &str) -> Vec<f64> {
        let from = format!(" {name}=\"");
        svg.split(&from).skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect()
    }

    #[test]
    fn every_value_is_a_point_and_every_line_has_a_name() {
        let svg = svg("CIFAR-10 <from scratch> & \"more\"", &epochs(20));
        assert!(svg.contains("<title>CIFAR-10 &lt;from scratch&gt; &amp; &quot;more&quot;</title>"));
        for text in ["Training loss of each head", "Held-out accuracy: ", "Learning rate", "Epoch", "loss1", "loss3"] {
            assert!(svg.contains(text), "{text}");
        }
        // Three heads, the accuracy and the rate; and the legend of three.
        assert_eq!((svg.matches("<path").count(), svg.matches("<circle").count()), (5 + 3, 5 * 20));
        assert!(svg.contains("prefers-color-scheme:dark") && !svg.contains("script"));
        // The lines fall as the values do: y grows downwards.
        let y = attributes(&svg, "cy");
        assert!(y[0] < y[19] && y[60] > y[79] && y[80] < y[99]);
        // Nothing lies outside the picture.
        let height = attributes(&svg, "height")[0];
        for (name, most) in [("x", WIDTH), ("x1", WIDTH), ("x2", WIDTH), ("cx", WIDTH), ("y", height), ("cy", height)] {
            let values = attributes(&svg, name);
            assert!(!values.is_empty() && values.iter().all(|v| (0.0..=most).contains(v)), "{name}: {values:?}");
        }
        assert!(svg.len() < 12_000, "{}", svg.len());
    }

    #[test]
    fn missing_values_are_gaps() {
        let mut some = epochs(6);
        some[2].heads.insert("loss3".into(), f32::NAN);
        some[4].accuracy = None;
        let svg = svg("x", &some);
        assert_eq!(svg.matches("<circle").count(), 5 * 6 - 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.contains("Held-out accuracy: 90.9 % at the end, its best value"), "a heading");
        some[1].accuracy = Some(0.95);
        assert!(super::svg("x", &some).contains("Held-out accuracy: 90.9 % at the end, 95.0 % in epoch 2"));
        some.iter_mut().for_each(|epoch| epoch.accuracy = None);
        assert!(!super::svg("x", &some).contains("accuracy"));
    }

    #[test]
    fn few_and_many_epochs_are_plots_too() {
        assert!(svg("x", &[]).contains("No epoch is finished yet"));
        let one = svg("x", &epochs(1));
        assert!(one.contains("<circle") && !one.contains("NaN"));
        let same = svg("x", &vec![Epoch { accuracy: Some(1.0), ..Epoch::default() }; 3]);
        assert!(same.contains(">100 %<") && !same.contains("110 %") && !same.contains("NaN"));
        let many = svg("x", &epochs(1000));
        assert!(!many.contains("<circle") && many.contains(">1000<"));
        let diverged = svg("x", &[Epoch { loss: f32::NAN, rate: f32::INFINITY, ..Epoch::default() }]);
        assert!(diverged.contains("No epoch is finished yet"));
        let huge = svg("x", &[Epoch { loss: f32::MAX, rate: 1e-30, ..Epoch::default() }, Epoch::default()]);
        assert!(!huge.contains("NaN") && !huge.contains("inf"));
    }

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |least, most, limits, percent| -> Vec<String> {
            let axis = Axis::new(least, most, limits, 4);
            axis.ticks().map(|tick| axis.label(tick, percent)).collect()
        };
        let free = [f64::NEG_INFINITY, f64::INFINITY];
        assert_eq!(labels(0.0, 2.3, free, false), ["0", "1", "2", "3"]);
        assert_eq!(labels(0.0, 0.01, free, false), ["0", "0.005", "0.010"]);
        assert_eq!(labels(0.0, 3e-6, free, false), ["0", "1e-6", "2e-6", "3e-6"]);
        assert_eq!(labels(0.0, 6e6, free, false), ["0", "2e6", "4e6", "6e6"]);
        assert_eq!(labels(0.31, 0.93, [0.0, 1.0], true), ["20 %", "40 %", "60 %", "80 %", "100 %"]);
        assert_eq!(labels(0.972, 0.985, [0.0, 1.0], true), ["97.0 %", "97.5 %", "98.0 %", "98.5 %"]);
        assert_eq!(labels(1.0, 1.0, [0.0, 1.0], true), ["50 %", "100 %"]);
        assert_eq!(labels(0.0, 0.0, [0.0, 1.0], true).first().map(String::as_str), Some("0.00000000000 %"));
        let ticks = |n| epoch_ticks(n).map(|epoch| epoch + 1).collect::<Vec<_>>();
        assert_eq!(ticks(3), [1, 2, 3]);
        assert_eq!(ticks(25), [5, 10, 15, 20, 25]);
        assert_eq!(ticks(90).len(), 9);
    }

    /// Writes a plot to look at.
    #[test]
    #[ignore = "writes plot.svg into the folder for temporary files"]
    fn write_plot() {
        let path = std::env::temp_dir().join("plot.svg");
        std::fs::write(&path, svg("GoogLeNet on CIFAR-10, from scratch", &epochs(25))).unwrap();
        println!("{}", path.display());
    }
}
