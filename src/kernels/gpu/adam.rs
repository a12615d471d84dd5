//! Adam's update in one launch, the moments in place where nobody else holds them.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{by_entry, empty_like};

/// What the update is made of.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    /// β₁ and β₂.
    pub betas: [f32; 2],
    /// The learning rate.
    pub rate: f32,
    /// √(1 − β₂ᵗ) / (1 − β₁ᵗ)
    pub correction: f32,
    /// ε √(1 − β₂ᵗ)
    pub epsilon: f32,
}

/// Parameter and moments after an update; all f32.
pub fn adam<const D: usize>(
    factors: Factors,
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    [first, second]: [Tensor<D>; 2],
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let (parameter, first, second) = <Dispatch as AdamOps>::adam_update(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        factors,
    );
    let [first, second] = [first, second].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(parameter), [first, second])
}

/// The update as burn dispatches it.
#[backend_extension(Cube)]
pub trait AdamOps: Backend {
    /// As [`adam`] says.
    fn adam_update(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        factors: Factors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl AdamOps for CubeBackend {
    fn adam_update(
        parameter: CubeTensor,
        gradient: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        factors: Factors,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let own = |it: CubeTensor| {
            let it = into_contiguous(it);
            if it.handle.can_mut() { it } else { into_contiguous(it.copy()) }
        };
        let [first, second] = [first, second].map(own);
        // The module holds the parameter still.
        let [parameter, gradient] = [parameter, gradient].map(into_contiguous);
        let out = empty_like(&parameter);
        let (count, dim) = by_entry(parameter.shape().num_elements());
        let Factors { betas: [beta_1, beta_2], rate, correction, epsilon } = factors;
        kernel::adam::launch(
            &parameter.client.clone(),
            count,
            dim,
            parameter.into_tensor_arg(),
            gradient.into_tensor_arg(),
            first.clone().into_tensor_arg(),
            second.clone().into_tensor_arg(),
            out.clone().into_tensor_arg(),
            beta_1,
            beta_2,
            rate,
            correction,
            epsilon,
        );
        (out, first, second)
    }
}

mod kernel {
    use cubecl::prelude::*;

    #[cube(launch)]
    pub fn adam(
        parameter: &Tensor<f32>,
        gradient: &Tensor<f32>,
        first: &mut Tensor<f32>,
        second: &mut Tensor<f32>,
        out: &mut Tensor<f32>,
        beta_1: f32,
        beta_2: f32,
        rate: f32,
        correction: f32,
        epsilon: f32,
    ) {
        let at = ABSOLUTE_POS;
        if at >= parameter.len() {
            terminate!();
        }
        let g = gradient[at];
        let m = first[at] * beta_1 + g * (1.0 - beta_1);
        let v = second[at] * beta_2 + g * g * (1.0 - beta_2);
        first[at] = m;
        second[at] = v;
        out[at] = parameter[at] - rate * (m * correction / (v.sqrt() + epsilon));
    }
}
