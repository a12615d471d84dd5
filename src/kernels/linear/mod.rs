//! Linear layers, `x · weight + bias`.
//!
//! burn's Flex backend clears the memory of a product and copies to aligned memory, both on one core, before
//! it multiplies on all cores. These kernels write each result once.
//!
//! A product with a bf16 weight rounds its other factor to bf16 and sums in f32. Where the processor has no
//! instruction for bf16, the product is computed in f32.
//!
//! A weight that is not trained may have factors beside it, and may be kept in few bits: [`Frozen`]. The
//! product is then `x · weight + scale · (x · a) · b`: the sum of weight and factors is never made, and the
//! weight gets no gradient. In a pass with [`Dropout`] the factors read `dropout(x)`.
//!
//! | part | what |
//! |---|---|
//! | [`Frozen`] | what stands beside a weight, or for it |
//! | [`Dropout`] | which entries the factors do not read |
//! | `layer` | the product of a layer, with its gradients |
//! | `products` | products of tensors by the types of their weights |
//! | `bias` | adding a bias |

#[cfg(all(test, feature = "flex"))]
mod adapted_tests;
#[cfg(feature = "flex")]
mod bias;
mod dropout;
mod frozen;
#[cfg(feature = "flex")]
mod layer;
#[cfg(feature = "flex")]
mod products;

use burn::nn::Linear;
use burn::tensor::{DType, Tensor, TensorData};

use super::product::multiply;

pub use dropout::Dropout;
pub use frozen::{Factors, Frozen};
#[cfg(feature = "flex")]
pub(super) use products::{is_narrow, shape_of_product};

/// What `layer` makes of `x`, `[.., in]` → `[.., out]`.
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        return with_bias(layer, layer::product([x], &layer.weight));
    }
    plain(layer, x)
}

/// What `layer` makes of `silu(gate) · up`; with autodiff the product in between is not kept but computed
/// again.
pub fn gated_linear<const D: usize>(layer: &Linear, gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&gate) && gate.device().is_autodiff() {
        return with_bias(layer, layer::product([gate, up], &layer.weight));
    }
    linear(layer, super::swiglu::swiglu(gate, up))
}

/// What every one of the layers makes of one `x`; of a few rows without gradients in one pass.
pub fn linears<const N: usize, const D: usize>(
    layers: [&Linear; N],
    x: Tensor<D>,
) -> [Tensor<D>; N] {
    #[cfg(feature = "flex")]
    if super::takes(&x) && products::is_few(&x) && layers.iter().all(|layer| !is_frozen(layer)) {
        let out = products::products_of_few(x, layers.map(|layer| layer.weight.val()));
        let mut layers = layers.into_iter();
        return out.map(|out| layers.next().map_or(out.clone(), |layer| with_bias(layer, out)));
    }
    layers.map(|layer| linear(layer, x.clone()))
}

/// `x · weight`, `[rows, in] · [in, out]` → `[rows, out]`.
pub fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        return layer::dense(x, weight);
    }
    multiply(x, weight)
}

/// [`linear`] by every backend's own operations.
fn plain<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let Some(frozen) = layer.weight.reparameterization::<Frozen>() else {
        let bias = layer.bias.as_ref().map(|bias| bias.val());
        return affine(x, layer.weight.val(), bias);
    };
    let dtype = x.dtype();
    let weight = match frozen.packed() {
        Some(packed) => packed.unpacked(),
        None => layer.weight.base(),
    };
    let bias = layer.bias.as_ref().map(|bias| bias.val().cast(dtype));
    let out = affine(x.clone(), weight.cast(dtype), bias);
    let Some(Factors { a, b, scale, dropout }) = frozen.factors() else { return out };
    let x = match dropout {
        Some(dropout) => plain_dropped(x, &dropout),
        None => x,
    };
    let inner = affine(x, a.val().cast(dtype), None) * scale; // [.., rank]
    out + affine(inner, b.val().cast(dtype), None)
}

/// `x · weight + bias`, all rows of x in one product.
fn affine<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let mut shape = x.dims();
    let [inputs, outputs] = weight.dims();
    let rows: usize = shape[..D - 1].iter().product();
    shape[D - 1] = outputs;
    let out = multiply(x.reshape([rows, inputs]), weight);
    let out = match bias {
        #[cfg(feature = "gpu-kernels")]
        Some(bias) if super::gpu::takes(&out) => super::gpu::bias::biased(out, bias),
        Some(bias) => out + bias.unsqueeze(),
        None => out,
    };
    out.reshape(shape)
}

/// `x` with entries dropped, the same on every backend.
fn plain_dropped<const D: usize>(x: Tensor<D>, dropout: &Dropout) -> Tensor<D> {
    let (shape, dtype) = (x.dims(), x.dtype());
    let mut factors = vec![1.0; shape.iter().product()];
    dropout.apply(0, &mut factors);
    let factors = TensorData::new(factors, shape);
    let factors: Tensor<D> = Tensor::from_data(factors, (&x.device(), DType::F32));
    (x.cast(DType::F32) * factors).cast(dtype)
}

#[cfg(feature = "flex")]
fn is_frozen(layer: &Linear) -> bool {
    layer.weight.reparameterization::<Frozen>().is_some()
}

#[cfg(feature = "flex")]
fn with_bias<const D: usize>(layer: &Linear, out: Tensor<D>) -> Tensor<D> {
    match &layer.bias {
        Some(bias) => bias::biased(out, bias.val()),
        None => out,
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::Param;
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

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

    #[test]
    fn a_gated_layer_is_the_plain_forms() {
        let device = Device::flex().autodiff();
        let mut down = LinearConfig::new(67, 35).init(&device);
        down.weight = Param::from_tensor(waves([67, 35], 0.9, &device).require_grad());
        let run = |function: &dyn Fn(Tensor<3>, Tensor<3>) -> Tensor<3>| {
            let input = |turn| (waves([7, 43, 67], turn, &device) * 12.0).require_grad();
            let (gate, up) = (input(0.7), input(1.3));
            let out = function(gate.clone(), up.clone());
            let gradients = (out.clone() * waves([7, 43, 35], 2.1, &device)).sum().backward();
            let weight = down.weight.val().grad(&gradients).unwrap().unsqueeze();
            [out.inner(), gate.grad(&gradients).unwrap(), up.grad(&gradients).unwrap(), weight]
        };
        let ours = run(&|gate, up| gated_linear(&down, gate, up));
        let plain = run(&|gate, up| down.forward(burn::tensor::activation::silu(gate) * up));
        for (ours, plain) in ours.into_iter().zip(plain) {
            let size = plain.clone().abs().max().into_scalar::<f32>();
            let far = (ours - plain).abs().max().into_scalar::<f32>();
            // f32 sums of up to 301 products, the largest of which cancel in part.
            assert!(far < 1e-5 * size, "{far} of {size}");
        }
    }
}
