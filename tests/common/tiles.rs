//! Contact sheets: every pixel is compared with an independent computation.

use super::{cases, name};
use googlenet::engine::Options;
use googlenet::graph::googlenet::Variant;
use googlenet::graph::tensor::{Shape, Tensor};
use googlenet::inspect::contact_sheet::{Colormap, Range, Sheet};
use googlenet::model::preprocess::Image;

/// Checks every pixel. A value halfway between two colours may have either of them.
fn compare(drawn: &Image, x: &Tensor, sheet: &Sheet) -> Result<(), String> {
    let Shape { h, w, c, .. } = x.shape;
    let map = |y: usize, column: usize, channel: u32| {
        x.data[((sheet.image * h + y) * w + column) * c + channel as usize] as f64
    };
    let extent = |channels: &[u32]| {
        let all = || channels.iter().flat_map(|&k| (0..h * w).map(move |p| map(p / w, p % w, k)));
        (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max))
    };
    let table = sheet.colormap.table();
    let [tile_w, tile_h] = [w, h].map(|cells| cells * sheet.scale + sheet.gap);
    for y in 0..drawn.height() {
        for column in 0..drawn.width() {
            let at = (y * drawn.width() + column) * 4;
            let got: [u8; 4] = drawn.rgba()[at..at + 4].try_into().expect("four bytes");
            let tile = (y / tile_h) * sheet.columns.min(sheet.channels.len()) + column / tile_w;
            let (inner_y, inner_x) = (y % tile_h / sheet.scale, column % tile_w / sheet.scale);
            let channel = sheet.channels.get(tile).filter(|_| inner_y < h && inner_x < w);
            let allowed = match channel {
                None => [[0; 4]; 2],
                Some(&channel) => {
                    let (mut low, mut high) = match sheet.range {
                        Range::Channel => extent(&[channel]),
                        Range::Sheet => extent(&sheet.channels),
                        Range::Fixed(low, high) => (low as f64, high as f64),
                    };
                    if sheet.colormap == Colormap::Diverging {
                        high = low.abs().max(high.abs());
                        low = -high;
                    }
                    let at = if high > low { (map(inner_y, inner_x, channel) - low) / (high - low) } else { 0.0 };
                    let level = |nudge: f64| (at * 255.0 + 0.5 + nudge).clamp(0.0, 255.0) as usize;
                    [level(-1e-3), level(1e-3)].map(|i| table[i].to_le_bytes())
                }
            };
            if !allowed.contains(&got) {
                return Err(format!("pixel {column}, {y} is {got:?}, expected {:?}; {sheet:?}", allowed[0]));
            }
        }
    }
    Ok(())
}

/// Draws nodes with buffers of their own and nodes in ranges of channels, with every colour map and range. The
/// comparison must fail for a changed pixel, and for the other picture of the batch.
pub async fn check(options: Options) -> Result<(), String> {
    // Branches are ranges of the output's channels, and begin at odd channels.
    let case = cases::module(Variant::Caffe, true, false, Shape::new(2, 5, 7, 6), 12);
    let engine = case.run(options).await?;
    for node in ["data", "inception_3a/pool", "inception_3a/3x3", "inception_3a/output"] {
        let say = |e: String| format!("{}, {node}: {e}", name(options));
        let x = engine.read(node).await.map_err(|e| say(e.to_string()))?;
        let last = x.shape.c as u32 - 1;
        let mut differing = 0;
        for colormap in [Colormap::Viridis, Colormap::Grey, Colormap::Diverging] {
            for range in [Range::Channel, Range::Sheet, Range::Fixed(-0.25, 0.75), Range::Fixed(0.5, 0.5)] {
                for (image, channels, columns, scale, gap) in
                    [(0, vec![last], 1, 1, 0), (1, vec![3, 0, last, 2, 1], 2, 3, 2), (0, vec![1, 1, 0], 9, 2, 1)]
                {
                    let sheet = Sheet { image, channels, columns, scale, gap, colormap, range };
                    let drawn = engine.draw(node, &sheet).await.map_err(|e| say(e.to_string()))?;
                    if sheet.size(x.shape) != Ok([drawn.width(), drawn.height()]) {
                        return Err(say(format!("drawn at {} by {}", drawn.width(), drawn.height())));
                    }
                    compare(&drawn, &x, &sheet).map_err(say)?;
                    let mut rgba = drawn.rgba().to_vec();
                    rgba[0] ^= 0x80;
                    let spoilt = Image::new(drawn.width(), drawn.height(), rgba).map_err(|e| say(e.to_string()))?;
                    if compare(&spoilt, &x, &sheet).is_ok() {
                        return Err(say("the comparison held although a pixel was changed".into()));
                    }
                    differing += compare(&drawn, &x, &Sheet { image: 1 - image, ..sheet }).is_err() as usize;
                }
            }
        }
        // Ranges in which all values are equal look the same for both pictures.
        if differing == 0 {
            return Err(say("the comparison held for the other picture".into()));
        }
    }
    let beyond = Sheet {
        image: 2,
        channels: vec![0],
        columns: 1,
        scale: 1,
        gap: 0,
        colormap: Colormap::Grey,
        range: Range::Channel,
    };
    match engine.draw("data", &beyond).await {
        Err(e) if e.code() == "argument" => Ok(()),
        other => Err(format!("a picture beyond the batch gave {other:?}")),
    }
}
