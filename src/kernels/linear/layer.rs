//! The product of a layer with all that may be beside its weight, and its gradients.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, TensorMetadata};
use burn::module::Param;
use burn::tensor::{DType, Shape, Tensor};

use super::products::{dropped, gradient_of_rows, gradient_of_weight, of_rows, plus_product};
use super::{Dropout, Factors, Frozen};
use crate::kernels::flex::{changed, contiguous};
use crate::kernels::operation::{Operation, apply};
use crate::kernels::packed::PackedMatrix;
use crate::kernels::swiglu;

/// `x · weight`, and what the factors beside the weight add, `[.., in]` → `[.., out]`. What is read is x alone, or
/// gate and up, whose x is `silu(gate) · up`.
pub fn product<const N: usize, const D: usize>(
    read: [Tensor<D>; N],
    weight: &Param<Tensor<2>>,
) -> Tensor<D> {
    let frozen = weight.reparameterization::<Frozen>();
    let packed = frozen.and_then(Frozen::packed).map(PackedMatrix::new);
    let factors = frozen.and_then(Frozen::factors);
    let adapter =
        factors.map(|factors| Adapter { scale: factors.scale as f32, dropout: factors.dropout });
    let mut inputs: Vec<_> = read.into_iter().map(Tensor::into_dispatch).collect();
    if packed.is_none() {
        inputs.push(weight.base().into_dispatch());
    }
    if let Some(Factors { a, b, .. }) = factors {
        inputs.extend([a.val().into_dispatch(), b.val().into_dispatch()]);
    }
    applied(Product { gated: N == 2, packed, adapter }, inputs)
}

/// The product of one to five inputs.
fn applied<const D: usize>(product: Product, inputs: Vec<FloatTensor<Dispatch>>) -> Tensor<D> {
    fn of<const N: usize, const D: usize>(
        product: Product,
        inputs: Vec<FloatTensor<Dispatch>>,
    ) -> Tensor<D> {
        let Ok(inputs) = <[_; N]>::try_from(inputs) else { unreachable!("N inputs") };
        apply(product, inputs)
    }
    match inputs.len() {
        1 => of::<1, D>(product, inputs),
        2 => of::<2, D>(product, inputs),
        3 => of::<3, D>(product, inputs),
        4 => of::<4, D>(product, inputs),
        _ => of::<5, D>(product, inputs),
    }
}

/// `x · weight`, `[rows, in] · [in, out]` → `[rows, out]`.
pub fn dense(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    apply(
        Product { gated: false, packed: None, adapter: None },
        [x.into_dispatch(), weight.into_dispatch()],
    )
}

/// `x · weight + scale · (dropout(x) · a) · b`. Its inputs, in this order: x, or gate and up; the weight, unless it
/// is packed; a and b, where there is an adapter.
#[derive(Clone, Debug)]
struct Product {
    gated: bool,
    packed: Option<PackedMatrix>,
    adapter: Option<Adapter>,
}

/// How an adapter counts.
#[derive(Clone, Copy, Debug)]
struct Adapter {
    scale: f32,
    /// The backward pass drops the same entries again; which they are is not kept.
    dropout: Option<Dropout>,
}

/// Something for each input of a product.
#[derive(Clone, Debug)]
struct Each<T> {
    /// Of x, or of gate and up.
    x: Vec<T>,
    weight: Option<T>,
    factors: Option<[T; 2]>,
}

impl<T> Each<T> {
    fn of<const N: usize>(product: &Product, inputs: [T; N]) -> Self {
        let mut inputs = inputs.into_iter();
        let x = inputs.by_ref().take(if product.gated { 2 } else { 1 }).collect();
        let weight = if product.packed.is_none() { inputs.next() } else { None };
        Self { x, weight, factors: inputs.next().zip(inputs.next()).map(|(a, b)| [a, b]) }
    }

    fn joined<const N: usize>(self) -> [T; N] {
        let mut all = self.x;
        all.extend(self.weight);
        all.extend(self.factors.into_iter().flatten());
        let Ok(all) = all.try_into() else { unreachable!("as many as there are inputs") };
        all
    }
}

impl Each<bool> {
    fn of_x(&self) -> bool {
        self.x.contains(&true)
    }

    fn of_weight(&self) -> bool {
        self.weight == Some(true)
    }

    fn of_factors(&self) -> bool {
        self.factors.is_some_and(|factors| factors.contains(&true))
    }
}

/// What the gradients of a product need: each factor for that of the other.
#[derive(Clone, Debug)]
struct Saved {
    /// x where it is needed, or gate and up.
    x: Vec<FlexTensor>,
    x_shape: Shape,
    weight: Option<FlexTensor>,
    /// The weight's shape and type, where it is an input.
    of_weight: Option<(Shape, DType)>,
    /// a, b and `scale · dropout(x) · a`, `[.., rank]`.
    adapter: Option<[FlexTensor; 3]>,
}

impl Product {
    /// What is multiplied, `[.., in]`.
    fn rows(x: &[FlexTensor]) -> FlexTensor {
        match x {
            [gate, up] => swiglu::of_tensors([gate.clone(), up.clone()]),
            _ => contiguous(x[0].clone()),
        }
    }

    /// The product, and `scale · dropout(x) · a` where there are factors.
    fn multiply(&self, inputs: &Each<FlexTensor>) -> (FlexTensor, Option<FlexTensor>) {
        let x = Self::rows(&inputs.x);
        let out = match (&self.packed, &inputs.weight) {
            (Some(packed), _) => packed.of_rows(x.clone()),
            (None, Some(weight)) => of_rows(x.clone(), weight.clone()),
            (None, None) => unreachable!("a weight is packed or an input"),
        };
        match &inputs.factors {
            None => (out, None),
            Some([a, b]) => {
                let inner = self.scaled(of_rows(self.dropped(x), a.clone()));
                (plus_product(out, &inner, b, None), Some(inner))
            }
        }
    }

    fn scaled(&self, x: FlexTensor) -> FlexTensor {
        let scale = self.adapter.map_or(1.0, |adapter| adapter.scale);
        changed(x, |x| x.iter_mut().for_each(|x| *x *= scale))
    }

    fn dropout(&self) -> Option<&Dropout> {
        self.adapter.as_ref()?.dropout.as_ref()
    }

    /// What the adapter reads of x.
    fn dropped(&self, x: FlexTensor) -> FlexTensor {
        match self.dropout() {
            Some(dropout) => dropped(x, dropout),
            None => x,
        }
    }

    /// The gradients of the factors where they are `wanted`, and that of `dropout(x) · a`.
    fn of_factors(
        &self,
        [a, b, inner]: &[FlexTensor; 3],
        rows: Option<FlexTensor>,
        grad: &FlexTensor,
        wanted: bool,
    ) -> ([Option<FlexTensor>; 2], FlexTensor) {
        let of_inner = self.scaled(gradient_of_rows(grad, b, inner.shape())); // [.., rank]
        let of = |x: &FlexTensor, grad: &FlexTensor, factor: &FlexTensor| {
            gradient_of_weight(x, grad, (factor.shape(), factor.dtype()))
        };
        let of_a = rows.filter(|_| wanted).map(|x| of(&self.dropped(x), &of_inner, a));
        let of_b = wanted.then(|| of(inner, grad, b));
        ([of_a, of_b], of_inner)
    }
}

impl<const N: usize> Operation<N> for Product {
    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; N]) -> FlexTensor {
        self.multiply(&Each::of(self, inputs)).0
    }

    fn forward_saving(&self, inputs: [FlexTensor; N], tracked: [bool; N]) -> (FlexTensor, Saved) {
        let (inputs, tracked) = (Each::of(self, inputs), Each::of(self, tracked));
        let (out, inner) = self.multiply(&inputs);
        let Each { x, weight, factors } = inputs;
        let keep = self.gated || tracked.of_weight() || tracked.of_factors();
        let saved = Saved {
            x_shape: x[0].shape(),
            x: if keep { x } else { Vec::new() },
            of_weight: weight.as_ref().map(|weight| (weight.shape(), weight.dtype())),
            weight: weight.filter(|_| tracked.of_x()),
            adapter: factors.zip(inner).map(|([a, b], inner)| [a, b, inner]),
        };
        (out, saved)
    }

    fn backward(
        &self,
        saved: Saved,
        grad: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N] {
        let Saved { x, x_shape, weight, of_weight, adapter } = saved;
        let wanted = Each::of(self, wanted);
        let grad = contiguous(grad);
        let rows = (wanted.of_weight() || wanted.of_factors()).then(|| Self::rows(&x));
        let weight_grad = rows
            .as_ref()
            .zip(of_weight)
            .filter(|_| wanted.of_weight())
            .map(|(rows, of_weight)| gradient_of_weight(rows, &grad, of_weight));
        let of_adapter = adapter
            .as_ref()
            .map(|adapter| self.of_factors(adapter, rows, &grad, wanted.of_factors()));
        let base_grad = wanted.of_x().then(|| match (&self.packed, &weight) {
            (Some(packed), _) => Some(packed.gradient_of_rows(&grad, x_shape)),
            (None, weight) => weight.as_ref().map(|it| gradient_of_rows(&grad, it, x_shape)),
        });
        let x_grad = base_grad.flatten().map(|base| match adapter.iter().zip(&of_adapter).next() {
            Some(([a, ..], (_, of_inner))) => {
                plus_product(base, of_inner, &a.transpose(0, 1), self.dropout())
            }
            None => base,
        });
        let x = match (&x[..], x_grad) {
            ([gate, up], Some(x_grad)) => {
                swiglu::backward([gate.clone(), up.clone()], x_grad).map(Some).to_vec()
            }
            (_, x_grad) if self.gated => vec![x_grad, None],
            (_, x_grad) => vec![x_grad],
        };
        let factors = of_adapter.map(|(factors, _)| factors);
        let weight = self.packed.is_none().then_some(weight_grad);
        Each { x, weight, factors }.joined()
    }
}
