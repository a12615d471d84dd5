//! Passes over all parameters after a gradient is computed: sums, norms, scaling, Adam.

use burn::tensor::Tensor;

/// `a + b`.
pub fn sum<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&a) && super::takes(&b) {
        return fused::sum(a, b);
    }
    a + b
}

/// `x · factor`.
pub fn scaled<const D: usize>(x: Tensor<D>, factor: f64) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        return fused::scaled(x, factor as f32);
    }
    x * factor
}

/// Σ x² over several tensors. A device without kernels is asked once, for the sum of all: every answer waits
/// until it has computed what it was given.
#[derive(Default)]
pub struct SquareSums {
    known: f64,
    /// Of the tensors on such a device, `[1]` each.
    pending: Vec<Tensor<1>>,
    /// Parts of sums that a kernel wrote, and how many.
    #[cfg(feature = "gpu-kernels")]
    written: Vec<(Tensor<1>, usize)>,
}

impl SquareSums {
    /// Adds Σ x² of a tensor.
    pub fn add<const D: usize>(&mut self, x: Tensor<D>) {
        #[cfg(feature = "flex")]
        if super::takes(&x) {
            self.known += fused::square_sum(x);
            return;
        }
        #[cfg(feature = "gpu-kernels")]
        if super::gpu::takes(&x) {
            return self.write(x);
        }
        self.pending.push(x.square().sum());
    }

    #[cfg(feature = "gpu-kernels")]
    fn write<const D: usize>(&mut self, x: Tensor<D>) {
        use super::gpu::sums::{PARTS_OF_SQUARES, squares};
        /// Tensors of a buffer.
        const ROOM: usize = 1024;

        let device = x.device();
        let (into, len) = match self.written.pop() {
            Some((into, len)) if len < ROOM * PARTS_OF_SQUARES && into.device() == device => {
                (into, len)
            }
            full => {
                self.written.extend(full);
                (Tensor::zeros([ROOM * PARTS_OF_SQUARES], (&device, burn::tensor::DType::F32)), 0)
            }
        };
        self.written.push((squares(x, into, len), len + PARTS_OF_SQUARES));
    }

    /// The sum over all tensors.
    pub fn total(self) -> f64 {
        #[cfg(feature = "gpu-kernels")]
        let written: f64 =
            self.written.into_iter().map(|(parts, len)| sum_of(parts.narrow(0, 0, len))).sum();
        #[cfg(not(feature = "gpu-kernels"))]
        let written = 0.0;
        let pending = match self.pending.len() {
            0 => 0.0,
            _ => sum_of(Tensor::cat(self.pending, 0)),
        };
        self.known + written + pending
    }
}

fn sum_of(parts: Tensor<1>) -> f64 {
    parts.into_data().iter::<f64>().sum()
}

#[cfg(feature = "flex")]
pub use fused::{AdamStep, adam};

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::Flex;
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::kernels::flex::{TASK, changed, contiguous, primitive, values, whole};
    use crate::kernels::vector::{add, dot, widest};

    pub fn sum<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        let b = contiguous(primitive(b));
        let sum = changed(primitive(a), |a| {
            a.par_chunks_mut(TASK)
                .zip(values(&b).par_chunks(TASK))
                .for_each(|(a, b)| widest!(add(a, b)));
        });
        Tensor::from_primitive::<Flex>(sum)
    }

    pub fn scaled<const D: usize>(x: Tensor<D>, factor: f32) -> Tensor<D> {
        let scaled = changed(primitive(x), |x| {
            x.par_chunks_mut(TASK).for_each(|x| widest!(x.iter_mut().for_each(|it| *it *= factor)));
        });
        Tensor::from_primitive::<Flex>(scaled)
    }

    pub fn square_sum<const D: usize>(x: Tensor<D>) -> f64 {
        let x = contiguous(primitive(x));
        let parts: Vec<f32> = values(&x).par_chunks(TASK).map(|x| widest!(dot(x, x))).collect();
        parts.into_iter().map(f64::from).sum()
    }

    /// One update by Adam.
    #[derive(Clone, Copy, Debug)]
    pub struct AdamStep {
        /// The learning rate.
        pub rate: f64,
        /// β₁ and β₂.
        pub betas: [f32; 2],
        /// ε.
        pub epsilon: f32,
        /// The update's number t, from 1.
        pub time: usize,
    }

    /// Parameter and moments after an update, in one pass over all four:
    /// `m ← β₁m + (1 − β₁)g`, `v ← β₂v + (1 − β₂)g²`, `p ← p − rate · m̂ / (√v̂ + ε)` with
    /// `m̂ = m / (1 − β₁ᵗ)` and `v̂ = v / (1 − β₂ᵗ)`.
    pub fn adam<const D: usize>(
        step: AdamStep,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        moments: [Tensor<D>; 2],
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        let gradient = contiguous(primitive(gradient));
        let [first, second] = moments;
        let [mut parameter, mut first, mut second] =
            [parameter, first, second].map(|it| whole(primitive(it)));
        let blocks = parameter
            .storage_mut::<f32>()
            .par_chunks_mut(TASK)
            .zip(values(&gradient).par_chunks(TASK))
            .zip(first.storage_mut::<f32>().par_chunks_mut(TASK))
            .zip(second.storage_mut::<f32>().par_chunks_mut(TASK));
        let factors = Factors::new(step);
        blocks.for_each(|(((parameter, gradient), first), second)| {
            widest!(factors.update(parameter, gradient, first, second));
        });
        let [parameter, first, second] =
            [parameter, first, second].map(Tensor::from_primitive::<Flex>);
        (parameter, [first, second])
    }

    /// What Adam's update is made of, in f32.
    struct Factors {
        betas: [f32; 2],
        rate: f32,
        /// √(1 − β₂ᵗ) / (1 − β₁ᵗ)
        correction: f32,
        /// ε √(1 − β₂ᵗ)
        epsilon: f32,
    }

    impl Factors {
        fn new(step: AdamStep) -> Self {
            let [left_1, left_2] = step.betas.map(|beta| 1.0 - beta.powi(step.time as i32));
            Self {
                betas: step.betas,
                rate: step.rate as f32,
                correction: left_2.sqrt() / left_1,
                epsilon: step.epsilon * left_2.sqrt(),
            }
        }

        #[inline(always)]
        fn update(
            &self,
            parameter: &mut [f32],
            gradient: &[f32],
            first: &mut [f32],
            second: &mut [f32],
        ) {
            let [beta_1, beta_2] = self.betas;
            let moments = first.iter_mut().zip(second);
            for ((p, &g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
                *m = *m * beta_1 + g * (1.0 - beta_1);
                *v = *v * beta_2 + g * g * (1.0 - beta_2);
                *p -= self.rate * (*m * self.correction / (v.sqrt() + self.epsilon));
            }
        }
    }
}
