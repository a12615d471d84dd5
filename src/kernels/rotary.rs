//! Rotary positions on whole rows of heads.
//!
//! `(a, b) → (a cos − b sin, b cos + a sin)` for the two entries a and b of each pair, which stand
//! half the rotated width apart or, interleaved, side by side. The backward pass turns back.

#[cfg(feature = "flex")]
pub use fused::rotate;

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::TensorMetadata;
    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::kernels::flex::{TASK, changed, contiguous, primitive, rows_and_width, values};
    use crate::kernels::operation::{Operation, apply};
    use crate::kernels::vector::widest;

    /// Turns the heads of every token.
    ///
    /// - `x`: `[batch, row, heads, head_dim]`
    /// - `cos`, `sin`: of each token's angles, `batch · row · pairs` values
    pub fn rotate<const D: usize>(
        x: Tensor<4>,
        cos: Tensor<D>,
        sin: Tensor<D>,
        interleaved: bool,
    ) -> Tensor<4> {
        let [.., head_dim] = x.dims();
        let (cos, sin) = (primitive(cos), primitive(sin));
        apply(Angles { cos, sin, head_dim, interleaved }, [x.into_dispatch()])
    }

    #[derive(Clone, Debug)]
    struct Angles {
        cos: FlexTensor,
        sin: FlexTensor,
        head_dim: usize,
        interleaved: bool,
    }

    impl Operation<1> for Angles {
        type Saved = ();

        fn forward(&self, [x]: [FlexTensor; 1]) -> FlexTensor {
            turn(x, self, 1.0)
        }

        fn forward_saving(&self, inputs: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, ()) {
            (self.forward(inputs), ())
        }

        fn backward(&self, (): (), grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
            [Some(turn(grad, self, -1.0))]
        }
    }

    /// Turns by the angles times `direction`, 1 or −1.
    fn turn(x: FlexTensor, angles: &Angles, direction: f32) -> FlexTensor {
        let (cos, sin) = (contiguous(angles.cos.clone()), contiguous(angles.sin.clone()));
        let (cos, sin) = (values(&cos), values(&sin));
        let (head_dim, interleaved) = (angles.head_dim, angles.interleaved);
        let pairs = rows_and_width(&angles.cos).1;
        let tokens = cos.len() / pairs;
        let width = x.shape().num_elements() / tokens;
        let rows = (TASK / width).max(1);
        changed(x, |x| {
            let tasks = x.par_chunks_mut(rows * width);
            let angles = cos.par_chunks(rows * pairs).zip(sin.par_chunks(rows * pairs));
            tasks.zip(angles).for_each(|(x, (cos, sin))| {
                widest!({
                    let angles = cos.chunks_exact(pairs).zip(sin.chunks_exact(pairs));
                    for (heads, (cos, sin)) in x.chunks_exact_mut(width).zip(angles) {
                        for head in heads.chunks_exact_mut(head_dim) {
                            turn_head(&mut head[..2 * pairs], cos, sin, direction, interleaved);
                        }
                    }
                });
            });
        })
    }

    #[inline(always)]
    fn turn_head(head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32, interleaved: bool) {
        let angles = cos.iter().zip(sin);
        if interleaved {
            for (pair, (&cos, &sin)) in head.chunks_exact_mut(2).zip(angles) {
                (pair[0], pair[1]) = turned([pair[0], pair[1]], cos, direction * sin);
            }
        } else {
            let (left, right) = head.split_at_mut(cos.len());
            for ((a, b), (&cos, &sin)) in left.iter_mut().zip(right).zip(angles) {
                (*a, *b) = turned([*a, *b], cos, direction * sin);
            }
        }
    }

    #[inline(always)]
    fn turned([a, b]: [f32; 2], cos: f32, sin: f32) -> (f32, f32) {
        (a * cos - b * sin, b * cos + a * sin)
    }
}
