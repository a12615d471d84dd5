//! Claims about layers with adapters: they are the dense layers of their sums, their plain forms, and with dropout
//! what its definition says.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::*;
use crate::kernels::matrix::bf16;
use crate::kernels::packed::{Format, Packed};
use crate::kernels::swiglu::swiglu;
use crate::kernels::waves::waves;

/// A layer `67 → 35` with factors of rank 5 beside a weight that is trained or not, in a type.
fn adapted(trained: bool, dtype: DType, device: &Device) -> Linear {
    with_factors(trained, dtype, None, device)
}

/// The same, the weight perhaps in few bits.
fn with_factors(trained: bool, dtype: DType, packed: Option<Packed>, device: &Device) -> Linear {
    let tracked = |tensor: Tensor<2>| Param::from_tensor(tensor.detach().require_grad());
    let mut layer = LinearConfig::new(67, 35).with_bias(false).init(device);
    let weight = waves([67, 35], 0.3, device).cast(dtype);
    layer.weight = tracked(weight).set_require_grad(trained);
    struct Attach(Option<Frozen>);
    impl burn::module::Reparameterizer for Attach {
        type Reparam = Frozen;
        fn reparameterize<const D: usize>(
            &mut self,
            _: &str,
            weight: Param<Tensor<D>>,
        ) -> (Param<Tensor<D>>, Option<Frozen>) {
            (weight, self.0.take())
        }
    }
    let (a, b) = (waves([67, 5], 0.9, device), waves([5, 35], 1.7, device));
    let factor = |factor: Tensor<2>| tracked(factor.cast(dtype));
    let factors = Frozen::new(Some((factor(a), factor(b), 0.7)), packed, 3);
    layer.apply_reparameterization(Attach(factors))
}

/// The output and the gradients of what a layer reads, of its factors and of its weight.
fn gradients(
    layer: &Linear,
    function: &dyn Fn([Tensor<3>; 2]) -> Tensor<3>,
) -> (Tensor<3>, Vec<Tensor<3>>, Option<Tensor<2>>) {
    let device = layer.weight.base().device();
    let inputs = [0.7, 1.3].map(|turn| waves([2, 151, 67], turn, &device).require_grad());
    let out = function(inputs.clone());
    let gradients = (out.clone() * waves([2, 151, 35], 2.1, &device)).sum().backward();
    let factors = layer.weight.reparameterization::<Frozen>().unwrap().factors().unwrap();
    let factors = [factors.a, factors.b]
        .map(|factor| factor.val().grad(&gradients).unwrap().cast(DType::F32).unsqueeze());
    let inputs = inputs.iter().filter_map(|input| input.grad(&gradients));
    let weight = layer.weight.base().grad(&gradients);
    (out.inner(), inputs.chain(factors).collect(), weight)
}

#[test]
fn a_layer_with_an_adapter_is_the_dense_layer_of_their_sum() {
    let device = Device::flex().autodiff();
    let swiglu = |[gate, up]: [Tensor<3>; 2]| crate::kernels::swiglu::swiglu(gate, up);
    for (trained, is_gated) in [(false, false), (false, true), (true, false), (true, true)] {
        let layer = adapted(trained, DType::F32, &device);
        let ours = gradients(&layer, &|[x, up]| match is_gated {
            true => gated_linear(&layer, x, up),
            false => linear(&layer, x),
        });
        let dense = gradients(&layer, &|[x, up]| {
            let weight = layer.weight.val().unsqueeze();
            if is_gated { swiglu([x, up]).matmul(weight) } else { x.matmul(weight) }
        });
        let close = |ours: Tensor<3>, dense: Tensor<3>| {
            let size = dense.clone().abs().max().into_scalar::<f32>();
            // f32 sums of up to 302 products, the largest of which cancel in part.
            let far = (ours - dense).abs().max().into_scalar::<f32>();
            assert!(far < 1e-5 * size, "{far} of {size}");
        };
        close(ours.0, dense.0);
        assert_eq!(ours.1.len(), if is_gated { 4 } else { 3 });
        ours.1.into_iter().zip(dense.1).for_each(|(ours, dense)| close(ours, dense));
        assert_eq!(ours.2.is_some(), trained, "a frozen weight gets no gradient");
        ours.2.into_iter().zip(dense.2).for_each(|(a, b)| close(a.unsqueeze(), b.unsqueeze()));
    }
}

#[test]
fn an_adapter_beside_a_weight_in_bf16_is_within_its_rounding() {
    let device = Device::flex().autodiff();
    for dropout in [None, Some(Dropout::new(0.3, 5))] {
        let run = |dtype| {
            let layer = adapted(false, dtype, &device);
            let gated =
                |[x, up]: [Tensor<3>; 2]| Dropout::during(dropout, || gated_linear(&layer, x, up));
            gradients(&layer, &gated)
        };
        let (narrow, wide) = (run(DType::BF16), run(DType::F32));
        let pairs = narrow.1.into_iter().zip(wide.1).chain([(narrow.0, wide.0)]);
        for (narrow, wide) in pairs {
            let size = wide.clone().abs().max().into_scalar::<f32>();
            let far = (narrow - wide).abs().max().into_scalar::<f32>();
            assert!(far < 3e-2 * size, "{far} of {size}"); // three roundings of 2⁻⁸, terms cancel
        }
    }
}

/// Every form of a layer with an adapter: of a weight that is trained, frozen and in few bits.
fn forms(device: &Device) -> [Linear; 3] {
    let columns: Vec<f32> = (0..35 * 67).map(|place| (place as f32 * 0.3).sin()).collect();
    let packed = Packed::new(&columns, 67, Format::Q8, device);
    [
        adapted(true, DType::F32, device),
        adapted(false, DType::F32, device),
        with_factors(false, DType::F32, Some(packed), device),
    ]
}

#[test]
fn an_adapted_layer_is_its_plain_form_with_dropout_and_without() {
    let device = Device::flex().autodiff();
    for dropout in [None, Some(Dropout::new(0.3, 5))] {
        for layer in forms(&device) {
            let packed = layer.weight.reparameterization::<Frozen>().unwrap().packed().is_some();
            // f32 sums of up to 302 products, the largest of which cancel in part; products with what is packed
            // round their other factor to bf16 where the processor multiplies bf16.
            let most = if packed && bf16::available() { 3e-2 } else { 1e-5 };
            for is_gated in [false, true] {
                // The backward pass is outside: it must know what the forward pass has dropped.
                let ours = |[x, up]: [Tensor<3>; 2]| {
                    Dropout::during(dropout, || match is_gated {
                        true => gated_linear(&layer, x, up),
                        false => linear(&layer, x),
                    })
                };
                let by_burn = |[x, up]: [Tensor<3>; 2]| {
                    let x = if is_gated { swiglu(x, up) } else { x };
                    Dropout::during(dropout, || plain(&layer, x))
                };
                let (ours, by_burn) = (gradients(&layer, &ours), gradients(&layer, &by_burn));
                assert_eq!(ours.1.len(), if is_gated { 4 } else { 3 });
                let weights = ours
                    .2
                    .into_iter()
                    .zip(by_burn.2)
                    .map(|(ours, by_burn)| (ours.unsqueeze::<3>(), by_burn.unsqueeze::<3>()));
                let pairs = ours.1.into_iter().zip(by_burn.1).chain([(ours.0, by_burn.0)]);
                for (ours, by_burn) in pairs.chain(weights) {
                    let size = by_burn.clone().abs().max().into_scalar::<f32>();
                    let far = (ours - by_burn).abs().max().into_scalar::<f32>();
                    assert!(far < most * size, "{dropout:?}: {far} of {size}");
                }
            }
        }
    }
}

#[test]
fn the_factors_read_what_is_kept_and_the_weight_reads_all() {
    let device = Device::flex();
    let pass = Dropout::new(0.4, 5);
    for layer in forms(&Device::flex().autodiff()).map(|layer| layer.valid()) {
        let x: Tensor<2> = waves([41, 67], 0.7, &device);
        // By its definition: the layer of this number drops for itself.
        let mut kept = vec![1.0; 41 * 67];
        pass.part(3).apply(0, &mut kept);
        let kept: Tensor<2> = Tensor::from_data(TensorData::new(kept, [41, 67]), &device);
        let Factors { a, b, scale, dropout } =
            layer.weight.reparameterization::<Frozen>().unwrap().factors().unwrap();
        assert_eq!(dropout, None, "outside of a pass");
        let undropped = x.clone().matmul(a.val()).matmul(b.val()) * scale;
        let adapter = (x.clone() * kept).matmul(a.val()).matmul(b.val()) * scale;
        let expected = linear(&layer, x.clone()) - undropped.clone() + adapter.clone();
        let found = Dropout::during(Some(pass), || linear(&layer, x));
        let largest = |x: Tensor<2>| x.abs().max().into_scalar::<f32>();
        assert!(largest(adapter - undropped) > 0.1, "it would not be seen");
        assert!(largest(found - expected.clone()) < 1e-5 * largest(expected));
    }
}
