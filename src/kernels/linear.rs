//! Linear layers, `x · weight + bias`.
//!
//! burn's Flex backend clears the memory of a product and copies to aligned memory, both on one core, before
//! it multiplies on all cores. These kernels write each result once.
//!
//! A product with a bf16 weight rounds its other factor to bf16 and sums in f32. Where the processor has no
//! instruction for bf16, the product is computed in f32.

use burn::nn::Linear;
use burn::tensor::Tensor;

/// What `layer` makes of `x`, `[.., in]` → `[.., out]`.
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        let out = fused::product(x, layer.weight.val());
        return match &layer.bias {
            Some(bias) => fused::biased(out, bias.val()),
            None => out,
        };
    }
    layer.forward(x)
}

/// What every one of the layers makes of one `x`; of a few rows without gradients in one pass.
pub fn linears<const N: usize, const D: usize>(
    layers: [&Linear; N],
    x: Tensor<D>,
) -> [Tensor<D>; N] {
    #[cfg(feature = "flex")]
    if super::takes(&x) && fused::is_few(&x) {
        let products = fused::products_of_few(x, layers.map(|layer| layer.weight.val()));
        let mut biases = layers.iter().map(|layer| layer.bias.as_ref());
        return products.map(|out| match biases.next().flatten() {
            Some(bias) => fused::biased(out, bias.val()),
            None => out,
        });
    }
    layers.map(|layer| linear(layer, x.clone()))
}

/// `x · weight`, `[rows, in] · [in, out]` → `[rows, out]`.
pub fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        return fused::product(x, weight);
    }
    x.matmul(weight)
}

#[cfg(feature = "flex")]
pub(super) use fused::{gradient_of_rows, gradient_of_weight, is_narrow, of_rows};

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;
    use burn::backend::{Flex, TensorMetadata};
    use burn::tensor::{DType, Shape, Tensor};
    use rayon::prelude::*;

    use crate::kernels::flex::{
        changed, contiguous, matrix, of_type, primitive, rows, rows_and_width, task_of_rows,
        tensor, values, widened,
    };
    use crate::kernels::matrix::{Matrix, bf16};
    use crate::kernels::operation::{Operation, apply};
    use crate::kernels::vector::{add, total_of, widest};
    use crate::kernels::{matrix as products, skinny};

    pub fn product<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
        apply(Product, [x.into_dispatch(), weight.into_dispatch()])
    }

    pub fn biased<const D: usize>(x: Tensor<D>, bias: Tensor<1>) -> Tensor<D> {
        apply(Bias, [x.into_dispatch(), bias.into_dispatch()])
    }

    /// Whether `x` has few rows and no gradients are wanted.
    pub fn is_few<const D: usize>(x: &Tensor<D>) -> bool {
        let rows: usize = x.dims()[..D - 1].iter().product();
        (1..=skinny::MOST).contains(&rows) && !x.device().is_autodiff()
    }

    /// [`product`] with each of the weights, of an `x` that [`is_few`].
    pub fn products_of_few<const N: usize, const D: usize>(
        x: Tensor<D>,
        weights: [Tensor<2>; N],
    ) -> [Tensor<D>; N] {
        let x = contiguous(primitive(x));
        let weights = weights.map(primitive);
        let mut products = few_products(&x, &weights).into_iter();
        weights.map(|weight| {
            let product = products.next().expect("as many as there are weights");
            Tensor::from_primitive::<Flex>(tensor(product, shape_of_product(&x, &weight)))
        })
    }

    /// `x · weight`, `[.., in] · [in, out]` → `[.., out]`.
    pub fn of_rows(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let x = contiguous(x);
        let (count, _) = rows_and_width(&x);
        let shape = shape_of_product(&x, &weight);
        let out = match count {
            1..=skinny::MOST => few_products(&x, &[weight]).swap_remove(0),
            _ => product_with(rows(&x), weight),
        };
        tensor(out, shape)
    }

    fn shape_of_product(x: &FlexTensor, weight: &FlexTensor) -> Shape {
        let mut shape = x.shape().to_vec();
        let last = shape.len() - 1;
        shape[last] = weight.shape()[1];
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

    /// `x · weight`.
    #[derive(Clone, Debug)]
    struct Product;

    /// What the gradients of a product need: each factor for that of the other.
    #[derive(Clone, Debug)]
    struct Factors {
        x: Option<FlexTensor>,
        weight: Option<FlexTensor>,
        x_shape: Shape,
        /// The weight's shape and type.
        of_weight: (Shape, DType),
    }

    impl Operation<2> for Product {
        type Saved = Factors;

        fn forward(&self, [x, weight]: [FlexTensor; 2]) -> FlexTensor {
            of_rows(x, weight)
        }

        fn forward_saving(
            &self,
            [x, weight]: [FlexTensor; 2],
            [for_x, for_weight]: [bool; 2],
        ) -> (FlexTensor, Factors) {
            let saved = Factors {
                x: for_weight.then(|| x.clone()),
                weight: for_x.then(|| weight.clone()),
                x_shape: x.shape(),
                of_weight: (weight.shape(), weight.dtype()),
            };
            (of_rows(x, weight), saved)
        }

        fn backward(
            &self,
            Factors { x, weight, x_shape, of_weight }: Factors,
            grad: FlexTensor,
            [for_x, for_weight]: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            let grad = contiguous(grad);
            let weight = weight.filter(|_| for_x);
            let x = x.filter(|_| for_weight).map(contiguous);
            [
                weight.map(|weight| gradient_of_rows(&grad, &weight, x_shape)),
                x.map(|x| gradient_of_weight(&x, &grad, of_weight)),
            ]
        }
    }

    /// `x + bias`, the bias added to every row.
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
                    widest(|| rows.chunks_exact_mut(width).for_each(|x| add(x, values(&bias))));
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
                widest(|| rows.chunks_exact(width).for_each(|row| add(&mut sums, row)));
                sums
            })
            .collect();
        tensor(total_of(width, &shares), [width])
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::Param;
    use burn::nn::LinearConfig;
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::kernels::waves::waves;

    #[test]
    fn a_layer_and_its_gradients_are_those_of_burns_own_for_skinny_and_many() {
        let device = Device::flex().autodiff();
        for shape in [[1, 3, 67], [2, 151, 67]] {
            let mut layer = LinearConfig::new(67, 35).init(&device);
            layer.weight = Param::from_tensor(waves([67, 35], 0.3, &device).require_grad());
            layer.bias = Some(Param::from_tensor(waves([35], 0.9, &device).require_grad()));
            let run = |function: &dyn Fn(Tensor<3>) -> Tensor<3>| {
                let x = waves(shape, 0.7, &device).require_grad();
                let out = function(x.clone());
                let weights = waves([shape[0], shape[1], 35], 2.1, &device);
                let gradients = (out.clone() * weights).sum().backward();
                let bias = layer.bias.as_ref().unwrap().val().grad(&gradients).unwrap();
                let weight = layer.weight.val().grad(&gradients).unwrap();
                [out.inner(), x.grad(&gradients).unwrap(), weight.unsqueeze(), bias.unsqueeze()]
            };
            let plain = run(&|x| layer.forward(x));
            for (ours, plain) in run(&|x| linear(&layer, x)).into_iter().zip(plain) {
                // f32 sums of up to 302 products below 1.
                assert!((ours - plain).abs().max().into_scalar::<f32>() < 1e-4);
            }
        }
    }

    #[test]
    fn a_weight_in_bf16_rounds_what_it_meets_and_nothing_else() {
        let device = Device::flex().autodiff();
        for rows in [3, 151] {
            let run = |dtype: DType, function: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
                let x = waves([rows, 67], 0.7, &device).require_grad();
                // What is rounded already, so that only the products differ.
                let weight = waves([67, 35], 1.3, &device).cast(DType::BF16).cast(dtype);
                let weight = weight.detach().require_grad();
                let out = function(x.clone(), weight.clone());
                assert_eq!(out.dtype(), DType::F32);
                let gradients = (out.clone() * waves([rows, 35], 2.1, &device)).sum().backward();
                let of_weight = weight.grad(&gradients).unwrap();
                assert_eq!(of_weight.dtype(), dtype);
                [out.inner(), x.grad(&gradients).unwrap(), of_weight.cast(DType::F32)]
            };
            let narrow = run(DType::BF16, &product);
            let exact = run(DType::F32, &|a, b| a.matmul(b));
            let device = Device::flex();
            let (x, weight) = (waves([rows, 67], 0.7, &device), waves([67, 35], 1.3, &device));
            let grad: Tensor<2> = waves([rows, 35], 2.1, &device);
            let factors = [
                (x.clone(), weight.clone()),
                (grad.clone(), weight.transpose()),
                (x.transpose(), grad),
            ];
            for ((ours, exact), (a, b)) in narrow.into_iter().zip(exact).zip(factors) {
                let far = (ours - exact).square().sum().sqrt().into_scalar::<f32>();
                // What is rounded are the terms of the sums, which cancel in part.
                let terms = a.square().matmul(b.square()).sum().sqrt().into_scalar::<f32>();
                assert!(far < 4e-3 * terms, "{rows} rows: {far} of {terms}"); // 2⁻⁸
            }
        }
    }

    #[test]
    fn a_row_is_the_same_among_few_and_among_many_whatever_the_weights_type() {
        let device = Device::flex();
        let x = waves([40, 67], 0.7, &device);
        let by_rows = waves([67, 35], 1.3, &device);
        let by_columns = waves([35, 67], 2.1, &device).transpose();
        for weight in [by_rows, by_columns] {
            for weight in [weight.clone(), weight.cast(DType::BF16)] {
                let many = product(x.clone(), weight.clone()).slice([0..3, 0..35]);
                let few = product(x.clone().slice([0..3, 0..67]), weight);
                // f32 sums of 67 products below 1; a factor rounded on one side alone is 1e-3 off.
                assert!((many - few).abs().max().into_scalar::<f32>() < 1e-5);
            }
        }
    }

    #[test]
    fn layers_side_by_side_are_each_layer_alone() {
        let device = Device::flex();
        let layer = |outputs: usize, dtype: DType, bias: bool| {
            let mut layer = LinearConfig::new(67, outputs).init(&device);
            let turn = outputs as f32 * 0.1;
            layer.weight = Param::from_tensor(waves([67, outputs], turn, &device).cast(dtype));
            layer.bias = bias.then(|| Param::from_tensor(waves([outputs], turn, &device)));
            layer
        };
        let wide = layer(35, DType::F32, true);
        let (narrow, plain) = (layer(9, DType::BF16, true), layer(12, DType::F32, false));
        for rows in [1, 3, 40] {
            let x = waves([rows, 1, 67], 0.7, &device);
            let layers = [&wide, &narrow, &plain];
            for (together, layer) in linears(layers, x.clone()).into_iter().zip(layers) {
                assert_eq!(together.to_data(), linear(layer, x.clone()).to_data(), "{rows} rows");
            }
        }
    }

    #[test]
    fn no_rows_make_no_rows() {
        let device = Device::flex();
        let layer = LinearConfig::new(5, 3).init(&device);
        assert_eq!(linear(&layer, Tensor::<2>::zeros([0, 5], &device)).dims(), [0, 3]);
    }

    #[test]
    fn a_transposed_weight_and_a_frozen_factor_are_no_matter() {
        let device = Device::flex().autodiff();
        let run = |function: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>, frozen: bool| {
            let x = waves([90, 67], 0.7, &device);
            let x = if frozen { x } else { x.require_grad() };
            let weight = waves([35, 67], 1.3, &device).require_grad();
            let out = function(x.clone(), weight.clone().transpose());
            let gradients = (out.clone() * waves([90, 35], 2.1, &device)).sum().backward();
            (out.inner(), x.grad(&gradients), weight.grad(&gradients).unwrap())
        };
        let largest = |x: Tensor<2>| x.abs().max().into_scalar::<f32>();
        for frozen in [false, true] {
            let (out, x, weight) = run(&product, frozen);
            let (plain_out, plain_x, plain_weight) = run(&|x, weight| x.matmul(weight), frozen);
            assert!(largest(out - plain_out) < 1e-4);
            assert!(largest(weight - plain_weight) < 1e-4);
            assert_eq!(x.is_none(), frozen);
            if let (Some(x), Some(plain_x)) = (x, plain_x) {
                assert!(largest(x - plain_x) < 1e-4);
            }
        }
    }
}
