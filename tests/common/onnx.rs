//! The node tests of ONNX as cases of our operations.

use super::reference::Values;
use super::{Case, Named, Tolerance};
use googlenet::graph::network::Network;
use googlenet::graph::op::{Activation, Op, Padding, Window};
use googlenet::graph::tensor::{Shape, Tensor, nchw_to_nhwc};
use googlenet::model::weights::Weights;
use serde_json::Value;

/// An ONNX tensor.
struct Array {
    dims: Vec<usize>,
    data: Vec<f32>,
}

impl Array {
    /// An array (N, C, H, W) as NHWC.
    fn nhwc(&self) -> Result<Tensor, String> {
        let &[n, c, h, w] = &self.dims[..] else { return Err(format!("{} dimensions", self.dims.len())) };
        let shape = Shape::new(n, h, w, c);
        Ok(Tensor { shape, data: nchw_to_nhwc(shape, &self.data) })
    }

    /// An array as (outer, inner, 1, axis), so that the axis becomes our channels.
    fn axis_last(&self, axis: i64) -> Tensor {
        let axis = if axis < 0 { axis + self.dims.len() as i64 } else { axis } as usize;
        let [outer, inner] = [&self.dims[..axis], &self.dims[axis + 1..]].map(|d| d.iter().product());
        let shape = Shape::new(outer, inner, 1, self.dims[axis]);
        // In memory the array is (outer, axis, inner), which is NCHW with a width of 1.
        Tensor { shape, data: nchw_to_nhwc(shape, &self.data) }
    }

    /// An array as a matrix, optionally transposed.
    fn matrix(&self, transposed: bool) -> Array {
        let [rows, columns] = [self.dims[0], self.dims[1]];
        if !transposed {
            return Array { dims: self.dims.clone(), data: self.data.clone() };
        }
        let data = (0..columns * rows).map(|i| self.data[i % rows * columns + i / rows]).collect();
        Array { dims: vec![columns, rows], data }
    }
}

/// All node tests as cases. A test that cannot be a case is an error with its name and the reason. `list` is
/// `cases.json`, and `tensors` is `cases.safetensors`.
pub fn cases(list: &[u8], tensors: Vec<u8>) -> Vec<Result<Case, String>> {
    let tests: Vec<Value> = serde_json::from_slice(list).expect("a list of node tests");
    let tensors = Weights::parse(tensors).expect("their tensors");
    let named = |test: &Value| case(test, &tensors).map_err(|reason| format!("{}: {reason}", test["name"]));
    tests.iter().map(named).collect()
}

/// A node test as a case. Fails with the reason if there is no equivalent.
fn case(test: &Value, tensors: &Weights) -> Result<Case, String> {
    let text = |key: &str| test[key].as_str().unwrap_or_default();
    let attribute = |key: &str| &test["attributes"][key];
    let number = |key: &str, default: f64| attribute(key).as_f64().unwrap_or(default) as f32;
    let arrays = |key: &str| -> Vec<Array> {
        let names = test[key].as_array().expect("a list").iter().filter_map(Value::as_str);
        names
            .map(|name| tensors.get(name).map(|(dims, data)| Array { dims: dims.to_vec(), data }).expect("a tensor"))
            .collect()
    };
    let (inputs, output) = (arrays("inputs"), arrays("outputs").remove(0));
    let mut weights: Vec<Named> = Vec::new();
    let mut layer = |dims: &[usize], values: Vec<f32>, bias: Vec<f32>| {
        weights.push(("op.weight".into(), dims.to_vec(), values));
        weights.push(("op.bias".into(), vec![bias.len()], bias));
    };

    let (op, reads, expected) = match text("op") {
        "Conv" => {
            let (x, w) = (inputs[0].nhwc()?, &inputs[1]);
            let (window, out) = (window(test, [x.shape.h, x.shape.w])?, w.dims[0]);
            let bias = inputs.get(2).map_or(vec![0.0; out], |b| b.data.clone());
            layer(&w.dims, w.data.clone(), bias);
            (Op::Conv { window, out, activation: Activation::None }, vec![x], output.nhwc()?)
        }
        "MaxPool" => {
            let x = inputs[0].nhwc()?;
            (Op::MaxPool(window(test, [x.shape.h, x.shape.w])?), vec![x], output.nhwc()?)
        }
        "AveragePool" => {
            let x = inputs[0].nhwc()?;
            let count_padding = number("count_include_pad", 0.0) != 0.0;
            let window = window(test, [x.shape.h, x.shape.w])?;
            (Op::AvgPool { window, count_padding }, vec![x], output.nhwc()?)
        }
        "GlobalAveragePool" => (Op::AdaptiveAvgPool { out: [1, 1] }, vec![inputs[0].nhwc()?], output.nhwc()?),
        "LRN" => {
            let op = Op::Lrn {
                size: number("size", 0.0) as usize,
                alpha: number("alpha", 1e-4),
                beta: number("beta", 0.75),
                k: number("bias", 1.0),
            };
            (op, vec![inputs[0].nhwc()?], output.nhwc()?)
        }
        "Concat" => {
            let axis = number("axis", 0.0) as i64;
            (Op::Concat, inputs.iter().map(|x| x.axis_last(axis)).collect(), output.axis_last(axis))
        }
        "Softmax" => {
            let axis = number("axis", -1.0) as i64;
            (Op::Softmax, vec![inputs[0].axis_last(axis)], output.axis_last(axis))
        }
        "Relu" => {
            // A 1x1 convolution with the identity matrix as weights, followed by our ReLU.
            let (x, y) = (inputs[0].axis_last(-1), output.axis_last(-1));
            let c = x.shape.c;
            let identity = (0..c * c).map(|i| if i / c == i % c { 1.0 } else { 0.0 }).collect();
            layer(&[c, c, 1, 1], identity, vec![0.0; c]);
            (
                Op::Conv { window: Window::square(1, 1, Padding::Valid), out: c, activation: Activation::Relu },
                vec![x],
                y,
            )
        }
        "Gemm" => {
            let a = inputs[0].matrix(number("transA", 0.0) != 0.0);
            // Our weights are (out, in), which is B transposed.
            let b = inputs[1].matrix(number("transB", 0.0) == 0.0);
            let (rows, out, depth) = (a.dims[0], b.dims[0], a.dims[1]);
            let (alpha, beta) = (number("alpha", 1.0), number("beta", 1.0));
            let bias = match inputs.get(2) {
                None => vec![0.0; out],
                Some(c) if c.data.len() == 1 => vec![beta * c.data[0]; out],
                Some(c) if c.data.len() == out => c.data.iter().map(|v| beta * v).collect(),
                Some(c) => return Err(format!("its bias is a {:?} matrix, ours is one value an output", c.dims)),
            };
            layer(&[out, depth], b.data.iter().map(|v| alpha * v).collect(), bias);
            let flat = |m: Array, c| Tensor { shape: Shape::new(rows, 1, 1, c), data: m.data };
            (Op::Dense { out, activation: Activation::None }, vec![flat(a, depth)], flat(output, out))
        }
        other => return Err(format!("there is no operation {other}")),
    };

    let mut network = Network::new();
    let add = |(i, x): (usize, &Tensor)| network.input(&format!("input{i}"), x.shape);
    let ids = reads.iter().enumerate().map(add).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    network.add("op", op, &ids).map_err(|e| e.to_string())?;
    let mut case = Case::new(text("name"), network, weights, reads);
    let tolerance = |key: &str| test[key].as_f64().expect("a tolerance");
    case.tolerance = Tolerance { atol: tolerance("atol"), rtol: tolerance("rtol") };
    case.expected = vec![("op".into(), Values::from(&expected))];
    Ok(case)
}

fn window(test: &Value, size: [usize; 2]) -> Result<Window, String> {
    let list = |key: &str, default: &[usize]| -> Vec<usize> {
        let list = test["attributes"][key].as_array();
        list.map_or(default.to_vec(), |l| l.iter().filter_map(Value::as_u64).map(|v| v as usize).collect())
    };
    let pair = |key: &str| <[usize; 2]>::try_from(list(key, &[1, 1])).map_err(|_| format!("{key} is not a pair"));
    let (kernel, stride) = (pair("kernel_shape")?, pair("strides")?);
    if pair("dilations")? != [1, 1] {
        return Err("it is dilated".into());
    }
    let padding = match test["attributes"]["auto_pad"].as_str().unwrap_or("NOTSET") {
        "SAME_UPPER" => Padding::Same,
        "SAME_LOWER" => {
            // Like SAME, but with the extra row and column of padding at the top and left.
            let total = |a: usize| ((size[a].div_ceil(stride[a]) - 1) * stride[a] + kernel[a]).saturating_sub(size[a]);
            let ([bottom, right], ceil) = ([total(0) / 2, total(1) / 2], false);
            Padding::Explicit { top: total(0) - bottom, left: total(1) - right, bottom, right, ceil }
        }
        "VALID" => Padding::Valid,
        _ => {
            let pads = list("pads", &[0; 4]);
            let &[top, left, bottom, right] = &pads[..] else { return Err("pads are not four".into()) };
            let ceil = test["attributes"]["ceil_mode"].as_i64() == Some(1);
            Padding::Explicit { top, left, bottom, right, ceil }
        }
    };
    Ok(Window { kernel, stride, padding })
}
