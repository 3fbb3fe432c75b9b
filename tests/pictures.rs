//! Pictures of every kind that people open: each is decoded correctly, or rejected with one sentence.
#![cfg(not(target_arch = "wasm32"))]

use googlenet::model::preprocess::Image;
use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{Delay, DynamicImage, Frame, ImageFormat, Rgba, RgbaImage};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

/// The expected result for a picture.
enum Want {
    /// A picture of this size, with this colour at this pixel, within a tolerance for each component.
    Pixel { size: [usize; 2], at: [usize; 2], rgba: [u8; 4], within: u8 },
    /// An error that contains this text.
    Refused(&'static str),
}

struct Case {
    name: String,
    file: Vec<u8>,
    want: Want,
}

const RED: [u8; 4] = [255, 0, 0, 255];
const BLUE: [u8; 4] = [0, 0, 255, 255];

fn shows(name: &str, file: Vec<u8>, size: [usize; 2], at: [usize; 2], rgba: [u8; 4], within: u8) -> Case {
    Case { name: name.to_owned(), file, want: Want::Pixel { size, at, rgba, within } }
}

fn refused(name: &str, file: impl Into<Vec<u8>>, says: &'static str) -> Case {
    Case { name: name.to_owned(), file: file.into(), want: Want::Refused(says) }
}

/// A red picture with a blue pixel at the top left.
fn marked(width: u32, height: u32) -> RgbaImage {
    let mut picture = RgbaImage::from_pixel(width, height, Rgba(RED));
    picture.put_pixel(0, 0, Rgba(BLUE));
    picture
}

fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let picture = picture.into();
    let picture = match format {
        // JPEG and BMP do not support transparency.
        ImageFormat::Jpeg | ImageFormat::Bmp => picture.into_rgb8().into(),
        _ => picture,
    };
    let mut file = Vec::new();
    picture.write_to(&mut Cursor::new(&mut file), format).unwrap();
    file
}

/// The checksum of PNG (CRC-32), computed bit by bit.
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes(), &body[..], &crc32(&body).to_be_bytes()].concat()
}

/// A PNG of these rows, each of which begins with the byte of its filter. The zlib blocks are stored without
/// compression.
fn png(size: [u32; 2], depth: u8, colour: u8, chunks: &[Vec<u8>], rows: &[u8]) -> Vec<u8> {
    let mut zlib = vec![0x78, 1];
    let mut blocks = rows.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let len = block.len() as u16;
        zlib.extend(
            [&[u8::from(blocks.peek().is_none())][..], &len.to_le_bytes(), &(!len).to_le_bytes(), block].concat(),
        );
    }
    let (a, b) =
        rows.iter().fold((1u32, 0u32), |(a, b), &v| ((a + u32::from(v)) % 65521, (a + b + u32::from(v)) % 65521));
    zlib.extend((b << 16 | a).to_be_bytes());
    let head = [&size[0].to_be_bytes()[..], &size[1].to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &head), chunks.concat(), chunk(b"IDAT", &zlib), chunk(b"IEND", b"")]
        .concat()
}

/// A JPEG of one colour with the data of one 8x8 block. With four components it is inverted CMYK, as written by Adobe.
fn jpeg(components: &[u8], size: [u16; 2]) -> Vec<u8> {
    let n = components.len() as u8;
    let mut file = b"\xff\xd8".to_vec();
    let mut segment = |marker: u8, data: &[u8]| {
        file.extend([0xff, marker]);
        file.extend((data.len() as u16 + 2).to_be_bytes());
        file.extend(data);
    };
    segment(0xee, b"Adobe\0\x64\0\0\0\0\0");
    // With quantisation steps of 8, the first coefficient is the colour itself.
    segment(0xdb, &[&[0][..], &[8; 64]].concat());
    let of = |each: &dyn Fn(u8) -> Vec<u8>| -> Vec<u8> { (1..=n).flat_map(each).collect() };
    let [width, height] = size.map(u16::to_be_bytes);
    segment(0xc0, &[&[8][..], &height, &width, &[n], &of(&|id| vec![id, 0x11, 0])].concat());
    // The lengths of coefficients, 0 to 8, in four bits each; the other coefficients only have an end marker.
    segment(0xc4, &[&[0, 0, 0, 0, 9][..], &[0; 12], &[0, 1, 2, 3, 4, 5, 6, 7, 8]].concat());
    segment(0xc4, &[&[0x10, 1][..], &[0; 15], &[0]].concat());
    segment(0xda, &[&[n][..], &of(&|id| vec![id, 0]), &[0, 63, 0]].concat());
    let mut bits = String::new();
    for &value in components {
        let value = i32::from(value) - 128;
        let len = 32 - value.unsigned_abs().leading_zeros() as usize;
        bits += &format!("{len:04b}");
        let coded = if value < 0 { value + (1 << len) - 1 } else { value };
        if len > 0 {
            bits += &format!("{coded:0len$b}");
        }
        bits += "0";
    }
    while !bits.len().is_multiple_of(8) {
        bits += "1";
    }
    for byte in bits.as_bytes().chunks(8) {
        let byte = u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap();
        file.push(byte);
        // A zero after 0xff distinguishes data from a marker.
        file.extend((byte == 0xff).then_some(0));
    }
    file.extend(b"\xff\xd9");
    file
}

/// A JPEG with an EXIF orientation.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif =
        b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    exif[29] = orientation;
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

/// An animated WebP of several pictures, each as the encoder writes it.
fn animated_webp(pictures: &[RgbaImage]) -> Vec<u8> {
    let three = |value: u32| value.to_le_bytes()[..3].to_vec();
    let riff = |kind: &[u8; 4], data: &[u8]| {
        let pad = vec![0; data.len() % 2];
        [kind, &(data.len() as u32).to_le_bytes()[..], data, &pad].concat()
    };
    let [width, height] = [pictures[0].width(), pictures[0].height()].map(|v| three(v - 1));
    let mut body = b"WEBP".to_vec();
    body.extend(riff(b"VP8X", &[&[0x12, 0, 0, 0][..], &width, &height].concat()));
    body.extend(riff(b"ANIM", &[0; 6]));
    for picture in pictures {
        let webp = encode(picture.clone(), ImageFormat::WebP);
        let frame =
            [three(0), three(0), width.clone(), height.clone(), three(100), vec![2], webp[12..].to_vec()].concat();
        body.extend(riff(b"ANMF", &frame));
    }
    riff(b"RIFF", &body)
}

fn good() -> Vec<Case> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    let mut cases = Vec::new();
    for (format, name) in [(Png, "png"), (Jpeg, "jpeg"), (Gif, "gif"), (WebP, "webp"), (Bmp, "bmp")] {
        // JPEG blends the colours of a block, so a single pixel would be lost; in these pictures, blocks have nearly
        // one colour.
        let within = if format == Jpeg { 8 } else { 0 };
        // The largest side of a WebP is 16383.
        let long = if format == WebP { 16383 } else { 20000 };
        for [width, height] in [[1, 1], [1, long], [long, 1], [17, 31]] {
            let file = encode(RgbaImage::from_pixel(width, height, Rgba(RED)), format);
            let size = [width as usize, height as usize];
            cases.push(shows(&format!("{width}x{height}.{name}"), file, size, [size[0] - 1, size[1] - 1], RED, within));
        }
    }
    let red = || DynamicImage::from(RgbaImage::from_pixel(4, 4, Rgba([255, 0, 0, 128])));
    let grey = [54, 54, 54];
    for (name, picture, rgba) in [
        ("luma8", DynamicImage::from(red().into_luma8()), [grey[0], grey[1], grey[2], 255]),
        ("luma-alpha8", red().into_luma_alpha8().into(), [grey[0], grey[1], grey[2], 128]),
        ("rgb8", red().into_rgb8().into(), RED),
        ("rgba8", red(), [255, 0, 0, 128]),
        ("luma16", red().into_luma16().into(), [grey[0], grey[1], grey[2], 255]),
        ("luma-alpha16", red().into_luma_alpha16().into(), [grey[0], grey[1], grey[2], 128]),
        ("rgb16", red().into_rgb16().into(), RED),
        ("rgba16", red().into_rgba16().into(), [255, 0, 0, 128]),
    ] {
        cases.push(shows(&format!("{name}.png"), encode(picture, Png), [4, 4], [3, 3], rgba, 1));
    }
    // Two pixels with the second colour of the palette.
    let palette = chunk(b"PLTE", &[0, 0, 255, 255, 0, 0]);
    for (depth, row) in [(1, 0b0100_0000), (2, 0b0001_0000), (4, 1)] {
        let file = png([2, 1], depth, 3, std::slice::from_ref(&palette), &[0, row]);
        cases.push(shows(&format!("palette{depth}.png"), file, [2, 1], [1, 0], RED, 0));
    }
    let file = png([2, 1], 8, 3, std::slice::from_ref(&palette), &[0, 0, 1]);
    cases.push(shows("palette8.png", file, [2, 1], [1, 0], RED, 0));
    let file = png([2, 1], 8, 3, &[palette.clone(), chunk(b"tRNS", &[255, 7])], &[0, 0, 1]);
    cases.push(shows("palette-transparent.png", file, [2, 1], [1, 0], [255, 0, 0, 7], 0));
    for depth in [1, 2, 4] {
        let file = png([1, 1], depth, 0, &[], &[0, 0xff]);
        cases.push(shows(&format!("grey{depth}.png"), file, [1, 1], [0, 0], [255; 4], 0));
    }
    cases.push(shows("cmyk.jpeg", jpeg(&[255, 0, 0, 255], [8, 8]), [8, 8], [4, 4], RED, 3));
    cases.push(shows("cmyk-black.jpeg", jpeg(&[255, 255, 255, 0], [8, 8]), [8, 8], [4, 4], [0, 0, 0, 255], 3));
    cases.push(shows("adobe-rgb.jpeg", jpeg(&[255, 0, 0], [8, 8]), [8, 8], [4, 4], RED, 3));
    cases.push(shows("grey.jpeg", jpeg(&[200], [8, 8]), [8, 8], [4, 4], [200, 200, 200, 255], 3));

    // The top left quarter of a picture twice as wide as high is blue. Its position in the result shows how the picture
    // was rotated.
    let quarter = RgbaImage::from_fn(64, 32, |x, y| Rgba(if x < 32 && y < 16 { BLUE } else { RED }));
    let mut plain = Vec::new();
    JpegEncoder::new_with_quality(&mut plain, 95).encode_image(&DynamicImage::from(quarter).into_rgb8()).unwrap();
    let corners = [[0, 0], [0, 0], [1, 0], [1, 1], [0, 1], [0, 0], [1, 0], [1, 1], [0, 1], [0, 0]];
    for (orientation, [right, bottom]) in corners.into_iter().enumerate() {
        let [width, height] = if (5..=8).contains(&orientation) { [32, 64] } else { [64, 32] };
        let at = [if right == 1 { width - 4 } else { 3 }, if bottom == 1 { height - 4 } else { 3 }];
        let file = turned(&plain, orientation as u8);
        cases.push(shows(&format!("exif{orientation}.jpeg"), file, [width, height], at, BLUE, 8));
    }
    cases.push(shows(
        "exif-cut.jpeg",
        [&plain[..2], b"\xff\xe1\0\x0aExif\0\0MM", &plain[2..]].concat(),
        [64, 32],
        [3, 3],
        BLUE,
        8,
    ));

    let frames = [marked(6, 5), RgbaImage::from_pixel(6, 5, Rgba([0, 255, 0, 255]))];
    let mut gif = Vec::new();
    let delay = Delay::from_numer_denom_ms(100, 1);
    GifEncoder::new(&mut gif).encode_frames(frames.iter().map(|f| Frame::from_parts(f.clone(), 0, 0, delay))).unwrap();
    cases.push(shows("animated.gif", gif, [6, 5], [0, 0], BLUE, 0));
    cases.push(shows("transparent.gif", encode(RgbaImage::new(3, 3), Gif), [3, 3], [1, 1], [0, 0, 0, 0], 0));
    cases.push(shows("animated.webp", animated_webp(&frames), [6, 5], [0, 0], BLUE, 0));
    let half = RgbaImage::from_pixel(3, 3, Rgba([10, 20, 30, 40]));
    cases.push(shows("transparent.webp", encode(half, WebP), [3, 3], [1, 1], [10, 20, 30, 40], 0));
    cases
}

fn bad() -> Vec<Case> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    const NONE: &str = "it is no JPEG, PNG, GIF, WebP or BMP";
    let mut cases = vec![
        refused("empty.jpg", "", "the file is empty"),
        refused("one-byte.png", "\u{7f}", NONE),
        refused("text.jpg", "this is a text\n", NONE),
        refused("page.png", "<!doctype html><title>404</title>", NONE),
        refused("drawing.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>", NONE),
        refused("document.pdf", "%PDF-1.7\n", NONE),
        refused("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", NONE),
        refused("photo.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", NONE),
        refused("scan.tiff", b"II*\0\x08\0\0\0\0\0", NONE),
        refused("icon.ico", b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0", NONE),
        refused("archive.zip", b"PK\x03\x04\x14\0", NONE),
        refused("zeros.bmp", [0; 64], NONE),
    ];
    let noise =
        RgbaImage::from_fn(64, 64, |x, y| Rgba([(x * 37 + y * 91) as u8, (x * y) as u8, (x * x + y) as u8, 255]));
    for (format, name) in [(Png, "png"), (Gif, "gif"), (WebP, "webp"), (Bmp, "bmp"), (Jpeg, "jpeg")] {
        let file = encode(noise.clone(), format);
        for (what, len) in [("signature", 12), ("header", 30), ("half", file.len() / 2)] {
            // Like browsers, the decoder shows the part of a JPEG that is there.
            if format == Jpeg && what == "half" {
                continue;
            }
            cases.push(refused(&format!("cut-at-{what}.{name}"), &file[..len], ""));
        }
    }
    let sized = |width: u32, height: u32| png([width, height], 8, 2, &[], &[0, 1, 2, 3]);
    let mut crc = sized(1, 1);
    crc[30] ^= 1;
    let gif = [&b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0"[..], b"\xff\xff\xff\xff\0\x02\x02\x44\x01\0;"].concat();
    let mut bmp = encode(noise.clone(), Bmp);
    bmp[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
    let mut webp = encode(noise, WebP);
    // After the signature of VP8L: 14 bits of the width minus one, and 14 bits of the height minus one.
    webp[21..25].copy_from_slice(&0x0fff_ffffu32.to_le_bytes());
    cases.extend([
        refused("no-width.png", sized(0, 1), ""),
        refused("no-height.png", sized(1, 0), ""),
        refused("bad-checksum.png", crc, "CRC"),
        refused("100-megapixels-of-nothing.png", sized(10_000, 10_000), ""),
        refused("200-megapixels.png", sized(20_000, 10_000), "it is 20000 by 10000 pixels"),
        refused("two-billion-square.png", sized(i32::MAX as u32, i32::MAX as u32), ""),
        refused("65535-square.gif", gif, "65535 by 65535 pixels"),
        refused("65535-square.jpeg", jpeg(&[1, 2, 3], [65_535, 65_535]), "65535 by 65535 pixels"),
        refused("65535-square.bmp", bmp, "65535 by 65535 pixels"),
        refused("16384-square.webp", webp, "image sizes"),
        refused("no-pixels.jpeg", jpeg(&[1, 2, 3], [0, 0]), ""),
    ]);
    cases
}

fn check(case: &Case) {
    let name = &case.name;
    match (Image::decode(&case.file), &case.want) {
        (Ok(image), Want::Pixel { size, at, rgba, within }) => {
            assert_eq!([image.width(), image.height()], *size, "{name}");
            let found = &image.rgba()[(at[1] * size[0] + at[0]) * 4..][..4];
            let near = found.iter().zip(rgba).all(|(a, b)| a.abs_diff(*b) <= *within);
            assert!(near, "{name}: {found:?}, not {rgba:?}");
        }
        (Err(error), Want::Refused(says)) => {
            let text = error.to_string();
            assert_eq!(error.code(), "image", "{name}");
            let sentence = text.strip_prefix("cannot read the picture: ").unwrap_or_default();
            assert!(sentence.len() > 8 && text.contains(says) && !text.contains('\n'), "{name}: {text}");
        }
        (Ok(image), Want::Refused(_)) => panic!("{name} is {}x{} pixels", image.width(), image.height()),
        (Err(error), Want::Pixel { .. }) => panic!("{name}: {error}"),
    }
}

#[test]
fn pictures_are_decoded_or_refused() {
    let (good, bad) = (good(), bad());
    good.iter().chain(&bad).for_each(check);
    println!("{} pictures are decoded, {} refused", good.len(), bad.len());
    assert!(good.len() + bad.len() >= 60);
}

#[test]
fn a_picture_of_100_megapixels_is_decoded() {
    // Black and white, 12 MB.
    let mut rows = [&[0][..], &[0xff; 1250]].concat().repeat(10_000);
    *rows.last_mut().unwrap() = 0;
    check(&shows(
        "large.png",
        png([10_000, 10_000], 1, 0, &[], &rows),
        [10_000, 10_000],
        [9_999, 9_999],
        [0, 0, 0, 255],
        0,
    ));
}

/// All files in one call, whatever their names are. Each has a result or an error in one line, also after errors.
#[test]
fn the_command_line_answers_or_says_why() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    fs::create_dir_all(&folder).unwrap();
    // One picture of each kind, because running the network takes longer than reading a picture.
    let good = good().into_iter().step_by(4);
    let mut cases: Vec<Case> = bad().into_iter().chain(good).collect();
    cases.push(shows("a-png-named.jpg", encode(marked(9, 9), ImageFormat::Png), [9, 9], [0, 0], BLUE, 0));
    let write = |case: &Case| {
        let path = folder.join(&case.name);
        fs::write(&path, &case.file).unwrap();
        path
    };
    let paths: Vec<_> = cases.iter().map(write).collect();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
    let mut command = Command::new(env!("CARGO_BIN_EXE_googlenet"));
    let output =
        command.args(["classify", "--backend", "cpu", "--json", "--model", model]).args(&paths).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let (mut answers, mut complaints) = (out.lines(), err.lines().filter(|line| !line.starts_with("note: ")));
    for (case, path) in cases.iter().zip(&paths) {
        let (line, says) = match case.want {
            Want::Pixel { .. } => (answers.next().unwrap_or_default(), "\"top\""),
            Want::Refused(says) => (complaints.next().unwrap_or_default(), says),
        };
        assert!(line.contains(path.to_str().unwrap()) && line.contains(says), "{}: {line}", case.name);
    }
    assert_eq!((answers.next(), complaints.next(), output.status.code()), (None, None, Some(1)));
}
