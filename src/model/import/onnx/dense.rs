//! Dense layers, which exporters write in two ways.

use super::graph::{Constant, Graph};
use crate::error::{Dims, Error, Result};
use crate::model::import::layers::{Values, outputs_first};

/// A dense layer: a Gemm node, or a MatMul and an Add node.
pub(super) struct Dense<'g, 'a> {
    pub input: &'a str,
    weight: &'g Constant<'a>,
    bias: &'g Constant<'a>,
    /// Whether the weights are (out, in), and not (in, out).
    outputs_first: bool,
}

impl<'g, 'a> Dense<'g, 'a> {
    /// The dense layer whose output is this value. `None` where the value comes from another operation.
    pub fn at(graph: &'g Graph<'a>, value: &'a str) -> Option<Self> {
        let node = graph.producer(value)?;
        match (node.op, &node.inputs[..]) {
            ("Gemm", &[input, weight, bias]) => {
                let plain = [("alpha", 1.0), ("beta", 1.0)].iter().all(|&(name, one)| node.float(name, one) == one);
                (plain && node.int("transA", 0) == 0).then_some(())?;
                let (weight, bias) = (graph.constant(weight)?, graph.constant(bias)?);
                Some(Dense { input, weight, bias, outputs_first: node.int("transB", 0) != 0 })
            }
            ("Add", &[a, b]) => {
                let (product, bias) = if graph.constant(b).is_some() { (a, b) } else { (b, a) };
                let matmul = graph.producer(product).filter(|node| node.op == "MatMul")?;
                let [input, weight] = matmul.inputs[..] else { return None };
                let (weight, bias) = (graph.constant(weight)?, graph.constant(bias)?);
                Some(Dense { input, weight, bias, outputs_first: false })
            }
            _ => None,
        }
    }

    /// The number of outputs. Fails with [`Error::TensorShape`] where the weights are not a matrix.
    pub fn out(&self) -> Result<usize> {
        match self.weight.dims[..] {
            [out, _] if self.outputs_first => Ok(out),
            [_, out] => Ok(out),
            _ => Err(Error::TensorShape {
                name: self.weight.name.to_owned(),
                expected: Dims(vec![1000, 1024]),
                found: Dims(self.weight.dims.clone()),
            }),
        }
    }

    /// The weights as (out, in), and the biases.
    pub fn values(&self, dims: &[usize]) -> Result<Values> {
        if self.outputs_first {
            return Ok(Values { weight: floats(self.weight, dims)?, bias: floats(self.bias, &dims[..1])? });
        }
        let weight = floats(self.weight, &[dims[1], dims[0]])?;
        let weight = outputs_first(&weight, dims[0], 1);
        Ok(Values { weight, bias: floats(self.bias, &dims[..1])? })
    }
}

/// The values of a constant, which must have this shape.
pub(super) fn floats(constant: &Constant, expected: &[usize]) -> Result<Vec<f32>> {
    if constant.dims != expected {
        return Err(Error::TensorShape {
            name: constant.name.to_owned(),
            expected: expected.into(),
            found: Dims(constant.dims.clone()),
        });
    }
    constant.floats()
}
