//! Products of tensors, computed as the types of their weights say.

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};
use rayon::prelude::*;

use super::Dropout;
use crate::kernels::flex::{
    TASK, changed, contiguous, matrix, of_type, primitive, rows, rows_and_width, task_of_rows,
    tensor, values, widened,
};
use crate::kernels::matrix::{Matrix, Target, bf16};
use crate::kernels::vector::{add, widest};
use crate::kernels::{matrix as products, skinny};

/// Whether `x` has few rows and no gradients are wanted.
pub fn is_few<const D: usize>(x: &Tensor<D>) -> bool {
    let rows: usize = x.dims()[..D - 1].iter().product();
    (1..=skinny::MOST).contains(&rows) && !x.device().is_autodiff()
}

/// The product of `x`, which [`is_few`], with each of the weights.
pub fn products_of_few<const N: usize, const D: usize>(
    x: Tensor<D>,
    weights: [Tensor<2>; N],
) -> [Tensor<D>; N] {
    let x = contiguous(primitive(x));
    let weights = weights.map(primitive);
    let mut products = few_products(&x, &weights).into_iter();
    weights.map(|weight| {
        let product = products.next().expect("as many as there are weights");
        Tensor::from_primitive::<Flex>(tensor(product, shape_of_product(&x, weight.shape()[1])))
    })
}

/// `x · weight`, `[.., in] · [in, out]` → `[.., out]`.
pub fn of_rows(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    let (count, _) = rows_and_width(&x);
    let shape = shape_of_product(&x, weight.shape()[1]);
    let out = match count {
        1..=skinny::MOST => few_products(&x, &[weight]).swap_remove(0),
        _ => product_with(rows(&x), weight),
    };
    tensor(out, shape)
}

/// The shape of a product of `x` with a weight of so many outputs.
pub fn shape_of_product(x: &FlexTensor, outputs: usize) -> Shape {
    let mut shape = x.shape().to_vec();
    let last = shape.len() - 1;
    shape[last] = outputs;
    Shape::from(shape)
}

/// Products of few rows, each as the type of its weight says.
fn few_products(x: &FlexTensor, weights: &[FlexTensor]) -> Vec<Vec<f32>> {
    let narrow = weights.iter().any(|weight| is_narrow(weight.dtype()));
    // As in a product of many rows, so that a row is the same among few and many.
    let rounded = narrow.then(|| widened(of_type(x.clone(), DType::BF16)));
    skinny::multiply(weights.iter().map(|weight| {
        let x = rounded.as_ref().filter(|_| is_narrow(weight.dtype())).unwrap_or(x);
        (x.clone(), weight.clone())
    }))
}

/// `x · weight` as the type of the weight says.
fn product_with(x: Matrix<'_>, weight: FlexTensor) -> Vec<f32> {
    if is_narrow(weight.dtype()) {
        bf16::product(x, matrix::<half::bf16>(&weight))
    } else {
        products::product(x, matrix(&widened(weight)))
    }
}

/// `out + x · weight`, of a contiguous `x` `[.., in]` with few columns; entries of the product are dropped first,
/// if there is a dropout.
pub fn plus_product(
    out: FlexTensor,
    x: &FlexTensor,
    weight: &FlexTensor,
    dropout: Option<&Dropout>,
) -> FlexTensor {
    let (_, inner) = rows_and_width(x);
    let (_, width) = rows_and_width(&out);
    let narrow = is_narrow(weight.dtype());
    let weight = widened(weight.clone());
    let task = task_of_rows(width);
    changed(out, |out| {
        let x = values(x).par_chunks(task / width * inner);
        out.par_chunks_mut(task).zip(x).enumerate().for_each(|(number, (out, x))| {
            let x = Matrix::rows(x, x.len() / inner, inner, inner);
            let Some(dropout) = dropout else {
                let target = Target::add(out, width);
                return products::multiply_as(narrow, target, x, matrix(&weight));
            };
            let mut product = vec![0.0; out.len()];
            let target = Target::set(&mut product, width);
            products::multiply_as(narrow, target, x, matrix(&weight));
            dropout.apply(number * task, &mut product);
            widest!(add(out, &product));
        });
    })
}

/// `x` with entries dropped, in place where nobody else holds it.
pub fn dropped(x: FlexTensor, dropout: &Dropout) -> FlexTensor {
    changed(x, |x| {
        x.par_chunks_mut(TASK).enumerate().for_each(|(number, entries)| {
            dropout.apply(number * TASK, entries);
        });
    })
}

/// Whether products with a weight of this type are those of bf16.
pub fn is_narrow(dtype: DType) -> bool {
    dtype == DType::BF16 && bf16::available()
}

/// The gradient of `x` in `x · weight`, of the shape of `x`.
pub fn gradient_of_rows(grad: &FlexTensor, weight: &FlexTensor, shape: Shape) -> FlexTensor {
    tensor(product_with(rows(grad), weight.transpose(0, 1)), shape)
}

/// The gradient of `weight` in `x · weight`, of the shape and type of `weight`.
pub fn gradient_of_weight(
    x: &FlexTensor,
    grad: &FlexTensor,
    (shape, dtype): (Shape, DType),
) -> FlexTensor {
    let (x, grad) = (rows(x).transposed(), rows(grad));
    let gradient = match is_narrow(dtype) {
        true => bf16::product(x, grad),
        false => products::product(x, grad),
    };
    of_type(tensor(gradient, shape), dtype)
}
