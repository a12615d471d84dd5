//! A bias, added to every row.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::kernels::flex::{
    changed, contiguous, of_type, rows_and_width, task_of_rows, tensor, values, widened,
};
use crate::kernels::operation::{Operation, apply};
use crate::kernels::vector::{add, total_of, widest};

/// `x + bias`, the bias added to every row.
pub fn biased<const D: usize>(x: Tensor<D>, bias: Tensor<1>) -> Tensor<D> {
    apply(Bias, [x.into_dispatch(), bias.into_dispatch()])
}

#[derive(Clone, Debug)]
struct Bias;

impl Operation<2> for Bias {
    /// The bias's type.
    type Saved = DType;

    fn forward(&self, [x, bias]: [FlexTensor; 2]) -> FlexTensor {
        let bias = contiguous(widened(bias));
        let (_, width) = rows_and_width(&x);
        changed(x, |x| {
            x.par_chunks_mut(task_of_rows(width)).for_each(|rows| {
                widest!(rows.chunks_exact_mut(width).for_each(|x| add(x, values(&bias))));
            });
        })
    }

    fn forward_saving(&self, [x, bias]: [FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, DType) {
        let dtype = bias.dtype();
        (self.forward([x, bias]), dtype)
    }

    fn backward(
        &self,
        dtype: DType,
        grad: FlexTensor,
        [_, for_bias]: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let grad = contiguous(grad);
        let bias_grad = for_bias.then(|| of_type(column_sums(&grad), dtype));
        [Some(grad), bias_grad]
    }
}

fn column_sums(x: &FlexTensor) -> FlexTensor {
    let (_, width) = rows_and_width(x);
    let shares: Vec<Vec<f32>> = values(x)
        .par_chunks(task_of_rows(width))
        .map(|rows| {
            let mut sums = vec![0.0; width];
            widest!(rows.chunks_exact(width).for_each(|row| add(&mut sums, row)));
            sums
        })
        .collect();
    tensor(total_of(width, &shares), [width])
}
